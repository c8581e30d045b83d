"""The lines of a column -> paragraphs, by space, indents, sizes, and lines that end before they need to."""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from clip4str_doctr.pages.rows import Values
from clip4str_doctr.pages.sheet import Row, Sheet

__all__ = ["paragraphs"]

Flags = npt.NDArray[np.bool_]

# In heights of the page's usual word. A paragraph ends below a line where
_APART = 0.4  # there is so much more space than above or than below the next line,
_FAR = 4.0  # both taken as so much at most;
_SIZE = 1.5  # the next line is so many times as high or as low;
_INDENT = 0.8, 6.0  # the next line is set in by so much;
_FULL, _FEW = 0.1, 3  # the next word would fit, while most of more than _FEW lines leave no more than this share free.
_DASH = 0.5  # what is lower is a dash or a dot
_EDGE = 0.2  # of the lines, two at least, end at the edge of a column
# "1." "1.2." "a)" "(b)" "IV." "-" "•": what an item of a list begins with.
_MARK = re.compile(r"[-+*•–]|\(?(\d+(\.\d+)*|[a-zđA-Z]|[IVXivx]+)[.):]*")


def paragraphs(sheet: Sheet, rows: list[Row]) -> Iterator[list[Row]]:
    """The rows of a column, from top to bottom -> paragraphs."""
    begin = 0
    for number in np.flatnonzero(_ends(sheet, rows)).tolist():
        yield rows[begin : number + 1]
        begin = number + 1
    yield rows[begin:]


def _ends(sheet: Sheet, rows: list[Row]) -> Flags:
    """Of each row but the last whether a paragraph ends with it."""
    lefts, rights = np.array([sheet.span(row) for row in rows]).T
    # Rows of a table are set in, and end where they do, for other reasons.
    filled = np.array([len(sheet.cell(row)) == len(row) for row in rows])
    indented = _indented(sheet, rows, lefts, rights) & filled[1:]
    short = _short(sheet, rows, lefts, rights, filled)
    return np.asarray(_apart(sheet, rows) | _resized(sheet, rows) | indented | short, np.bool_)


def _apart(sheet: Sheet, rows: list[Row]) -> Flags:
    # Of letters with tails the foot is lower, of capitals with marks the top is higher: neither tells alone.
    feet = _extra(np.array([_foot(sheet, row) for row in rows]) / sheet.height)
    tops = _extra(np.array([sheet.band(row)[0] for row in rows]) / sheet.height)
    return np.asarray((feet + tops > 2 * _APART) & (np.minimum(feet, tops) > _APART / 2))


def _extra(heights: Values) -> Values:
    """By how much the next line is farther away than the line above, or the line below the next from it."""
    pitches = np.diff(heights)
    above, below = [_FAR, *pitches[:-1]], [*pitches[1:], _FAR]
    return np.asarray(pitches - np.minimum(above, below)[: len(pitches)].clip(max=_FAR), np.float64)


def _foot(sheet: Sheet, row: Row) -> float:
    """Where the letters stand that have no tails."""
    boxes = sheet.level[row]
    high = boxes[boxes[:, 3] - boxes[:, 1] > _DASH * sheet.height]
    return float((high if len(high) else boxes)[:, 3].min())


def _resized(sheet: Sheet, rows: list[Row]) -> Flags:
    # "vào" says little of the size of its type.
    heights = np.maximum([np.ptp(sheet.band(row)) for row in rows], sheet.height)
    return np.asarray(np.maximum(heights[1:], heights[:-1]) > _SIZE * np.minimum(heights[1:], heights[:-1]))


def _indented(sheet: Sheet, rows: list[Row], lefts: Values, rights: Values) -> Flags:
    near = _INDENT[0] * sheet.height
    indents = np.diff(lefts)
    centred = abs(np.diff(lefts + rights)) / 2 < near
    at_edge = abs(lefts[:-1] - _edge(lefts, near)) < near
    hanging = [_hangs(sheet, row, left) for row, left in zip(rows, lefts[1:].tolist(), strict=False)]
    set_in = (indents >= near) & (indents <= _INDENT[1] * sheet.height)
    return np.asarray(set_in & at_edge & ~centred & ~np.array(hanging, bool))


def _hangs(sheet: Sheet, row: Row, left: float) -> bool:
    """Whether a line from `left` on goes on with the item of a list that the row begins."""
    if len(row) < 2 or not _MARK.fullmatch(sheet.texts[row[0]]):
        return False
    return abs(float(sheet.level[row[1], 0]) - left) < _INDENT[0] * sheet.height


def _short(sheet: Sheet, rows: list[Row], lefts: Values, rights: Values, filled: Flags) -> Flags:
    left, right = _edge(lefts, sheet.height), -_edge(-rights, sheet.height)
    full = (right - rights) / max(right - left, 1.0) < _FULL
    if len(rows) <= _FEW or np.mean(filled & full) <= 0.5:
        return np.zeros(len(rows) - 1, bool)
    needed = np.array([np.ptp(sheet.level[row[0], [0, 2]]) for row in rows[1:]]) + sheet.height
    # Beside a picture lines end early, too, but one as early as the other.
    alike = (abs(np.diff(rights)) < sheet.height) & (np.arange(1, len(rows)) < len(rows) - 1)
    return np.asarray((right - rights[:-1] > needed) & ~alike)


def _edge(starts: Values, near: float) -> float:
    """Where the first of the lines begin of which there are several that begin there; page numbers stick out."""
    beside = (abs(starts[:, None] - starts) < near).sum(axis=1)
    shared = starts[beside >= max(2, _EDGE * len(starts))]
    return float(shared.min() if len(shared) else starts.min())
