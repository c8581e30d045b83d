"""Vietnamese pages with known words: running text, two columns, a table, a till's receipt; clean, and as photographs.

Font families and word lists are held out from training. A word's box is the box of its *ink*, marks and tails
included, neither the font's line nor its bearings: "ăn" is low, "Ấy" is high. It belongs to no detector's habit.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.training.synth.fonts import Face, load_face, usable_faces
from clip4str_doctr.training.synth.words import WordSource

__all__ = ["LAYOUTS", "PageWord", "RenderedPage", "photographed", "render_page"]

Layout = Literal["text", "columns", "table", "receipt"]
LAYOUTS: tuple[Layout, ...] = ("text", "columns", "table", "receipt")

_A4_INCHES = 8.27, 11.69
_ROLL_INCHES = 3.15, 11.69  # 80 mm of paper
_ROLL_CELLS = 40  # letters a line
_TEXT_FAMILIES = ("lora", "manrope", "onest", "spectral", "work-sans")
_TILL_FAMILIES = ("space-mono",)
_TITLE_FAMILIES = (*_TEXT_FAMILIES, "oswald", "yanone-kaffeesatz")
_WORDS = 200
_INK = 24  # of 0..255: black print
# Of the 255 grades of the drawn letters; the paler fringe is no ink to measure a box by.
_FRINGE = 64


@dataclass(frozen=True)
class PageWord:
    """text in NFC; quad (4, 2) of its ink in pixels, clockwise from the top left; line: number of its line."""

    text: str
    quad: npt.NDArray[np.float64]
    line: int


@dataclass(frozen=True)
class RenderedPage:
    """image (H, W, 3) uint8 RGB; words in reading order, unless `ordered` says that it is not known.

    illegible: quads (4, 2) of words that nobody is asked for; boxes on them count neither as right nor as wrong.
    """

    image: npt.NDArray[np.uint8]
    words: tuple[PageWord, ...]
    illegible: tuple[npt.NDArray[np.float64], ...] = ()
    ordered: bool = True

    @property
    def text(self) -> str:
        """Words of a line with spaces between them, lines with line breaks, in reading order."""
        lines: dict[int, list[str]] = {}
        for word in self.words:
            lines.setdefault(word.line, []).append(word.text)
        return "\n".join(" ".join(words) for words in lines.values())


def render_page(seed: int, layout: Layout = "text", dpi: int = 150) -> RenderedPage:
    """A page of about 200 words, the same for the same arguments; another dpi changes line breaks at most.

    Raises ValueError for another layout or a dpi outside of 72..600, RuntimeError if no fonts are installed.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if not 72 <= dpi <= 600:
        raise ValueError(f"dpi must be in 72..600, got {dpi}")
    inches = _ROLL_INCHES if layout == "receipt" else _A4_INCHES
    writer = _Writer(np.random.default_rng([seed, LAYOUTS.index(layout)]), dpi, inches)
    draw = {"text": _text_page, "columns": _column_page, "table": _table_page, "receipt": _receipt_page}
    draw[layout](writer)
    image = np.repeat(np.asarray(writer.image)[..., None], 3, axis=2)
    return RenderedPage(np.ascontiguousarray(image), tuple(writer.words), tuple(writer.illegible))


def photographed(page: RenderedPage, seed: int) -> RenderedPage:
    """The page on a table, seen at an angle, with a shadow, out of focus, with noise, as JPEG; quads follow."""
    rng = np.random.default_rng([seed, 7])
    height, width = page.image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inset = width * (0.02 + 0.05 * rng.random((4, 2)))
    seen = (corners + inset * np.sign(np.array([width, height]) / 2 - corners)).astype(np.float32)
    homography = np.asarray(cv2.getPerspectiveTransform(corners, seen), np.float64)
    table = tuple(float(value) for value in 60 + 60 * rng.random(3))
    photo = cv2.warpPerspective(page.image, homography, (width, height), flags=cv2.INTER_AREA, borderValue=table)
    light = _light(rng, height, width)[..., None]
    colour = 1 - 0.12 * rng.random(3)
    pixels = cv2.GaussianBlur(photo.astype(np.float32), (0, 0), width / 1240 * (0.6 + 0.4 * rng.random()))
    pixels = pixels * light * colour.astype(np.float32)
    pixels = pixels + rng.normal(0, 4 + 3 * rng.random(), pixels.shape).astype(np.float32)
    quality = (cv2.IMWRITE_JPEG_QUALITY, int(55 + 30 * rng.random()))
    done, data = cv2.imencode(".jpg", np.clip(pixels, 0, 255).astype(np.uint8), quality)
    assert done
    image = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    moved = (replace(word, quad=_moved(homography, word.quad)) for word in page.words)
    return RenderedPage(image, tuple(moved), tuple(_moved(homography, quad) for quad in page.illegible))


