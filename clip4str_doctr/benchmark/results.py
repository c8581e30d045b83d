"""Reports as files: JSON, tables, diagrams; and the page of results that is made from committed reports."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip4str_doctr.benchmark.comparison_plots import draw_bars, draw_scatter
from clip4str_doctr.benchmark.page_tables import page_tables
from clip4str_doctr.benchmark.pictures import png
from clip4str_doctr.benchmark.report import write_bytes
from clip4str_doctr.benchmark.tables import NAMES, Table, csv_of, tables_of

__all__ = ["files_of", "page_of_results", "read_report", "read_reports", "write_page", "write_report"]

_INTRODUCTION = """\
# Benchmarks

Made by `clip4str-doctr bench docs` from the reports in [{folder}]({folder}), which keep every answer; not written by
hand. How recognisers are compared, and how one is added, stands in [benchmarking.md](benchmarking.md).
"""


# Key of a protocol -> heading of the column that it is about.
_HEADINGS = {**NAMES, "ms_per_word": "ms a word", "memory_mb": "memory, MB"}


def write_report(report: Mapping[str, Any], out: Path, name: str) -> None:
    """NAME.json, .md, .csv, .tex, and NAME-bars.png and NAME-speed.png into a folder. Raises OSError."""
    for suffix, text in files_of(report).items():
        write_bytes(out / f"{name}.{suffix}", text.encode())
    _draw(report, out, name)


def files_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Suffix -> text of the files of a report of words."""
    tables = tables_of(report)
    return {
        "json": json.dumps(report, ensure_ascii=False, indent=1) + "\n",
        "md": "\n".join(f"{table.title}\n\n{table.markdown()}" for table in tables),
        "csv": csv_of(report),
        "tex": "\n".join(table.latex() for table in tables),
    }


def read_report(path: Path) -> dict[str, Any]:
    """A report that `write_report` or `bench page` wrote. Raises ValueError if the file holds none, OSError."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no report: {error}") from error
    if not isinstance(report, dict) or report.get("kind") not in ("words", "pages"):
        raise ValueError(f"{path} is no report of `bench accuracy --models` or `bench page`")
    return report


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> report of every JSON file in a folder, by name. Raises ValueError for none, and as `read_report`."""
    reports = {path.stem: read_report(path) for path in sorted(folder.glob("*.json"))}
    if not reports:
        raise ValueError(f"{folder} holds no reports; `bench accuracy --models ... -o {folder}` writes one")
    return reports


def write_page(folder: Path, page: Path, *, draw: bool = True) -> None:
    """The page of all reports in a folder beside it, and their diagrams in that folder. Raises as `read_reports`."""
    reports = read_reports(folder)
    if folder.resolve().parent != page.resolve().parent:
        raise ValueError(
            f"the page must lie beside the folder of its reports, in {folder.resolve().parent}, got {page}"
        )
    if draw:
        for name, report in reports.items():
            if report["kind"] == "words":
                _draw(report, folder, name)
    write_bytes(page, page_of_results(reports, folder.resolve().name).encode())


def page_of_results(reports: Mapping[str, Mapping[str, Any]], folder: str) -> str:
    """Markdown of reports by name; folder: where they and their diagrams lie, from the page."""
    parts = [_INTRODUCTION.format(folder=folder)]
    for name, report in reports.items():
        parts += [f"## {report['title']}\n", *_protocol(report)]
        tables = tables_of(report) if report["kind"] == "words" else page_tables(report)
        for number, table in enumerate(tables):
            parts += [f"**{table.title}**\n", table.markdown()]
            if number == 0 and report["kind"] == "words":
                parts += [f"![Words right, by set]({folder}/{name}-bars.png)\n"]
                parts += [f"![Words right over time]({folder}/{name}-speed.png)\n"] if "cost" in report else []
        parts += _weights(report)
        kinds = ("json", "csv", "tex") if report["kind"] == "words" else ("json",)
        parts += ["Files: " + ", ".join(f"[{kind}]({folder}/{name}.{kind})" for kind in kinds) + "\n"]
    return "\n".join(parts)


def _draw(report: Mapping[str, Any], out: Path, name: str) -> None:
    write_bytes(out / f"{name}-bars.png", png(draw_bars(report)))
    if report.get("cost", {}).get("models"):
        write_bytes(out / f"{name}-speed.png", png(draw_scatter(report)))


def _protocol(report: Mapping[str, Any]) -> list[str]:
    lines = [report["note"] + "\n"] if report.get("note") else []
    if report["kind"] == "words":
        lines += ["| set | words | what |\n|---|--:|---|"]
        lines[-1] += (
            "".join(f"\n| {name} | {one['n']} | {one['about']} |" for name, one in report["sets"].items()) + "\n"
        )
    lines += ["".join(f"- {_HEADINGS.get(key, key)}: {_told(value)}\n" for key, value in report["protocol"].items())]
    if "cost" in report:
        costs = report["cost"]
        lines[-1] += "".join(f"- {_HEADINGS.get(key, key)}: {value}\n" for key, value in costs["protocol"].items())
        loads = [one["load"] for one in costs["models"].values() if one.get("load") is not None]
        lines[-1] += f"- times and memory on {costs['made']['device']}"
        lines[-1] += f", load of the machine {min(loads)} to {max(loads)}\n" if loads else "\n"
        if costs.get("note"):
            lines[-1] += f"- {costs['note']}\n"
    elif report["kind"] == "words":
        lines[-1] += "- times and memory: not measured for this report; `clip4str-doctr bench cost` does\n"
    made = report["made"]
    lines[-1] += f"- made with clip4str-doctr {made['package']}, commit {made['commit']}, on {made['device']}\n"
    if report.get("command"):
        lines += [f"```sh\n{report['command']}\n```\n"]
    return lines


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _weights(report: Mapping[str, Any]) -> list[str]:
    """What was read with, a line each, SHA-256 cut to what tells them apart."""
    rows = []
    for model, facts in report.get("models", {}).items():
        versions = ", ".join(f"{name} {value}" for name, value in (facts.get("versions") or {}).items() if value)
        digest = facts.get("weights_sha256")
        shown = digest[:12] if isinstance(digest, str) else ""
        rows.append((model, str(facts.get("weights") or ""), shown, versions))
    table = Table("What was read with", ("recogniser", "weights", "SHA-256", "versions"), tuple(rows))
    # Names and versions are no numbers.
    return [f"**{table.title}**\n", table.markdown().replace("--:|", "---|")] if rows else []
