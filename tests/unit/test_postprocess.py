"""Confidence by hand."""

import math

import pytest
import torch

from clip4str_doctr.postprocess import Confidence, PostProcessor


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Probabilities of symbols a, b and EOS per row -> (1, L, 3) logits."""
    return torch.tensor([rows]).log()


WORD = logits_of([0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.05, 0.05, 0.9], [0.98, 0.01, 0.01])


@pytest.mark.parametrize(("confidence", "expected"), [("product", 0.8 * 0.6 * 0.9), ("mean", 0.7), ("min", 0.6)])
def test_three_confidences(confidence: Confidence, expected: float) -> None:
    ((text, score),) = PostProcessor("ab", confidence)(WORD)
    assert text == "ab"
    assert score == pytest.approx(expected)


@pytest.mark.parametrize(("confidence", "expected"), [("product", 0.7), ("mean", 0.0), ("min", 0.7)])
def test_an_empty_word(confidence: Confidence, expected: float) -> None:
    ((text, score),) = PostProcessor("ab", confidence)(logits_of([0.2, 0.1, 0.7], [0.9, 0.05, 0.05]))
    assert text == ""
    assert score == pytest.approx(expected)


def test_a_word_without_end_counts_every_row() -> None:
    ((text, score),) = PostProcessor("ab")(WORD[:, :2])
    assert text == "ab"
    assert math.isclose(score, 0.48, rel_tol=1e-5)


def test_an_unknown_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence must be one of"):
        PostProcessor("ab", "median")  # type: ignore[arg-type]
