"""Searchable PDFs: pictures of pages, or the pages of a PDF, under a layer of invisible text.

Written with PDFium, which docTR brings, the way Chrome makes scanned PDFs searchable: one invisible text object for
each word, stretched to its box, in a font without ink. That font is made for the occasion with fontTools: one glyph
half an em wide for each symbol that occurs. PDFium derives its table from glyphs to Unicode (ToUnicode).
"""

import ctypes
import io
import itertools
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from doctr.io.elements import Page
from PIL import Image

from clip4str_doctr.atomic import written
from clip4str_doctr.boxes import corners_of
from clip4str_doctr.images import frames_of, open_image, orientation_of, stretch_of
from clip4str_doctr.pages.files import POINTS_PER_INCH, is_pdf, opened_pdf
from clip4str_doctr.pages.reading import turn_of, words_of

__all__ = ["MissingFontToolsError", "glyphless_font", "page_size", "save_searchable_pdf", "searchable_pdf"]

logger = logging.getLogger(__name__)

# In em. A font is as tall as from DESCENT to ASCENT, so a box of that height is exactly what a viewer selects.
_ASCENT, _DESCENT, _ADVANCE = 0.8, 0.2, 0.5
_UNITS_PER_EM = 1000

# Between words of a line, in heights of their boxes. Poppler sees two words only where the gap is 0.15 or more,
# whatever space stands between them, and boxes that were grown for the recogniser nearly touch.
_LEAST_GAP = 0.2
# Of its width a word gives at most this much on either side.
_MOST_TRIMMED = 0.2

# A word is a page's own text where the middle of a symbol lies within so much of its width and height around its
# middle, and the symbol is at most so many times as high.
_MIDDLE, _MOST_HIGHER = 0.75, 2.0

_A4 = 210 / 25.4 * POINTS_PER_INCH, 297 / 25.4 * POINTS_PER_INCH
# PDFium keeps what it is given until it saves, pixels of pictures as they are: of a book, so many pages at a time.
_PAGES_AT_ONCE = 16
# Cameras and screenshots declare 72 or 96, which is no size of anything.
_LEAST_TRUSTED_DPI = 100


class MissingFontToolsError(ImportError):
    """fontTools is not installed."""


def searchable_pdf(source: Path, pages: Sequence[Page], destination: Path) -> None:
    """source: the image or PDF that the pages were read from -> destination, a PDF with a text layer.

    A PDF keeps its pages as they are, but shows those upright that were turned to be read; words that its own text has
    already are not added again, which is logged. Images become pages in their printed size (see `page_size`), JPEG data
    untouched, other pixels without loss. Pages of (0, 0) pixels could not be drawn (`reading.unread_page`): of a PDF
    they stay as they are, of a TIFF they become blank.
    The destination is written whole or not at all, and may be the source itself.
    Raises MissingFontToolsError, UnreadableImageError, OSError, ValueError for more pages than an image has.
    """
    # The destination may be the source, which PDFium reads from until it is closed.
    with written(destination) as part:
        save_searchable_pdf(source, pages, part)


def save_searchable_pdf(source: Path, pages: Sequence[Page], destination: Path) -> None:
    """As `searchable_pdf`, into a file that is not the source, and that may be left half-written."""
    symbols = {symbol for page in pages for word in words_of(page) for symbol in word.value}
    font_file = glyphless_font(symbols | {" "})
    if is_pdf(source):
        with opened_pdf(source) as pdf, _loaded_font(pdf, font_file) as font:
            kept = 0
            for number, page in enumerate(pages):
                if not page.blocks:
                    continue  # nor need PDFium be able to open it
                target = _turned(pdf, number, page)
                kept += _add_layer(pdf, target, font, page)
                target.close()
            _save_as(pdf, destination)
        if kept:
            read = sum(len(words_of(page)) for page in pages)
            logger.warning("%s: of %d words %d have text of the file's own, which stays as it is", source, read, kept)
        return
    frames = frames_of(source)
    if len(frames) < len(pages):
        raise ValueError(f"there must be a picture in {source} for each of {len(pages)} pages, got {len(frames)}")
    numbered = list(zip(frames, pages, strict=False))
    if len(numbered) <= _PAGES_AT_ONCE:
        _save_pictures(source, numbered, font_file, destination)
        return
    with tempfile.TemporaryDirectory() as folder, closing(pdfium.PdfDocument.new()) as whole:
        for start in range(0, len(numbered), _PAGES_AT_ONCE):
            part = Path(folder) / f"{start}.pdf"
            _save_pictures(source, numbered[start : start + _PAGES_AT_ONCE], font_file, part)
            with closing(pdfium.PdfDocument(part)) as some:
                whole.import_pages(some)
        _save_as(whole, destination)


