"""How a page lies, and words side by side -> one line across it, as receipts, price lists and tables are read.

docTR cuts its lines where the gap between two words is wide, and orders what remains column by column: names first,
then prices. No option of its builder prevents that: docTR 1.1 adapts the gap to the page, and where that lies askew by
two degrees, words stray into other lines.
"""

import numpy as np
import numpy.typing as npt

from clip4str_doctr.pages.order import OrderedBuilder

__all__ = ["Boxes", "RowBuilder", "Values", "group_rows", "level_rows", "rows_of"]

Values = npt.NDArray[np.float64]
Boxes = Values  # (N, 4): xmin, ymin, xmax, ymax in pixels

# A word belongs to a row if it shares so much of the lower one's height with the last words of that row.
_SHARED = 0.5
_LAST_WORDS = 3
# Words with gaps below so many of their heights are of one phrase, whose slope shows how the page lies.
_PHRASE_GAP = 1.5
# By how much of its height a word's middle lies off its line, for want of tails and marks.
_UNEVEN = 0.15
_USUAL_SLOPE = 0.03
_ROUNDS = 5
# What is so many times as high as most words.
_TALL = 1.8
_AT_ONCE = 512


class RowBuilder(OrderedBuilder):
    """docTR's builder, but with one block for each page, and in it one line for each row of words."""

    def order(self, boxes: Boxes, texts: list[str]) -> list[list[list[int]]]:
        rows = rows_of(boxes)
        return [rows] if rows else []


def rows_of(boxes: Boxes) -> list[list[int]]:
    """boxes (N, 4) of words in pixels -> their numbers, row by row from top to bottom, each from left to right.

    A page may lie askew, and be seen at an angle, so that its rows are not parallel.
    """
    if not len(boxes):
        return []
    level, rows = level_rows(boxes)
    return sorted(rows, key=lambda row: float(np.median(level[row][:, [1, 3]].mean(axis=1))))


def level_rows(boxes: Boxes) -> tuple[Boxes, list[list[int]]]:
    """One box or more -> the boxes as on a level page, and their rows in no order."""
    rows = _phrases(boxes)
    level = boxes
    # Phrases are short and tell the slope roughly only; the rows that are found by it are as wide as the page.
    for _ in range(2):
        level = _levelled(boxes, rows)
        rows = group_rows(level, np.arange(len(level)))
    return level, rows


def group_rows(level: Boxes, some: npt.NDArray[np.intp]) -> list[list[int]]:
    """Boxes of words on a level page -> rows of some of them, each from left to right, in no order.

    What is much higher than most words, a logo or a heading, may stand beside several rows: it makes rows of its own
    kind, each of which then goes to the row beside its middle, if there is one.
    """
    heights = level[some, 3] - level[some, 1]
    tall = heights > _TALL * np.median(heights)
    rows = _chained(level, some[~tall])
    bands = [np.median(level[row][:, [1, 3]], axis=0) for row in rows]
    for high in _chained(level, some[tall]):
        middle = float(np.median(level[high][:, [1, 3]].mean(axis=1)))
        beside = [row for row, (top, bottom) in zip(rows, bands, strict=False) if top <= middle <= bottom]
        if beside:
            beside[0].extend(high)
            beside[0].sort(key=lambda number: level[number, 0])
        else:
            rows.append(high)
    return rows


def _chained(level: Boxes, numbers: npt.NDArray[np.intp]) -> list[list[int]]:
    """Words of like height -> rows: each, from the left on, goes to the row that is nearest to it in y."""
    rows: list[list[int]] = []
    bands = np.zeros((len(numbers), 2))  # top and bottom of each row, where it ends
    for number in numbers[np.argsort(level[numbers, 0], kind="stable")].tolist():
        top, bottom = level[number, [1, 3]]
        above, below = bands[: len(rows)].T
        shared = np.minimum(bottom, below) - np.maximum(top, above)
        fits = shared >= _SHARED * np.minimum(bottom - top, below - above)
        away = np.where(fits, abs(top + bottom - above - below), np.inf)
        nearest = int(np.argmin(away)) if fits.any() else len(rows)
        if nearest == len(rows):
            rows.append([])
        rows[nearest].append(number)
        bands[nearest] = np.median(level[rows[nearest][-_LAST_WORDS:]][:, [1, 3]], axis=0)
    return rows


def _levelled(boxes: Boxes, chains: list[list[int]]) -> Boxes:
    """The boxes, moved up or down as if the page lay level: each by its x times the slope of the page where it is.

    chains: words that stand in one line, from left to right, of which some may be wrong.
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    ends = np.array([middles[[chain[0], chain[-1]]] for chain in chains if len(chain) > 1]).reshape(-1, 2, 2)
    runs = ends[:, 1] - ends[:, 0]
    widths = np.maximum(runs[:, 0], 1.0)
    # Slopes depend on y as a straight line: with perspective the top of a page may rise and its bottom fall.
    low, size = boxes[:, 1].min(), max(float(np.ptp(boxes[:, [1, 3]])), 1.0)
    terms = np.stack([np.ones(len(ends)), (ends[..., 1].mean(1) - low) / size], axis=1)
    noise = _UNEVEN * max(float(np.median(boxes[:, 3] - boxes[:, 1])), 1.0) / widths
    slope, turn = _robust_line(terms, runs[:, 1] / widths, noise)
    level = boxes.copy()
    steep = slope + turn * (middles[:, 1] - low) / size
    level[:, [1, 3]] -= (steep * (middles[:, 0] - np.median(middles[:, 0])))[:, None]
    return level


def _robust_line(terms: Values, values: Values, noise: Values) -> Values:
    """terms (N, 2), values (N,) with outliers, noise (N,) -> coefficients (2,), near 0 where values say little."""
    line: Values = np.zeros(2)
    for _ in range(_ROUNDS):
        weighted = terms.T / (noise**2 + ((values - terms @ line) / 3) ** 2)
        line = np.asarray(
            np.linalg.solve(weighted @ terms + np.eye(2) / _USUAL_SLOPE**2, weighted @ values), np.float64
        )
    return line


def _phrases(boxes: Boxes) -> list[list[int]]:
    """Chains of two or more words that follow each other closely."""
    # Some at a time, for memory: a newspaper's page has thousands of words.
    blocks = (range(first, min(first + _AT_ONCE, len(boxes))) for first in range(0, len(boxes), _AT_ONCE))
    follower = {one: other for block in blocks for one, other in _followers(boxes, np.array(block))}
    phrases = []
    for first in sorted(set(follower) - set(follower.values())):
        phrase = [first]
        while phrase[-1] in follower:
            phrase.append(follower[phrase[-1]])
        phrases.append(phrase)
    return phrases


def _followers(boxes: Boxes, some: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    """(word, the next to its right that is close by) for those of `some` that have one."""
    heights = boxes[:, 3] - boxes[:, 1]
    lower = np.maximum(np.minimum(heights[some, None], heights), 1e-6)
    shared = np.minimum(boxes[some, None, 3], boxes[:, 3]) - np.maximum(boxes[some, None, 1], boxes[:, 1])
    gaps = boxes[:, 0] - boxes[some, None, 2]
    near = (shared >= _SHARED * lower) & (gaps > -_SHARED * lower) & (gaps < _PHRASE_GAP * lower)
    near &= boxes[:, 0] > boxes[some, None, 0]
    nearest = np.argmin(np.where(near, gaps, np.inf), axis=1)
    return [(int(some[row]), int(nearest[row])) for row in np.flatnonzero(near.any(axis=1))]
