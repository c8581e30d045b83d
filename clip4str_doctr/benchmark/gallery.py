"""Failures as a picture: crop, label, answer, confidence; the surest mistakes first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Failure", "draw_gallery"]

_CELL, _CROP, _COLUMNS = (260, 128), (248, 72), 5
_GREY, _RED, _BLUE = "#777777", "#b00020", "#0b3d91"


@dataclass(frozen=True)
class Failure:
    """A word that was read wrongly. crop: (H, W, 3) uint8 RGB. visual: what the visual branch alone says."""

    crop: npt.NDArray[np.uint8]
    label: str
    answer: str
    visual: str
    confidence: float


def draw_gallery(failures: Sequence[Failure], title: str, most: int = 60) -> Image.Image:
    """The `most` surest failures, five in a row."""
    shown = sorted(failures, key=lambda failure: -failure.confidence)[:most]
    height = 30 + max(-(-len(shown) // _COLUMNS), 1) * _CELL[1]
    picture = Image.new("RGB", (_COLUMNS * _CELL[0], height), "white")
    draw, font = ImageDraw.Draw(picture), _font(15)
    draw.text((8, 6), f"{title}: {len(failures)} wrong, the {len(shown)} surest", fill="black", font=font)
    for number, failure in enumerate(shown):
        x, y = (number % _COLUMNS) * _CELL[0] + 6, 30 + (number // _COLUMNS) * _CELL[1]
        picture.paste(_fitted(failure.crop), (x, y))
        drawn_as = f"{failure.crop.shape[1]}x{failure.crop.shape[0]}"
        rows = (
            (f"{failure.label}", _BLUE),
            (f"{failure.answer or '(nothing)'}  {100 * failure.confidence:.0f} %", _RED),
            (f"{drawn_as}  visual: {'same' if failure.visual == failure.answer else failure.visual}", _GREY),
        )
        for line, (text, colour) in enumerate(rows):
            draw.text((x, y + _CROP[1] + 2 + 16 * line), text, fill=colour, font=font)
    return picture


def _fitted(crop: npt.NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(crop)
    scale = min(_CROP[0] / picture.width, _CROP[1] / picture.height, 4.0)
    size = max(int(picture.width * scale), 1), max(int(picture.height * scale), 1)
    return picture.resize(size, Image.Resampling.BICUBIC)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib brings a font with every Vietnamese letter; the system may have none."""
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), size)