def _save_pictures(source: Path, pages: Sequence[tuple[int, Page]], font_file: bytes, destination: Path) -> None:
    """pages: with the frame of the source that each was read from."""
    with closing(pdfium.PdfDocument.new()) as pdf, _loaded_font(pdf, font_file) as font:
        for number, (frame, page) in enumerate(pages):
            if page.dimensions == (0, 0):
                pdf.new_page(*_A4).close()
                continue
            lying = turn_of(page) % 180 != 0
            size = page_size(source, page.dimensions[::-1] if lying else page.dimensions, frame)
            target = pdf.new_page(*size)
            _add_picture(pdf, target, source, frame, size)
            target.close()
            target = _turned(pdf, number, page)
            _add_layer(pdf, target, font, page)
            target.close()
        _save_as(pdf, destination)


def _save_as(pdf: pdfium.PdfDocument, destination: Path) -> None:
    """Raises OSError where the disk takes no more: PDFium would say only that it failed, and Python print why."""
    errors: list[OSError] = []

    class Writer:
        def write(self, data: Any) -> None:
            try:
                if not errors:
                    file.write(data)
            except OSError as error:
                errors.append(error)

    with destination.open("wb") as file:
        pdf.save(Writer())
        if errors:
            raise errors[0]


def _turned(pdf: pdfium.PdfDocument, number: int, page: Page) -> pdfium.PdfPage:
    """The PDF's page, shown as it was read; its content stays as it is."""
    target = pdf[number]
    if turn := turn_of(page):
        # PDF turns clockwise. A page that is open keeps the size it had.
        target.set_rotation((target.get_rotation() - turn) % 360)
        target.close()
        target = pdf[number]
    return target


def page_size(source: Path, dimensions: tuple[int, int], frame: int = 0) -> tuple[float, float]:
    """dimensions: (H, W) in pixels of an upright image, or of a frame of it -> (width, height) in points.

    By the resolution that the file declares if it is 100 dpi or more; else its long side becomes that of A4.
    """
    with Image.open(source) as image:
        if frame:
            image.seek(frame)
        declared = [float(value) for value in image.info.get("dpi", (0, 0))]
        fax = stretch_of(image) != (1.0, 1.0)
    height, width = dimensions
    # A fax was stretched to its finer resolution when it was opened. Of others that are unequal either may be meant.
    dpi = max(declared) if fax else min(declared)
    scale = POINTS_PER_INCH / dpi if dpi >= _LEAST_TRUSTED_DPI else _A4[1] / max(dimensions)
    return width * scale, height * scale


