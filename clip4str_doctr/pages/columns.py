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
from clip4str_doctr.pages.rows import group_rows, level_rows

__all__ = ["ColumnBuilder", "columns_of"]

Values = npt.NDArray[np.float64]
Boxes = Values  # (N, 4): xmin, ymin, xmax, ymax in pixels

# Lengths are in heights of the page's usual word.
# Columns: rows side by side, with a gutter between them of so much and of so many usual gaps between words.
_ROWS = 2
_GUTTER, _GUTTER_OF_GAPS = 1.0, 3.0
_SPACE = 2.0  # what is wider is no gap between words
_SURE = 3.0  # the fewer rows, the wider must the gutter be: so many gutters in all rows together
_NARROW = 2.5  # what stands before the items of a list is no column: "1.", "a)", "-"
_TABULAR = 0.6  # of the rows of a table are figures, or stand beside labels, or their cells are counted: "A." "B."
# Below a white band of so much columns go on with rows of both, and of one of them.
_BESIDE, _BELOW = 8.0, 1.5  # between "Director" and his name there is room for a signature
# Where a paragraph ends: below it is so much more space than above, or than below the next line;
_APART, _FAR = 0.4, 4.0  # or so much at all
_SIZE = 1.5  # the next line is so many times as high or as low;
_INDENT = 0.8, 6.0  # it is set in by so much;
_FULL, _FEW = 0.1, 3  # its first word would fit into this one, and most of the more lines leave but so much free
_DASH = 0.5  # what is lower is a dash or a dot


class ColumnBuilder(OrderedBuilder):
    """docTR's builder, but with the columns that `columns_of` finds, and one block for each paragraph.

    `predictor.doc_builder = ColumnBuilder()` gives any OCRPredictor this order; words may have boxes or polygons.
    """

    def order(self, boxes: Boxes, texts: list[str]) -> list[list[list[int]]]:
        return columns_of(boxes, texts)


def columns_of(boxes: Boxes, texts: Sequence[str]) -> list[list[list[int]]]:
    """boxes (N, 4) of words in pixels, and the words -> paragraphs in reading order: lists of lines of words' numbers.

    What stands beside "Labels:", is but figures, or is counted across, "A. … B. …", is no column: the rows of such a
    form or table are read across.
    """
    if not len(boxes):
        return []
    level, _ = level_rows(boxes)
    page = _Page(level, texts)
    return [paragraph for column in page.columns(np.arange(len(boxes))) for paragraph in page.paragraphs(column)]


@dataclass(frozen=True)
class _Cut:
    """Rows first..last (its own included) stand side by side, with nothing between x = left and right."""

    first: int
    last: int
    left: float
    right: float
    beside: int  # rows of the column that has fewer, beside those of the other
    tabular: bool

    @property
    def rows(self) -> range:
        return range(self.first, self.last + 1)

    @property
    def worth(self) -> tuple[int, float]:
        return self.beside, self.right - self.left


def _in_table(cut: _Cut, tables: Sequence[_Cut]) -> bool:
    """Whether a cut goes between the cells of a table, and not between two of them, as of a menu in two columns."""

    def beside(tables: Iterable[_Cut]) -> bool:
        rows = {row for table in tables for row in table.rows}
        return 2 * len(rows.intersection(cut.rows)) > len(cut.rows)

    at_left = beside(table for table in tables if table.right <= cut.left)
    at_right = beside(table for table in tables if table.left >= cut.right)
    return cut.tabular or (beside(tables) and not (at_left and at_right))


def _follow(one: str, other: str) -> bool:
    """Whether "B." comes after "A.", or "2)" after "1)"."""
    first, second = (re.fullmatch(r"(?:([A-Za-z])|([0-9]{1,3}))[.)]", text) for text in (one, other))
    if first is None or second is None:
        return False
    if first[1] and second[1]:
        return ord(second[1]) == ord(first[1]) + 1
    return bool(first[2] and second[2]) and int(second[2]) == int(first[2]) + 1


