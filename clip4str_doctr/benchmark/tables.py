"""Tables of a comparison: Markdown for pages, LaTeX for papers, CSV for programs."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clip4str_doctr.benchmark.comparison import ALL

__all__ = ["NAMES", "Table", "csv_of", "tables_of"]

# Figure -> heading.
NAMES = {
    "cased": "cased",
    "uncased": "uncased",
    "tone": "HÒA = HOÀ",
    "bare": "without marks",
    "cer": "CER",
    "ned": "1-NED",
}
_LATEX = {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "<": "$<$", "–": "--", "−": "$-$"}


@dataclass(frozen=True)
class Table:
    """title: what it shows. head, rows: cells as they are printed; the first of a row is its name."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table alone, numbers to the right."""
        lines = [_row(self.head), "|---|" + "--:|" * (len(self.head) - 1), *map(_row, self.rows)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A `table` environment for the package booktabs, with the title as caption."""
        body = [" & ".join(map(_escaped, row)) + r" \\" for row in self.rows]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_escaped(self.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}",
                r"\toprule",
                " & ".join(map(_escaped, self.head)) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def tables_of(report: Mapping[str, Any]) -> list[Table]:
    """All tables of a report of words: everything together, each set cased and without marks, and differences."""
    tables = [_together(report)]
    if len(report["sets"]) > 1:
        tables += [_by_set(report, figure) for figure in ("cased", "bare")]
    if len(report["models"]) > 1:
        tables.append(_differences(report))
    return tables


def csv_of(report: Mapping[str, Any]) -> str:
    """A line for each set, recogniser and figure: set, n, model, figure, value, low, high."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["set", "n", "model", "figure", "value", "low", "high"])
    for name, one in [*report["sets"].items(), (ALL, report[ALL])]:
        for model, figures in one["figures"].items():
            for figure, told in figures.items():
                writer.writerow([name, one["n"], model, figure, told["value"], *told["interval"]])
    return buffer.getvalue()


def _together(report: Mapping[str, Any]) -> Table:
    costs = report.get("cost", {}).get("models", {})
    costly = ("ms a word", "memory, MB") if costs else ()
    rows = []
    for model, facts in report["models"].items():
        cost = costs.get(model, {})
        told = (_number(cost.get("ms_per_word")), _number(cost.get("memory_mb"), 0)) if costs else ()
        figures = report[ALL]["figures"][model]
        shown = (_share(figures[key]["value"]) for key in NAMES if key != "cased")
        size = (_millions(facts.get("parameters")), _number(facts.get("weights_mb")))
        rows.append((model, *size, *told, _with_interval(figures["cased"]), *shown))
    head = ("recogniser", "parameters, M", "weights, MB", *costly, *NAMES.values())
    sets = f"the {report[ALL]['n']} words of {', '.join(report['sets'])}"
    return Table(f"All words together: {sets}; per cent, with 95 % interval", head, tuple(rows))


def _by_set(report: Mapping[str, Any], figure: str) -> Table:
    sets = report["sets"]
    rows = tuple(
        (model, *(_with_interval(one["figures"][model][figure]) for one in sets.values())) for model in report["models"]
    )
    head = ("recogniser", *(f"{name} ({one['n']})" for name, one in sets.items()))
    return Table(f"Words right, {NAMES[figure]}, by set (its words): per cent, with 95 % interval", head, rows)


def _differences(report: Mapping[str, Any]) -> Table:
    """Each against the first: how many points it is behind or ahead, and p."""
    first, *others = report["models"]
    sets = {**report["sets"], ALL: report[ALL]}
    rows = []
    for model in others:
        cells = []
        for one in sets.values():
            pair = next(pair for pair in one["pairs"] if (pair["one"], pair["other"]) == (first, model))
            p = "p < 0.001" if pair["p"] < 0.001 else f"p = {pair['p']:.3f}"
            cells.append(f"{_signed(-100 * pair['difference'])}, {p}")
        rows.append((model, *cells))
    title = f"Cased accuracy beside {first}, in points, with p of McNemar's exact test on the same words"
    return Table(title, ("recogniser", *sets), tuple(rows))


def _with_interval(told: Mapping[str, Any]) -> str:
    low, high = told["interval"]
    return f"{_share(told['value'])} ({_share(low)}–{_share(high)})"


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    # A true minus sign; no sign at all for what is rounded to nothing.
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _millions(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.1f}"


def _row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return "| " + " | ".join(escaped) + " |"


def _escaped(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)
