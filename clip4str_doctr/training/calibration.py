"""Whether a confidence of 0.8 is right four times of five: reliability, its error, and the temperature that mends it;
and how certain the visual branch must be of a word to be left alone with it.

After Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Bin", "calibration_error", "fit_certainty", "fit_temperature", "reliability"]

BINS = 10
_LEAST, _MOST, _STEPS = 0.25, 4.0, 161
# Below, a draft is no answer, however few of the words at hand would be lost by it.
_LEAST_CERTAIN = 0.5


@dataclass(frozen=True)
class Bin:
    """Words whose confidence lies in least..most: how many, their mean confidence and the share of right ones."""

    least: float
    most: float
    n: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Bins of equal width, empty ones left out."""
    confidence, correct = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    numbers = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = numbers == number
        if inside.any():
            means = float(confidence[inside].mean()), float(correct[inside].mean())
            rows.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), *means))
    return rows


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: |mean confidence - accuracy| of the bins, weighted by their words. 0..1."""
    rows = reliability(confidences, right, bins)
    return sum(row.n * abs(row.confidence - row.accuracy) for row in rows) / max(len(confidences), 1)


def fit_temperature(logits: Sequence[torch.Tensor], right: Sequence[bool]) -> float:
    """The temperature by which "product" confidences fit best what was right, by log likelihood; 0.25..4.

    logits: (rows, V + 1) of every answer, as `Answers.logits`. right: whether the answer is. 1.0 where all or none are,
    from which nothing can be told. Raises ValueError if there is not one `right` an answer.
    """
    if len(logits) != len(right):
        raise ValueError(f"a temperature needs one `right` an answer, got {len(right)} for {len(logits)}")
    if all(right) or not any(right):
        return 1.0
    rows = torch.cat(list(logits)).double()
    below = rows - rows.max(dim=1, keepdim=True).values
    owner = torch.repeat_interleave(torch.arange(len(logits)), torch.tensor([len(word) for word in logits]))
    correct = torch.tensor(right, dtype=torch.float64)

    def loss(temperature: float) -> float:
        log_shares = -torch.logsumexp(below / temperature, dim=1)
        confidence = torch.zeros(len(logits), dtype=torch.float64).index_add(0, owner, log_shares).exp()
        return float(torch.nn.functional.binary_cross_entropy(confidence.clamp(1e-6, 1 - 1e-6), correct))

    candidates = np.geomspace(_LEAST, _MOST, _STEPS)
    return round(float(min(candidates, key=loss)), 3)


def fit_certainty(certainties: Sequence[float], lost: Sequence[bool], most_lost: float) -> float | None:
    """The least certainty of the visual branch's draft from which on words may be left at it; 0.5..1.

    certainties: of N drafts, 0..1. lost: whether the draft is wrong where the answer is right. Leaving all words of
    that certainty or more at their drafts loses at most the share `most_lost` of the N words; those that the draft has
    right and the answer wrong are not set off against them. None if that share of N is less than a word, from which
    nothing can be told; 1 or just above it if even the most certain words lose too many.
    Raises ValueError if there is not one `lost` a draft.
    """
    if len(certainties) != len(lost):
        raise ValueError(f"a certainty needs one `lost` a draft, got {len(lost)} for {len(certainties)}")
    worst = sorted((sure for sure, is_lost in zip(certainties, lost, strict=True) if is_lost), reverse=True)
    allowed = int(most_lost * len(lost))
    if not allowed:
        return None
    if len(worst) <= allowed:
        return _LEAST_CERTAIN
    # Rounded up, and above the first word too many.
    return max(_LEAST_CERTAIN, round(math.floor(worst[allowed] * 1e5) / 1e5 + 1e-5, 5))
