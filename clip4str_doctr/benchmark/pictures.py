"""Diagrams of a report: confusion of marks, reliability of confidences."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["draw_confusion", "draw_reliability", "png"]


def draw_confusion(tones: Mapping[str, Mapping[str, int]], qualities: Mapping[str, Mapping[str, int]]) -> Figure:
    """Two tables label -> answer -> letters, shaded by the share of each row that was read wrongly."""
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(7, 6))
    for axes, table, title in ((left, tones, "tones"), (right, qualities, "quality marks")):
        _draw_table(axes, table, title)
    return figure


def _draw_table(axes: Axes, table: Mapping[str, Mapping[str, int]], title: str) -> None:
    rows, columns = list(table), list(next(iter(table.values())))
    # Right letters would outshine everything else, so the diagonal stays white.
    shares = [
        [0.0 if row == column else table[row][column] / max(sum(table[row].values()), 1) for column in columns]
        for row in rows
    ]
    darkest = max(max(map(max, shares)), 1e-9)
    axes.imshow(shares, cmap="Reds", vmin=0, vmax=darkest, aspect="auto")
    for y, row in enumerate(rows):
        total = max(sum(table[row].values()), 1)
        for x, column in enumerate(columns):
            count = table[row][column]
            text = f"{count}\n{100 * count / total:.1f} %" if count else "0"
            colour = "white" if shares[y][x] > 0.6 * darkest else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=20)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(title=title, xlabel="read as", ylabel="in the label")


def draw_reliability(sets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Share of right words over mean confidence, a line a set; beneath, how many words have which confidence.

    sets: name -> {"bins": [{"confidence", "accuracy", "n", "least", "most"}], "ece"}.
    """
    figure = Figure(figsize=(7, 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, beneath = figure.subplots(2, 1, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="calibrated")
    totals: dict[float, int] = {}
    for name, one in sets.items():
        bins = one["bins"]
        confidences, accuracies = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
        above.plot(confidences, accuracies, marker=".", linewidth=1, label=f"{name}, error {100 * one['ece']:.1f} %")
        for row in bins:
            totals[row["least"]] = totals.get(row["least"], 0) + row["n"]
    width = 1 / 10
    beneath.bar([least + width / 2 for least in totals], list(totals.values()), width=0.9 * width, color="grey")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="words right", title="reliability of confidences")
    beneath.set(xlim=(0, 1), xlabel="confidence", ylabel="words")
    above.grid(alpha=0.3)
    above.legend(fontsize=8)
    return figure


def png(picture: Figure | Image.Image) -> bytes:
    """A diagram or picture as a PNG file."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=110)
    else:
        picture.save(buffer, format="PNG")
    return buffer.getvalue()
