"""Vietnamese pages with known words: running text, columns, a table, a receipt, a letter; clean, and as photographs.

Font families are held out from training, and so are words, everyday ones excepted. A word's box is the box of its
*ink*, marks and tails included, neither the font's line nor its bearings: "ăn" is low, "Ấy" is high. It belongs to no
detector's habit.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageDraw

from clip4str_doctr.benchmark.page_writer import A4_INCHES, INK, PageWord, PageWriter, wrapped

__all__ = ["LAYOUTS", "PageWord", "RenderedPage", "photographed", "render_page"]

Layout = Literal["text", "columns", "table", "receipt", "letter"]
LAYOUTS: tuple[Layout, ...] = ("text", "columns", "table", "receipt", "letter")

_ROLL_INCHES = 3.15, 11.69  # 80 mm of paper
_ROLL_CELLS = 40  # letters a line
_TILL_FAMILIES = ("space-mono",)
_WORDS = 200


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
    inches = _ROLL_INCHES if layout == "receipt" else A4_INCHES
    writer = PageWriter(np.random.default_rng([seed, LAYOUTS.index(layout)]), dpi, inches)
    draw = {
        "text": _text_page,
        "columns": _column_page,
        "table": _table_page,
        "receipt": _receipt_page,
        "letter": _letter_page,
    }
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


def _text_page(writer: PageWriter) -> None:
    left, width = 0.9, A4_INCHES[0] - 1.8
    y = writer.headline(1.1, left, width)
    while len(writer.words) < _WORDS:
        y = writer.paragraph(y, left, width, min(int(writer.rng.integers(25, 60)), _WORDS + 10 - len(writer.words)))
        if writer.rng.random() < 0.4:
            font = writer.font(writer.title, 700, writer.size * 1.15)
            writer.line(writer.text(int(writer.rng.integers(2, 6))), font, (left, y), width)
            y += writer.size * 2 / 72


def _column_page(writer: PageWriter) -> None:
    left, width = 0.75, A4_INCHES[0] - 1.5
    top = writer.headline(1.0, left, width)
    column = (width - 0.4) / 2
    for number in range(2):
        y, until = top, len(writer.words) + _WORDS // 2 - 5
        while len(writer.words) < until:
            y = writer.paragraph(y, left + number * (column + 0.4), column, int(writer.rng.integers(20, 40)))


def _table_page(writer: PageWriter) -> None:
    left, widths = 0.8, (0.6, 3.0, 1.4, 1.6)
    y = writer.headline(1.1, left, sum(widths))
    y = writer.paragraph(y, left, sum(widths), 35)
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
            fitting = next(wrapped(words, font.getlength, 0, (room - 0.16) * writer.dpi))
            writer.line(fitting, font, (float(x) + 0.08, y), room)
        y += pitch
        row += 1
    draw, dpi = ImageDraw.Draw(writer.image), writer.dpi
    last = first + row * pitch
    for x in edges:
        draw.line([(round(x * dpi), round(first * dpi)), (round(x * dpi), round(last * dpi))], INK, max(dpi // 100, 1))
    for number in range(row + 1):
        at = round((first + number * pitch) * dpi)
        draw.line([(round(edges[0] * dpi), at), (round(edges[-1] * dpi), at)], INK, max(dpi // 100, 1))


def _receipt_page(writer: PageWriter) -> None:
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


def _receipt_head(writer: PageWriter) -> Iterator[str]:
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


def _receipt_items(writer: PageWriter) -> tuple[list[str], int]:
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


def _letter_page(writer: PageWriter) -> None:
    """As authorities write (decree 30/2020/NĐ-CP): who writes beside the motto, who gets copies beside who signs."""
    rng, margin, width = writer.rng, 1.1, A4_INCHES[0] - 1.8
    office, year = [word.upper() for word in _names(writer, 8)], int(rng.integers(2010, 2025))
    number, day, month = int(rng.integers(1, 2000)), int(rng.integers(1, 29)), int(rng.integers(1, 13))
    place, signer = (" ".join(_names(writer, count)) for count in (2, 3))
    sender = (" ".join(office[:3]), 400), (" ".join(office[3:6]), 700), (f"Số: {number}/{office[6]}-VP", 400)
    motto = (
        ("CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM", 700),
        ("Độc lập - Tự do - Hạnh phúc", 700),
        (f"{place}, ngày {day:02d} tháng {month} năm {year}", 400),
    )
    _stacked(writer, 0.9, margin, 0.37 * width, sender)
    y = _stacked(writer, 0.9, margin + 0.4 * width, 0.6 * width, motto) + 0.3
    y = writer.headline(y, margin, width)
    while len(writer.words) < _WORDS - 20:
        y = writer.paragraph(y, margin, width, min(int(rng.integers(25, 60)), _WORDS - 10 - len(writer.words)))
    copies = ("Nơi nhận:", 700), ("Như trên;", 400), (f"Lưu: VT, {office[7]}.", 400)
    below = y + 0.2
    _stacked(writer, below, margin, 0.35 * width, copies, "left")
    y = _stacked(writer, below, margin + 0.5 * width, 0.45 * width, (("KT. CHỦ TỊCH", 700), ("PHÓ CHỦ TỊCH", 700)))
    _stacked(writer, y + 0.8, margin + 0.5 * width, 0.45 * width, ((signer, 700),))


def _names(writer: PageWriter, count: int) -> list[str]:
    words = (writer.source.frequent(writer.rng).strip('.,;:()"') for _ in itertools.count())
    return [word.title() for word in itertools.islice(filter(str.isalpha, words), count)]


def _stacked(
    writer: PageWriter,
    y: float,
    left: float,
    width: float,
    lines: Sequence[tuple[str, int]],
    align: Literal["left", "centre"] = "centre",
) -> float:
    """Lines, each with its weight, one below the other, as small as they must be -> the baseline of what follows."""
    for text, weight in lines:
        font = writer.font(writer.body, weight, writer.size)
        font = writer.font(writer.body, weight, writer.size * min(1.0, width * writer.dpi / font.getlength(text)))
        writer.line(text.split(), font, (left, y), width, align)
        y += writer.size * 1.5 / 72
    return y
