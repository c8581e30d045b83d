"""What nobody can read: letters that a face does not tell apart, words that no longer stand out from their ground.

A face draws marks as nothing, or a wrong glyph under a right code; light, noise and blur take a word away. A picture of
either teaches, and measures, nonsense.
"""

import itertools
import math
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.training.synth.fonts import Face, load_face

__all__ = ["confused_letters", "has_faint_dots", "lacks_marks", "most_legible", "separation"]

_LEAST_SEPARATION = 1.5  # below, nine words in ten are not read
_OF_MARKS = 1.3  # they are thinner than strokes, and stand out less where they are read as well
_TRIES = 4  # of light and camera, of printer and scanner

_EM = 60  # pixels
# Ink in pixels, of an em of 60: a dot of 2.8 pixels across, which is less than one pixel at the size of running text.
_LEAST_DIFFERENCE = 8.0
_DOT = "\u0323"
_ROWS = 32  # of a crop, as readers see it
_MARKED = frozenset(symbol for symbol in VIETNAMESE_SYMBOLS if len(unicodedata.normalize("NFD", symbol)) > 1)
_DOTTED = frozenset(symbol for symbol in VIETNAMESE_SYMBOLS if _DOT in unicodedata.normalize("NFD", symbol))


@lru_cache(maxsize=1024)
def confused_letters(face: Face) -> frozenset[str]:
    """Letters of the alphabet that this face draws, but for less ink than a speck, like another of the same base.

    Upper and lower case are compared apart: their likeness (o, O) is no fault of a face.
    """
    font = load_face(face, _EM)
    confused: set[str] = set()
    for letters in _by_base().values():
        drawn = [(letter, _drawn(font, letter)) for letter in letters]
        for (one, ink), (other, other_ink) in itertools.combinations(drawn, 2):
            if np.abs(ink - other_ink).sum() / 255 < _LEAST_DIFFERENCE:
                confused |= {one, other}
    return frozenset(confused)


def has_faint_dots(face: Face, word: str) -> bool:
    """Whether the face draws the dot under some letter of the word with less ink than a speck; quick."""
    return any(_faint_dot(face, letter) for letter in word if letter in _DOTTED)


@lru_cache(maxsize=1 << 15)
def _faint_dot(face: Face, letter: str) -> bool:
    font = load_face(face, _EM)
    bare = unicodedata.normalize("NFC", unicodedata.normalize("NFD", letter).replace(_DOT, ""))
    areas = [_drawn(font, one)[_EM + 3 * _EM // 4 + 2 :].sum() / 255 for one in (letter, bare)]
    return bool(areas[0] - areas[1] < _LEAST_DIFFERENCE)


def lacks_marks(face: Face, word: str) -> bool:
    """Whether the face draws some letter of the word without one of its marks: Carlito's Ậ is an Ạ; quick."""
    return any(_lacks_mark(face, letter) for letter in word if letter in _MARKED)


@lru_cache(maxsize=1 << 16)
def _lacks_mark(face: Face, letter: str) -> bool:
    font = load_face(face, _EM)
    base, *marks = list(unicodedata.normalize("NFD", letter))
    drawn = _drawn(font, letter)
    for mark in marks:
        without = unicodedata.normalize("NFC", base + "".join(one for one in marks if one != mark))
        if np.abs(drawn - _drawn(font, without)).sum() / 255 < _LEAST_DIFFERENCE:
            return True
    return False


@lru_cache(maxsize=1)
def _by_base() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for letter in dict.fromkeys(symbol for symbol in VIETNAMESE_SYMBOLS if symbol.isalpha()):
        base = unicodedata.normalize("NFD", letter.replace("đ", "d").replace("Đ", "D"))[0]
        groups.setdefault(base, []).append(letter)
    return groups


def separation(
    crop: npt.NDArray[np.uint8], ink: npt.NDArray[np.float32], whole: npt.NDArray[np.float32] | None = None
) -> float:
    """How far a word's ink lies from the ground around it, in standard deviations of their colours (Mahalanobis).

    crop: (H, W, 3). ink: (H, W) 0..1, where the word is. whole: where all of it is, if ink is a part: the rest is no
    ground. Taken at 32 rows at most. Infinite where there is too little of either to tell.
    """
    height, width = crop.shape[:2]
    pixels = crop.astype(np.float32)
    if height > _ROWS:
        size = (max(width * _ROWS // height, 4), _ROWS)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)
        ink = np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), np.float32)
        whole = None if whole is None else np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)
    near = cv2.dilate((ink > 0.3).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    full = ink > 0.7
    # Thin strokes cover no pixel whole.
    inside = pixels[full if full.sum() > 8 else ink > 0.45 * ink.max()]
    around = pixels[near & ((ink if whole is None else whole) < 0.15)]
    if min(len(inside), len(around)) < 4:
        return math.inf
    apart = inside.mean(axis=0) - around.mean(axis=0)
    spread = np.cov(inside.T) + np.cov(around.T) + 8 * np.eye(3)
    return math.sqrt(float(apart @ np.linalg.solve(spread, apart)))


def most_legible(
    shot: Callable[[], npt.NDArray[np.uint8]],
    ink: npt.NDArray[np.float32],
    marks: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint8]:
    """The first of a few shots of a word on which it stands out, or the one on which it does most.

    shot: gives (H, W, 3), each time by another chance. ink: as for `separation`. marks: the part of it that tells
    letters of one base apart, which a word can lose while it still stands out.
    """

    def seen(crop: npt.NDArray[np.uint8]) -> float:
        whole = separation(crop, ink)
        return whole if marks is None else min(whole, _OF_MARKS * separation(crop, marks, ink))

    best = shot()
    most = seen(best)
    for _ in range(_TRIES - 1):
        if most >= _LEAST_SEPARATION:
            break
        again = shot()
        if (found := seen(again)) > most:
            best, most = again, found
    return best


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> npt.NDArray[np.int32]:
    """Ink 0..255 on a canvas that holds any letter with its marks, all on one baseline and from one left edge."""
    canvas = Image.new("L", (2 * _EM, 2 * _EM + _EM // 2))
    ImageDraw.Draw(canvas).text((_EM // 3, _EM + 3 * _EM // 4), letter, fill=255, font=font, anchor="ls")
    return np.asarray(canvas, np.int32)
