"""What is ink in the picture of one line of text: any colours, any light, straightened.

Heights are those of a strip of `LINE_HEIGHT` rows between the edges of the line's box, plus `PAD` rows above and below,
into which every line is warped first, so that numbers of pixels mean the same for small print and for big signs.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import Page

__all__ = ["LINE_HEIGHT", "PAD", "Box", "Strip", "ink_mask", "row_slope", "shear_of", "strip_of"]

LINE_HEIGHT = 40
# Marks over capitals stick out of tight boxes; with fewer rows they would be cut before they are looked at.
PAD = 24
# A line longer than this is 150 times as wide as high; nothing is gained by more columns.
_MOST_COLUMNS = 6000
# OpenCV 4 warps no picture, and to none, with a side of 32767 pixels or more.
_MOST_SIDE = 32_766
# Of the difference between paper and full ink; half would lose thin strokes, which blur has made paler.
_INK_LEVEL = 0.42
# Of the median difference from the paper in the noisiest of three channels, about 1.2 standard deviations.
_NOISE_FACTOR = 4.0

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of a strip
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Strip:
    """A line, warped upright. pixels: (LINE_HEIGHT + 2 PAD, W, 3) uint8; to_page: homography strip -> page."""

    pixels: Page
    to_page: npt.NDArray[np.float64]

    def on_page(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(..., 2) points x, y of the strip -> of the page, both in pixels."""
        flat = points.reshape(-1, 1, 2).astype(np.float64)
        return np.asarray(cv2.perspectiveTransform(flat, self.to_page), np.float64).reshape(points.shape)