def glyphless_font(symbols: Iterable[str]) -> bytes:
    """A TrueType file with a glyph without ink for each symbol, half an em wide. Raises MissingFontToolsError."""
    try:
        from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
        from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingFontToolsError(
            "a searchable PDF needs fontTools; type pip install 'clip4str-doctr[pdf]'"
        ) from error
    names = {ord(symbol): f"u{ord(symbol):05X}" for symbol in sorted(symbols)}
    glyphs = [".notdef", *names.values()]
    ascent, descent, advance = (round(share * _UNITS_PER_EM) for share in (_ASCENT, _DESCENT, _ADVANCE))
    builder = FontBuilder(_UNITS_PER_EM, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    # A line there and back: no area, but a height, without which PDFium overlooks words on pages that are turned, and
    # viewers that go by glyphs select nothing.
    pen = TTGlyphPen(None)
    for number, point in enumerate(((0, -descent), (advance, ascent), (advance // 2, (ascent - descent) // 2))):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    builder.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (advance, 0)))
    builder.setupHorizontalHeader(ascent=ascent, descent=-descent)
    builder.setupNameTable({"familyName": "Glyphless", "styleName": "Regular", "psName": "Glyphless"})
    builder.setupOS2(sTypoAscender=ascent, sTypoDescender=-descent, usWinAscent=ascent, usWinDescent=descent)
    builder.setupPost()
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()


@contextmanager
def _loaded_font(pdf: pdfium.PdfDocument, font_file: bytes) -> Iterator[Any]:
    data = (ctypes.c_uint8 * len(font_file)).from_buffer_copy(font_file)
    font = pdfium_c.FPDFText_LoadFont(pdf, data, len(font_file), pdfium_c.FPDF_FONT_TRUETYPE, True)
    if not font:
        raise RuntimeError("PDFium does not take the font without outlines; please report this")
    try:
        yield font
    finally:
        pdfium_c.FPDFFont_Close(font)


def _add_picture(
    pdf: pdfium.PdfDocument, target: pdfium.PdfPage, source: Path, frame: int, size: tuple[float, float]
) -> None:
    picture = pdfium.PdfImage.new(pdf)
    if _is_plain_jpeg(source):
        picture.load_jpeg(source, inline=True)
    else:
        pixels = open_image(source, frame)
        grey = bool((pixels == pixels[..., :1]).all())
        bitmap = pdfium.PdfBitmap.from_pil(Image.fromarray(pixels[..., 0] if grey else pixels))
        picture.set_bitmap(bitmap)
        bitmap.close()
    picture.set_matrix(pdfium.PdfMatrix().scale(*size))
    target.insert_obj(picture)
    target.gen_content()


def _is_plain_jpeg(source: Path) -> bool:
    """Whether a PDF shows the file's data as we opened them: no EXIF orientation, no inverted CMYK."""
    with Image.open(source) as image:
        # MPO: a JPEG with previews behind it, as telephones write them.
        if image.format not in {"JPEG", "MPO"} or image.mode not in {"L", "RGB"}:
            return False
        return orientation_of(image) == 1


def _add_layer(pdf: pdfium.PdfDocument, target: pdfium.PdfPage, font: Any, page: Page) -> int:
    """Returns how many words are not added, for there is text in their place."""
    kept = 0
    to_page = _relative_to_points(target)
    own_text = _own_text(target)
    for block in page.blocks:
        for line in block.lines:
            corners = np.array([corners_of(word.geometry) for word in line.words]) @ to_page[:2] + to_page[2]
            for word, place in zip(line.words, _parted(corners), strict=True):
                if _has_text(*own_text, place):
                    kept += 1
                else:
                    pdfium_c.FPDFPage_InsertObject(target, _text_object(pdf, font, word.value, place))
    target.gen_content()
    return kept


def _own_text(target: pdfium.PdfPage) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of the symbols that a page has itself: their middles (N, 2), and the sizes (N, 2) of their boxes, in points."""
    boxes = []
    text = target.get_textpage()
    for index in range(text.count_chars()):
        # PDFium puts spaces and ends of lines between what it finds; 0 is what has no Unicode.
        if chr(pdfium_c.FPDFText_GetUnicode(text, index)).strip(" \t\r\n\0\u00a0"):
            boxes.append(text.get_charbox(index))
    text.close()
    corners = np.array(boxes, np.float64).reshape(-1, 2, 2)
    return corners.mean(1), corners[:, 1] - corners[:, 0]


def _has_text(
    middles: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], corners: npt.NDArray[np.float64]
) -> bool:
    """Whether the page itself has text in the middle of these corners: a scan may bear a stamp or a page number.

    What is much higher than the word is a watermark across it, and says nothing of the word.
    """
    along = (corners[1] - corners[0] + corners[2] - corners[3]) / 2
    up = (corners[0] - corners[3] + corners[1] - corners[2]) / 2
    width, height = (max(float(np.linalg.norm(side)), 1e-6) for side in (along, up))
    offset = middles - corners.mean(0)
    inside = (np.abs(offset @ along) <= _MIDDLE / 2 * width**2) & (np.abs(offset @ up) <= _MIDDLE / 2 * height**2)
    # Boxes lie straight, so those of slanted text are larger than it: this is the most that it can measure.
    return bool((inside & (sizes @ np.abs(up) <= _MOST_HIGHER * height**2)).any())


def _text_object(pdf: pdfium.PdfDocument, font: Any, value: str, corners: npt.NDArray[np.float64]) -> Any:
    text = pdfium_c.FPDFPageObj_CreateTextObj(pdf, font, 1.0)
    # The space parts words for readers that do not look at positions.
    encoded = (value + " ").encode("utf-16-le") + b"\0\0"
    symbols = (ctypes.c_ushort * (len(encoded) // 2)).from_buffer_copy(encoded)
    matrix = pdfium_c.FS_MATRIX(*_text_matrix(corners, len(value)))
    done = (
        pdfium_c.FPDFText_SetText(text, symbols)
        and pdfium_c.FPDFTextObj_SetTextRenderMode(text, pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE)
        and pdfium_c.FPDFPageObj_SetMatrix(text, matrix)
    )
    if not done:
        raise RuntimeError(f"PDFium does not take the word {value!r}; please report this")
    return text


def _relative_to_points(target: pdfium.PdfPage) -> npt.NDArray[np.float64]:
    """(3, 2): rows are what x, y and the origin of the upright picture, in 0..1 from the top left, are on the page.

    PDFium knows how the page is turned and cropped; its pixels are whole numbers, so the picture is a large one.
    """
    side = 1 << 20
    points = []
    for x, y in ((0, 0), (side, 0), (0, side)):
        page_x, page_y = ctypes.c_double(), ctypes.c_double()
        pdfium_c.FPDF_DeviceToPage(target, 0, 0, side, side, 0, x, y, page_x, page_y)
        points.append((page_x.value, page_y.value))
    origin, right, down = np.array(points)
    return np.array([right - origin, down - origin, origin])


def _parted(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 4, 2) words of a line, in points -> the same, trimmed where the gap to the next is too narrow to be seen."""
    along = (corners[:, 1] - corners[:, 0] + corners[:, 2] - corners[:, 3]) / 2
    heights = np.linalg.norm(corners[:, 0] - corners[:, 3], axis=1)
    widths = np.maximum(np.linalg.norm(along, axis=1), 1e-6)
    parted = corners.copy()
    for left, right in itertools.pairwise(range(len(corners))):
        direction = along[left] / widths[left]
        gap = float((corners[right, [0, 3]].mean(0) - corners[left, [1, 2]].mean(0)) @ direction)
        lack = _LEAST_GAP * max(heights[left], heights[right]) - gap
        if lack > 0:
            parted[left, 1:3] -= direction * min(lack / 2, _MOST_TRIMMED * widths[left])
            parted[right, [0, 3]] += direction * min(lack / 2, _MOST_TRIMMED * widths[right])
    return parted


def _text_matrix(corners: npt.NDArray[np.float64], symbols: int) -> tuple[float, ...]:
    """Text of size 1 with that many symbols -> the parallelogram of three of the corners, in points."""
    top_left, _, bottom_right, bottom_left = corners
    along = (bottom_right - bottom_left) / (symbols * _ADVANCE)
    up = (top_left - bottom_left) / (_ASCENT + _DESCENT)
    baseline = bottom_left + _DESCENT * up
    return (*along, *up, *baseline)
