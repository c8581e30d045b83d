"""Words -> columns, paragraphs and lines, in the order in which a page is read.

docTR's own order (since 1.1; 1.0 has none) takes a page for columns only where they fill it: of a letter it reads the
sender at the left and the motto beside him by turns, line by line, and the same of those who sign it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from doctr.io.elements import Block, Document, Line
from doctr.models.builder import DocumentBuilder

from clip4str_doctr.pages.rows import group_rows, level_rows, word_boxes

__all__ = ["ColumnBuilder", "columns_of"]

Values = npt.NDArray[np.float64]
Boxes = Values  # (N, 4): xmin, ymin, xmax, ymax in pixels

# All in heights of the page's usual word, if not said otherwise.
_ROWS = 2  # columns have so many rows side by side,
_GUTTER = 1.0  # are so far apart,
_GUTTER_OF_GAPS = 3.0  # and so many of the usual gaps between words
_NARROW = 2.5  # what stands in front of its lines is no column: "1.", "a)", "-"
_BESIDE = 4.0  # rows of two columns go on below a white band of so much,
_BELOW = 1.5  # a row of one of them below so much
_APART = 0.4  # more than from the line above or to the line below: a paragraph ends,
_SIZE = 1.5  # or where a line is so many times as high as its neighbour,
_INDENT = 0.8, 6.0  # or the next is set in by so much,
_SHORT, _FULL, _FEW = 0.25, 0.1, 3  # or a line leaves free so much of a column of more lines, most of which are full
_DASH = 0.5  # lower than so much is a dash, or a dot


class ColumnBuilder(DocumentBuilder):
    """docTR's builder, but columns are found wherever two rows or more stand side by side, one block a paragraph.

    Pages may lie askew; the words keep their boxes.
    """

    def __init__(self) -> None:
        super().__init__(resolve_lines=True, resolve_blocks=False)

    def __call__(self, *args: Any, **options: Any) -> Document:
        document = super().__call__(*args, **options)
        for page in document.pages:
            words, boxes = word_boxes(page)
            page.blocks = [
                Block([Line([words[number] for number in line]) for line in lines]) for lines in columns_of(boxes)
            ]
        return document


def columns_of(boxes: Boxes) -> list[list[list[int]]]:
    """boxes (N, 4) of words in pixels -> paragraphs in reading order, each a list of lines, each of words' numbers."""
    if not len(boxes):
        return []
    level, _ = level_rows(boxes)
    page = _Page(level, float(np.median(level[:, 3] - level[:, 1])))
    return [paragraph for column in page.columns(np.arange(len(boxes))) for paragraph in page.paragraphs(column)]


@dataclass(frozen=True)
class _Cut:
    """Rows first..last (its own included) stand side by side, with nothing between x = left and right."""

    first: int
    last: int
    left: float
    right: float
    beside: int  # rows of the column that has fewer, beside those of the other

    @property
    def worth(self) -> tuple[int, float]:
        return self.beside, self.right - self.left


class _Page:
    """level: boxes (N, 4) of a level page; height: of its usual word."""

    def __init__(self, level: Boxes, height: float) -> None:
        self.level, self.height = level, max(height, 1e-6)
        gaps = [gap for row in group_rows(level, np.arange(len(level))) for gap in self._gaps(row)]
        usual = float(np.median([gap for gap in gaps if 0 < gap < self.height] or [0.0]))
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
        cut = max(self._cuts(rows), key=lambda cut: cut.worth, default=None)
        if cut is None or cut.beside < _ROWS:
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
        return cuts

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
        return _Cut(first, last, left, right, self._beside(rows[first : last + 1], left))

    def _narrowed(self, row: list[int], left: float, right: float) -> tuple[float, float, bool] | None:
        """What the row leaves of a gutter, and whether it has words on both sides; None if it crosses it."""
        boxes = self.level[row]
        middle = (left + right) / 2
        lefts, rights = boxes[boxes[:, 0] < middle], boxes[boxes[:, 0] >= middle]
        left = max([left, *lefts[:, 2].tolist()])
        right = min([right, *rights[:, 0].tolist()])
        return (left, right, bool(len(lefts) and len(rights))) if right - left >= self.gutter else None

    def _beside(self, rows: list[list[int]], left: float) -> int:
        """How many rows stand side by side, of the column that has fewer; 0 if one is too narrow for a column."""
        sides: list[list[Values]] = [[], []]
        for row in rows:
            at_left = self.level[row, 2] <= left
            for side, own in zip(sides, (at_left, ~at_left), strict=True):
                if own.any():
                    boxes = self.level[row][own]
                    side.append(np.array([boxes[:, 0].min(), *np.median(boxes[:, [1, 3]], axis=0), boxes[:, 2].max()]))
        one, other = (np.array(side).reshape(-1, 4) for side in sides)
        if not len(one) or not len(other):
            return 0
        if min(float(np.median(side[:, 3] - side[:, 0])) for side in (one, other)) < _NARROW * self.height:
            return 0
        return min(_within(one, other), _within(other, one))

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
        apart = pitches > np.minimum(np.minimum(*around), _BESIDE) + _APART
        # "vào" says little of the size of its type.
        heights = np.maximum(bands[:, 1] - bands[:, 0], self.height)
        resized = np.maximum(heights[1:], heights[:-1]) > _SIZE * np.minimum(heights[1:], heights[:-1])
        left, right = lefts.min(), rights.max()
        indents = np.diff(lefts) / self.height
        centred = abs(np.diff(lefts + rights)) / 2 < _INDENT[0] * self.height
        indented = (indents >= _INDENT[0]) & (indents <= _INDENT[1]) & ~centred
        indented &= lefts[:-1] - left < _INDENT[0] * self.height
        free = (right - rights) / max(right - left, 1.0)
        short = (free[:-1] > _SHORT) & (len(rows) > _FEW) & (np.mean(free < _FULL) > 0.5)
        return np.append(apart | resized | indented | short, True)


def _within(ones: Values, others: Values) -> int:
    """How many of the rows `ones` lie no higher and no lower than the rows `others`; of each top and bottom at 1, 2."""
    middles = ones[:, 1:3].mean(axis=1)
    return int(np.sum((middles >= others[:, 1].min()) & (middles <= others[:, 2].max())))