def _moved(homography: npt.NDArray[np.float64], quad: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.perspectiveTransform(quad[None], homography)[0], np.float64)


def _light(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """Brighter towards one corner, and the soft shadow of an arm or a phone over a part of the page; 0.4..1."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = rng.normal(0, 0.12, 2)
    edge = rng.normal(0, 1, 2)
    edge /= np.linalg.norm(edge)
    shadow = 1 / (1 + np.exp((x * edge[0] + y * edge[1] - 0.5 * rng.random()) * 25))
    light = 0.85 + x * slope[0] + y * slope[1] - (0.25 + 0.15 * rng.random()) * shadow
    return np.asarray(np.clip(light, 0.4, 1.0), np.float32)


class _Writer:
    """A white page, and where and with what one writes on it. Lengths are in inches, sizes of type in points."""

    def __init__(self, rng: np.random.Generator, dpi: int, inches: tuple[float, float] = _A4_INCHES) -> None:
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
        self.image.paste(_INK, corner, ink)
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


def _wrapped(words: list[str], length: Callable[[str], float], first: float, width: float) -> Iterator[list[str]]:
    """Words -> lines not longer than `width`, the first shorter by its indent `first`."""
    line: list[str] = []
    room = width - first
    for word in words:
        if line and length(" ".join([*line, word])) > room:
            yield line
            line, room = [], width
        line.append(word)
    yield line


def _headline(writer: _Writer, y: float, width: float, left: float) -> float:
    """One or two centred lines in capitals -> where the text goes on."""
    font = writer.font(writer.title, 700, writer.size * 1.5)
    words = [word.strip('.,;:()"').upper() for word in writer.text(int(writer.rng.integers(5, 12)))]
    words = [word for word in words if word]
    for line in _wrapped(words, font.getlength, 0, width * writer.dpi):
        writer.line(line, font, (left, y), width, "centre")
        y += writer.size * 1.5 * 1.55 / 72
    return y + 0.1


def _paragraph(writer: _Writer, y: float, left: float, width: float, count: int) -> float:
    """-> the baseline of what follows. Every other paragraph is justified, one in five is bold or italic."""
    style = writer.rng.random()
    weight, italic = (700, False) if style < 0.1 else (400, style < 0.2)
    font = writer.font(writer.body, weight, writer.size, italic)
    pitch = writer.size * (1.3 + 0.2 * float(writer.rng.random())) / 72
    justify = writer.rng.random() < 0.5
    indent = 0.35 * float(writer.rng.random() < 0.5)
    lines = list(_wrapped(writer.text(count), font.getlength, indent * writer.dpi, width * writer.dpi))
    for number, line in enumerate(lines):
        begin = indent if number == 0 else 0.0
        align: Literal["left", "justify"] = "justify" if justify and number < len(lines) - 1 else "left"
        writer.line(line, font, (left + begin, y), width - begin, align)
        y += pitch
    return y + 0.6 * pitch


def _text_page(writer: _Writer) -> None:
    left, width = 0.9, _A4_INCHES[0] - 1.8
    y = _headline(writer, 1.1, width, left)
    while len(writer.words) < _WORDS:
        y = _paragraph(writer, y, left, width, min(int(writer.rng.integers(25, 60)), _WORDS + 10 - len(writer.words)))
        if writer.rng.random() < 0.4:
            font = writer.font(writer.title, 700, writer.size * 1.15)
            writer.line(writer.text(int(writer.rng.integers(2, 6))), font, (left, y), width)
            y += writer.size * 2 / 72


def _column_page(writer: _Writer) -> None:
    left, width = 0.75, _A4_INCHES[0] - 1.5
    top = _headline(writer, 1.0, width, left)
    column = (width - 0.4) / 2
    for number in range(2):
        y, until = top, len(writer.words) + _WORDS // 2 - 5
        while len(writer.words) < until:
            y = _paragraph(writer, y, left + number * (column + 0.4), column, int(writer.rng.integers(20, 40)))


def _table_page(writer: _Writer) -> None:
    left, widths = 0.8, (0.6, 3.0, 1.4, 1.6)
    y = _headline(writer, 1.1, sum(widths), left)
    y = _paragraph(writer, y, left, sum(widths), 35)
    plain, bold = (writer.font(writer.body, weight, writer.size) for weight in (400, 700))
    pitch = writer.size * 2.0 / 72
    edges = np.concatenate([[0], np.cumsum(widths)]) + left
    first, row = y - 0.7 * pitch, 0
    while len(writer.words) < _WORDS:
        price = f"{int(writer.rng.integers(1, 999))}.{int(writer.rng.integers(0, 10)) * 100:03d}đ"
        name = writer.text(int(writer.rng.integers(2, 5)))
        cells = [[str(row)], name, [str(writer.rng.integers(1, 500)), "kg"], [price]]
        if row == 0:
            cells = [["STT"], ["Tên", "hàng"], ["Số", "lượng"], ["Thành", "tiền"]]
        for words, x, room in zip(cells, edges, widths, strict=False):
            font = plain if row else bold
            fitting = next(_wrapped(words, font.getlength, 0, (room - 0.16) * writer.dpi))
            writer.line(fitting, font, (float(x) + 0.08, y), room)
        y += pitch
        row += 1
    draw, dpi = ImageDraw.Draw(writer.image), writer.dpi
    last = first + row * pitch
    for x in edges:
        draw.line([(round(x * dpi), round(first * dpi)), (round(x * dpi), round(last * dpi))], _INK, max(dpi // 100, 1))
    for number in range(row + 1):
        at = round((first + number * pitch) * dpi)
        draw.line([(round(edges[0] * dpi), at), (round(edges[-1] * dpi), at)], _INK, max(dpi // 100, 1))


def _receipt_page(writer: _Writer) -> None:
    """As a till prints: every letter in a cell of its own, dashed rules, prices on the right, dots before the sums."""
    rng, margin = writer.rng, 0.15
    wanted = (_ROLL_INCHES[0] - 2 * margin) / _ROLL_CELLS
    # In fonts of fixed pitch letters are 0.6 of their size wide, or a little more.
    font = writer.font(writer.family(_TILL_FAMILIES), 400 if rng.random() < 0.7 else 700, wanted * 72 / 0.62)
    cell, pitch = font.getlength("0"), wanted / 0.6 * (1.2 + 0.2 * float(rng.random()))
    items, total = _receipt_items(writer)
    y = 0.4
    for line in [*_receipt_head(writer), *items, *_receipt_sums(total)]:
        for found in re.finditer(r"\S+", line):
            writer.word(found[0], font, round(margin * writer.dpi + found.start() * cell), round(y * writer.dpi))
        writer.lines += 1
        y += pitch
    writer.image = writer.image.crop(
        (0, 0, writer.image.width, min(round((y + 0.3) * writer.dpi), writer.image.height))
    )


def _receipt_head(writer: _Writer) -> Iterator[str]:
    rng = writer.rng
    one, two, three, four = (int(value) for value in rng.integers(100, 1000, 4))
    for text in (
        " ".join(writer.text(3)).upper(),
        f"{one} {' '.join(writer.text(4))}",
        f"ĐT: 09{one % 90 + 10} {two} {three}",
        "HÓA ĐƠN BÁN HÀNG",
    ):
        yield text[:_ROLL_CELLS].center(_ROLL_CELLS)
    yield _apart(f"Số: 00{three}{four}", f"{two % 28 + 1:02d}/{one % 12 + 1:02d}/2024 {one % 24:02d}:{two % 60:02d}")
    yield "-" * _ROLL_CELLS


def _receipt_items(writer: _Writer) -> tuple[list[str], int]:
    """-> lines of a receipt as long as other pages, and the sum: a name, and under it how many, at what price."""
    lines, total, count = [], 0, 0
    while count < _WORDS - 35:
        name = " ".join(writer.text(int(writer.rng.integers(2, 5))))[:_ROLL_CELLS].rstrip()
        pieces, price = int(writer.rng.integers(1, 12)), 500 * int(writer.rng.integers(4, 400))
        lines += [name, _apart(f"   {pieces} x {_dong(price)}", _dong(pieces * price))]
        total += pieces * price
        count += len(name.split()) + 4
    return lines, total


def _receipt_sums(total: int) -> Iterator[str]:
    paid = -(-total // 500_000) * 500_000
    yield "-" * _ROLL_CELLS
    for text, value in (("Tổng cộng", total), ("Tiền khách đưa", paid), ("Tiền thừa", paid - total)):
        yield f"{text} {'.' * (_ROLL_CELLS - len(text) - len(_dong(value)) - 2)} {_dong(value)}"
    yield "Cảm ơn quý khách!".center(_ROLL_CELLS)


def _apart(left: str, right: str) -> str:
    return left + right.rjust(_ROLL_CELLS - len(left))


def _dong(value: int) -> str:
    return f"{value:,}".replace(",", ".")
