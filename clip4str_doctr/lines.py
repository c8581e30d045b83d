"""A line of text -> its words, by the gaps in its own ink.

Every line is warped upright, its ink is found whatever its colours and its light are (`ink`), its gaps are measured
between runs of ink and judged by the gaps of this line and, if it is short, of the long ones around (`gaps`). Boxes of
words follow the ink and grow by `MARGIN`, or by half of it and to the height of the line's letters where their ink is
lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import Page, Quads
from clip4str_doctr.gaps import TELLING, Usual, parted, usual_gaps
from clip4str_doctr.ink import LINE_HEIGHT, PAD, Box, Mask, Strip, ink_mask, row_slope, shear_of, strip_of
from clip4str_doctr.leaders import leading_words, without_chains

__all__ = ["MARGIN", "words_of_line", "words_of_lines"]

# By how much a word's box grows beyond its ink on every side, in heights of the line's letters without marks.
# Measured with clip4str_vn_tiny on 661 words of three clean rendered pages at 150 dpi: of all words, with a margin of
# 0 / 0.05 / 0.1 / 0.15, 97.9 / 98.6 / 98.2 / 98.3 % are read (cased) and 99.5 / 99.4 / 99.2 / 98.8 % overlap their ink
# with an IoU of 0.5. Without a margin a dot below is sometimes missed; between the others reading is no difference to
# choose by, nor is more in height than in width; recall speaks for little. Training saw 2 to 18 % of the word's height.
MARGIN = 0.1

# Pixels of a strip; a speck this small may be the full stop of a word, but is no word.
_LEAST_INK = 8

# Lines of one font have bodies of like height: capitals and figures are up to half as high again as small letters. Of
# such lines the nearest tell what is usual.
_LIKE_SIZE = 1.5
_NEAREST = 5

# Words of less than so many heights of the line's letters stand among taller ones, as "x" between numbers, which is
# read "X" by itself. Measured with clip4str_vn_tiny on 18 rendered pages, six of them receipts: of 3,788 words 97.6 %
# are found and right with boxes as high as the line's letters and half a margin, 97.1 % with a whole one above, 95.3 %
# with tight boxes.
_LOW = 0.85

# A line this many times as wide as high knows its own angle; others may stand askew by so much, in radians.
_LONG = 6.0
_ASKEW = 0.14
# So many times as high as wide, a box stands upright: one letter, or text from top to bottom or bottom to top.
_STANDING = 1.5


def words_of_lines(page: Page, quads: Quads, margin: float = MARGIN, *, sideways: bool = False) -> list[Quads]:
    """`words_of_line` for every line of a page: a short line, whose own angle is uncertain, takes that of the long.

    sideways: lines may run down or up, as those tilted by more than 45 degrees do, and are then cut along their long
    side: all quads that are six times as high as wide, and where most long ones are, shorter ones that stand, too.
    The corners of their words begin where the line's do, so that docTR turns crops of words as it would the line's.
    """
    turned = _standing_lines(quads) if sideways else np.zeros(len(quads), np.bool_)
    # Upside down or not is one: of 240 lines of two to nine words, 228 are cut right upright, 226 upside down.
    lying = np.where(turned[:, None, None], np.roll(quads, -1, axis=1), quads)
    words: list[Quads] = []
    told: list[_Told] = []
    short: dict[int, _Line] = {}
    for number, quad in enumerate(_levelled(lying)):
        line = _line(page, quad)
        if not isinstance(line, _Line):
            words.append(line)
            continue
        if len(line.runs) <= TELLING:
            # Those of all lines of a page would be many megabytes.
            short[number] = line
            words.append(np.zeros((0, 4, 2)))
            continue
        apart = parted(line.runs / line.body)
        if (usual := usual_gaps(line.runs / line.body, apart)) is not None:
            told.append(_Told(line.middle, line.body_on_page, usual.times(line.body_on_page)))
        words.append(line.words(apart, margin))
    for number, line in short.items():
        words[number] = line.words(parted(line.runs / line.body, _usual_around(line, told)), margin)
    return [np.roll(found, 1, axis=1) if turn else found for found, turn in zip(words, turned, strict=True)]


@dataclass(frozen=True)
class _Told:
    """What a long line tells of those around it. middle (2,), body, and the gaps' lengths in pixels of the page."""

    middle: npt.NDArray[np.float64]
    body: float
    usual: Usual


