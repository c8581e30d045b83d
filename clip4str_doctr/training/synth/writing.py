"""Letters on a canvas: a word and its neighbours, evenly or by hand, its marks where sign painters put them."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.training.synth.fonts import FONT_SIZES, Face, load_face
from clip4str_doctr.training.synth.geometry import Box, Mask

__all__ = ["stretch_marks", "write"]


def write(
    rng: np.random.Generator, label: str, face: Face, height: float, clean: bool, neighbour: Callable[[], str]
) -> tuple[Mask, Box]:
    """Draw the label and sometimes its neighbours -> ink (H, W) 0..255 and the label's box in it.

    height: of the later crop, in pixels; neighbour(): a word to stand beside or above the label.
    """
    size = next((size for size in FONT_SIZES if size >= height * 0.75), FONT_SIZES[-1])
    font = load_face(face, size)
    spacing, jitter = _spacing(rng, size, clean)
    left, top, right, bottom = font.getbbox(label, anchor="ls")
    extra = spacing * (len(label) - 1)
    right += extra
    pad_x, pad_y = int(0.7 * size) + 2, int(0.55 * size) + 2
    x, y = pad_x - left, pad_y - top
    image = Image.new("L", (max(int(right - left), 1) + 2 * pad_x, int(bottom - top) + 2 * pad_y))
    draw = ImageDraw.Draw(image)
    if rng.random() < (0.35 if clean else 0.22):
        _write_neighbours(rng, neighbour, draw, font, (x, y, x + font.getlength(label) + extra), size)
    if spacing or jitter:
        _draw_letters(rng, draw, (x, y), label, font, spacing, jitter)
    else:
        draw.text((x, y), label, fill=255, font=font, anchor="ls")
    ink, box = np.asarray(image), (left + x, top + y - jitter, right + x, bottom + y + jitter)
    if not clean and label.isupper() and rng.random() < 0.35:
        capital = y + font.getbbox("H", anchor="ls")[1]
        ink, box, _ = stretch_marks(rng, ink, box, int(capital), int(y))
        return ink, box
    return ink, box


def _spacing(rng: np.random.Generator, size: int, clean: bool) -> tuple[float, float]:
    """-> pixels between letters beyond the font's own, pixels that each letter may leave the line."""
    spacing, jitter = 0.0, 0.0
    if rng.random() < (0.05 if clean else 0.16):
        spacing = size * (0.25 * rng.random() if rng.random() < 0.75 else -0.05 * rng.random())
    if not clean and rng.random() < 0.06:
        jitter = size * 0.07 * rng.random()
    return spacing, jitter


def _draw_letters(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    spacing: float,
    jitter: float,
) -> None:
    for count, symbol in enumerate(text):
        # Kerned as in the whole word: the length of what stands before, with this symbol, less this symbol.
        x = at[0] + font.getlength(text[: count + 1]) - font.getlength(symbol) + spacing * count
        draw.text((x, at[1] + jitter * (2 * rng.random() - 1)), symbol, fill=255, font=font, anchor="ls")


def _write_neighbours(
    rng: np.random.Generator,
    neighbour: Callable[[], str],
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    line: tuple[float, float, float],
    size: int,
) -> None:
    """Words left and right at a space's distance, lines above and below; the crop will cut them.

    line: left end, baseline and right end of the label.
    """
    left, baseline, right = line
    gap = size * (0.22 + 0.3 * rng.random())
    where = rng.random()
    if where < 0.65:
        side = rng.random()
        if side < 0.7:
            draw.text((left - gap, baseline), neighbour(), fill=255, font=font, anchor="rs")
        if side > 0.3:
            draw.text((right + gap, baseline), neighbour(), fill=255, font=font, anchor="ls")
    if where > 0.45:
        pitch = size * (1.1 + 0.45 * rng.random())
        for direction in (-1, 1):
            if rng.random() < 0.7:
                text = f"{neighbour()} {neighbour()} {neighbour()}"
                middle = (left + right) / 2 + size * rng.standard_normal()
                draw.text((middle, baseline + direction * pitch), text, fill=255, font=font, anchor="ms")


def _resized(rows: Mask, factor: float) -> Mask:
    size = rows.shape[1], max(int(len(rows) * factor), 1)
    return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def stretch_marks(rng: np.random.Generator, ink: Mask, box: Box, capital: int, baseline: int) -> tuple[Mask, Box, int]:
    """Capitals keep their height while the marks over and under them grow, shrink or stand off, as on painted signs.

    capital, baseline: rows of the canvas where capitals begin and end. -> canvas, the word's box, and the row where
    capitals begin now.
    """
    left, top, right, bottom = box
    over, under = capital - top, bottom - baseline
    if over < 3 and under < 3:
        return ink, box, capital
    middle: list[npt.NDArray[np.uint8]] = [ink[capital:baseline]]
    above, below = ink[:capital], ink[baseline:]
    if over >= 3:
        factor, gap = 0.75 + 0.65 * rng.random(), int(0.06 * (baseline - capital) * max(rng.random() - 0.5, 0) * 2)
        above = _resized(above, factor)
        middle.insert(0, np.zeros((gap, ink.shape[1]), np.uint8))
        over = over * factor + gap
    if under >= 3:
        factor = 0.8 + 0.5 * rng.random()
        below = _resized(below, factor)
        under *= factor
    stretched = np.vstack([above, *middle, below])
    first = len(above) + sum(len(part) for part in middle) - (baseline - capital)
    return stretched, (left, first - over, right, first + (baseline - capital) + under), first
