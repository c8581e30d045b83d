"""Pages much higher than wide, as screenshots of whole web sites or long receipts, read by detectors in stretches.

Detectors shrink a page until its longer side fits. Of words 20 pixels high on pages 1080 wide, read behind RapidOCR's
detector, 99.5 % were right on a page 6000 high, 96 % on one of 12000 and none on one of 20000; in stretches, 99.7 %.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import Page, Quads

__all__ = ["find_in_stretches", "stretches"]

# A page is cut if it is higher than so many widths, and would be shrunk by more than so much.
_LONG = 2.5
_SHRUNK = 4
# In widths; those of paper are 1.4 high.
_STRETCH = 1.4
# But not lower than so many pixels, or narrow strips would be cut into crumbs.
_LEAST_STRETCH = 1000
# Share of a stretch that the next one sees, too: lines lower than half of it are whole in one of them.
_OVERLAP = 0.1


def stretches(height: int, width: int, longest: int) -> list[tuple[int, int]]:
    """(top, bottom) of overlapping parts of equal height that cover a page; the whole page where it is not long.

    longest: side in pixels from which on the detector shrinks pages.
    """
    if height <= _SHRUNK * longest or height <= _LONG * width:
        return [(0, height)]
    stretch = max(round(_STRETCH * width), _LEAST_STRETCH)
    overlap = round(_OVERLAP * stretch)
    count = -(-(height - overlap) // (stretch - overlap))
    tops = [round(number * (height - stretch) / (count - 1)) for number in range(count)]
    return [(top, top + stretch) for top in tops]


def find_in_stretches(find: Callable[[Page], Quads], page: Page, longest: int) -> Quads:
    """find: page -> quads (N, 4, 2) in pixels of its lines -> those of the page, which is shown to it in `stretches`.

    A line that two stretches see is taken once, from the one that sees more around it.
    """
    parts = stretches(page.shape[0], page.shape[1], longest)
    found = find(page[slice(*parts[0])])
    for (_, before), (top, bottom) in zip(parts, parts[1:], strict=False):
        found = _joined(found, find(page[top:bottom]) + (0.0, top), (top + before) / 2, (before - top) / 4)
    return found


def _joined(above: Quads, below: Quads, seam: float, near: float) -> Quads:
    """Lines of both sides by their middle; one just beyond the seam only if the other side lacks it."""
    above_at, below_at = above[..., 1].mean(1) - seam, below[..., 1].mean(1) - seam
    upper, lower = list(above[above_at < 0]), list[npt.NDArray[np.float64]]()

    def join(lines: Quads, own: list[npt.NDArray[np.float64]], others: list[npt.NDArray[np.float64]]) -> None:
        for line in lines:
            # Only what lies at the seam can have been seen twice, and by the other side.
            if abs(line[:, 1].mean() - seam) >= near or not any(_same(line, other) for other in others):
                own.append(line)

    join(below[below_at > -near], lower, upper)
    join(above[(0 <= above_at) & (above_at < near)], upper, lower)
    return np.array([*upper, *lower]).reshape(-1, 4, 2)


def _same(line: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    """Whether the middle of one lies within the other: two stretches may part one line differently.

    Within the quads themselves: the straight boxes of neighbours overlap where lines slant.
    """
    return _holds(line, other.mean(0)) or _holds(other, line.mean(0))


def _holds(quad: npt.NDArray[np.float64], point: npt.NDArray[np.float64]) -> bool:
    """Whether a point lies on one and the same side of all sides of a convex quad."""
    side, way = np.roll(quad, -1, axis=0) - quad, point - quad
    turns = side[:, 0] * way[:, 1] - side[:, 1] * way[:, 0]
    return bool((turns >= 0).all() or (turns <= 0).all())
