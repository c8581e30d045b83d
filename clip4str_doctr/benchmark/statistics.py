"""How sure a figure is, and whether two recognisers differ: both from words that all of them read."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from clip4str_doctr.training.metrics import Judged

__all__ = ["FIGURES", "RESAMPLES", "compare_pair", "figures_of", "intervals"]

RESAMPLES = 2000
# Figure -> (what is summed over the words, what it is divided by); None: the number of words.
FIGURES: dict[str, tuple[str, str | None]] = {
    "cased": ("cased", None),
    "uncased": ("uncased", None),
    "tone": ("tone", None),
    "bare": ("bare", None),
    "ned": ("similarity", None),
    "cer": ("edits", "symbols"),
}

Counts = npt.NDArray[np.generic]  # (resamples, N): how often each word was drawn
_BLOCK = 100  # resamples at a time: of many words, all of them would not fit into memory as float64


def figures_of(judged: Judged) -> dict[str, float]:
    """Every figure over all N words, as shares. Raises ValueError if there are none."""
    return {name: float(value[0]) for name, value in _resampled(judged, np.ones((1, _count(judged)))).items()}


def intervals(judged: Judged, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals: words are drawn with replacement, as many as there are.

    The same seed draws the same words for every recogniser. Raises ValueError if there are no words.
    """
    drawn = _resampled(judged, _draws(_count(judged), seed, resamples))
    return {name: _middle(values) for name, values in drawn.items()}


def compare_pair(
    one: Judged, other: Judged, seed: int = 0, resamples: int = RESAMPLES, figure: str = "cased"
) -> dict[str, Any]:
    """Two recognisers on the same words; figure: what counts as right, cased, uncased, tone or bare.

    only_one, only_other: words that only it reads right. p: of McNemar's exact test, that is the two-sided binomial
    test of these two counts; 1.0 where they never disagree. difference: accuracy of one minus that of the other, with
    the 95 % interval of a paired bootstrap. Raises ValueError if they did not read the same number of words.
    """
    if _count(one) != _count(other):
        raise ValueError(f"recognisers are compared on the same words, got {_count(one)} and {_count(other)}")
    first, second = getattr(one, figure), getattr(other, figure)
    only_one, only_other = int((first & ~second).sum()), int((second & ~first).sum())
    # Words that both or neither read cancel out, so the difference can be resampled word by word.
    differences = first.astype(np.float64) - second
    drawn = _sums(_draws(len(differences), seed, resamples), differences) / len(differences)
    apart = only_one + only_other
    return {
        "only_one": only_one,
        "only_other": only_other,
        "p": float(binomtest(only_one, apart).pvalue) if apart else 1.0,
        "difference": float(differences.mean()),
        "interval": _middle(drawn),
    }


def _count(judged: Judged) -> int:
    if not len(judged.cased):
        raise ValueError("there are no words to make figures of")
    return len(judged.cased)


@lru_cache(maxsize=1)  # the same for every recogniser of a set; many words make it large
def _draws(count: int, seed: int, resamples: int) -> Counts:
    random, shares = np.random.default_rng(seed), np.full(count, 1 / count)
    # A word is drawn once on average; 256 times never.
    drawn = np.empty((resamples, count), np.uint8)
    for start in range(0, resamples, _BLOCK):
        block = drawn[start : start + _BLOCK]
        block[:] = random.multinomial(count, shares, size=len(block))
    return drawn


def _sums(counts: Counts, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(R, N) times (N,) -> (R,)"""
    blocks = (counts[start : start + _BLOCK].astype(np.float64) for start in range(0, len(counts), _BLOCK))
    return np.concatenate([block @ values.astype(np.float64) for block in blocks])


def _resampled(judged: Judged, counts: Counts) -> Mapping[str, npt.NDArray[np.float64]]:
    """Counts (R, N) of words -> each figure (R,)."""
    values: dict[str, npt.NDArray[np.float64]] = {}
    for name, (above, below) in FIGURES.items():
        sums = _sums(counts, getattr(judged, above))
        # A resample of empty labels alone has no symbols; then every edit counts whole, as in `score_strings`.
        whole = counts.sum(axis=1) if below is None else _sums(counts, getattr(judged, below))
        values[name] = sums / np.maximum(whole, 1)
    return values


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
