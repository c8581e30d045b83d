"""What the rendered crops say: words, names, numbers, prices, plates, addresses, random strings."""

import gzip
import itertools
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS

__all__ = [
    "MAX_SYMBOLS", "NUMBERS", "Draw", "Mixture", "WordSource", "digits", "general_mixture", "is_held_out", "is_unsaid",
    "place_tone", "token_counts", "valid_label", "web_address",
]  # fmt: skip

Draw = Callable[[np.random.Generator], str]
Mixture = list[tuple[float, Draw]]  # (share, how to draw) of every kind of label

MAX_SYMBOLS = 25
_SYMBOLS = "".join(dict.fromkeys(VIETNAMESE_SYMBOLS))
_SYMBOL_SET = frozenset(_SYMBOLS)
_LETTERS = "".join(symbol for symbol in _SYMBOLS if symbol.isalpha())
_UPPER = "".join(symbol for symbol in _LETTERS if symbol.isupper())
_PUNCTUATION = "".join(symbol for symbol in _SYMBOLS if not symbol.isalnum())
_UNITS = ("A", "B", "C", "m", "m2", "kg", "cm", "mm", "ml", "g", "h", "W", "km", "L", "Kg", "M", "X", "tr", "USD")
_TONES = "\u0300\u0301\u0309\u0303\u0323"


def _tone_table() -> dict[str, tuple[str, str]]:
    """Every two-letter rhyme oa, oe, uy with a tone -> (its old spelling, its new spelling)."""
    table = {}
    for (first, second), tone in itertools.product((("o", "a"), ("o", "e"), ("u", "y")), _TONES):
        for one, two in itertools.product((first, first.upper()), (second, second.upper())):
            old = unicodedata.normalize("NFC", one + tone + two)
            new = unicodedata.normalize("NFC", one + two + tone)
            table[old] = table[new] = (old, new)
    return table


_TONED = _tone_table()
# Only an open syllable has two spellings (HÒA, HOÀ, but always HOÀNG); after q the u is no vowel (QUÝ).
_TONED_RHYME = re.compile(
    rf"(?<![qQ])[{''.join({pair[0] for pair in _TONED})}][{''.join({pair[1] for pair in _TONED})}](?![^\W\d_])"
)


def place_tone(word: str, style: Literal["old", "new"]) -> str:
    """word in NFC -> the same word with the tones of oa, oe, uy placed the old (HÒA) or the new way (HOÀ)."""
    chosen = ("old", "new").index(style)
    return _TONED_RHYME.sub(lambda match: _TONED[match[0]][chosen] if match[0] in _TONED else match[0], word)


def is_held_out(word: str) -> bool:
    """Whether a word of the lexical sources is there for validation: one in twenty, by a hash of its bare letters.

    Case, tone placement and punctuation around the word make no difference. Training says none of them but everyday
    words, as của, số and phố: a reader that never saw these reads them worse, and they are everywhere.
    """
    return zlib.crc32(_bare(word).encode()) % 20 == 0


def is_unsaid(word: str) -> bool:
    """Whether a word is one of the lists' that training never says: held out, and no everyday word.

    Of other words, as numbers, addresses or words of no list, it is False: nothing keeps training from saying them.
    """
    return _bare(word) in _held_out_words()


def _bare(word: str) -> str:
    return unicodedata.normalize("NFC", place_tone(word.casefold(), "new").strip(_PUNCTUATION))


def valid_label(text: str) -> bool:
    """1..25 symbols, all of the alphabet (which has no space), in NFC."""
    return 0 < len(text) <= MAX_SYMBOLS and _SYMBOL_SET.issuperset(text)


def _read(name: str) -> str:
    data = resources.files("clip4str_doctr.training.synth").joinpath("data", name).read_bytes()
    return unicodedata.normalize("NFC", (gzip.decompress(data) if name.endswith(".gz") else data).decode())


# Lists written for this project.
_WRITTEN = {"signs": "sign_words", "street": "street_words", "document": "document_words", "short": "abbreviations"}
# Running text, each word as often as it stands there.
_TEXTS = {"boards": "street_text", "decrees": "document_text"}
_EVERYDAY = 3000  # most frequent words of Wikipedia
# Of a word's count. The square root, which the suites were drawn with, lifts rare words so far that the 100 most
# frequent, a third of what is written, are one label in thirty.
_TEMPER = {"train": 0.8, "val": 0.5}


