"""Vietnamese marks as sign makers cut them: strokes and wedges over, under and through plain letters."""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageFont

from clip4str_doctr.training.synth.geometry import Mask

__all__ = ["MarkStyle", "draw_marks", "mark_style", "plain_letters", "stem"]

_GRAVE, _ACUTE, _CIRCUMFLEX, _TILDE = "\u0300", "\u0301", "\u0302", "\u0303"
_BREVE, _HOOK, _DOT, _HORN, _BAR = "\u0306", "\u0309", "\u0323", "\u031b", "\u0335"
_OVER = frozenset((_GRAVE, _ACUTE, _CIRCUMFLEX, _TILDE, _BREVE, _HOOK))
_SHIFT = 4  # binary digits behind the point of OpenCV's coordinates
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MarkStyle:
    """How one painter makes marks; lengths in shares of the em.

    thick: of strokes. width, height: of a mark. gap: between letter and mark. taper: how much thinner a wedge's foot
    is, 0..1. beside: the tone stands beside the circumflex, not over it. square: dots have corners. bow: how far the
    middle of a wedge swings out, in shares of its length: outward as an apostrophe does, inward below 0; 0 is straight.
    shift: of marks off the letter's middle, to the right. beside_breves: so do tones stand beside breves, which cannot
    be told from Ă then: a fault that the frozen suites keep.
    """

    thick: float
    width: float
    height: float
    gap: float
    taper: float
    beside: bool
    square: bool
    bow: float
    shift: float = 0.0
    beside_breves: bool = False


def mark_style(rng: np.random.Generator, thick: float, *, frozen: bool) -> MarkStyle:
    """thick: of the letters' stems, in shares of the em. frozen: as the suites have them, neither bowed nor shifted."""
    thick = min(max(thick * (0.55 + 0.5 * rng.random()), 0.035), 0.16)
    width = 0.26 + 0.12 * rng.random() + 0.6 * thick
    gap = 0.015 + 0.07 * rng.random()
    taper = 0.8 * rng.random() if rng.random() < 0.6 else 0.0
    height = 0.11 + 0.07 * rng.random() + 0.4 * thick
    beside, square = rng.random() < 0.6, rng.random() < 0.3
    if frozen:
        return MarkStyle(thick, width, height, gap, taper, beside, square, 0.0, beside_breves=True)
    bow = 0.0
    if rng.random() < 0.45:
        bow = (0.1 + 0.3 * rng.random()) * (1.0 if rng.random() < 0.8 else -0.6)
    shift = min(max(0.08 * rng.standard_normal(), -0.2), 0.2)
    if rng.random() < 0.15:  # touching the letter, where the line leaves no room
        gap = -0.04 + 0.05 * rng.random()
    return MarkStyle(thick, width, height, gap, taper, beside, square, bow, shift)


def plain_letters(text: str) -> tuple[str, list[str]]:
    """text in NFC -> its letters without marks, and the marks of each, as combining characters."""
    plain, marks = [], []
    for symbol in text:
        if symbol in "đĐ":
            letter, on = ("d" if symbol == "đ" else "D"), _BAR
        else:
            parts = unicodedata.normalize("NFD", symbol)
            letter, on = parts[0], parts[1:]
        if letter == "i" and not _OVER.isdisjoint(on):
            letter = "\u0131"  # an i loses its dot under a mark
        plain.append(letter)
        marks.append(on)
    return "".join(plain), marks


@lru_cache(maxsize=2048)
def stem(font: ImageFont.FreeTypeFont) -> float:
    """How thick a font's strokes are about, in shares of the em: ink of an "l", by its height."""
    left, top, right, bottom = font.getbbox("l")
    ink = float(np.asarray(font.getmask("l"), np.uint8).sum()) / 255
    return min(max(ink / max(bottom - top, 1) / font.size, 0.03), 0.25)


def draw_marks(
    ink: Mask, box: tuple[float, float, float, float], marks: str, letter: str, style: MarkStyle, em: float
) -> None:
    """Draw the marks of one letter in place. box: the letter's ink in the picture; em: pixels."""
    left, top, right, bottom = box
    width = max(right - left, 1.0)
    middle = (left + right) / 2 + style.shift * width
    mark_width = min(style.width * em, max(1.15 * width, 0.2 * em))
    height, thick, gap = style.height * em, style.thick * em, style.gap * em
    foot = top - gap - 0.4 * thick
    if _BAR in marks:
        _bar(ink, box, letter, thick, em)
    if _HORN in marks:
        _horn(ink, right, top, bottom, thick, em, style)
    base = next((mark for mark in marks if mark in (_CIRCUMFLEX, _BREVE)), None)
    tone = next((mark for mark in marks if mark in (_GRAVE, _ACUTE, _TILDE, _HOOK)), None)
    if base:
        bow = _circumflex(mark_width, height) if base == _CIRCUMFLEX else _breve(mark_width, height)
        _stroke(ink, bow + (middle, foot), thick * 0.85)
    if tone:
        x, y = middle, foot
        size = 1.0
        beside = style.beside and (base == _CIRCUMFLEX or style.beside_breves)
        if base and beside and tone in (_GRAVE, _ACUTE, _HOOK):
            x = middle + (-0.62 if tone == _GRAVE else 0.62) * mark_width
            y, size = foot - 0.55 * height, 0.85
        elif base:
            y, size = foot - height - 0.25 * thick - 0.5 * gap, 0.9
        _tone(ink, tone, (x, y), mark_width * size, height * size, thick, style)
    if _DOT in marks:
        radius = max(0.62 * thick, 0.04 * em)
        at = np.array([middle, bottom + gap + radius])
        if style.square:
            _fill(ink, at + radius * np.array([[-1.0, -1.0], [1, -1], [1, 1], [-1, 1]]))
        else:
            turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
            _fill(ink, at + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1))


