"""Dots that lead the eye across a line, as in menus and forms: "Cà phê ........ 25.000". They are no words.

Detectors see the text and the first few dots behind it, so dots count as leaders where they are many in a row, and
where they stand for themselves at an end of the line or next to one another.
"""

from itertools import chain, groupby, pairwise, takewhile

from clip4str_doctr.ink import LINE_HEIGHT, Box

__all__ = ["leading_words", "without_chains"]

# In heights of the letters' body: full stops are no larger, and stand no farther from the line than this.
_DOT = 0.4
_OFF_LINE = 0.15
# "..." is a word's own; so many with no letter between them are not.
_CHAIN = 5
# Letters fill more of the height of the box that a detector puts around them, even around several lines.
_NO_LETTER = 0.2


def _dots(parts: dict[int, Box], bottom: int, body: int) -> set[int]:
    """Which parts are full stops: small, about as high as wide, on the line that letters stand on."""
    found = set()
    for number, (left, first, right, last) in parts.items():
        least, most = sorted((right - left, last - first))
        if most <= max(_DOT * body, 3) and most <= 2 * least and abs(last - bottom) <= max(_OFF_LINE * body, 2):
            found.add(number)
    return found


def without_chains(parts: dict[int, Box], bottom: int, body: int) -> dict[int, Box]:
    """Components of a line's ink, less five and more full stops in a row; none where all of a line is small marks.

    parts: number of a component -> its box. bottom: the line that letters stand on; body: their height without marks.
    """
    sides = [max(right - left, last - first) for left, first, right, last in parts.values()]
    if len(parts) >= _CHAIN and max(sides) <= _NO_LETTER * LINE_HEIGHT:
        return {}
    dots = _dots(parts, bottom, body)
    order = sorted(parts, key=lambda number: parts[number][0])
    rows = [list(row) for _, row in groupby(order, lambda number: number in dots)]
    chained = {number for row in rows if row[0] in dots and len(row) >= _CHAIN for number in row}
    return {number: box for number, box in parts.items() if number not in chained}


def leading_words(word_of: dict[int, int], parts: dict[int, Box], bottom: int, body: int) -> set[int]:
    """Words of nothing but full stops, at an end of the line or beside another such word.

    word_of: number of a component -> number of its word, from 0 left to right; the rest as for `without_chains`.
    """
    dots = _dots(parts, bottom, body)
    words = sorted(set(word_of.values()))
    lettered = {word for part, word in word_of.items() if part not in dots}
    ends = (takewhile(lambda word: word not in lettered, order) for order in (words, reversed(words)))
    return set(chain(*ends, *(pair for pair in pairwise(words) if lettered.isdisjoint(pair))))
