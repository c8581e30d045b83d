"""A line of letters for a sign: the word and its neighbours, spaced, jittered, with the font's marks or drawn ones."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.training.synth.fonts import Face, load_face
from clip4str_doctr.training.synth.geometry import Box, Mask
from clip4str_doctr.training.synth.marks import MarkStyle, draw_marks, mark_style, plain_letters, stem

__all__ = ["Hand", "Line", "choose_hand", "letter_line", "pixels_of", "without_marks"]


@dataclass(frozen=True)
class Hand:
    """How one line is set: face, pixels per em, pixels between letters and off the line, marks (None: the font's)."""

    face: Face
    size: int
    spacing: float
    jitter: float
    marks: MarkStyle | None

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        return load_face(self.face, self.size)


def choose_hand(rng: np.random.Generator, face: Face, size: int) -> Hand:
    """Spacing and jitter as on signs; marks are drawn where the face has none, and sometimes elsewhere."""
    spacing, jitter = 0.0, 0.0
    if rng.random() < 0.15:
        spacing = size * (0.3 * rng.random() ** 1.5 if rng.random() < 0.75 else -0.06 * rng.random())
    if rng.random() < 0.06:
        jitter = size * 0.08 * rng.random()
    drawn = face.drawn_marks or rng.random() < (0.08 if face.held_out else 0.14)
    marks = mark_style(rng, stem(load_face(face, size)), frozen=face.held_out) if drawn else None
    return Hand(face, size, spacing, jitter, marks)


@dataclass(frozen=True)
class Line:
    """ink: (H, W) 0..255; box: of the label's ink; capital, baseline: rows where capitals begin and end."""

    ink: Mask
    box: Box
    capital: float
    baseline: float


def letter_line(
    rng: np.random.Generator, hand: Hand, before: str, label: str, after: str, pad: tuple[int, int]
) -> Line:
    """Draw the label and the words before and after it (may be empty), `pad` (x, y) pixels of room around the label."""
    font, size = hand.font, hand.size
    text, marks = plain_letters(label) if hand.marks else (label, [])
    x, y = pad[0] + size // 2, pad[1] + int(1.7 * size)
    image = Image.new("L", (2 * x + int((1.15 * size + max(hand.spacing, 0)) * len(text)) + size, y + size + pad[1]))
    draw = ImageDraw.Draw(image)
    where = None
    if hand.spacing or hand.jitter:
        where = _letters_apart(rng, draw, (x, y), text, hand)
    else:
        draw.text((x, y), text, fill=255, font=font, anchor="ls")
    if hand.marks:
        image = _marked(image, (x, y), text, marks, hand, where)
        draw = ImageDraw.Draw(image)
    # Measured on the ink: cheaper than asking the font, which would load every letter once more.
    left, top, right, bottom = image.getbbox() or (x, y - size, x + size, y)
    space = (0.2 + 0.25 * rng.random()) * size + max(hand.spacing, 0)
    # Only the nearest letters of the neighbours lie within the canvas.
    if before:
        draw.text((left - space, y), without_marks(before[-4:], hand), fill=255, font=font, anchor="rs")
    if after:
        draw.text((right + space, y), without_marks(after[:4], hand), fill=255, font=font, anchor="ls")
    origin_x, origin_y = left - pad[0], top - pad[1]
    ink = pixels_of(image.crop((origin_x, origin_y, right + pad[0], bottom + pad[1])))
    box = (float(pad[0]), float(pad[1]), float(right - origin_x), float(bottom - origin_y))
    return Line(ink, box, y - _capital_height(font) - origin_y, y - origin_y)


def pixels_of(image: Image.Image) -> Mask:
    """(H, W) of a picture in mode L, writable; three times as fast as numpy asking the picture."""
    return np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(image.height, image.width)


@lru_cache(maxsize=4096)
def _capital_height(font: ImageFont.FreeTypeFont) -> float:
    return float(-font.getbbox("H", anchor="ls")[1])


def without_marks(text: str, hand: Hand) -> str:
    """Neighbours go without marks where marks would have to be drawn: they are cut by the crop anyway."""
    return plain_letters(text)[0] if hand.face.drawn_marks else text


def _letters_apart(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, hand: Hand
) -> list[tuple[float, float]]:
    """Draw letter by letter -> where each one's origin lies."""
    font, x = hand.font, at[0]
    where = []
    for symbol in text:
        y = at[1] + hand.jitter * (2 * rng.random() - 1)
        draw.text((x, y), symbol, fill=255, font=font, anchor="ls")
        where.append((x, y))
        x += font.getlength(symbol) + hand.spacing
    return where


def _marked(
    image: Image.Image,
    at: tuple[float, float],
    text: str,
    marks: list[str],
    hand: Hand,
    where: list[tuple[float, float]] | None,
) -> Image.Image:
    """The picture with the marks of every letter drawn."""
    assert hand.marks is not None
    font, ink = hand.font, pixels_of(image)
    for count, (symbol, on) in enumerate(zip(text, marks, strict=True)):
        if not on:
            continue
        if where is None:
            x, y = at[0] + font.getlength(text[: count + 1]) - font.getlength(symbol), at[1]
        else:
            x, y = where[count]
        left, top, right, bottom = font.getbbox(symbol, anchor="ls")
        draw_marks(ink, (left + x, top + y, right + x, bottom + y), on, symbol, hand.marks, hand.size)
    return Image.fromarray(ink)
