"""Glyphs that stand for symbols of the alphabet: curly quotes, dashes, an ellipsis, raised figures, the đồng's sign.

Word processors and menus set them; the alphabet has the plain symbols only, which are what a reader is to answer.
"""

import re
from functools import lru_cache

import numpy as np

from clip4str_doctr.training.synth.fonts import Face

__all__ = ["as_set"]

# (what, of a label, its glyph); a label keeps its plain symbols.
_GLYPHS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r'^"|(?<=\()"'), "\N{LEFT DOUBLE QUOTATION MARK}"),
    (re.compile(r'(?<!^)"'), "\N{RIGHT DOUBLE QUOTATION MARK}"),
    (re.compile(r"^'|(?<=\()'"), "\N{LEFT SINGLE QUOTATION MARK}"),
    (re.compile(r"(?<!^)'"), "\N{RIGHT SINGLE QUOTATION MARK}"),
    (re.compile(r"\.\.\."), "\N{HORIZONTAL ELLIPSIS}"),
    (re.compile(r"-"), "\N{EN DASH}"),
    (re.compile(r"(?<=m)2$"), "\N{SUPERSCRIPT TWO}"),
    (re.compile(r"(?<=m)3$"), "\N{SUPERSCRIPT THREE}"),
    (re.compile(r"(?<=\d)đ$"), "\N{DONG SIGN}"),
)
_CURLED, _DASHED = 0.45, 0.3  # shares of the labels that have such a symbol; a hyphen is one more often than not


def as_set(rng: np.random.Generator, label: str, face: Face) -> str:
    """What is drawn for a label: itself, or with glyphs that the face has in the place of some symbols."""
    draw = rng.random()
    for pattern, glyph in _GLYPHS:
        share = _DASHED if glyph == "\N{EN DASH}" else _CURLED
        if draw < share and ord(glyph) in _code_points(face.path):
            label = pattern.sub(glyph, label)
    return label


@lru_cache(maxsize=2048)
def _code_points(path: str) -> frozenset[int]:
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it ships no types

    wanted = {ord(glyph) for _, glyph in _GLYPHS}
    with TTFont(path, lazy=True) as font:
        return frozenset(wanted & set(font.getBestCmap()))
