"""Which marks are taken for which: letters split into base, quality mark and tone, and counted apart."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz.distance import Levenshtein

__all__ = ["LOST", "QUALITIES", "TONES", "Confusion", "count_confusion", "split_letter"]

TONES = {"": "level", "\u0300": "huyền", "\u0301": "sắc", "\u0309": "hỏi", "\u0303": "ngã", "\u0323": "nặng"}
QUALITIES = {"": "plain", "\u0302": "â ê ô", "\u0306": "ă", "\u031b": "ơ ư", "\u0335": "đ"}
# The whole letter is gone, or was read as one of another base.
LOST = "other letter"


@dataclass
class Confusion:
    """How often what was read as what. bases: only letters or signs that were confused; "" is nothing."""

    tones: Counter[tuple[str, str]] = field(default_factory=Counter)
    qualities: Counter[tuple[str, str]] = field(default_factory=Counter)
    bases: Counter[tuple[str, str]] = field(default_factory=Counter)
    case: Counter[tuple[str, str]] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: a table label -> answer -> count of tones and of qualities, and the most frequent others."""
        return {
            "tones": _nested(self.tones, list(TONES.values())),
            "qualities": _nested(self.qualities, list(QUALITIES.values())),
            "bases": [[*pair, count] for pair, count in self.bases.most_common(40)],
            "case": [[*pair, count] for pair, count in self.case.most_common(20)],
        }


def _nested(counts: Counter[tuple[str, str]], names: list[str]) -> dict[str, dict[str, int]]:
    return {one: {other: counts[one, other] for other in [*names, LOST]} for one in names}


def split_letter(letter: str) -> tuple[str, str, str]:
    """A symbol in NFC -> its bare base, the name of its quality mark and of its tone: Ệ -> E, "â ê ô", "nặng"."""
    # đ does not decompose; its bar is a quality like the others.
    stroke = {"đ": "d\u0335", "Đ": "D\u0335"}
    base, *marks = list(unicodedata.normalize("NFD", stroke.get(letter, letter)))
    quality = next((QUALITIES[mark] for mark in marks if mark in QUALITIES), QUALITIES[""])
    return base, quality, next((TONES[mark] for mark in marks if mark in TONES), TONES[""])


def count_confusion(answers: Sequence[str], labels: Sequence[str]) -> Confusion:
    """Answers and labels in NFC, letter by letter as an edit path over their bare bases aligns them.

    Tones and qualities are counted of every letter of the labels, right ones included.
    """
    counted = Confusion()
    for answer, label in zip(answers, labels, strict=True):
        for truth, read in _aligned(label, answer):
            _count(counted, truth, read)
    return counted


def _aligned(label: str, answer: str) -> Iterator[tuple[str, str]]:
    """Pairs of a symbol of the label and one of the answer; "" where one has none."""
    bases = [[split_letter(letter)[0].casefold() for letter in word] for word in (label, answer)]
    for step in Levenshtein.opcodes(*bases):
        truths, reads = label[step.src_start : step.src_end], answer[step.dest_start : step.dest_end]
        for place in range(max(len(truths), len(reads))):
            yield truths[place : place + 1], reads[place : place + 1]


def _count(counted: Confusion, truth: str, read: str) -> None:
    base, quality, tone = split_letter(truth) if truth else ("", "", "")
    other, other_quality, other_tone = split_letter(read) if read else ("", "", "")
    same = base.casefold() == other.casefold()
    if truth.isalpha():
        counted.tones[tone, other_tone if same else LOST] += 1
        counted.qualities[quality, other_quality if same else LOST] += 1
    if not same:
        counted.bases[base, other] += 1
    elif base != other:
        counted.case[base, other] += 1
