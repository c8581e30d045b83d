"""How answers compare with labels: word accuracies, CER and 1-NED, over strings alone."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

__all__ = ["Scores", "nfc", "score_strings", "similarity", "tone_insensitive"]


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
    answers, visual, truth = nfc(answers), nfc(visual), nfc(labels)
    distances = [Levenshtein.distance(answer, label) for answer, label in zip(answers, truth, strict=True)]
    return Scores(
        cased=_share(answers, truth),
        uncased=_share([one.casefold() for one in answers], [one.casefold() for one in truth]),
        tone=_share([tone_insensitive(one) for one in answers], [tone_insensitive(one) for one in truth]),
        cer=sum(distances) / max(sum(map(len, truth)), 1),
        ned=sum(similarity(answer, label) for answer, label in zip(answers, truth, strict=True)) / len(truth),
        visual=_share(visual, truth),
    )


def nfc(words: Sequence[str]) -> list[str]:
    """Every word in Unicode's composed form."""
    return [unicodedata.normalize("NFC", word) for word in words]


def tone_insensitive(word: str) -> str:
    """A word in NFC with the tones of oa, oe, uy where the new orthography has them."""
    # The package of word lists brings the renderer with it, which strings alone do not need.
    from clip4str_doctr.training.synth.words import place_tone

    return place_tone(word, "new")


def similarity(answer: str, label: str) -> float:
    """1 - edit distance / length of the longer string; 1.0 for two empty strings."""
    return float(Levenshtein.normalized_similarity(answer, label))


def _share(answers: Sequence[str], truth: Sequence[str]) -> float:
    return sum(answer == label for answer, label in zip(answers, truth, strict=True)) / len(truth)
