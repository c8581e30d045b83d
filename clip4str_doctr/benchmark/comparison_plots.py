"""Diagrams of a comparison: accuracy by set, and accuracy over milliseconds."""

from collections.abc import Mapping
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from clip4str_doctr.benchmark.comparison import ALL

__all__ = ["draw_bars", "draw_scatter"]

_COLOURS = (
    "#0b3d91",
    "#5b8def",
    "#c0392b",
    "#e59866",
    "#2e8b57",
    "#8e6bbf",
    "#7f7f7f",
    "#c9a400",
    "#17a2b8",
    "#d46a9e",
)


def draw_bars(report: Mapping[str, Any], figure_name: str = "cased") -> Figure:
    """A bar for each recogniser in each set, with its 95 % interval."""
    sets = {**report["sets"], ALL: report[ALL]} if len(report["sets"]) > 1 else report["sets"]
    models = list(report["models"])
    figure = Figure(figsize=(max(6.0, 1.0 + 0.2 * len(sets) * (len(models) + 1.5)), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = 0.86 / len(models)
    for number, model in enumerate(models):
        told = [one["figures"][model][figure_name] for one in sets.values()]
        places = [place + (number - (len(models) - 1) / 2) * width for place in range(len(told))]
        axes.bar(places, [100 * one["value"] for one in told], width, label=model, color=_colour(number))
        axes.errorbar(
            places, [100 * one["value"] for one in told], _spans(told), fmt="none", ecolor="#222222", elinewidth=0.8
        )
    axes.set_xticks(range(len(sets)), [f"{name}\n{one['n']}" for name, one in sets.items()], fontsize=9)
    axes.set(ylim=(0, 100), ylabel="words right, %", title=f"words right, {figure_name}, with 95 % intervals")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=min(len(models), 4), fontsize=9)
    return figure


def draw_scatter(report: Mapping[str, Any]) -> Figure:
    """Accuracy of all words over milliseconds a word, on a logarithmic axis; of recognisers whose cost is known.

    Raises ValueError if no cost is.
    """
    costs = report.get("cost", {}).get("models", {})
    models = [model for model in report["models"] if model in costs]
    if not models:
        raise ValueError("the report has no costs to draw; measure them with `bench cost`")
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for model in models:
        told = report[ALL]["figures"][model]["cased"]
        speed, colour = costs[model]["ms_per_word"], _colour(list(report["models"]).index(model))
        axes.errorbar([speed], [100 * told["value"]], _spans([told]), fmt="o", color=colour, capsize=3, label=model)
    axes.set(
        xscale="log",
        ylim=(0, 100),
        xlabel=f"milliseconds a word, {report['cost']['made']['device']}",
        ylabel="words right, cased, %",
        title=f"all {report[ALL]['n']} words, with 95 % intervals",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")
    # Names beside the points run into each other where two recognisers are alike.
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def _spans(told: list[Mapping[str, Any]]) -> list[list[float]]:
    """How far the interval reaches below and above each value."""
    below = [max(100 * (one["value"] - one["interval"][0]), 0.0) for one in told]
    above = [max(100 * (one["interval"][1] - one["value"]), 0.0) for one in told]
    return [below, above]


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
