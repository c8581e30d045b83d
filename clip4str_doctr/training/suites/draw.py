"""How the labels of the suites were drawn: `python -m clip4str_doctr.training.suites.draw NAME... -o FOLDER`.

Ran once, when a suite was defined; the files in `labels/` are the suite, and word lists that grow do not change it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clip4str_doctr.atomic import written
from clip4str_doctr.training.suites import SIZE, SUITES
from clip4str_doctr.training.synth.render import STYLES
from clip4str_doctr.training.synth.vocabularies import document_mixture, street_mixture
from clip4str_doctr.training.synth.words import NUMBERS, Mixture, WordSource, valid_label, web_address

__all__ = ["draw_labels"]

Draw = Callable[[np.random.Generator], str]
_EDGES = "\"'()[]<>.,:;!?*/-"


def draw_labels(name: str, count: int = SIZE, seed: int | None = None) -> list[str]:
    """The first `count` labels of a suite, as the present word lists give them. Raises ValueError for another name.

    seed: another than the suite's own gives other words of its kinds.
    """
    if name not in SUITES:
        raise ValueError(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
    suite = SUITES[name]
    seed = suite.seed if seed is None else seed
    words = WordSource("val", seed, _MIXTURES.get(name))
    if name in ("photo", "print_mixed", *_MIXTURES):
        # What the renderer itself says in this style.
        style = STYLES.index(suite.style)
        return [words.draw(np.random.default_rng([seed, True, style, index])) for index in range(count)]
    rng = np.random.default_rng([seed, *name.encode()])
    draw = _mixture(_KINDS[name](words))
    # Nobody tells a lone O from 0 or o; mail hosts alone would fill a third of the long words.
    shortest, distinct = {"clean": 2, "tiny": 2, "long_words": 12}.get(name, 1), name == "long_words"
    labels: list[str] = []
    while len(labels) < count:
        label = draw(rng)
        if valid_label(label) and len(label) >= shortest and not (distinct and label in labels):
            labels.append(label)
    return labels


# Suites of all that is said on signs and pages.
_MIXTURES: dict[str, Callable[[WordSource], Mixture]] = {"sign": street_mixture, "page": document_mixture}


def _mixture(kinds: list[tuple[float, Draw]]) -> Draw:
    shares = np.cumsum([share for share, _ in kinds])

    def draw(rng: np.random.Generator) -> str:
        return kinds[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))][1](rng)

    return draw


def _document(words: WordSource) -> list[tuple[float, Draw]]:
    """Running text, tables and letterheads."""

    def running(rng: np.random.Generator) -> str:
        """As written in articles, punctuation included; some of it in headings."""
        word = words.frequent(rng)
        return word.upper() if rng.random() < 0.12 else word

    def name_of(kind: str) -> Draw:
        def draw(rng: np.random.Generator) -> str:
            word = words.uniform(rng, kind)
            return word.upper() if rng.random() < 0.25 else word.capitalize()

        return draw

    numbers = (("number", 0.07), ("date", 0.04), ("price", 0.04), ("phone", 0.02), ("percentage", 0.01))
    return [
        (0.66, running),
        (0.06, name_of("names")),
        (0.06, name_of("places")),
        *((share, NUMBERS[kind]) for kind, share in numbers),
        (0.01, lambda rng: web_address(rng, words)),
    ]


def _numbers(_: WordSource) -> list[tuple[float, Draw]]:
    return [(1.0, draw) for draw in NUMBERS.values()]


def _rare(words: WordSource) -> list[tuple[float, Draw]]:
    return [(1.0, lambda rng: _in_case(rng, words.uniform(rng, "syllables"), 0.3))]


def _long(words: WordSource) -> list[tuple[float, Draw]]:
    def joined(rng: np.random.Generator) -> str:
        parts = [words.uniform(rng, ("syllables", "names", "places")[int(3 * rng.random())]) for _ in range(2)]
        parts += [words.uniform(rng, "syllables") for _ in range(int(3 * rng.random()))]
        parts = [part.capitalize() for part in parts] if rng.random() < 0.5 else parts
        label = ("-", "-", "", "/", "&", "_")[int(6 * rng.random())].join(parts)
        return label.upper() if rng.random() < 0.3 else label

    return [(0.5, joined), (0.5, lambda rng: web_address(rng, words))]


def _handwritten(words: WordSource) -> list[tuple[float, Draw]]:
    """No capitals throughout: nobody writes them in script."""

    def lexical(kind: str, uniform: bool) -> Draw:
        def draw(rng: np.random.Generator) -> str:
            word = words.uniform(rng, kind) if uniform else words.frequent(rng, kind)
            return _in_case(rng, word.strip(_EDGES), 0.0)

        return draw

    return [
        (0.5, lexical("tokens", False)),
        (0.2, lexical("syllables", True)),
        (0.1, lexical("names", True)),
        (0.1, lexical("places", True)),
        (0.1, lexical("signs", True)),
    ]


def _in_case(rng: np.random.Generator, word: str, upper: float) -> str:
    """Capitals throughout with probability `upper`; else lower case or a capital first, as often."""
    if rng.random() < upper:
        return word.upper()
    return word.capitalize() if rng.random() < 0.5 else word.lower()


_KINDS: dict[str, Callable[[WordSource], list[tuple[float, Draw]]]] = {
    "clean": _document,
    "numbers": _numbers,
    "rare_syllables": _rare,
    "long_words": _long,
    "tiny": _document,
    "handwriting": _handwritten,
    "hand": _handwritten,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m clip4str_doctr.training.suites.draw", description=__doc__)
    parser.add_argument("names", nargs="+", choices=SUITES, metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for NAME.txt")
    arguments = parser.parse_args()
    for name in arguments.names:
        with written(arguments.out / f"{name}.txt") as part:
            part.write_text("".join(f"{label}\n" for label in draw_labels(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
