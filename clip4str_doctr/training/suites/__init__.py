"""Named validation suites: what every figure of ours is measured on.

A suite is frozen: its labels lie in `labels/`, its fonts, heights and seed stand here, and `rendered` tells by two
checksums whether labels and pictures are still those it was defined with. Pictures also depend on the renderer and on
the versions of Pillow, OpenCV and the font packages. To change a suite, give it a new name.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["SUITES", "RenderedSuite", "Suite", "drawn", "labels_of", "rendered"]

Crop = npt.NDArray[np.uint8]

SIZE = 1000  # words a suite
# Pictures of this many words make the checksum: enough to notice a changed renderer, cheap to draw.
_CHECKED = 32

# Families that no training sample is drawn with; the suites keep to these even if more are held out later.
_SCRIPT = ("dancing-script",)
_PRINT = ("lora", "manrope", "onest", "oswald", "space-mono", "spectral")
# The lightest work-sans draws no dots under letters (0.5 of 1,100 pixels of an o), so some of its labels cannot be
# read off the picture. It stays where older figures are to be comparable.
_HAND = ("dancing-script", "indie-flower", "kalam", "satisfy")
_ALL = ("rowdies", "work-sans", "yanone-kaffeesatz", *_SCRIPT, *_PRINT)


@dataclass(frozen=True)
class Suite:
    """1,000 renderings of the split "val".

    style: the renderer's; "mixed" is 30 % print, 70 % signs. heights: of crops in pixels, None for the style's own.
    families: of fonts. seed: of the pictures. pixels: CRC-32 of the first 32 crops when the suite was defined.
    """

    style: Literal["clean", "photo", "mixed", "sign", "page"]
    heights: tuple[float, float] | None
    families: tuple[str, ...]
    about: str
    pixels: int
    seed: int = 3


SUITES: dict[str, Suite] = {
    "clean": Suite(
        "clean", (16, 64), _PRINT, "document print, 16 to 64 px, words and numbers as documents have them", 0xCA89911C
    ),
    "photo": Suite("photo", None, _ALL, "signs as photographed", 0x72259721),
    "numbers": Suite(
        "mixed", None, _ALL, "numbers, prices, phones, plates, dates; a third print, the rest signs", 0x37133668
    ),
    "rare_syllables": Suite(
        "clean", (16, 64), _PRINT, "print of syllables, all alike, most of which are rare", 0xE97D286F
    ),
    "long_words": Suite(
        "clean", (16, 64), _PRINT, "print of 12 to 25 symbols: joined words, web addresses, e-mails", 0xCB755BE6
    ),
    "tiny": Suite("clean", (8, 12), _PRINT, "document print of 8 to 12 px", 0x9086F68B),
    "handwriting": Suite("mixed", None, _SCRIPT, "script fonts; a third print, the rest signs", 0xC67CC477),
    "print_mixed": Suite(
        "clean", None, _ALL, "print of 11 to 44 px in all fonts, every kind of label, 7 % random strings", 0xF1DD7BA7
    ),
    "sign": Suite(
        "sign", None, (*_PRINT, *_HAND, "rowdies", "titan-one"), "signs by the later, richer renderer", 0xBD428AEB
    ),
    "page": Suite("page", None, _PRINT, "words cut from scans and screens, from 8 px", 0x27CE4552),
    "hand": Suite("sign", (18, 100), _HAND, "signs in four script and hand-lettered fonts", 0xBB20A931),
}


@dataclass(frozen=True)
class RenderedSuite:
    """Crops (H, W, 3) uint8 RGB with their labels, and CRC-32 of all labels and of the first 32 crops.

    as_defined: whether the pictures are those the suite was defined with, as far as the checksum tells; None if fewer
    words than it takes were drawn.
    """

    name: str
    crops: list[Crop]
    labels: list[str]
    labels_crc: str
    pixels_crc: str
    as_defined: bool | None


@lru_cache(maxsize=len(SUITES))
def labels_of(name: str) -> tuple[str, ...]:
    """The labels of a suite, in order. Raises ValueError for a name that is none of SUITES."""
    if name not in SUITES:
        raise ValueError(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
    text = resources.files(__name__).joinpath("labels", f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def rendered(name: str, words: int = SIZE) -> RenderedSuite:
    """The first `words` samples of a suite.

    Raises ValueError for an unknown suite or more words than it has, RuntimeError if its fonts are not installed.
    """
    crops, labels = drawn(name, words)
    spoken, pixels = zlib.crc32("\n".join(labels).encode()), checksum(crops[:_CHECKED])
    return RenderedSuite(
        name,
        crops,
        labels,
        f"{spoken:08x}",
        f"{pixels:08x}",
        pixels == SUITES[name].pixels if words >= _CHECKED else None,
    )


def drawn(name: str, words: int, seed: int | None = None) -> tuple[list[Crop], list[str]]:
    """Crops (H, W, 3) uint8 RGB of the first `words` labels of a suite, and these.

    seed: another than the suite's own gives other words of its kinds, drawn in its fonts. Raises as `rendered`.
    """
    from clip4str_doctr.training.suites.draw import draw_labels
    from clip4str_doctr.training.synth import Renderer, Selection

    labels = labels_of(name)
    if words < 1 or (seed is None and words > len(labels)):
        raise ValueError(f"the suite {name} has {len(labels)} words, cannot give {words}")
    if seed is not None:
        labels = tuple(draw_labels(name, words, seed))
    suite = SUITES[name]
    selection = Selection(labels, suite.heights, suite.families)
    renderer = Renderer(suite.style, "val", suite.seed if seed is None else seed, selection)
    crops, said = zip(*(renderer.sample(index) for index in range(words)), strict=True)
    return list(crops), list(said)


def checksum(crops: Sequence[Crop]) -> int:
    """CRC-32 of crops, shapes included."""
    crc = 0
    for crop in crops:
        crc = zlib.crc32(crop.tobytes(), zlib.crc32(repr(crop.shape).encode(), crc))
    return crc