def _words_of(name: str) -> list[str]:
    return [word for line in _read(f"{name}.txt").splitlines() if not line.startswith("#") for word in line.split()]


def token_counts() -> list[tuple[str, int]]:
    """Words of Vietnamese Wikipedia and how often they stand there, most frequent first; some are no valid labels."""
    tokens = [line.split("\t") for line in _read("token_counts_vi.tsv.gz").splitlines()]
    # Markup of the articles ("==", "===") is no word.
    return [(word, int(count)) for word, count in tokens if any(symbol.isalnum() for symbol in word)]


@lru_cache(maxsize=1)
def _everyday() -> frozenset[str]:
    """Bare words that training says although they are held out: what people read all day."""
    frequent = [word for word, _ in token_counts()[:_EVERYDAY]]
    written = map(_words_of, (*_TEXTS.values(), _WRITTEN["short"]))
    return frozenset(_bare(word) for words in (frequent, *written) for word in words)


@lru_cache(maxsize=1)
def _lexicon() -> dict[str, list[tuple[str, int, bool]]]:
    """Source name -> (word, how often it stands there, held out for validation)."""
    rows = token_counts()
    places = [word for line in _read("place_names.txt").splitlines() for word in line.split()[1:]]
    names = [word for line in _read("given_names.txt").splitlines() for word in line.split()]
    lists = {
        "syllables": _read("syllables.txt").split(),
        "places": places,
        "names": names,
        **{name: _words_of(file) for name, file in _WRITTEN.items()},
    }
    counted = {"tokens": rows} | {name: list(Counter(words).items()) for name, words in lists.items()}
    counted |= {name: list(Counter(_words_of(file)).items()) for name, file in _TEXTS.items()}
    return {
        name: [(word, count, is_held_out(word)) for word, count in rows if valid_label(word)]
        for name, rows in counted.items()
    }


@lru_cache(maxsize=1)
def _held_out_words() -> frozenset[str]:
    """Bare held-out words of two letters or more: what training may not say by chance either."""
    bare = {_bare(word) for rows in _lexicon().values() for word, _, held_out in rows if held_out} - _everyday()
    return frozenset(word for word in bare if sum(symbol.isalpha() for symbol in word) > 1)


def _belongs(word: str, held_out: bool, split: Literal["train", "val"]) -> bool:
    return held_out if split == "val" else not held_out or _bare(word) in _everyday()


class WordSource:
    """Draws labels: 1..25 symbols of the alphabet, NFC, no space.

    split "val" draws lexical words only from the held-out ones, "train" says none of them but everyday words, whether
    drawn from a list or made up; numbers differ by their random stream only. mixture: kinds of labels and their shares;
    `general_mixture` without.
    """

    def __init__(
        self, split: Literal["train", "val"], seed: int, mixture: "Callable[[WordSource], Mixture] | None" = None
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f'split must be "train" or "val", got {split!r}')
        self.split, self.seed = split, seed
        self._words: dict[str, list[str]] = {}
        self._cumulative: dict[str, npt.NDArray[np.float64]] = {}
        for name, rows in _lexicon().items():
            kept = [(word, count) for word, count, held_out in rows if _belongs(word, held_out, split)]
            self._words[name] = [word for word, _ in kept]
            weights = np.cumsum(np.power([float(count) for _, count in kept], _TEMPER[split]))
            self._cumulative[name] = weights / weights[-1]
        self._sources = (mixture or general_mixture)(self)
        shares = np.cumsum([share for share, _ in self._sources])
        self._shares = shares / shares[-1]

    def share(self, training: float, frozen: float = 0.0) -> float:
        """A kind's share in this split: validation keeps the one that the suites' pictures were drawn with, or none."""
        return training if self.split == "train" else frozen

    def sample(self, index: int) -> str:
        """The label number `index` of this split and seed."""
        return self.draw(np.random.default_rng([self.seed, self.split == "val", index]))

    def draw(self, rng: np.random.Generator) -> str:
        """One label from the mixture."""
        while True:
            _, source = self._sources[int(np.searchsorted(self._shares, rng.random(), side="right"))]
            label = source(rng)
            if valid_label(label) and not (self.split == "train" and is_unsaid(label)):
                return label

    def frequent(self, rng: np.random.Generator, name: str = "tokens") -> str:
        """A word of one list, by its tempered count."""
        words, cumulative = self._words[name], self._cumulative[name]
        return words[min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(words) - 1)]

    def uniform(self, rng: np.random.Generator, name: str = "tokens") -> str:
        """A word of one list, all alike."""
        return _pick(rng, self._words[name])

    def cased(self, rng: np.random.Generator, word: str) -> str:
        """word -> its case and tone placement as signs and print have them."""
        if rng.random() < 0.5:
            word = place_tone(word, "old" if rng.random() < 0.6 else "new")
        draw = rng.random()
        if draw < 0.45:
            word = word.upper()
        elif draw < 0.60:
            word = word.lower()
        elif draw < 0.77:
            word = word[:1].upper() + word[1:].lower()
        return _punctuated(rng, word) if rng.random() < 0.06 else word

    def joined(self, rng: np.random.Generator) -> str:
        """Two words run together or hyphenated: HÀ-NỘI, TâyNinh."""
        one, two = (self.uniform(rng, _pick(rng, ("syllables", "names", "places"))) for _ in range(2))
        if rng.random() < 0.5:
            one, two = one.capitalize(), two.capitalize()
        return self.cased(rng, one + _pick(rng, ("-", "-", "", "", "/", "&", ".", "_", "+")) + two)


