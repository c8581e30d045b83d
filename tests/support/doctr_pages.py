"""Pages with words for docTR's predictors, without a download."""

from typing import Any

import torch
from doctr.models import detection


def eager_detector(straight: bool = True, box_thresh: float = 0.0) -> Any:
    """An untrained detector of docTR that believes everything it sees; box_thresh above 1: nothing."""
    torch.manual_seed(0)
    detector = detection.db_mobilenet_v3_large(
        pretrained=False, pretrained_backbone=False, assume_straight_pages=straight
    )
    detector.postprocessor.bin_thresh, detector.postprocessor.box_thresh = 0.1, box_thresh
    return detector.eval()


def values(page: Any) -> list[str]:
    """The words of a page that docTR's OCR or KIE predictor made."""
    if hasattr(page, "predictions"):
        return [word.value for words in page.predictions.values() for word in words]
    return [word.value for block in page.blocks for line in block.lines for word in line.words]