def _tone(
    ink: Mask, tone: str, at: tuple[float, float], width: float, height: float, thick: float, style: MarkStyle
) -> None:
    """Acute and grave are wedges, tilde and hook are strokes. at: middle of the mark's foot."""
    if tone in (_ACUTE, _GRAVE):
        wedge = _bowed_wedge(width, height, thick, style) if style.bow else _wedge(width, height, thick, style)
        if tone == _GRAVE:
            wedge[:, 0] *= -1
        _fill(ink, wedge + at)
    elif tone == _TILDE:
        x = np.linspace(-0.5, 0.5, 9)
        wave = np.stack([x * width, -0.42 * height - 0.3 * height * np.sin(2 * np.pi * x)], axis=1)
        wave[:, 1] += 0.12 * height * np.array([1, *[0] * 7, -1])
        _stroke(ink, wave + at, thick * 0.85)
    else:
        turn = np.linspace(1.1 * np.pi, 2.55 * np.pi, 9)
        radius = 0.36 * height
        arc = np.stack([radius * 0.95 * np.cos(turn), -height + radius + radius * np.sin(turn)], axis=1)
        _stroke(ink, np.vstack([arc, [[-0.05 * height, 0.0]]]) + at, thick * 0.75)


def _wedge(width: float, height: float, thick: float, style: MarkStyle) -> Points:
    """An acute, cut straight at both ends."""
    run, foot, head = 0.3 * width, thick * (1 - style.taper) / 2, thick * (1 + 0.4 * style.taper) / 2
    return np.array([[-run - foot, 0.0], [-run + foot, 0.0], [run + head, -height], [run - head, -height]])


def _bowed_wedge(width: float, height: float, thick: float, style: MarkStyle) -> Points:
    """An acute as a comma or a bean: a steep arc, fat and round, mostly thinner at its foot."""
    height = 1.25 * height
    along = np.linspace(0.0, 1.0, 9)
    run = 0.16 * width
    axis = np.stack([run * (2 * along - 1), -height * along], axis=1)
    axis += 4 * style.bow * (along * (1 - along))[:, None] * np.array([height, 2 * run])
    across = np.gradient(axis, axis=0)[:, ::-1] * (-1.0, 1.0)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    round_ends = np.sqrt(1 - (2 * along - 1) ** 4 * 0.75)
    half = 0.62 * thick * (1 - style.taper * 0.7 * (1 - along)) * round_ends
    sides = across * half[:, None]
    return np.vstack([axis + sides, (axis - sides)[::-1]])


def _circumflex(width: float, height: float) -> Points:
    return np.array([[-width / 2, 0.0], [0.0, -height], [width / 2, 0.0]]) * 0.92


def _breve(width: float, height: float) -> Points:
    turn = np.linspace(0.05 * np.pi, 0.95 * np.pi, 8)
    return np.stack([-0.46 * width * np.cos(turn), -height + 0.9 * height * np.sin(turn)], axis=1)


def _bar(ink: Mask, box: tuple[float, float, float, float], letter: str, thick: float, em: float) -> None:
    """The stroke through đ and Đ."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if letter == "D":
        start, end, y = left - 0.09 * em, left + 0.45 * width, (top + bottom) / 2
    else:
        start, end, y = right - 0.6 * width, right + 0.08 * em, top + 0.17 * height
    half = min(max(0.4 * thick, 0.02 * em), 0.05 * em)
    _fill(ink, np.array([[start, y - half], [end, y - half], [end, y + half], [start, y + half]]))


def _horn(ink: Mask, right: float, top: float, bottom: float, thick: float, em: float, style: MarkStyle) -> None:
    reach = (0.09 + 0.5 * style.thick) * em
    low = top + 0.16 * (bottom - top)
    path = [[right - 0.6 * thick, low], [right + 0.55 * reach, low - 0.2 * reach], [right + reach, top - 0.45 * reach]]
    _stroke(ink, np.array(path), 0.8 * thick)


def _stroke(ink: Mask, points: Points, thick: float) -> None:
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(ink, [fixed], False, 255, max(int(round(thick)), 1), cv2.LINE_AA, _SHIFT)


def _fill(ink: Mask, points: Points) -> None:
    cv2.fillPoly(ink, [np.round(points * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
