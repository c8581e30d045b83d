"""Reliability of confidences, and the temperature that mends them."""

import numpy as np
import pytest
import torch

from clip4str_doctr.postprocess import PostProcessor
from clip4str_doctr.training.calibration import calibration_error, fit_certainty, fit_temperature, reliability


def test_bins_by_hand() -> None:
    rows = reliability([0.05, 0.95, 1.0, 0.91], [False, True, True, False])
    assert [(row.least, row.most, row.n) for row in rows] == [(0.0, 0.1, 1), (0.9, 1.0, 3)]
    assert rows[1].confidence == pytest.approx(2.86 / 3) and rows[1].accuracy == pytest.approx(2 / 3)
    assert calibration_error([0.05, 0.95, 1.0, 0.91], [False, True, True, False]) == pytest.approx(
        (0.05 + (2.86 - 2)) / 4
    )


def overconfident(words: int, factor: float) -> tuple[list[torch.Tensor], list[bool]]:
    """Words of one symbol and EOS whose logits are `factor` times those that their symbols were drawn with."""
    random = np.random.default_rng(4)
    logits, right = [], []
    for _ in range(words):
        rows = torch.from_numpy(random.normal(size=(2, 5)) * 2)
        rows[0, 4] = -30.0  # EOS would end the word at its first row
        drawn = [random.choice(5, p=row.softmax(0).numpy()) for row in rows]
        logits.append(rows * factor)
        right.append(rows.argmax(1).tolist() == drawn)
    return logits, right


def test_the_temperature_is_found_and_mends_the_error() -> None:
    logits, right = overconfident(3000, 2.5)
    temperature = fit_temperature(logits, right)
    assert temperature == pytest.approx(2.5, rel=0.08)
    errors = []
    for one in (1.0, temperature):
        reader = PostProcessor("abcd", temperature=one)
        errors.append(calibration_error([reader(word[None])[0][1] for word in logits], right))
    assert errors[0] > 0.1 and errors[1] < 0.03


def test_nothing_is_fitted_without_mistakes() -> None:
    logits, _ = overconfident(3, 1.0)
    assert fit_temperature(logits, [True] * 3) == fit_temperature(logits, [False] * 3) == 1.0
    with pytest.raises(ValueError, match="got 2 for 3"):
        fit_temperature(logits, [True, False])


def test_certainty_by_hand() -> None:
    """Of 2,000 words two may be lost; the third most certain of the lost must go on being read."""
    sure = [0.3, 0.6, 0.7, 0.8, 0.9, *[0.99] * 1995]
    lost = [number < 4 for number in range(2000)]
    found = fit_certainty(sure, lost, 0.001)
    assert found == pytest.approx(0.60001) and found > 0.6
    assert sum(is_lost and one >= found for one, is_lost in zip(sure, lost, strict=True)) == 2
    assert fit_certainty(sure, [one == 0.99 for one in sure], 0.001) == pytest.approx(0.99001)
    assert fit_certainty([1.0] * 2000, [True] * 2000, 0.001) > 1
    # Nothing is lost, but half a chance is asked for; and of 999 words one is more than one of a thousand.
    assert fit_certainty(sure, [False] * 2000, 0.001) == 0.5
    assert fit_certainty(sure[:999], lost[:999], 0.001) is None
    with pytest.raises(ValueError, match="got 3 for 2"):
        fit_certainty([0.5] * 2, [True] * 3, 0.001)
