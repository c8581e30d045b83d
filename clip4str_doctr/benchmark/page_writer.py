"""A white page and a pen: words whose place is known, lines and paragraphs of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.training.synth.fonts import Face, load_face, usable_faces
from clip4str_doctr.training.synth.words import WordSource

__all__ = ["A4_INCHES", "INK", "PageWord", "PageWriter", "wrapped"]

A4_INCHES = 8.27, 11.69
INK = 24  # of 0..255: black print
_TEXT_FAMILIES = ("lora", "manrope", "onest", "spectral", "work-sans")
_TITLE_FAMILIES = (*_TEXT_FAMILIES, "oswald", "yanone-kaffeesatz")
# Of the 255 grades of the drawn letters; the paler fringe is no ink to measure a box by.
_FRINGE = 64


@dataclass(frozen=True)
class PageWord:
    """text in NFC; quad (4, 2) of its ink in pixels, clockwise from the top left; line: number of its line."""

    text: str
    quad: npt.NDArray[np.float64]
    line: int


class PageWriter:
    """A white page, and where and with what one writes on it. Lengths are in inches, sizes of type in points."""

    def __init__(self, rng: np.random.Generator, dpi: int, inches: tuple[float, float] = A4_INCHES) -> None:
        self.rng, self.dpi = rng, dpi
        self.source = WordSource("val", 0)
        self.image = Image.new("L", (round(inches[0] * dpi), round(inches[1] * dpi)), 255)
        self.words: list[PageWord] = []
        self.illegible: list[npt.NDArray[np.float64]] = []
        self.lines = 0
        self.body = self.family(_TEXT_FAMILIES)
        self.title = self.family(_TITLE_FAMILIES)
        self.size = 10.5 + 1.5 * float(rng.random())

    def family(self, names: tuple[str, ...]) -> tuple[Face, ...]:
        installed = usable_faces("val")
        found = [installed[name] for name in names if name in installed] or list(installed.values())
        return found[int(self.rng.random() * len(found))]

    def font(self, faces: tuple[Face, ...], weight: int, points: float, italic: bool = False) -> ImageFont.FreeTypeFont:
        """The face nearest to a weight; upright where there is no italic."""
        face = min(faces, key=lambda face: (face.italic != italic, abs(face.weight - weight)))
        return load_face(face, max(round(points / 72 * self.dpi), 6))

    def line(
        self,
        words: list[str],
        font: ImageFont.FreeTypeFont,
        at: tuple[float, float],
        width: float,
        align: Literal["left", "centre", "justify"] = "left",
    ) -> None:
        """Write one line from x, with its baseline at y."""
        lengths = [font.getlength(word) for word in words]
        space = font.getlength(" ")
        free = width * self.dpi - sum(lengths) - space * (len(words) - 1)
        if align == "justify" and len(words) > 1:
            space += free / (len(words) - 1)
        x = at[0] * self.dpi + (free / 2 if align == "centre" else 0)
        for word, length in zip(words, lengths, strict=True):
            self.word(word, font, round(x), round(at[1] * self.dpi))
            x += length + space
        self.lines += 1

    def word(self, word: str, font: ImageFont.FreeTypeFont, x: int, baseline: int) -> None:
        """Write one word at a pixel; what is no more than dots or dashes is nothing to be read."""
        left, top, right, bottom = (int(value) for value in font.getbbox(word, anchor="ls"))
        ink = Image.new("L", (right - left + 4, bottom - top + 4))
        ImageDraw.Draw(ink).text((2 - left, 2 - top), word, fill=255, font=font, anchor="ls")
        corner = x + left - 2, baseline + top - 2
        self.image.paste(INK, corner, ink)
        rows, columns = np.nonzero(np.asarray(ink) > _FRINGE)
        x0, y0 = corner[0] + int(columns.min()), corner[1] + int(rows.min())
        x1, y1 = corner[0] + int(columns.max()) + 1, corner[1] + int(rows.max()) + 1
        quad = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
        if set(word) <= {".", "-"}:
            self.illegible.append(quad)
        else:
            self.words.append(PageWord(word, quad, self.lines))

    def text(self, count: int) -> list[str]:
        """Running text of so many words: a capital at the start, numbers in between."""
        words = [
            _number(self.rng) if self.rng.random() < 0.07 else self.source.frequent(self.rng) for _ in range(count)
        ]
        words[0] = words[0][:1].upper() + words[0][1:]
        return words

    def headline(self, y: float, left: float, width: float) -> float:
        """One or two centred lines in capitals -> where the text goes on."""
        font = self.font(self.title, 700, self.size * 1.5)
        words = [word.strip('.,;:()"').upper() for word in self.text(int(self.rng.integers(5, 12)))]
        words = [word for word in words if word]
        for line in wrapped(words, font.getlength, 0, width * self.dpi):
            self.line(line, font, (left, y), width, "centre")
            y += self.size * 1.5 * 1.55 / 72
        return y + 0.1

    def paragraph(self, y: float, left: float, width: float, count: int) -> float:
        """-> the baseline of what follows. Every other paragraph is justified, one in five is bold or italic."""
        style = self.rng.random()
        weight, italic = (700, False) if style < 0.1 else (400, style < 0.2)
        font = self.font(self.body, weight, self.size, italic)
        pitch = self.size * (1.3 + 0.2 * float(self.rng.random())) / 72
        justify = self.rng.random() < 0.5
        indent = 0.35 * float(self.rng.random() < 0.5)
        lines = list(wrapped(self.text(count), font.getlength, indent * self.dpi, width * self.dpi))
        for number, line in enumerate(lines):
            begin = indent if number == 0 else 0.0
            align: Literal["left", "justify"] = "justify" if justify and number < len(lines) - 1 else "left"
            self.line(line, font, (left + begin, y), width - begin, align)
            y += pitch
        return y + 0.6 * pitch


def _number(rng: np.random.Generator) -> str:
    value, kind = int(rng.integers(1, 999)), int(rng.integers(0, 5))
    day, month = int(rng.integers(1, 29)), int(rng.integers(1, 13))
    return (
        f"{value}.000đ",
        f"{day:02d}/{month:02d}/{1950 + value % 75}",
        f"{value % 100},{value % 10}%",
        str(value),
        f"{value}",
    )[kind]


def wrapped(words: list[str], length: Callable[[str], float], first: float, width: float) -> Iterator[list[str]]:
    """Words -> lines not longer than `width`, the first shorter by its indent `first`."""
    line: list[str] = []
    room = width - first
    for word in words:
        if line and length(" ".join([*line, word])) > room:
            yield line
            line, room = [], width
        line.append(word)
    yield line