class _Page:
    """level: boxes (N, 4) of a level page; texts: its words."""

    def __init__(self, level: Boxes, texts: Sequence[str]) -> None:
        self.level, self.height = level, max(float(np.median(level[:, 3] - level[:, 1])), 1e-6)
        self.texts = texts
        self.figures = np.array([any(map(str.isdigit, text)) for text in texts])
        gaps = [gap for row in group_rows(level, np.arange(len(level))) for gap in self._gaps(row)]
        usual = float(np.median([gap for gap in gaps if 0 < gap < _SPACE * self.height] or [0.0]))
        self.gutter = max(_GUTTER * self.height, _GUTTER_OF_GAPS * usual)

    def _gaps(self, row: Sequence[int]) -> Values:
        rights = np.maximum.accumulate(self.level[row, 2])
        return np.asarray(self.level[row[1:], 0] - rights[:-1], np.float64)

    def rows(self, numbers: npt.NDArray[np.intp]) -> list[list[int]]:
        """Words -> rows from top to bottom."""
        return sorted(group_rows(self.level, numbers), key=lambda row: float(self._band(row).mean()))

    def _band(self, row: Sequence[int]) -> Values:
        """Top and bottom of most of its words."""
        return np.asarray(np.median(self.level[row][:, [1, 3]], axis=0), np.float64)

    def columns(self, numbers: npt.NDArray[np.intp]) -> Iterator[list[list[int]]]:
        """Words -> columns in reading order, as rows."""
        if not len(numbers):
            return
        rows = self.rows(numbers)
        cuts = self._cuts(rows)
        tables = [cut for cut in cuts if cut.tabular]
        cut = max((cut for cut in cuts if not _in_table(cut, tables)), key=lambda cut: cut.worth, default=None)
        if cut is None:
            yield rows
            return
        inside = np.array([number for row in rows[cut.first : cut.last + 1] for number in row])
        at_left = self.level[inside, 2] <= cut.left
        above = [number for row in rows[: cut.first] for number in row]
        below = [number for row in rows[cut.last + 1 :] for number in row]
        for part in (np.array(above, int), inside[at_left], inside[~at_left], np.array(below, int)):
            yield from self.columns(part)

    def _cuts(self, rows: list[list[int]]) -> list[_Cut]:
        """Where a wide gap goes through several rows; the same in each of them is one."""
        cuts: list[_Cut] = []
        for seed, row in enumerate(rows):
            rights = np.maximum.accumulate(self.level[row, 2])
            for at in np.flatnonzero(self._gaps(row) >= self.gutter):
                left, right = float(rights[at]), float(self.level[row[at + 1], 0])
                if not any(cut.first <= seed <= cut.last and left <= cut.left < cut.right <= right for cut in cuts):
                    cuts.append(self._grown(rows, seed, left, right))
        return [
            cut for cut in cuts if cut.beside >= _ROWS and cut.beside * (cut.right - cut.left) >= _SURE * self.gutter
        ]

    def _grown(self, rows: list[list[int]], seed: int, left: float, right: float) -> _Cut:
        """The gap of one row, followed down and up as far as it goes."""
        first = last = seed
        top, bottom = self._band(rows[seed])
        for step in (1, -1):
            number = seed + step
            while 0 <= number < len(rows):
                narrowed = self._narrowed(rows[number], left, right)
                above, below = self._band(rows[number])
                away = above - bottom if step > 0 else top - below
                if narrowed is None or away > self.height * (_BESIDE if narrowed[2] else _BELOW):
                    break
                left, right, _ = narrowed
                first, last = min(first, number), max(last, number)
                top, bottom = min(top, above), max(bottom, below)
                number += step
        return _Cut(first, last, left, right, *self._beside(rows[first : last + 1], left))

    def _narrowed(self, row: list[int], left: float, right: float) -> tuple[float, float, bool] | None:
        """What the row leaves of a gutter, and whether it has words on both sides; None if it crosses it."""
        boxes = self.level[row]
        middle = (left + right) / 2
        lefts, rights = boxes[boxes[:, 0] < middle], boxes[boxes[:, 0] >= middle]
        left = max([left, *lefts[:, 2].tolist()])
        right = min([right, *rights[:, 0].tolist()])
        return (left, right, bool(len(lefts) and len(rights))) if right - left >= self.gutter else None

    def _beside(self, rows: list[list[int]], left: float) -> tuple[int, bool]:
        """How many rows stand side by side, of the column that has fewer, and whether as in a form or a table.

        0 if one is too narrow for a column.
        """
        lefts, rights = (
            [[number for number in row if (self.level[number, 2] <= left) == side] for row in rows]
            for side in (True, False)
        )
        one, other = list(filter(None, lefts)), list(filter(None, rights))
        if not one or not other or min(map(self._width, (one, other))) < _NARROW * self.height:
            return 0, False
        pairs = [(left, right) for left, right in zip(lefts, rights, strict=True) if left and right]
        tabular = (
            [self.texts[left[-1]].endswith(":") for left, _ in pairs],
            [_follow(self.texts[left[0]], self.texts[right[0]]) for left, right in pairs],
            [self.figures[row].mean() >= 0.5 for row in one],
            [self.figures[self._cell(row)].mean() >= 0.5 for row in other],
        )
        shares = [float(np.mean(rows)) for rows in tabular if rows]
        return min(self._within(one, other), self._within(other, one)), max(shares) >= _TABULAR

    def _cell(self, row: list[int]) -> list[int]:
        """What a row begins with, up to a wide gap."""
        wide = np.flatnonzero(self._gaps(row) >= self.gutter)
        return row[: wide[0] + 1] if len(wide) else row

    def _width(self, rows: list[list[int]]) -> float:
        """Of most of the rows."""
        return float(np.median([np.ptp(self.level[row][:, [0, 2]]) for row in rows]))

    def _within(self, ones: list[list[int]], others: list[list[int]]) -> int:
        """How many of the rows `ones` lie no higher and no lower than the rows `others`."""
        middles = np.array([self._band(row).mean() for row in ones])
        tops, bottoms = np.array([self._band(row) for row in others]).T
        return int(np.sum((middles >= tops.min()) & (middles <= bottoms.max())))

    def paragraphs(self, rows: list[list[int]]) -> Iterator[list[list[int]]]:
        """The rows of a column -> paragraphs."""
        begin = 0
        for number in np.flatnonzero(self._ends(rows)).tolist():
            yield rows[begin : number + 1]
            begin = number + 1

    def _foot(self, row: Sequence[int]) -> float:
        """Where the letters stand that have no tails."""
        boxes = self.level[row]
        high = boxes[boxes[:, 3] - boxes[:, 1] > _DASH * self.height]
        return float((high if len(high) else boxes)[:, 3].min())

    def _ends(self, rows: list[list[int]]) -> npt.NDArray[np.bool_]:
        """Of each row whether a paragraph ends with it."""
        bands = np.array([self._band(row) for row in rows])
        lefts = np.array([self.level[row, 0].min() for row in rows])
        rights = np.array([self.level[row, 2].max() for row in rows])
        feet = np.array([self._foot(row) for row in rows])
        pitches = np.diff(feet) / self.height
        around = np.array([*pitches[1:], np.inf]), np.array([np.inf, *pitches[:-1]])
        apart = pitches > np.minimum(np.minimum(*around), _FAR) + _APART
        # "vào" says little of the size of its type.
        heights = np.maximum(bands[:, 1] - bands[:, 0], self.height)
        resized = np.maximum(heights[1:], heights[:-1]) > _SIZE * np.minimum(heights[1:], heights[:-1])
        left, right = lefts.min(), rights.max()
        indents = np.diff(lefts) / self.height
        centred = abs(np.diff(lefts + rights)) / 2 < _INDENT[0] * self.height
        indented = (indents >= _INDENT[0]) & (indents <= _INDENT[1]) & ~centred
        indented &= lefts[:-1] - left < _INDENT[0] * self.height
        # Rows of a table are set in, and end where they do, for other reasons.
        filled = np.array([len(self._cell(row)) == len(row) for row in rows])
        indented &= filled[1:]
        free = (right - rights) / max(right - left, 1.0)
        needed = np.array([np.ptp(self.level[row[0], [0, 2]]) for row in rows[1:]]) + self.height
        short = (right - rights[:-1] > needed) & (len(rows) > _FEW) & (np.mean(filled & (free < _FULL)) > 0.5)
        return np.append(apart | resized | indented | short, True)
