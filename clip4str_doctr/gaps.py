"""Which gaps of one line of text separate words.

Print of fixed pitch, as tills and typewriters make it, says so itself: its letters stand at equal steps, and words part
where a step is left out. The air around the point of "73.000" is as wide there as a space.

All other text parts at the likeliest cut of its sorted gaps into two kinds. Gaps are measured in heights of the
letters' body (x-height, or cap height in capitals). Gaps between letters lie about a tenth of that, gaps between words
are half of it and more; but fonts, sizes and justified text move both, so both kinds have a centre of their own in
every line, near to where it usually is. The figures were fitted on 400 lines of the renderer's *training* fonts and
words (80 families, scripts and fixed pitch among them): of lines of one word 90 % stay whole, of lines of two or three
words 98.5 % of the words, of longer ones 97.9 %. With a fixed centre for the gaps between letters only 74 % of the
single words do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["Usual", "parted", "usual_gaps", "word_gap"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Spacing:
    """How gaps are spread, as natural logarithms of body heights.

    letter, letter_spread, letter_line_spread: between letters: the usual centre, how gaps scatter within a line, and
    how the centre does from line to line. word, ...: the same between words. share: of gaps that separate words.
    touching: whether letters may touch. prior: logarithm of how usual such a line is.
    """

    letter: float
    letter_spread: float
    letter_line_spread: float
    word: float
    word_spread: float
    word_line_spread: float
    share: float
    touching: bool
    prior: float


_PRINT = _Spacing(np.log(0.12), 0.3, 0.3, np.log(0.58), 0.22, 0.22, 0.18, True, 0.0)
# "T H Ô N G   B Á O": letters as far apart as words are elsewhere, words still farther.
_LETTER_SPACED = _Spacing(np.log(0.55), 0.22, 0.3, np.log(1.25), 0.25, 0.3, 0.18, False, -4.0)

# Below this, gaps are a matter of one pixel.
_LEAST = 0.06
# Whatever the rest of the line looks like.
_ALWAYS = 2.5
# The runs of ink between the gaps of letter-spaced text are single letters; a joined word is wider, in body heights.
_LETTER_WIDTH = 1.35
_ENOUGH_LETTERS = 4

# Fixed pitch, in body heights, and the part of it by which steps miss it (root of the mean square). Of 600 lines in the
# five such families of training, steps miss by 0.03 (median; 75 of 100 by less than 0.06), of 2,250 lines in the other
# 90 families by 0.2 (99 of 100 by more than 0.065). Of the 600, 96 % are cut right so, and 81 % by their gaps; of 100
# in a family that was not looked at, 95 and 67 %. Of the 2,250 others as many are as before, 90 %.
_PITCHES = np.arange(0.75, 1.56, 0.01)
_OFF_PITCH = 0.075
# Figures are of one width in most fonts, and a long number has many steps. That it is no more than a number, the few
# steps beside it tell: no step misses by more than this, and not many runs are letters that touch. Of 2,340 lines with
# phone and account numbers in those 90 families 72.7 % are cut right so, by their gaps 73.1, without this 71.7.
_MOST_OFF_PITCH = 0.16
_SINGLE_LETTERS = 0.75
# So many steps are measured, and such a part of them is one pitch; the wider runs are letters that touch.
_ENOUGH_STEPS = 4
_SINGLE_STEPS = 0.6
_ONE_LETTER = 1.25

# A line with so many gaps tells its own spacing, and that of shorter ones around it, as "205 kg" in a cell of a table:
# the centre of their gaps between words is so near to that of the longer ones (logarithm). Of 11,580 words on 56
# rendered pages 98.2 % are found so, 98.0 % without; of the boxes as many are words.
TELLING = 10
_NEAR = 0.08


@dataclass(frozen=True)
class Usual:
    """Centres of the gaps between letters and between words, as natural logarithms of a length."""

    letter: float
    word: float

    @classmethod
    def of(cls, lines: Sequence["Usual"]) -> "Usual":
        """What is usual in most of some lines."""
        return cls(float(np.median([one.letter for one in lines])), float(np.median([one.word for one in lines])))

    def times(self, factor: float) -> "Usual":
        """The same in another unit."""
        return Usual(self.letter + float(np.log(factor)), self.word + float(np.log(factor)))


def parted(runs: _Floats, usual: Usual | None = None) -> npt.NDArray[np.bool_]:
    """runs (N, 2) of ink, left and right end in body heights, left to right -> where words part, (N - 1,).

    usual: what is usual around the line, in its body heights, if that is known.
    """
    pitch = _pitch(runs)
    if pitch:
        half = np.where(runs[:, 1] - runs[:, 0] < _ONE_LETTER * pitch, (runs[:, 1] - runs[:, 0]) / 2, pitch / 2)
        return np.asarray((runs[1:, 0] + half[1:]) - (runs[:-1, 1] - half[:-1]) > 1.5 * pitch, np.bool_)
    gaps = _gaps(runs)
    return np.asarray(gaps > word_gap(gaps, runs[:, 1] - runs[:, 0], usual), np.bool_)


def usual_gaps(runs: _Floats, apart: npt.NDArray[np.bool_]) -> Usual | None:
    """runs and where they are `parted` -> what is usual in the line, in body heights; None where that tells nothing of
    others: it is too short, or of fixed pitch."""
    gaps = _gaps(runs)
    inner = gaps < _ALWAYS
    if inner.sum() < TELLING or _pitch(runs):
        return None
    logs = np.log(np.maximum(gaps, _LEAST))
    letters, words = logs[inner & ~apart], logs[inner & apart]
    if len(words) < 2 or len(letters) < len(words):
        return None
    return Usual(float(np.median(letters)), float(np.median(words)))


def _gaps(runs: _Floats) -> _Floats:
    return np.asarray(np.maximum(runs[1:, 0] - np.maximum.accumulate(runs[:, 1])[:-1], 0), np.float64)


def _pitch(runs: _Floats) -> float:
    """The one distance from letter to letter, in body heights; 0 where letters stand as their widths want it."""
    widths, middles = runs[:, 1] - runs[:, 0], runs.mean(axis=1)
    steps = np.diff(middles)[(widths[1:] < _ONE_LETTER) & (widths[:-1] < _ONE_LETTER)]
    steps = steps[(steps > 0) & (steps < 4)]
    if len(steps) < max(_ENOUGH_STEPS, _SINGLE_LETTERS * (len(runs) - 1)):
        return 0.0
    times = np.maximum(np.rint(steps / _PITCHES[:, None]), 1)
    pitches = (times * steps).sum(axis=1) / (times**2).sum(axis=1)
    misses = np.abs(steps / pitches[:, None] - times)
    off = np.sqrt(np.mean(misses**2, axis=1))
    off[(times == 1).mean(axis=1) < _SINGLE_STEPS] = np.inf
    best = int(np.argmin(off))
    fixed = off[best] < _OFF_PITCH and misses[best].max() < _MOST_OFF_PITCH
    return float(pitches[best]) if fixed else 0.0


def word_gap(gaps: _Floats, widths: _Floats, usual: Usual | None = None) -> float:
    """gaps (N,) between N + 1 runs of ink, widths (N + 1,) of the runs, in body heights -> the least gap of words.

    usual: as for `parted`. Gaps beyond 2.5 always separate. A line without gaps has no words to separate: any answer
    fits.
    """
    inner = np.sort(np.log(np.maximum(gaps[gaps < _ALWAYS], _LEAST)))
    if not len(inner):
        return _ALWAYS
    usually = replace(_PRINT, letter=usual.letter, word=usual.word, word_line_spread=_NEAR) if usual else _PRINT
    likelihood, limit = _best_cut(inner, usually)
    if len(inner) >= _ENOUGH_LETTERS and float(np.median(widths)) < _LETTER_WIDTH:
        spaced, wider = _best_cut(inner, _LETTER_SPACED)
        if spaced > likelihood:
            limit = wider
    return min(float(np.exp(limit)), _ALWAYS)


def _best_cut(ordered: _Floats, kind: _Spacing) -> tuple[float, float]:
    """Logarithms of gaps, ascending -> the likelihood of the best cut (logarithm), and the gap there (logarithm)."""
    best = -np.inf, 0.0
    count = len(ordered)
    for cut in range(count + 1):
        letters, words = ordered[:cut], ordered[cut:]
        likelihood = kind.prior + _of_letters(letters, kind) + _of_words(words, kind)
        if likelihood > best[0]:
            low = ordered[cut - 1] if cut else ordered[0] - 0.3
            high = ordered[cut] if cut < count else max(ordered[-1] + 0.3, kind.word)
            best = likelihood, float(low + high) / 2
    return best


def _of_letters(gaps: _Floats, kind: _Spacing) -> float:
    # Where letters touch now and then, that is as usual as a little air between them.
    gaps = np.maximum(gaps, kind.letter - 0.3) if kind.touching else gaps
    each = np.log(1 - kind.share) - np.log(kind.letter_spread)
    return float(len(gaps) * each + _scatter(gaps, kind.letter, kind.letter_spread, kind.letter_line_spread))


def _of_words(gaps: _Floats, kind: _Spacing) -> float:
    each = np.log(kind.share) - np.log(kind.word_spread)
    return float(len(gaps) * each + _scatter(gaps, kind.word, kind.word_spread, kind.word_line_spread))


def _scatter(gaps: _Floats, usual: float, within: float, between: float) -> float:
    """How likely gaps scatter so around the line's own centre, and that centre around the usual (logarithm)."""
    if not len(gaps):
        return 0.0
    # The centre is between where it usually is and where these gaps are, as uncertain as each is.
    prior, seen = 1 / between**2, 1 / within**2
    centre = (usual * prior + float(gaps.sum()) * seen) / (prior + len(gaps) * seen)
    return -0.5 * (float(np.sum(((gaps - centre) / within) ** 2)) + ((centre - usual) / between) ** 2)
