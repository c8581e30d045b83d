"""The curve of a training run: `python -m clip4str_doctr.training.curve runs/NAME/log.jsonl -o curve.png`."""

import argparse
from pathlib import Path
from typing import Any

from clip4str_doctr.training.run_folder import said_by

__all__ = ["draw_curve", "read_log"]


def read_log(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A run's log.jsonl -> its train lines and its validation lines, in order."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [said for line in text.splitlines() if (said := said_by(line)) is not None]
    return [line for line in lines if line["kind"] == "train"], [line for line in lines if line["kind"] == "validation"]


def draw_curve(log: Path, picture: Path) -> None:
    """Losses and validation accuracies over samples, as one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, validation = read_log(log)
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    samples = [line["samples"] / 1000 for line in train]
    for name in ("visual", "cross", "ctc"):
        losses.plot(samples, [line[name] for line in train], label=name, linewidth=1)
    losses.set(xlabel="thousand words trained on", ylabel="loss", yscale="log", title="training losses")
    # Rendered styles, and a user's own words.
    for style in [name for name, value in validation[0].items() if isinstance(value, dict)] if validation else []:
        watched = [line["samples"] / 1000 for line in validation]
        for branch, line_style in (("cased", "-"), ("visual", ":")):
            label = style if branch == "cased" else f"{style}, visual branch alone"
            shares = [100 * line[style][branch] for line in validation]
            accuracies.plot(watched, shares, line_style, label=label, marker=".")
    accuracies.set(xlabel="thousand words trained on", ylabel="words right, cased (%)", title="unseen fonts and words")
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args()
    draw_curve(arguments.log, arguments.out)


if __name__ == "__main__":
    main()
