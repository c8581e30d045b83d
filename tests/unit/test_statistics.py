"""Figures, intervals and tests: against hand-computed cases and against other libraries."""

import unicodedata

import jiwer
import numpy as np
import pytest
from scipy.stats import bootstrap

from clip4str_doctr.benchmark import statistics
from clip4str_doctr.benchmark.statistics import RESAMPLES, compare_pair, figures_of, intervals
from clip4str_doctr.training.metrics import bare, judge

LABELS = ["Phở", "HÒA", "Bánh", "12,5", "xe", "", "Đường", "", "nguyễn"]
ANSWERS = ["Phở", "HOÀ", "bánh", "12.5", "", "", "Duong", "ma", unicodedata.normalize("NFD", "nguyễn")]


def textbook_distance(one: str, other: str) -> int:
    """Edit distance as textbooks have it, a row at a time."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, against in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != against))
    return row[-1]


def test_figures_by_hand() -> None:
    # Edits: none; both letters of the rhyme; the capital; the comma; two letters; none; Đ ư ờ; two too many; none.
    figures = figures_of(judge(ANSWERS, LABELS))
    assert figures == {
        "cased": pytest.approx(3 / 9),
        "uncased": pytest.approx(4 / 9),
        "tone": pytest.approx(4 / 9),
        "bare": pytest.approx(5 / 9),
        "ned": pytest.approx((1 + 1 / 3 + 3 / 4 + 3 / 4 + 0 + 1 + 2 / 5 + 0 + 1) / 9),
        "cer": pytest.approx((0 + 2 + 1 + 1 + 2 + 0 + 3 + 2 + 0) / (3 + 3 + 4 + 4 + 2 + 0 + 5 + 0 + 6)),
    }


def test_figures_of_nothing_but_empty_strings() -> None:
    assert set(figures_of(judge([""], [""])).values()) == {1.0, 0.0}
    assert figures_of(judge([""], [""]))["cer"] == 0.0
    wrong = figures_of(judge(["ab"], [""]))
    assert wrong["cased"] == wrong["ned"] == 0.0 and wrong["cer"] == 2.0
    assert figures_of(judge([""], ["ab"]))["cer"] == 1.0
    with pytest.raises(ValueError, match="no words to make figures of"):
        figures_of(judge([], []))
    with pytest.raises(ValueError, match="one answer a label, got 1 for 2"):
        judge(["a"], ["a", "b"])


def test_distances_are_those_of_other_libraries() -> None:
    random = np.random.default_rng(0)
    alphabet = list("aáàạăâbđoôơuưyỹ.,1")
    words = [["".join(random.choice(alphabet, random.integers(0, 9))) for _ in range(300)] for _ in range(2)]
    words[0][:50] = words[1][:50]
    answers, labels = words
    judged = judge(answers, labels)
    assert judged.edits.tolist() == [textbook_distance(*pair) for pair in zip(answers, labels, strict=True)]
    assert figures_of(judged)["cer"] == pytest.approx(jiwer.cer(labels, answers))
    same = [answer == label for answer, label in zip(answers, labels, strict=True)]
    assert figures_of(judged)["cased"] == pytest.approx(np.mean(same)) and 50 <= sum(same)
    longest = [max(map(len, pair)) or 1 for pair in zip(answers, labels, strict=True)]
    assert figures_of(judged)["ned"] == pytest.approx(np.mean(1 - judged.edits / longest))


def test_marks_are_taken_away() -> None:
    assert bare("Đường phố Nguyễn ĩ") == "Duong pho Nguyen i"
    assert bare(unicodedata.normalize("NFD", "ợ")) == "o" and bare("") == ""


def test_intervals_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    labels = ["phở"] * 400
    answers = ["phở" if right else "pho" for right in random.random(400) < 0.8]
    judged = judge(answers, labels)
    low, high = intervals(judged)["cased"]
    theirs = bootstrap((judged.cased,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    # The CER is a ratio of sums, here a third of the share of wrong words.
    assert intervals(judged)["cer"] == pytest.approx(((1 - high) / 3, (1 - low) / 3), abs=1e-9)
    assert intervals(judged) == intervals(judged)
    assert intervals(judge(["a"], ["a"]))["cased"] == (1.0, 1.0)


def test_resamples_are_the_same_whatever_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = judge(["a", "b", "c"] * 20, ["a", "b", "d"] * 20)
    drawn = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=RESAMPLES)
    shares = np.quantile(drawn @ judged.cased / 60, (0.025, 0.975))
    for block in (1, 7, RESAMPLES):
        monkeypatch.setattr(statistics, "_BLOCK", block)
        statistics._draws.cache_clear()
        assert intervals(judged, seed=3)["cased"] == pytest.approx(tuple(shares), abs=1e-12)


def test_pairs_by_hand() -> None:
    labels = ["a"] * 20
    one = judge(["a"] * 19 + ["b"], labels)
    other = judge(["a"] * 10 + ["b"] * 9 + ["a"], labels)
    pair = compare_pair(one, other)
    # 2 * (C(10, 0) + C(10, 1)) / 2^10
    assert (pair["only_one"], pair["only_other"], pair["p"]) == (9, 1, pytest.approx(22 / 1024))
    assert pair["difference"] == pytest.approx(0.4)
    assert 0.1 < pair["interval"][0] < 0.4 < pair["interval"][1] < 0.7
    back = compare_pair(other, one)
    assert back["difference"] == -pair["difference"] and back["p"] == pair["p"]
    same = compare_pair(one, one)
    assert same["p"] == 1.0 and same["interval"] == (0.0, 0.0)
    upper = judge(["A"] * 20, labels)
    assert compare_pair(one, upper)["only_one"] == 19 and compare_pair(one, upper, figure="uncased")["only_other"] == 1
    with pytest.raises(ValueError, match="the same words, got 20 and 1"):
        compare_pair(one, judge(["a"], ["a"]))


def test_a_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    labels = ["a"] * 300
    right = np.random.default_rng(3).random(300) < 0.5
    one = ["a" if good else "b" for good in right]
    other = ["a" if good and number > 20 else "b" for number, good in enumerate(right)]
    low, high = compare_pair(judge(one, labels), judge(other, labels))["interval"]
    spread = intervals(judge(one, labels))["cased"]
    assert 0 < low < high and high - low < 0.5 * (spread[1] - spread[0])
