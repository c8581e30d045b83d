"""How answers compare with labels: word accuracies, CER and 1-NED, over strings alone."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

__all__ = ["Judged", "Scores", "bare", "judge", "nfc", "score_strings", "similarity", "tone_insensitive"]

# What Unicode does not take apart: the bar of these two is no combining mark.
_STROKES = str.maketrans("đĐ", "dD")


@dataclass(frozen=True)
class Scores:
    """Shares in 0..1 over all words of NFC strings; none is ever dropped.

    cased, uncased: whole words right. tone: cased, HÒA and HOÀ being the same. cer: edit distances over all symbols of
    the labels, may pass 1. ned: mean of 1 - edit distance / length of the longer string. visual: cased, of the visual
    branch alone.
    """

    cased: float
    uncased: float
    tone: float
    cer: float
    ned: float
    visual: float


def score_strings(answers: Sequence[str], visual: Sequence[str], labels: Sequence[str]) -> Scores:
    """Compare a model's answers, and those of its visual branch alone, with the labels.

    Raises ValueError if there are no labels, or not as many answers as labels.
    """
    if not labels or not len(answers) == len(visual) == len(labels):
        raise ValueError(
            f"scores need one answer of each branch a label, got {len(answers)} and {len(visual)} for {len(labels)}"
        )
    judged = judge(answers, labels)
    return Scores(
        cased=float(judged.cased.mean()),
        uncased=float(judged.uncased.mean()),
        tone=float(judged.tone.mean()),
        cer=int(judged.edits.sum()) / max(int(judged.symbols.sum()), 1),
        ned=float(judged.similarity.mean()),
        visual=_share(nfc(visual), nfc(labels)),
    )


@dataclass(frozen=True)
class Judged:
    """Each of N words judged on its own, arrays (N,), so that figures can be resampled.

    cased, uncased, tone, bare: bool, whether it is right: exactly; without regard to case; HÒA and HOÀ being the same;
    with all marks taken away, đ being d. edits: edit distance. symbols: length of the label. similarity: 1 - edits /
    length of the longer string.
    """

    cased: npt.NDArray[np.bool_]
    uncased: npt.NDArray[np.bool_]
    tone: npt.NDArray[np.bool_]
    bare: npt.NDArray[np.bool_]
    edits: npt.NDArray[np.int64]
    symbols: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]


def judge(answers: Sequence[str], labels: Sequence[str]) -> Judged:
    """Compare answers with labels, both in NFC, word by word. Empty strings are words like others.

    Raises ValueError if there is not one answer a label.
    """
    if len(answers) != len(labels):
        raise ValueError(f"words are judged one answer a label, got {len(answers)} for {len(labels)}")
    pairs = list(zip(nfc(answers), nfc(labels), strict=True))

    def same(spelled: Callable[[str], str]) -> npt.NDArray[np.bool_]:
        return np.array([spelled(answer) == spelled(label) for answer, label in pairs], np.bool_)

    return Judged(
        cased=same(str),
        uncased=same(str.casefold),
        tone=same(tone_insensitive),
        bare=same(bare),
        edits=np.array([Levenshtein.distance(*pair) for pair in pairs], np.int64),
        symbols=np.array([len(label) for _, label in pairs], np.int64),
        similarity=np.array([similarity(*pair) for pair in pairs], np.float64),
    )


def nfc(words: Sequence[str]) -> list[str]:
    """Every word in Unicode's composed form."""
    return [unicodedata.normalize("NFC", word) for word in words]


def tone_insensitive(word: str) -> str:
    """A word in NFC with the tones of oa, oe, uy where the new orthography has them."""
    # The package of word lists brings the renderer with it, which strings alone do not need.
    from clip4str_doctr.training.synth.words import place_tone

    return place_tone(word, "new")


def bare(word: str) -> str:
    """A word without its marks: Đường -> Duong."""
    letters = unicodedata.normalize("NFD", word)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).translate(_STROKES)


def similarity(answer: str, label: str) -> float:
    """1 - edit distance / length of the longer string; 1.0 for two empty strings."""
    return float(Levenshtein.normalized_similarity(answer, label))


def _share(answers: Sequence[str], truth: Sequence[str]) -> float:
    return sum(answer == label for answer, label in zip(answers, truth, strict=True)) / len(truth)
