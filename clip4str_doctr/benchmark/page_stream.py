"""Words as running text has them, and their pictures: what a page asks of a recogniser, again and again the same."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth import Renderer
from clip4str_doctr.training.synth.words import WordSource, token_counts, valid_label

__all__ = ["page_words", "render_words"]


def page_words(count: int, seed: int) -> list[str]:
    """`count` words drawn as often as Vietnamese Wikipedia has them; within real pages words repeat even more."""
    labels = [(word, count) for word, count in token_counts() if valid_label(word)]
    words, counts = zip(*labels, strict=True)
    share = np.asarray(counts, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(len(words), size=count, p=share / share.sum())
    return [words[index] for index in drawn]


class _Dictated(WordSource):
    """Says the words it was given, in order."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__("val", 0)
        self._given = iter(words)

    def draw(self, rng: np.random.Generator) -> str:
        return next(self._given)


class _WordRenderer(Renderer):
    def __init__(self, words: Sequence[str], seed: int) -> None:
        super().__init__("clean", "val", seed)
        self._given = words

    def _load(self) -> WordSource:
        if self._words is None:
            super()._load()
            self._words = _Dictated(self._given)
        return self._words


def render_words(words: Sequence[str], seed: int) -> list[npt.NDArray[np.uint8]]:
    """A crop of document print for each word, in fonts that training never saw."""
    renderer = _WordRenderer(words, seed)
    return [renderer.sample(index)[0] for index in range(len(words))]
