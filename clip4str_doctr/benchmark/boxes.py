"""How tight a word's box should be: what is read of the suites' crops with their edges moved.

`python -m clip4str_doctr.benchmark.boxes -o FILE.json` reads suites with the embedded model, as they are, with all four
edges moved, and with empty ground right of the word, as a detector's box may have it.
"""

import argparse
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.report import package_commit, tell, weights_of
from clip4str_doctr.benchmark.word_sets import suite_words
from clip4str_doctr.factories import clip4str_vn_tiny
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.suites import SUITES, Crop
from clip4str_doctr.training.validate import score

__all__ = ["BOXES", "Box", "boxes_figures", "main", "with_edges_moved"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Box:
    """How far edges are moved outwards, inwards if negative: all four in crop heights, the right one in crop widths."""

    margin: float = 0.0
    right: float = 0.0


BOXES = {
    "as drawn": Box(),
    **{f"margin {margin:+g} heights": Box(margin=margin) for margin in (-0.15, -0.1, -0.05, 0.05, 0.1, 0.2, 0.4)},
    **{f"right {right:+g} widths": Box(right=right) for right in (0.3, 0.6, 1.0)},
}


def with_edges_moved(crop: Crop, box: Box) -> Crop:
    """(H, W, 3) uint8 -> the same of another size, not cut below 4 pixels; new ground has its edge's median colour.

    Pictures of a suite end where their boxes do, so that what lies beyond is not known: an even ground is the easiest
    case of it.
    """
    height, width = crop.shape[:2]
    margin = round(box.margin * height)
    top, left = (min(max(-margin, 0), max(size - 4, 0) // 2) for size in (height, width))
    moved = crop[top : height - top, left : width - left]
    grown = max(margin, 0)
    for axis, after, size in (
        (0, False, grown),
        (0, True, grown),
        (1, False, grown),
        (1, True, grown + round(box.right * width)),
    ):
        moved = _extended(moved, axis, after, size)
    return np.ascontiguousarray(moved)


def _extended(crop: Crop, axis: int, after: bool, size: int) -> Crop:
    """With `size` rows (axis 0) or columns (axis 1) more, of the median colour of that edge's outer thirtieth."""
    rim = max(1, crop.shape[axis] // 30)
    seen = crop.take(range(-rim, 0) if after else range(rim), axis)
    shape = (size, crop.shape[1], 3) if axis == 0 else (crop.shape[0], size, 3)
    ground = np.broadcast_to(np.median(seen.reshape(-1, 3), axis=0).astype(np.uint8), shape)
    return np.concatenate([crop, ground] if after else [ground, crop], axis)


def boxes_figures(
    model: CLIP4STR, words: int, names: Iterable[str], boxes: Iterable[str] = tuple(BOXES)
) -> dict[str, dict[str, dict[str, float]]]:
    """Suite -> box of `BOXES` -> number of words, cased accuracy and 1-NED, 0..1.

    words: of each suite, its first. model: in eval mode. Raises as `rendered`.
    """
    figures: dict[str, dict[str, dict[str, float]]] = {}
    boxes = list(boxes)
    for name in names:
        suite = suite_words(name, words)
        figures[name] = {}
        for box in boxes:
            read = score(model, [with_edges_moved(crop, BOXES[box]) for crop in suite.crops], suite.labels)
            figures[name][box] = {"n": len(suite.labels), "cased": round(read.cased, 4), "ned": round(read.ned, 4)}
            logger.info("%s, %s: %.1f %%", name, box, 100 * read.cased)
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", type=int, default=500, help="of each suite (default: 500)")
    parser.add_argument("--suite", action="append", choices=tuple(SUITES), help="of these only; may be given often")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write (default: standard output)")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    model = clip4str_vn_tiny(pretrained=True)
    made = {"version": __version__, "commit": package_commit(), "torch": torch.__version__}
    facts = weights_of(find_weights(model.config.arch))
    figures = boxes_figures(model, arguments.words, arguments.suite or ("clean", "page", "sign", "photo"))
    tell({**made, **facts, "suites": figures}, arguments.out)


if __name__ == "__main__":
    main()
