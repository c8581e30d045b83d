"""Pages with words for docTR's predictors, without a download."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from doctr.models import detection


def eager_detector(straight: bool = True, box_thresh: float = 0.0) -> Any:
    """An untrained detector of docTR that believes everything it sees; box_thresh above 1: nothing."""
    torch.manual_seed(0)
    detector = detection.db_mobilenet_v3_large(
        pretrained=False, pretrained_backbone=False, assume_straight_pages=straight
    )
    # Pages are scaled to this size: 1024 x 1024, docTR's own, would take a second each.
    detector.cfg["input_shape"] = (3, 256, 256)
    detector.postprocessor.bin_thresh, detector.postprocessor.box_thresh = 0.1, box_thresh
    return detector.eval()


def three_words(page: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """A detector that finds the same three boxes on every page: left, top, right, bottom in pixels."""
    return np.array([[10, top, 110, top + 30] for top in (10, 50, 90)])


def no_words(page: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.zeros((0, 4), np.int64)


def values(page: Any) -> list[str]:
    """The words of a page that docTR's OCR or KIE predictor made."""
    if hasattr(page, "predictions"):
        return [word.value for words in page.predictions.values() for word in words]
    return [word.value for block in page.blocks for line in block.lines for word in line.words]
