"""A line of text -> its words, by the gaps in its own ink.

One threshold for all lines does not exist: letter-spaced titles have wider gaps between letters than narrow print has
between words. So every line is straightened, its gaps are measured between the letters' bodies (marks above and tails
below do not count, so that a hook or a comma closes no gap), and the threshold is put where the gaps of this line fall
apart into two kinds, near to where they usually do. See `cut` for how, and `MARGIN` for how boxes grow.
"""

import logging
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import Page, Quads
from clip4str_doctr.ink import LINE_HEIGHT, PAD, Mask, Strip, ink_mask, row_slope, shear_of, strip_of

__all__ = ["MARGIN", "cut", "words_of_line"]

logger = logging.getLogger(__name__)

# By how much a word's box grows beyond its ink on every side, in heights of the line's letters without marks.
MARGIN = 0.15

# Gaps in heights of the letters' body. Usual print: between letters 0.1 to 0.25, between words 0.45 and more.
_USUAL = 0.33
_SPREAD = 0.55  # how far from there (as a factor, in natural logarithms) a threshold is still likely
_LEAST, _MOST = 0.12, 1.1
_ALWAYS = 2.2


@dataclass
class _Word:
    """Columns of a word's body in the straightened strip, and the numbers of its components."""

    left: int
    right: int
    parts: list[int] = field(default_factory=list)


def words_of_line(page: Page, quad: npt.NDArray[np.float64], margin: float = MARGIN) -> Quads:
    """page (H, W, 3) uint8, quad (4, 2) in pixels around one horizontal line -> words (N, 4, 2), left to right.

    A word's quad follows the line's slope and is as high as its ink and the line's letters without marks, grown by
    `margin` (in heights of these letters). Where there is no ink, or the quad stands upright (one letter, or text from
    top to bottom), the line itself is the only word.
    """
    strip = strip_of(page, quad)
    if strip is None:
        return np.zeros((0, 4, 2))
    sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    if sides[1] + sides[3] > 1.5 * (sides[0] + sides[2]):
        return quad[None]
    mask = ink_mask(strip.pixels)
    slope = row_slope(mask)
    if slope:
        strip, mask = _follow(page, strip, mask, slope)
    boxes = cut(mask, margin)
    if not len(boxes):
        return quad[None]
    left, top, right, bottom = boxes.T
    corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2)
    return np.clip(strip.on_page(corners), 0, (page.shape[1], page.shape[0]))


def _follow(page: Page, strip: Strip, mask: Mask, slope: float) -> tuple[Strip, Mask]:
    """The strip along the text, which sinks by `slope` rows a column; straight boxes around it are higher."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    level = np.rint(rows - slope * (columns - width / 2)).astype(np.int64)
    counts = np.bincount(np.clip(level, 0, height - 1), minlength=height).astype(np.float64)
    top, bottom = _band(counts, 0.06)
    left, right = float(PAD), float(width - PAD)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    corners[:, 1] += slope * (corners[:, 0] - width / 2)
    followed = strip_of(page, strip.on_page(corners))
    if followed is None:
        return strip, mask
    return followed, ink_mask(followed.pixels)


def _band(counts: npt.NDArray[np.float64], share: float) -> tuple[int, int]:
    """First and last + 1 of the rows around the fullest that hold more than `share` of it, small breaks allowed."""
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    full = smooth > share * smooth.max()
    peak = int(np.argmax(smooth))
    first = last = peak
    while first > 0 and full[max(first - 3, 0) : first].any():
        first -= 1
    while last < len(full) - 1 and full[last + 1 : last + 4].any():
        last += 1
    while not full[first]:
        first += 1
    while not full[last]:
        last -= 1
    return first, last + 1


def cut(mask: Mask, margin: float = MARGIN) -> npt.NDArray[np.float64]:
    """Ink (H, W) of a strip -> boxes (N, 4) of its words in the strip: left, top, right, bottom; left to right."""
    lean = shear_of(mask)
    upright = _sheared(mask, lean) if lean else mask
    core = mask[PAD:-PAD].sum(axis=1).astype(np.float64)
    if not core.any():
        return np.zeros((0, 4))
    top, bottom = (PAD + row for row in _band(core, 0.42))
    body = max(bottom - top, LINE_HEIGHT // 5)
    labels, boxes = _components(upright, top, bottom, body)
    words = _group(labels, boxes, top, bottom, body)
    return _around(words, labels, mask, lean, (top, bottom), margin * body)


def _sheared(mask: Mask, lean: float) -> Mask:
    """Columns moved so that strokes stand upright; as many columns as before."""
    height, width = mask.shape
    move = np.array([[1, lean, -lean * height / 2], [0, 1, 0]], np.float64)
    return np.asarray(cv2.warpAffine(mask.astype(np.uint8), move, (width, height), flags=cv2.INTER_NEAREST), np.bool_)


def _components(
    mask: Mask, top: int, bottom: int, body: int
) -> tuple[npt.NDArray[np.int32], dict[int, tuple[int, int, int, int]]]:
    """Labels (H, W), and the box of every component that belongs to the line: no specks, no rules, no neighbours."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    height, width = mask.shape
    kept = {}
    for number in range(1, count):
        left, first, wide, high, area = (int(value) for value in stats[number])
        right, last = left + wide, first + high
        inside = min(last, bottom) - max(first, top)
        speck = area < 0.012 * body * body or max(wide, high) < 0.12 * body
        rule = (wide > 4 * body and high < 0.25 * body) or (inside > 0 and first == 0 and last == height)
        neighbour = inside <= 0 and (first == 0 or last == height)
        middle = (first + last) / 2
        outside = inside <= 0 and not PAD - 0.12 * LINE_HEIGHT <= middle <= height - PAD + 0.12 * LINE_HEIGHT
        edge = right <= PAD // 2 or left >= width - PAD // 2
        if not (speck or rule or neighbour or outside or edge):
            kept[number] = (left, first, right, last)
    return np.asarray(labels, np.int32), kept


