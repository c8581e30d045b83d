"""The words of a page that lies level, in rows, and what is usual among them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clip4str_doctr.pages.rows import Boxes, Values, group_rows

__all__ = ["Row", "Sheet"]

Row = list[int]  # numbers of words, from left to right

# In heights of the usual word: what is wider is no gap between words of a phrase.
_SPACE = 2.0
# So wide is a gap between cells or columns, in heights of the usual word and in usual gaps.
_GUTTER, _GUTTER_OF_GAPS = 1.0, 3.0


class Sheet:
    """level, rows: boxes (N, 4) of words as if the page lay level, one at least, and their rows; texts: the words.

    height: of the usual word. space: the usual gap between words. gutter: the least between cells. All in pixels.
    """

    def __init__(self, level: Boxes, rows: Sequence[Row], texts: Sequence[str]) -> None:
        self.level, self.texts = level, texts
        self.height = max(float(np.median(level[:, 3] - level[:, 1])), 1e-6)
        gaps = np.concatenate([self.gaps(row) for row in rows])
        near = gaps[(gaps > 0) & (gaps < _SPACE * self.height)]
        self.space = float(np.median(near)) if len(near) else 0.0
        self.gutter = max(_GUTTER * self.height, _GUTTER_OF_GAPS * self.space)

    def rows(self, numbers: npt.NDArray[np.intp]) -> list[Row]:
        """Some of the words in rows, from top to bottom."""
        return sorted(group_rows(self.level, numbers), key=lambda row: float(self.band(row).mean()))

    def band(self, row: Row) -> Values:
        """Top and bottom of most of its words."""
        return np.asarray(np.median(self.level[row][:, [1, 3]], axis=0), np.float64)

    def span(self, row: Row) -> tuple[float, float]:
        """Its left and right end."""
        return float(self.level[row, 0].min()), float(self.level[row, 2].max())

    def gaps(self, row: Row) -> Values:
        """Between its words."""
        rights = np.maximum.accumulate(self.level[row, 2])
        return np.asarray(self.level[row[1:], 0] - rights[:-1], np.float64)

    def cell(self, row: Row) -> Row:
        """What it begins with, up to a gap as between cells."""
        wide = np.flatnonzero(self.gaps(row) >= self.gutter)
        return row[: wide[0] + 1] if len(wide) else row
