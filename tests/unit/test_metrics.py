"""Word accuracies, CER and 1-NED over strings."""

import unicodedata

import pytest

from clip4str_doctr.training.metrics import Scores, score_strings, similarity


def test_every_figure_counts_every_word() -> None:
    labels = ["Phở", "HÒA", "Bánh", "12,5", "xe"]
    answers = ["Phở", "HOÀ", "bánh", "12.5", ""]
    visual = ["Phở", "HÒA", "Bánh", "125", "xe"]
    scores = score_strings(answers, visual, labels)
    # Edits: none; both letters of the rhyme; the capital; the comma; two letters.
    assert scores == Scores(
        cased=1 / 5,
        uncased=2 / 5,
        tone=2 / 5,
        cer=pytest.approx((0 + 2 + 1 + 1 + 2) / (3 + 3 + 4 + 4 + 2)),
        ned=pytest.approx((1 + 1 / 3 + 3 / 4 + 3 / 4 + 0) / 5),
        visual=4 / 5,
    )


def test_composed_and_decomposed_are_the_same() -> None:
    label = "NGUYỄN"
    assert score_strings([unicodedata.normalize("NFD", label)], [label], [label]).cer == 0.0


def test_similarity() -> None:
    assert similarity("", "") == 1.0
    assert similarity("hoà", "hòa") == pytest.approx(1 / 3)
    assert similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)


def test_no_word_may_be_dropped() -> None:
    with pytest.raises(ValueError, match="one answer of each branch a label, got 1 and 2 for 2"):
        score_strings(["a"], ["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="got 0 and 0 for 0"):
        score_strings([], [], [])
