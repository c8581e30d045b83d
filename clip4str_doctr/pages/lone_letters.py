"""The case of letters that stand alone: "x" and "X" are one shape, and only the words beside them tell its size."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import word_boxes

__all__ = ["settle_cases"]

Pixels = npt.NDArray[np.uint8]

# Letters that look alike in both cases; zero is read for any of "o", "O" and "0".
_ALIKE = frozenset("cosuvwxz")
# What is as high as capitals.
_HIGH = frozenset("bdđfhklt")
# Of a capital's height: lower is a small letter, higher a capital; "x" has about 0.7 of it.
_SMALL, _CAPITAL = 0.84, 0.92
# Of the largest stroke's area: less is a speck or a dot.
_SPECK = 0.1


def settle_cases(pixels: Pixels, lines: Sequence[Sequence[Any]]) -> None:
    """pixels: (H, W, 3) uint8 of a page; lines: docTR's words in each, whose values are changed in place.

    Measured are the strokes: of the letter, and of the words in its line that hold capitals, digits or high letters.
    Pixels of another type, which docTR takes, too, are not measured.
    """
    if pixels.dtype != np.uint8:
        return
    for words in lines:
        lone = [word for word in words if word.value.lower() in _ALIKE or word.value == "0"]
        if not lone:
            continue
        others = [word for word in words if word not in lone and any(map(_is_high, word.value))]
        heights = [height for word in others if (height := _stroke_height(pixels, word))]
        if not heights:
            continue
        capital = float(np.median(heights))
        for word in lone:
            height = _stroke_height(pixels, word)
            if 0 < height < _SMALL * capital:
                # Of figures in the old style a zero is as low, so beside figures it may be one.
                if word.value != "0":
                    word.value = word.value.lower()
                elif not any(symbol.isdigit() for other in others for symbol in other.value):
                    word.value = "o"
            elif height > _CAPITAL * capital:
                word.value = word.value.upper()


def _is_high(symbol: str) -> bool:
    return symbol.isdigit() or symbol.isupper() or symbol in _HIGH


def _stroke_height(pixels: Pixels, word: Any) -> int:
    """Of the highest stroke in a word's box, in pixels; 0 where there is none."""
    left, top, right, bottom = word_boxes([word], pixels.shape[:2])[0]
    x0, y0, x1, y1 = (max(int(edge), 0) for edge in (left, top, np.ceil(right), np.ceil(bottom)))
    crop = pixels[y0:y1, x0:x1]
    if min(crop.shape[:2]) < 3:
        return 0
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    _, light = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    edge = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    ink = light != int(np.median(edge))
    _, _, parts, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    parts = parts[1:]  # the first is the paper
    if not len(parts):
        return 0
    areas = parts[:, cv2.CC_STAT_AREA]
    return int(parts[areas > _SPECK * areas.max(), cv2.CC_STAT_HEIGHT].max())