def _group(
    labels: npt.NDArray[np.int32], boxes: dict[int, tuple[int, int, int, int]], top: int, bottom: int, body: int
) -> list[_Word]:
    """Components -> words: bodies by the gaps between them, then marks and tails to the nearest word."""
    wanted = np.zeros(int(labels.max()) + 1, np.bool_)
    wanted[list(boxes)] = True
    columns = wanted[labels[top:bottom]].any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(np.int8), [0]])))
    runs = [_Word(int(left), int(right)) for left, right in edges.reshape(-1, 2)]
    if not runs:
        return []
    gaps = np.array([after.left - before.right for before, after in zip(runs, runs[1:], strict=False)], np.float64)
    limit = _threshold_of(gaps / body) * body
    words = [runs[0]]
    for gap, run in zip(gaps, runs[1:], strict=True):
        if gap > limit:
            words.append(run)
        else:
            words[-1].right = run.right
    for number, (left, _, right, _) in boxes.items():
        distances = [max(word.left - right, left - word.right) for word in words]
        nearest = int(np.argmin(distances))
        if distances[nearest] <= limit:
            words[nearest].parts.append(number)
    return [word for word in words if word.parts]


def _threshold_of(gaps: npt.NDArray[np.float64]) -> float:
    """Gaps between the runs of one line, in body heights -> the least that separates words.

    Candidates lie between two gaps that follow each other in size. The wider apart these two are (as a ratio), the
    better; and the nearer the candidate lies to where print usually has it. Gaps beyond `_ALWAYS` separate in any case.
    """
    limit = _best_split(gaps, _USUAL, _MOST)
    inner = gaps[gaps < _ALWAYS]
    split = inner > limit
    # Letters standing alone one after the other are no words but a letter-spaced title: only the wider gaps count.
    if len(inner) >= 5 and split.mean() > 0.7 and (inner.max() < 1.6 * np.median(inner) or len(inner) >= 8):
        limit = _best_split(inner, 2.0 * float(np.median(inner)), _ALWAYS)
    return min(limit, _ALWAYS)


def _best_split(gaps: npt.NDArray[np.float64], usual: float, most: float) -> float:
    ordered = np.sort(np.clip(gaps, _LEAST, most))
    ordered = np.concatenate([[_LEAST], ordered, [most]])
    low, high = ordered[:-1], ordered[1:]
    middles = np.sqrt(low * high)
    nearness = np.exp(-0.5 * (np.log(middles / usual) / _SPREAD) ** 2)
    return float(middles[int(np.argmax(np.log(high / low) * nearness))])


def _around(
    words: list[_Word],
    labels: npt.NDArray[np.int32],
    mask: Mask,
    lean: float,
    band: tuple[int, int],
    margin: float,
) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) around the ink of the words, leaning strokes put back as they stood."""
    height, width = mask.shape
    owner = np.zeros(int(labels.max()) + 1, np.int32)
    for number, word in enumerate(words, 1):
        owner[word.parts] = number
    rows, columns = np.nonzero(owner[labels])
    whose = owner[labels[rows, columns]]
    where = columns - lean * (rows - height / 2)
    boxes = []
    for number in range(1, len(words) + 1):
        mine = whose == number
        top, bottom = min(rows[mine].min(), band[0]), max(rows[mine].max() + 1, band[1])
        box = where[mine].min() - margin, top - margin, where[mine].max() + 1 + margin, bottom + margin
        boxes.append(box)
    return np.array(boxes, np.float64).reshape(-1, 4)