def _usual_around(line: "_Line", told: Sequence[_Told]) -> Usual | None:
    """What gaps are usual around a line, in its own body heights; None unless two lines of about its size tell."""
    body = line.body_on_page
    like = [one for one in told if body / _LIKE_SIZE <= one.body <= body * _LIKE_SIZE]
    if len(like) < 2:
        return None
    like.sort(key=lambda one: float(np.linalg.norm(one.middle - line.middle)))
    return Usual.of([one.usual for one in like[:_NEAREST]]).times(1 / body)


def _standing_lines(quads: Quads) -> npt.NDArray[np.bool_]:
    """quads (N, 4, 2) -> which are lines on their side, (N,).

    "I" stands, too, and so does "25" on its side: shape tells them only by the long lines around.
    """
    sides = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
    width, height = sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]
    long = height > _LONG * width
    page_stands = int(long.sum()) > int((width > _LONG * height).sum())
    return np.asarray(height > _STANDING * width if page_stands else long, np.bool_)


def _levelled(quads: Quads) -> Quads:
    """quads (N, 4, 2) -> the same, short ones turned to the angle that long ones nearby have.

    Detectors fit the smallest rectangle, and around "25 kg" that stands a few degrees askew. Long lines do not.
    """
    if len(quads) < 2:
        return quads
    along = (quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3]) / 2
    down = (quads[:, 3] - quads[:, 0] + quads[:, 2] - quads[:, 1]) / 2
    length, height = np.linalg.norm(along, axis=1), np.maximum(np.linalg.norm(down, axis=1), 1e-6)
    angle = np.arctan2(along[:, 1], along[:, 0])
    long = length > _LONG * height
    middles = quads.mean(axis=1)
    levelled = quads.copy()
    for number in np.flatnonzero(~long & (length > height)):
        near = long & (np.abs(angle - angle[number]) < _ASKEW)
        if not near.any():
            continue
        distance = np.linalg.norm(middles[near] - middles[number], axis=1)
        target = float(np.median(angle[near][np.argsort(distance)[:5]]))
        levelled[number] = _turned(quads[number], target)
    return levelled


