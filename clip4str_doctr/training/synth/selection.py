"""What a renderer may be held to."""

from dataclasses import dataclass

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """What a renderer is held to, as a validation suite does; what is None stays the renderer's own choice.

    labels: sample number i says labels[i]. heights: least and most height of a crop in pixels, drawn evenly in the
    logarithm; a label that would be wider than the renderer's widest crop comes out lower. families: of fonts.
    """

    labels: tuple[str, ...] | None = None
    heights: tuple[float, float] | None = None
    families: tuple[str, ...] | None = None
