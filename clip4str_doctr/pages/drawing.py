"""Annotated pictures: the page with its word boxes, and beside it what was read, where it stands, by confidence."""

import importlib.util
import logging
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from doctr.io.elements import Page
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.boxes import corners_of
from clip4str_doctr.charset import VIETNAMESE_SYMBOLS

__all__ = ["CONFIDENCE_BANDS", "draw_page", "vietnamese_font"]

logger = logging.getLogger(__name__)

# Least confidence -> colour, dark enough for text on white.
CONFIDENCE_BANDS = ((0.9, (22, 120, 60)), (0.6, (190, 105, 0)), (0.0, (200, 25, 35)))
_BLOCK_COLOUR = (120, 140, 200)

# Larger pages are scaled down: the picture is for eyes, at 10 pixels for small print.
_LONGEST_SIDE = 1800

# Size at which words are measured before they are written.
_PROBE = 100

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "segoeui.ttf",
    "FreeSans.ttf",
)


def draw_page(pixels: npt.NDArray[np.uint8], page: Page) -> Image.Image:
    """pixels: (H, W, 3) uint8 RGB, the picture that the page was read from -> the picture to look at.

    Where no font with Vietnamese letters is found, there are the boxes only.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    font = vietnamese_font()
    canvas = Image.new("RGB", (size[0] * (1 if font is None else 2), size[1] + _legend_height(size)), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    line_width = max(1, round(max(size) / 600))
    for block in page.blocks:
        corners = _placed(block.geometry, size)
        _outline(draw, _grown(corners, 4 * line_width), _BLOCK_COLOUR, line_width)
        if font is not None:
            _outline(draw, [(x + size[0], y) for x, y in _grown(corners, 4 * line_width)], (215, 220, 235), line_width)
    for line in (line for block in page.blocks for line in block.lines):
        places = [_placed(word.geometry, size) for word in line.words]
        for word, corners in zip(line.words, places, strict=True):
            _outline(draw, corners, colour_of(word.confidence), line_width)
        if font is not None:
            beside = [[(x + size[0], y) for x, y in corners] for corners in places]
            _write_line(draw, line.words, beside, font)
    _legend(draw, size, font)
    return canvas


def colour_of(confidence: float) -> tuple[int, int, int]:
    """RGB of the band that a confidence falls into."""
    return next((colour for least, colour in CONFIDENCE_BANDS if confidence >= least), CONFIDENCE_BANDS[-1][1])


@cache
def vietnamese_font() -> str | None:
    """A font file on this machine with every Vietnamese letter, or None, which is logged the first time."""
    found = next((path for path in _font_files() if _has_vietnamese(path)), None)
    if found is None:
        logger.warning(
            "no font with Vietnamese letters found, so the words are not drawn, only their boxes; install one as "
            "Debian's fonts-dejavu-core, or pip install matplotlib, which brings it"
        )
    return found


def _font_files() -> Iterator[str]:
    # Not imported, only looked at: it takes a second.
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        yield str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")
    # Pillow looks for these in the system's font folders.
    yield from _SYSTEM_FONTS
    try:
        files = metadata.files("fontpkg-noto-sans") or []
    except metadata.PackageNotFoundError:
        return
    yield from (str(file.locate()) for file in files if file.suffix == ".ttf" and "Italic" not in file.name)


def _has_vietnamese(path: str) -> bool:
    try:
        font = ImageFont.truetype(path, 24)
    except OSError:
        return False
    # No font has this non-character, so it is drawn as what stands for missing ones.
    missing = bytes(font.getmask("\uffff"))
    return all(bytes(font.getmask(symbol)) != missing for symbol in VIETNAMESE_SYMBOLS if not symbol.isspace())


def _placed(geometry: Any, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Corners of docTR's box or polygon in pixels of a picture (width, height)."""
    return [(float(x), float(y)) for x, y in corners_of(geometry) * size]


def _grown(corners: list[tuple[float, float]], margin: float) -> list[tuple[float, float]]:
    x, y = (sum(values) / len(corners) for values in zip(*corners, strict=True))
    return [(cx + (margin if cx > x else -margin), cy + (margin if cy > y else -margin)) for cx, cy in corners]


def _outline(
    draw: ImageDraw.ImageDraw, corners: list[tuple[float, float]], colour: tuple[int, int, int], width: int
) -> None:
    draw.line([*corners, corners[0]], fill=colour, width=width)


def _extent(corners: list[tuple[float, float]]) -> tuple[float, float]:
    xs, ys = zip(*corners, strict=True)
    return max(xs) - min(xs), max(ys) - min(ys)


def _write_line(
    draw: ImageDraw.ImageDraw, words: list[Any], places: list[list[tuple[float, float]]], font_file: str
) -> None:
    """Every word in its box, its ink in the middle, so that marks and tails come out on one baseline."""
    probe = ImageFont.truetype(font_file, _PROBE)
    inks = [probe.getbbox(word.value) for word in words]
    heights = [_extent(corners)[1] for corners in places]
    # One size for a line, as it is printed. Boxes are a little larger than their ink.
    sizes = [height / max(bottom - top, 1) for (_, top, _, bottom), height in zip(inks, heights, strict=True)]
    size = 0.85 * _PROBE * float(np.median(sizes))
    for word, corners, (left, top, right, bottom) in zip(words, places, inks, strict=True):
        width, height = _extent(corners)
        fitting = max(min(size, _PROBE * width / max(right - left, 1)), 6)
        scale = fitting / _PROBE
        x = min(x for x, _ in corners) + (width - (left + right) * scale) / 2
        y = min(y for _, y in corners) + (height - (top + bottom) * scale) / 2
        font = ImageFont.truetype(font_file, fitting)
        draw.text((x, y), word.value, fill=colour_of(word.confidence), font=font)


def _legend_height(size: tuple[int, int]) -> int:
    return max(20, round(max(size) / 50))


def _legend(draw: ImageDraw.ImageDraw, size: tuple[int, int], font_file: str | None) -> None:
    height = _legend_height(size)
    # Digits and signs are in Pillow's own font too.
    font = ImageFont.load_default(height * 0.6) if font_file is None else ImageFont.truetype(font_file, height * 0.6)
    x, y = height / 2, size[1] + height / 2
    draw.text((x, y), "confidence", fill="black", font=font, anchor="lm")
    x += height * 0.5 + draw.textlength("confidence", font=font)
    above = None
    for least, colour in CONFIDENCE_BANDS:
        label = f"{least:g} or more" if above is None else f"{least:g} to {above:g}"
        draw.rectangle((x, y - height * 0.25, x + height * 0.5, y + height * 0.25), fill=colour)
        draw.text((x + height * 0.7, y), label, fill="black", font=font, anchor="lm")
        x += height * 1.4 + draw.textlength(label, font=font)
        above = least
