"""Words -> columns, paragraphs and lines, in the order in which a page is read.

docTR's own order (since 1.1; 1.0 has none) takes a page for columns only where they fill it: of a letter it reads the
sender at the left and the motto beside him by turns, line by line, and the same of those who sign it. Of a table it
reads one column after the other.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clip4str_doctr.pages.order import OrderedBuilder
from clip4str_doctr.pages.paragraphs import paragraphs
from clip4str_doctr.pages.rows import Boxes, level_rows
from clip4str_doctr.pages.sheet import Row, Sheet

__all__ = ["ColumnBuilder", "columns_of"]

# Columns have so many rows side by side. Lengths are in heights of the page's usual word.
_ROWS = 2
# A gutter is so many usual gaps wide, and the wider, the fewer its rows are: in all together, so many gaps as of cells.
_GAPS, _SURE = 2.0, 3.0
# What is narrower and stands before the items of a list is no column.
_NARROW = 2.5
# Of the rows of a table are figures, or stand beside labels, or are counted across.
_TABULAR = 0.6
# Below a white band of so much columns may go on; of so much if there are two rows at least, and the next is of both:
# between "Director" and his name there is room for a signature.
_BELOW, _ROOM = 2.5, 12.0
# Rows of columns that do not stand level with each other overlap, or are so close; the first and the last need not
# quite stand beside rows of the other.
_CLOSE = _SLACK = 0.5

_Table = frozenset[str]  # why rows are a table's: "labels", "counters", "figures first", "figures next"


class ColumnBuilder(OrderedBuilder):
    """docTR's builder, but with the columns that `columns_of` finds, and one block for each paragraph.

    `predictor.doc_builder = ColumnBuilder()` gives any OCRPredictor this order, for pages that lie nearly level.
    """

    def order(self, boxes: Boxes, texts: list[str]) -> list[list[list[int]]]:
        return columns_of(boxes, texts)


def columns_of(boxes: Boxes, texts: Sequence[str]) -> list[list[list[int]]]:
    """boxes (N, 4) of words in pixels, and the words -> paragraphs in reading order: lists of lines of words' numbers.

    Rows are a table's, which is read across, if most of what stands side by side are figures, or stands behind
    "labels:", or is counted: "A. … B. …". Tables of nothing but words are read as columns are.
    """
    if not len(boxes):
        return []
    sheet = Sheet(*level_rows(boxes), texts)
    return [part for column in _columns(sheet, np.arange(len(boxes))) for part in paragraphs(sheet, column)]


@dataclass(frozen=True)
class _Cut:
    """In the rows first..last there is nothing between x = left and right.

    depth: how many rows of the one side stand beside rows of the other, of the side that has fewer. table: why these
    rows are a table's, if they are. wide: whether both sides are wide enough for columns.
    """

    first: int
    last: int
    left: float
    right: float
    depth: int
    table: _Table
    wide: bool

    @property
    def rows(self) -> range:
        return range(self.first, self.last + 1)

    @property
    def worth(self) -> tuple[int, float]:
        return self.depth, self.right - self.left


def _columns(sheet: Sheet, numbers: npt.NDArray[np.intp]) -> Iterator[list[Row]]:
    """Words -> columns in reading order, as rows."""
    if not len(numbers):
        return
    rows = sheet.rows(numbers)
    cuts = _cuts(sheet, rows)
    tables = [cut for cut in cuts if cut.table]
    columns = (cut for cut in cuts if cut.wide and not _in_table(cut, tables))
    best = max(columns, key=lambda cut: cut.worth, default=None)
    if best is None:
        yield rows
        return
    inside = np.array([number for row in rows[best.first : best.last + 1] for number in row])
    at_left = sheet.level[inside, 2] <= best.left
    above = [number for row in rows[: best.first] for number in row]
    below = [number for row in rows[best.last + 1 :] for number in row]
    for part in (np.array(above, int), inside[at_left], inside[~at_left], np.array(below, int)):
        yield from _columns(sheet, part)


def _in_table(cut: _Cut, tables: Sequence[_Cut]) -> bool:
    """Whether a cut goes between the cells of a table, and not between two of a kind, as of a menu in two columns."""
    if cut.table:
        return True
    # What stands beside a form may be text.
    tables = [table for table in tables if "labels" not in table.table]
    kinds = {kind for table in tables for kind in table.table}
    return _covered(cut, tables) and not any(
        _covered(cut, (table for table in tables if kind in table.table and table.right <= cut.left))
        and _covered(cut, (table for table in tables if kind in table.table and table.left >= cut.right))
        for kind in kinds
    )


def _covered(cut: _Cut, others: Iterable[_Cut]) -> bool:
    """Whether most of its rows are rows of the others."""
    return 2 * len({row for other in others for row in other.rows}.intersection(cut.rows)) > len(cut.rows)


def _cuts(sheet: Sheet, rows: list[Row]) -> list[_Cut]:
    """Where a wide gap goes through several rows; the same in each of them is one."""
    cuts: list[_Cut] = []
    for number, row in _seeds(sheet, rows):
        rights = np.maximum.accumulate(sheet.level[row, 2])
        for at in np.flatnonzero(sheet.gaps(row) >= _least(sheet)):
            left, right = float(rights[at]), float(sheet.level[row[at + 1], 0])
            if _narrowed(sheet, row, left, right) is None:
                continue
            if not any(number in cut.rows and left <= cut.left < cut.right <= right for cut in cuts):
                cuts.append(_grown(sheet, rows, number, left, right))
    return [cut for cut in cuts if cut.depth >= _ROWS and cut.depth * (cut.right - cut.left) >= _SURE * sheet.gutter]


def _least(sheet: Sheet) -> float:
    return max(sheet.height, _GAPS * sheet.space)


def _seeds(sheet: Sheet, rows: list[Row]) -> Iterator[tuple[int, Row]]:
    """Rows, and each together with the next if they are close: columns need not stand level with each other."""
    for number, row in enumerate(rows):
        yield number, row
        if number + 1 < len(rows):
            other = rows[number + 1]
            if sheet.band(other)[0] - sheet.band(row)[1] < _CLOSE * sheet.height:
                yield number, sorted(row + other, key=lambda word: float(sheet.level[word, 0]))


def _grown(sheet: Sheet, rows: list[Row], seed: int, left: float, right: float) -> _Cut:
    """A gap at one row, followed down and up as far as it goes."""
    first = last = seed
    top, bottom = sheet.band(rows[seed])
    for step in (1, -1):
        number = seed + step
        while 0 <= number < len(rows):
            narrowed = _narrowed(sheet, rows[number], left, right)
            above, below = sheet.band(rows[number])
            if narrowed is None:
                break
            goes_on = step > 0 and narrowed[2] and last > first
            if (above - bottom if step > 0 else top - below) > sheet.height * (_ROOM if goes_on else _BELOW):
                break
            left, right, _ = narrowed
            first, last = min(first, number), max(last, number)
            top, bottom = min(top, above), max(bottom, below)
            number += step
    return _judged(sheet, rows, first, last, left, right)


def _narrowed(sheet: Sheet, row: Row, left: float, right: float) -> tuple[float, float, bool] | None:
    """What a row leaves of a gutter, and whether it has words on both sides; None if it crosses it."""
    boxes = sheet.level[row]
    before = boxes[:, 0] < (left + right) / 2
    begin = max([left, *boxes[before, 2].tolist()])
    end = min([right, *boxes[~before, 0].tolist()])
    both = bool(before.any() and not before.all())
    least = _least(sheet)
    if both:
        # Words of large type are far apart.
        ends = boxes[before][np.argmax(boxes[before, 2])], boxes[~before][np.argmin(boxes[~before, 0])]
        least = max(least, min(float(box[3] - box[1]) for box in ends))
    return (begin, end, both) if end - begin >= least else None


def _judged(sheet: Sheet, rows: list[Row], first: int, last: int, left: float, right: float) -> _Cut:
    ones, others = (
        [[number for number in row if (sheet.level[number, 2] <= left) == before] for row in rows[first : last + 1]]
        for before in (True, False)
    )
    pairs = [(one, other) for one, other in zip(ones, others, strict=True) if one and other]
    ones, others = list(filter(None, ones)), list(filter(None, others))
    if not ones or not others:
        return _Cut(first, last, left, right, 0, frozenset(), wide=False)
    narrow = [_width(sheet, side) < _NARROW * sheet.height for side in (ones, others)]
    table = _table(sheet, pairs, narrow[0]) if len(pairs) >= _ROWS else frozenset()
    depth = min(_within(sheet, ones, others), _within(sheet, others, ones))
    return _Cut(first, last, left, right, depth, table, wide=not any(narrow))


def _width(sheet: Sheet, rows: list[Row]) -> float:
    """Of most of the rows."""
    return float(np.median([np.ptp(sheet.span(row)) for row in rows]))


def _within(sheet: Sheet, ones: list[Row], others: list[Row]) -> int:
    """How many of the rows `ones` lie no higher and no lower than the rows `others`; a logo counts for several."""
    bands = np.array([sheet.band(row) for row in ones])
    tops, bottoms = np.array([sheet.band(row) for row in others]).T
    middles, heights = bands.mean(axis=1), np.ptp(bands, axis=1)
    counts = np.maximum(np.rint(heights / sheet.height), 1)
    slack = _SLACK * sheet.height
    return int(counts[(middles > tops.min() - slack) & (middles < bottoms.max() + slack)].sum())


def _table(sheet: Sheet, pairs: Sequence[tuple[Row, Row]], narrow: bool) -> _Table:
    """Why pairs of what stands before a gutter and behind it are rows of a table."""
    texts = sheet.texts
    reasons = {
        "labels": [texts[one[-1]].endswith(":") for one, _ in pairs],
        "counters": [_follow(texts[one[0]], texts[other[0]]) for one, other in pairs],
        # "1." before the items of a list is no number of a table's row.
        "figures first": [
            _figures(sheet, one) and (not narrow or all(texts[word].isdigit() for word in one)) for one, _ in pairs
        ],
        "figures next": [_figures(sheet, sheet.cell(other)) for _, other in pairs],
    }
    return frozenset(reason for reason, rows in reasons.items() if np.mean(rows) >= _TABULAR)


def _figures(sheet: Sheet, cell: Row) -> bool:
    """Whether a cell is figures, a unit perhaps among them, and not "Label: 12"."""
    texts = [sheet.texts[number] for number in cell]
    with_digits = sum(any(map(str.isdigit, text)) for text in texts)
    return 2 * with_digits >= len(texts) and not any(text.endswith(":") for text in texts[:-1])


def _follow(one: str, other: str) -> bool:
    """Whether "B." comes after "A.", or "2)" after "1)"."""
    first, second = (re.fullmatch(r"(?:([A-Za-z])|([0-9]{1,3}))[.)]", text) for text in (one, other))
    if first is None or second is None:
        return False
    if first[1] and second[1]:
        return ord(second[1]) == ord(first[1]) + 1
    return bool(first[2] and second[2]) and int(second[2]) == int(first[2]) + 1
