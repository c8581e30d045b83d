"""What a text detector answers, in whatever form, checked and brought into one: quads in pixels of the page."""

import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "Page",
    "Quads",
    "Scores",
    "as_quads",
    "check_page",
    "corners_of",
    "enclosing_boxes",
    "in_order",
    "word_boxes",
]

logger = logging.getLogger(__name__)

Page = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Quads = npt.NDArray[np.float64]  # (N, 4, 2): x, y of top left, top right, bottom right, bottom left, in pixels
Scores = npt.NDArray[np.float64]  # (N,) in 0..1

# No page has all its text within a pixel and a half of its corner; relative boxes may leave the page a little.
_RELATIVE_LIMIT = 1.5
_FORMS = (
    "straight boxes (xmin, ymin, xmax, ymax), quads (4, 2) or polygons (K, 2), in an array or a list, "
    "or a tuple of these and N scores"
)


def check_page(page: Any) -> Page:
    """page -> itself. Raises TypeError or ValueError unless it is (H, W, 3) uint8, neither side zero."""
    if not isinstance(page, np.ndarray):
        raise TypeError(f"a page must be a numpy array (H, W, 3) uint8, got {type(page).__name__}")
    if page.ndim != 3 or page.shape[2] != 3 or page.dtype != np.uint8 or not page.size:
        raise ValueError(f"a page must be (H, W, 3) uint8, got {page.shape} {page.dtype}; convert it to RGB first")
    return page


def as_quads(found: Any, page_hw: tuple[int, int]) -> tuple[Quads, Scores]:
    """What a detector found on a page of height, width `page_hw` -> quads (N, 4, 2) in pixels, scores (N,).

    found: straight boxes (N, 4), quads (N, 4, 2), or a list of boxes, each (4,), (4, 2) or (K, 2); a *tuple* is always
    such boxes and N scores in 0..1 (1 where none are given). Coordinates are relative to the page if none exceeds 1.5
    and they are no integers, else pixels. Of a polygon with K != 4 corners the smallest rectangle around it is taken.
    Corners are clipped to the page; boxes without area there are left out.
    Raises TypeError or ValueError, saying which box, for anything else: NaN, other shapes, xmax < xmin.
    """
    boxes, scores = _boxes_and_scores(found)
    corners = [_corners(box, number) for number, box in enumerate(boxes)]
    if not corners:
        return np.zeros((0, 4, 2)), np.zeros(0)
    integers = all(np.issubdtype(np.asarray(box).dtype, np.integer) for box in boxes)
    height, width = page_hw
    if not integers and max(float(np.abs(points).max()) for points in corners) <= _RELATIVE_LIMIT:
        corners = [points * (width, height) for points in corners]
    quads = np.stack([_quad(points) for points in corners])
    quads = np.clip(quads, 0, (width, height))
    areas = np.array([cv2.contourArea(quad.astype(np.float32)) for quad in quads])
    kept = areas >= 1
    if not kept.all():
        logger.debug("%d of %d boxes have no area on the page", int((~kept).sum()), len(kept))
    return quads[kept], scores[kept]


def enclosing_boxes(quads: Quads) -> npt.NDArray[np.float64]:
    """quads (N, 4, 2) -> straight boxes (N, 4): xmin, ymin, xmax, ymax."""
    return np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)


def word_boxes(words: Sequence[Any], page_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """docTR's words, whose two or four corners are shares of a page -> straight boxes (N, 4) around them in pixels."""
    corners = [np.asarray(word.geometry, np.float64) * page_hw[::-1] for word in words]
    return np.array([[*points.min(axis=0), *points.max(axis=0)] for points in corners]).reshape(-1, 4)


def corners_of(geometry: Any) -> npt.NDArray[np.float64]:
    """docTR's box ((x0, y0), (x1, y1)) or polygon of four corners -> (4, 2): top left, top right, bottom right, bottom
    left, as they read."""
    points = np.asarray(geometry, dtype=np.float64)
    if len(points) == 4:
        return points
    (x0, y0), (x1, y1) = points
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def in_order(quad: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Corners (4, 2) in any order -> clockwise from the top left one; of a diamond, from the topmost of its left two.

    How the text runs in the quad cannot be seen from its corners: upside down stays upside down.
    """
    middle = quad.mean(axis=0)
    around = np.arctan2(quad[:, 1] - middle[1], quad[:, 0] - middle[0])
    clockwise = quad[np.argsort(around, kind="stable")]
    return np.roll(clockwise, -int(np.argmin((clockwise - middle).sum(axis=1))), axis=0)


def _boxes_and_scores(found: Any) -> tuple[Sequence[Any], Scores]:
    given: Any = None
    if isinstance(found, tuple):
        if len(found) != 2:
            raise TypeError(f"a detector must return {_FORMS}; got a tuple of {len(found)}")
        found, given = found
    if not isinstance(found, np.ndarray | Sequence) or isinstance(found, str | bytes):
        raise TypeError(f"a detector must return {_FORMS}; got {type(found).__name__}")
    boxes = list(found)
    if given is None:
        return boxes, np.ones(len(boxes))
    scores = np.asarray(given, dtype=np.float64)
    if scores.shape != (len(boxes),):
        raise ValueError(f"scores must be ({len(boxes)},), one for each box, got {scores.shape}")
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(f"scores must lie in 0..1, got {scores.min()}..{scores.max()}")
    return boxes, scores


def _corners(box: Any, number: int) -> npt.NDArray[np.float64]:
    """One box in any form -> its corners (K, 2)."""
    try:
        values = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"box {number} is no array of numbers ({error}); expected {_FORMS}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"box {number} has coordinates that are not finite: {values.tolist()}")
    if values.shape == (4,):
        left, top, right, bottom = values
        if right < left or bottom < top:
            raise ValueError(
                f"box {number} is {values.tolist()}, but straight boxes are (xmin, ymin, xmax, ymax); "
                "from (x, y, width, height) make (x, y, x + width, y + height)"
            )
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    if values.ndim == 2 and values.shape[1] == 2 and len(values) >= 3:
        return values
    hint = "; give scores as boxes, scores" if values.shape == (5,) else ""
    raise ValueError(f"box {number} has shape {values.shape}, expected {_FORMS}{hint}")


def _quad(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if len(points) == 4:
        return in_order(points)
    return in_order(np.asarray(cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32))), np.float64))