def general_mixture(words: WordSource) -> Mixture:
    """Every kind of label, for prints and signs alike."""

    def lexical(name: str, uniform: bool) -> Draw:
        draw = words.uniform if uniform else words.frequent

        def label(rng: np.random.Generator) -> str:
            word = draw(rng, name)
            # Running text ends in a comma more often than a sign does.
            return words.cased(rng, word.strip(_PUNCTUATION) if rng.random() < 0.6 else word)

        return label

    return [
        (0.24, lexical("tokens", False)),
        (0.08, lexical("tokens", True)),
        (0.17, lexical("syllables", True)),
        (0.06, lexical("names", True)),
        (0.06, lexical("places", True)),
        (0.11, lexical("signs", True)),
        (words.share(0.01, 0.03), words.joined),
        (0.05, _number),
        (0.04, _phone),
        (0.035, _price),
        (0.02, _date),
        (0.015, _plate),
        (0.01, _percentage),
        (0.03, lambda rng: web_address(rng, words)),
        (0.01, lambda rng: _pick(rng, _LETTERS)),
        (words.share(0.04, 0.07), _random_string),
    ]


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _int(rng: np.random.Generator, low: int, high: int) -> int:
    """low <= value < high."""
    return low + int(rng.random() * (high - low))


def digits(rng: np.random.Generator, count: int) -> str:
    """That many figures, all alike."""
    return "".join(_pick(rng, "0123456789") for _ in range(count))


def _punctuated(rng: np.random.Generator, word: str) -> str:
    if rng.random() < 0.3:
        pair = _pick(rng, ('""', "()", "''", "[]", "<>"))
        return pair[0] + word + pair[1]
    return word + _pick(rng, (",", ".", ":", "!", "?", ";", "...", ")", "%", "*", '"', "/"))


def _number(rng: np.random.Generator) -> str:
    number = digits(rng, _int(rng, 1, 6))
    form = rng.random()
    if form < 0.5:
        return number
    if form < 0.6:
        return f"{_int(rng, 1, 400)}/{_int(rng, 1, 90)}" + _pick(rng, ("", "", "A", "B", "/2", "/15"))
    if form < 0.7:
        return f"{_int(rng, 0, 100)}{_pick(rng, ',.')}{_int(rng, 0, 100)}"
    if form < 0.85:
        return number + _pick(rng, _UNITS)
    return _pick(rng, "ABCDEFGHKLMNPQSTVX#-+") + number


def _phone(rng: np.random.Generator) -> str:
    number = "0" + _pick(rng, "3579824") + digits(rng, 8)
    form = rng.random()
    if form < 0.35:
        return number
    mark = _pick(rng, (".", ".", "-", "."))
    if form < 0.7:
        return mark.join((number[:4], number[4:7], number[7:]))
    if form < 0.8:
        return mark.join((number[:3], number[3:6], number[6:]))
    if form < 0.88:
        return f"({number[:3]}){number[3:]}"
    pieces = (number[:4], number[4:7], number[7:], "1900" + number[6:], "1800" + number[4:], "+84" + number[1:])
    return _pick(rng, pieces)