def _turned(quad: npt.NDArray[np.float64], angle: float) -> npt.NDArray[np.float64]:
    """The same rectangle around the same middle, at another angle."""
    width = (np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
    height = (np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2
    along = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    down = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    return np.asarray(quad.mean(axis=0) + np.stack([-along - down, along - down, along + down, -along + down]))


def words_of_line(page: Page, quad: npt.NDArray[np.float64], margin: float = MARGIN) -> Quads:
    """page (H, W, 3) uint8, quad (4, 2) in pixels around one horizontal line -> words (N, 4, 2), left to right.

    A word's quad follows the line's slope and is as high as its ink and the line's letters without marks, grown by
    `margin` (in heights of these letters), or by half of it if its ink is lower than them. Where there is no ink, or
    the quad stands upright (one letter, or text from top to bottom), the line itself is the only word. A quad less than
    a pixel wide or high has no words, nor have dots that lead from one column to another.
    """
    line = _line(page, quad)
    return line.words(parted(line.runs / line.body), margin) if isinstance(line, _Line) else line


@dataclass(frozen=True)
class _Line:
    """A line's ink, taken apart. runs (N, 2): left and right end; top, bottom, body: of the letters without marks, and
    their height; all in pixels of the strip, whose letters stood at `lean` before they were put upright."""

    strip: Strip
    page_hw: tuple[int, int]
    labels: npt.NDArray[np.int32]
    parts: dict[int, Box]
    runs: npt.NDArray[np.float64]
    run_of: dict[int, int]
    top: int
    bottom: int
    body: int
    lean: float

    @property
    def body_on_page(self) -> float:
        """`body` in pixels of the page."""
        middle = float(self.labels.shape[1] / 2)
        ends = self.strip.on_page(np.array([[[middle, 0.0], [middle, float(self.body)]]]))
        return float(np.linalg.norm(ends[0, 1] - ends[0, 0]))

    @property
    def middle(self) -> npt.NDArray[np.float64]:
        """(2,): x and y on the page."""
        height, width = self.labels.shape
        return np.asarray(self.strip.on_page(np.array([[[width / 2, height / 2]]]))[0, 0], np.float64)

    def words(self, apart: npt.NDArray[np.bool_], margin: float) -> Quads:
        """The line's words; apart (N - 1,): which runs are words of their own."""
        word_of_run = np.concatenate([[0], np.cumsum(apart)])
        word_of = {part: int(word_of_run[run]) for part, run in self.run_of.items()}
        leaders = leading_words(word_of, self.parts, self.bottom, self.body)
        word_of = {part: word for part, word in word_of.items() if word not in leaders}
        boxes = _around(word_of, self.labels, self.lean, (self.top, self.bottom), margin * self.body)
        if not len(boxes):
            return np.zeros((0, 4, 2))
        left, top, right, bottom = boxes.T
        corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2)
        return np.clip(self.strip.on_page(corners), 0, (self.page_hw[1], self.page_hw[0]))


def _line(page: Page, quad: npt.NDArray[np.float64]) -> _Line | Quads:
    """A line to be cut into words, or the words of one that is not."""
    sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    width, height = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    # On the page: docTR would take a start left of it from the right, and drop what is empty then.
    whole = np.clip(quad, 0, (page.shape[1], page.shape[0]))[None]
    # Before it is warped: the strip of a long standing box would be tens of millions of pixels.
    if width >= 1 and height > _STANDING * width:
        return whole
    strip = strip_of(page, quad)
    if strip is None:
        return np.zeros((0, 4, 2))
    mask = ink_mask(strip.pixels)
    slope = row_slope(mask)
    if slope:
        strip, mask = _follow(page, strip, mask, slope)
    lean = shear_of(mask)
    upright = _sheared(mask, lean) if lean else mask
    core = mask[PAD:-PAD].sum(axis=1).astype(np.float64)
    if not core.any():
        return whole
    top, bottom = (PAD + row for row in _band(core, 0.42))
    body = max(bottom - top, LINE_HEIGHT // 5)
    labels, parts = _components(upright, top, bottom, body)
    if not parts:
        return whole
    parts = without_chains(parts, bottom, body)
    runs, run_of = _runs(labels, parts, top, bottom, body)
    return _Line(strip, (page.shape[0], page.shape[1]), labels, parts, runs, run_of, top, bottom, body, lean)


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
    # Of the fuller rows, not of the fullest: the feet of "111" and the bars of "22" are one row of many.
    full = smooth > share * np.percentile(smooth[smooth > 0.05 * smooth.max()], 70)
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


def _sheared(mask: Mask, lean: float) -> Mask:
    """Columns moved so that strokes stand upright; as many columns as before."""
    height, width = mask.shape
    move = np.array([[1, lean, -lean * height / 2], [0, 1, 0]], np.float64)
    return np.asarray(cv2.warpAffine(mask.astype(np.uint8), move, (width, height), flags=cv2.INTER_NEAREST), np.bool_)


def _components(mask: Mask, top: int, bottom: int, body: int) -> tuple[npt.NDArray[np.int32], dict[int, Box]]:
    """Labels (H, W), and the box of every component that belongs to the line: no specks, no rules, no neighbours."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    height, width = mask.shape
    # Where the box ends with the letters' body, it is tight around capitals, whose marks are up to half as high again.
    tight = top - PAD < 0.12 * LINE_HEIGHT
    highest = min(PAD - 0.12 * LINE_HEIGHT, top - 0.5 * body) if tight else PAD - 0.12 * LINE_HEIGHT
    kept = {}
    for number in range(1, count):
        left, first, wide, high, area = (int(value) for value in stats[number])
        right, last = left + wide, first + high
        inside = min(last, bottom) - max(first, top)
        speck = area < 3 or max(wide, high) < 2  # the full stop of small print is no more than 2 pixels high here
        rule = (wide > 4 * body and high < 0.25 * body) or (inside > 0 and first == 0 and last == height)
        neighbour = inside <= 0 and ((first == 0 and not tight) or last == height)
        middle = (first + last) / 2
        outside = inside <= 0 and not highest <= middle <= height - PAD + 0.12 * LINE_HEIGHT
        edge = right <= PAD - LINE_HEIGHT // 5 or left >= width - PAD + LINE_HEIGHT // 5
        if not (speck or rule or neighbour or outside or edge):
            kept[number] = (left, first, right, last)
    return np.asarray(labels, np.int32), kept


def _runs(
    labels: npt.NDArray[np.int32], parts: dict[int, Box], top: int, bottom: int, body: int
) -> tuple[npt.NDArray[np.float64], dict[int, int]]:
    """Components -> left and right end (N, 2) of the runs of ink without a gap, and the run of every component.

    What stands between top and bottom of the letters' body makes runs; marks above and tails below belong to the run
    they overlap or are nearest to and widen it, so that a comma or a quote narrows the gap it stands in. What is
    farther than a body height from every run, a bullet perhaps, is a run of its own.
    """
    wanted = np.zeros(int(labels.max()) + 1, np.bool_)
    wanted[list(parts)] = True
    columns = wanted[labels[top:bottom]].any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(np.int8), [0]])))
    runs = [(float(left), float(right)) for left, right in edges.reshape(-1, 2)]
    ends = [list(run) for run in runs]
    run_of = {}
    for part, (left, _, right, _) in parts.items():
        overlaps = [min(right, run[1]) - max(left, run[0]) for run in runs]
        nearest = int(np.argmax(overlaps)) if runs else -1
        if nearest < 0 or overlaps[nearest] < -body:
            runs.append((float(left), float(right)))
            ends.append([float(left), float(right)])
            nearest = len(runs) - 1
        ends[nearest] = [min(ends[nearest][0], left), max(ends[nearest][1], right)]
        run_of[part] = nearest
    order = np.argsort([end[0] for end in ends], kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return np.array(ends, np.float64).reshape(-1, 2)[order], {part: int(place[run]) for part, run in run_of.items()}


def _around(
    word_of: dict[int, int], labels: npt.NDArray[np.int32], lean: float, band: tuple[int, int], margin: float
) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) around the ink of the words, leaning strokes put back as they stood.

    As high as the ink, but low words as high as the line's letters: by the air above it "x" is known from "X" between
    numbers, and a hyphen alone would stand on no line.
    """
    owner = np.full(int(labels.max()) + 1, -1, np.int32)
    owner[list(word_of)] = list(word_of.values())
    rows, columns = np.nonzero(owner[labels] >= 0)
    whose = owner[labels[rows, columns]]
    where = columns - lean * (rows - labels.shape[0] / 2)
    boxes = []
    for word in sorted(set(word_of.values())):
        mine = whose == word
        if mine.sum() < _LEAST_INK:
            continue
        top, bottom = rows[mine].min(), rows[mine].max() + 1
        left, right = where[mine].min(), where[mine].max() + 1
        aside = margin
        if bottom - top < _LOW * (band[1] - band[0]):
            # Less of a margin then: the box remains mostly the ink's.
            top, bottom, aside = min(top, band[0]), max(bottom, band[1]), margin / 2
        boxes.append((left - aside, top - aside, right + aside, bottom + aside))
    return np.array(boxes, np.float64).reshape(-1, 4)