def strip_of(page: Page, quad: npt.NDArray[np.float64]) -> Strip | None:
    """page (H, W, 3) uint8, quad (4, 2) of a line in pixels -> its strip; None for a quad without height or width."""
    sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    width, height = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    if min(width, height) < 1:
        return None
    columns = int(np.clip(round(width * LINE_HEIGHT / height), 1, _MOST_COLUMNS))
    left, top, right, bottom = PAD, PAD, PAD + columns, PAD + LINE_HEIGHT
    inner = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    # Only what is near is looked at, and smaller where that is still too large for OpenCV 4.
    room = 2 * height + 8
    first = np.clip(np.floor(quad.min(axis=0) - room), 0, np.array(page.shape[1::-1]) - 1).astype(int)
    last = np.clip(np.ceil(quad.max(axis=0) + room), first + 1, page.shape[1::-1]).astype(int)
    near, shrink = _warpable(page[first[1] : last[1], first[0] : last[0]])
    to_near = cv2.getPerspectiveTransform(inner, (quad - first).astype(np.float32))
    to_page = np.array([[1, 0, first[0]], [0, 1, first[1]], [0, 0, 1]]) @ to_near
    size = columns + 2 * PAD, LINE_HEIGHT + 2 * PAD
    # Warped at a whole multiple and averaged where the line is large, so that fine noise does not become coarse noise.
    times = max(1, min(int(height / LINE_HEIGHT), _MOST_SIDE // max(size)))
    scale = np.diag([1 / times, 1 / times, 1.0])
    pixels = cv2.warpPerspective(
        near,
        shrink @ to_near @ scale,
        (size[0] * times, size[1] * times),
        flags=(cv2.INTER_LINEAR if times > 1 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if times > 1:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Strip(np.asarray(pixels, np.uint8), np.asarray(to_page, np.float64))


def _warpable(near: Page) -> tuple[Page, npt.NDArray[np.float64]]:
    """A part of a page -> itself, or smaller where a side is beyond `_MOST_SIDE`; homography from it to the answer."""
    height, width = near.shape[:2]
    times = -(-max(height, width) // _MOST_SIDE)
    if times == 1:
        return near, np.eye(3)
    size = max(width // times, 1), max(height // times, 1)
    small = cv2.resize(near, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), np.diag([size[0] / width, size[1] / height, 1.0])


def ink_mask(pixels: Page) -> Mask:
    """pixels (H, W, 3) uint8 of a strip -> (H, W), True where there is ink.

    Ink is what differs from the paper near it, in whichever channel it differs most: dark on light, light on dark and
    red on green are the same. The paper is the median of a window of columns at first, then the average of what is
    not ink; differences are compared with the strongest in their neighbourhood, so that a shadow changes nothing.
    """
    values = pixels.astype(np.float32)
    paper = _median_paper(values)
    mask = _threshold(values, paper)
    for _ in range(2):
        free = (~cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)).astype(np.float32)
        window = (2 * LINE_HEIGHT + 1, LINE_HEIGHT // 2 + 1)
        weight = cv2.blur(free, window)[..., None]
        local = cv2.blur(values * free[..., None], window) / np.maximum(weight, 1e-6)
        # Where a window holds hardly any paper, in the middle of bold letters, the first guess stays.
        trust = np.minimum(weight / 0.15, 1)
        mask = _threshold(values, np.asarray(trust * local + (1 - trust) * paper, np.float32))
    return mask & ~_rules(mask)


def _rules(mask: Mask) -> Mask:
    """Rules of tables and underlines: straight strokes longer than two and a half lines, or higher than any letter."""
    width = mask.shape[1]
    ink = mask.astype(np.uint8)
    found = np.zeros_like(mask)
    # A rule that leans a little leaves its row every few columns; made thicker first, it does not break there.
    for size, thicker in (
        ((min(5 * LINE_HEIGHT // 2, 9 * width // 10), 1), (1, 3)),
        ((1, 7 * LINE_HEIGHT // 5), (5, 1)),
    ):
        thick = cv2.dilate(ink, np.ones(thicker[::-1], np.uint8))
        found |= cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones(size[::-1], np.uint8)).astype(bool)
    return np.asarray(found & mask, np.bool_)


def _median_paper(values: _Floats) -> _Floats:
    """Median colour of windows three lines wide, interpolated between their middles -> (1, W, 3)."""
    width = values.shape[1]
    reach, step = 3 * LINE_HEIGHT // 2, LINE_HEIGHT
    middles = np.arange(0, width + step, step)
    # Every other pixel in each direction is enough for a median.
    medians = np.array(
        [np.median(values[::2, max(m - reach, 0) : m + reach : 2].reshape(-1, 3), axis=0) for m in middles]
    )
    columns = np.arange(width)
    return np.stack([np.interp(columns, middles, medians[:, c]) for c in range(3)], -1).astype(np.float32)[None]


def _threshold(values: _Floats, paper: _Floats) -> Mask:
    away = np.abs(values - paper)
    difference = np.maximum(np.maximum(away[..., 0], away[..., 1]), away[..., 2])
    width = difference.shape[1]
    reach, step = 3 * LINE_HEIGHT // 2, LINE_HEIGHT
    inner = difference[PAD // 3 : -PAD // 3]
    middles = np.arange(0, width + step, step)
    levels = np.array([np.percentile(inner[::2, max(m - reach, 0) : m + reach : 2], 96) for m in middles])
    # A stretch without text has no ink to compare with; noise there must not become ink.
    levels = np.maximum(levels, 0.45 * np.percentile(inner[::2, ::2], 97))
    level = np.interp(np.arange(width), middles, levels)
    noise = float(np.median(difference))
    return np.asarray(difference > np.maximum(_INK_LEVEL * level, _NOISE_FACTOR * noise + 4), np.bool_)


def _sharpest(
    rows: npt.NDArray[np.float64], shifts: npt.NDArray[np.float64], slants: list[float]
) -> tuple[float, float]:
    """The slant whose histogram of rows + slant * shifts is most uneven, and by which factor over no slant."""
    scores = []
    for slant in slants:
        moved = np.rint(rows + slant * shifts).astype(np.int64)
        counts = np.bincount(moved - moved.min()).astype(np.float64)
        scores.append(float((np.convolve(counts, (0.25, 0.5, 0.25)) ** 2).sum()))
    best = int(np.argmax(scores))
    return slants[best], scores[best] / scores[slants.index(0.0)]


def row_slope(mask: Mask) -> float:
    """Rows that the text sinks per column, 0 unless that is seen clearly; mask (H, W) of a strip."""
    rows, columns = _sample(mask)
    span = mask.shape[1] - 2 * PAD
    if len(rows) < 50 or span < 3 * LINE_HEIGHT:
        return 0.0
    # Steps of two rows from end to end; steeper than one line height from end to end is no reading of a line's box.
    most = min(0.35, 1.5 * LINE_HEIGHT / span)
    slants = [float(value) for value in np.linspace(-most, most, 61)]
    slants[30] = 0.0
    slant, gain = _sharpest(rows.astype(np.float64), columns - mask.shape[1] / 2, slants)
    return -slant if gain > 1.08 else 0.0


def shear_of(mask: Mask) -> float:
    """Columns that strokes lean to the right per row upwards: 0 for upright print, about 0.2 for italics."""
    rows, columns = _sample(mask)
    if len(rows) < 50:
        return 0.0
    slants = [float(value) / 20 for value in range(-8, 11)]
    slant, gain = _sharpest(columns.astype(np.float64), rows - mask.shape[0] / 2, slants)
    return slant if gain > 1.03 else 0.0


def _sample(mask: Mask) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of at most 6000 pixels of ink between the edges of the line's box."""
    rows, columns = np.nonzero(mask[PAD:-PAD])
    every = len(rows) // 6000 + 1
    return rows[::every] + PAD, columns[::every]