def _price(rng: np.random.Generator) -> str:
    form = rng.random()
    if form < 0.3:
        return f"{_int(rng, 1, 400)}{_pick(rng, 'KKkk')}"
    mark = _pick(rng, "...,")
    thousands = f"{_int(rng, 1, 1000)}{mark}{_pick(rng, ('000', '000', '000', '500', digits(rng, 3)))}"
    if form < 0.8:
        return thousands + _pick(rng, ("", "đ", "đ", "đ", "Đ", "VNĐ", "VND", "d", "đ/kg", "đ/1kg", "/kg", ",-"))
    return f"{_int(rng, 1, 100)}{mark}{digits(rng, 3)}{mark}000" + _pick(rng, ("", "đ", "VNĐ"))


def _date(rng: np.random.Generator) -> str:
    mark = _pick(rng, "//-.")
    day, month, year = _int(rng, 1, 32), _int(rng, 1, 13), _int(rng, 1940, 2031)
    form = rng.random()
    if form < 0.5:
        return f"{day:02d}{mark}{month:02d}{mark}{year}"
    if form < 0.7:
        return f"{day}{mark}{month}"
    if form < 0.8:
        return f"{_int(rng, 0, 24)}{_pick(rng, ('h', ':', 'H', 'g'))}{_int(rng, 0, 60):02d}"
    return f"{day}{mark}{month}{mark}{year}" if form < 0.9 else f"{year}-{year + _int(rng, 1, 30)}"


def _plate(rng: np.random.Generator) -> str:
    series = f"{_int(rng, 11, 100)}{_pick(rng, 'ABCDEFGHKLMNPSTUVXYZ')}"
    form = rng.random()
    if form < 0.4:
        return f"{series}-{digits(rng, 3)}.{digits(rng, 2)}"
    if form < 0.6:
        return f"{series}{_int(rng, 1, 10)}-{digits(rng, 4)}"
    if form < 0.8:
        return f"{series}-{digits(rng, 5)}"
    line = f"{digits(rng, 3)}.{digits(rng, 2)}"
    return _pick(rng, (f"{series}{_int(rng, 1, 10)}", f"{series[:2]}-{series[2:]}{_int(rng, 1, 10)}", line))


def _percentage(rng: np.random.Generator) -> str:
    value = _pick(rng, (str(_int(rng, 1, 101)), str(_int(rng, 1, 101)), f"{_int(rng, 0, 100)},{_int(rng, 0, 10)}"))
    return _pick(rng, ("", "", "", "-", "+", "~")) + value + "%"


def web_address(rng: np.random.Generator, words: WordSource) -> str:
    """Pieces of e-mail addresses and websites, without marks as people write them."""
    name = "".join(words.uniform(rng, _pick(rng, ("syllables", "names", "places"))) for _ in range(_int(rng, 1, 3)))
    plain = unicodedata.normalize("NFD", name.replace("đ", "d").replace("Đ", "D"))
    name = "".join(symbol for symbol in plain if symbol.isascii() and symbol.isalnum()).lower()
    end = _pick(rng, (".com", ".vn", ".com.vn", ".net", ".edu.vn", ".org", ".gov.vn", ".info"))
    form = rng.random()
    if form < 0.3:
        label = _pick(rng, ("", "www.", "www.")) + name + end
    elif form < 0.5:
        host = _pick(rng, ("@gmail.com", "@yahoo.com", "@" + name[:4] + end))
        label = name + _pick(rng, ("", str(_int(rng, 1, 2000)))) + host
    elif form < 0.7:
        label = _pick(rng, ("@", "fb.com/", "http://", "https://", "#", "/", "zalo:", "fb:")) + name
    else:
        label = _pick(rng, ("@gmail.com", "@yahoo.com.vn", "www." + name, name + end, end, name))
    draw = rng.random()
    return label.upper() if draw < 0.15 else label.title() if draw < 0.25 else label


def _random_string(rng: np.random.Generator) -> str:
    """Any symbol may follow any other: the reader must not only guess words."""
    symbols = _pick(rng, ("all", "all", "all", "letters", "upper", "upper", "ascii", "marks"))
    pool = {
        "all": _SYMBOLS,
        "letters": _LETTERS,
        "upper": _UPPER,
        "ascii": "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "marks": _PUNCTUATION + "0123456789",
    }[symbols]
    longest = 4 if symbols == "marks" else 9
    return "".join(_pick(rng, pool) for _ in range(_int(rng, 1, longest)))


# What is mostly digits, by kind.
NUMBERS: dict[str, Callable[[np.random.Generator], str]] = {
    "number": _number,
    "phone": _phone,
    "price": _price,
    "date": _date,
    "plate": _plate,
    "percentage": _percentage,
}
