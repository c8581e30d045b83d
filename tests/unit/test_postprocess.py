"""Confidence by hand."""

import math

import numpy as np
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
    postprocessor = PostProcessor("ab", "min")
    with pytest.raises(ValueError, match="confidence must be one of .* got 'prodct'"):
        postprocessor.confidence = "prodct"  # type: ignore[assignment]
    assert postprocessor.confidence == "min"


@pytest.mark.parametrize("confidence", ["product", "min", "mean"])
def test_temperature_changes_confidences_only(confidence: Confidence) -> None:
    ((text, score),) = PostProcessor("ab", confidence, temperature=2.0)(WORD)
    roots = WORD.exp().sqrt()
    shares = roots.max(-1).values[0] / roots.sum(-1)[0]
    expected = {"product": shares[:3].prod(), "min": shares[:3].min(), "mean": shares[:2].mean()}[confidence]
    assert text == "ab"
    assert score == pytest.approx(float(expected))


def test_temperature_leaves_strings_where_logits_hardly_differ() -> None:
    # Dividing by 3 rounds these neighbours to one number.
    first = torch.tensor(1.0000001)
    logits = torch.stack([torch.tensor(1.0), first, torch.tensor(-9.0)])[None, None]
    plain, warm = PostProcessor("ab"), PostProcessor("ab", temperature=3.0)
    assert [text for text, _ in plain(logits)] == [text for text, _ in warm(logits)]


def test_temperature_is_a_number_of_any_kind() -> None:
    processor = PostProcessor("ab", temperature=np.float32(1.5))
    assert type(processor.temperature) is float and processor.temperature == 1.5


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan"), True])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        PostProcessor("ab", temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        PostProcessor("ab").temperature = temperature
