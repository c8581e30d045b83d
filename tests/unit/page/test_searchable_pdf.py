"""Searchable PDFs: the words come back in order, in NFC, with spaces, where they stand; pictures are not touched."""

import contextlib
import ctypes
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
import pytest
from fake_pages import built_page, drawn_page, places
from PIL import Image, TiffImagePlugin

from clip4str_doctr.images import open_image
from clip4str_doctr.pages.files import count_pages, open_pages
from clip4str_doctr.pages.reading import unread_page
from clip4str_doctr.pages.searchable_pdf import MissingFontToolsError, glyphless_font, page_size, searchable_pdf

HW = (600, 800)
LINES = [["Cộng", "HÒA", "xã"], ["HỘI", "chủ", "nghĩa,"], ["Ặẵ", "(50%)", "đường"]]
PLACED = places(LINES)
WORDS = [word for word, _ in PLACED]

needs_poppler = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler's pdftotext is not installed")


def text_of(path: Path, page: int = 0) -> str:
    """As PDFium reads it."""
    with pdfium.PdfDocument(path) as pdf:
        return str(pdf[page].get_textpage().get_text_range())


def poppler(path: Path, *options: str) -> str:
    done = subprocess.run(["pdftotext", *options, str(path), "-"], capture_output=True, check=True, encoding="utf-8")
    return done.stdout


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "trang một.png"
    drawn_page(PLACED, HW).save(path, dpi=(150, 150))
    return path


def test_words_come_back_in_order(picture: Path, tmp_path: Path) -> None:
    searchable_pdf(picture, [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert text_of(tmp_path / "a.pdf").split() == WORDS
    assert unicodedata.is_normalized("NFC", text_of(tmp_path / "a.pdf"))
    # And the page looks as the picture does: the text cannot be seen.
    (pixels,) = open_pages(tmp_path / "a.pdf", dpi=150)
    assert pixels.shape == (*HW, 3)
    assert np.abs(pixels.astype(int) - np.asarray(Image.open(picture))).mean() < 1
    searchable_pdf(picture, [built_page([], HW)], tmp_path / "b.pdf")
    np.testing.assert_array_equal(next(open_pages(tmp_path / "b.pdf", dpi=150)), pixels)


@needs_poppler
@pytest.mark.parametrize("options", [(), ("-raw",), ("-layout",)])
def test_poppler_sees_words_and_lines(picture: Path, tmp_path: Path, options: Any) -> None:
    searchable_pdf(picture, [built_page(PLACED, HW)], tmp_path / "a.pdf")
    lines = [line.split() for line in poppler(tmp_path / "a.pdf", *options).splitlines() if line.strip("\f ")]
    assert lines == LINES


def assert_pdfium_finds_words(path: Path) -> None:
    """Where they are seen, and as high: what browsers and their extensions select."""
    with pdfium.PdfDocument(path) as pdf:
        page = pdf[0]
        text, size = page.get_textpage(), page.get_size()
        assert sorted(str(text.get_text_range()).split()) == sorted(WORDS)
        for word, box in PLACED:
            searcher = text.search(word, match_case=True)
            index, count = searcher.get_next()
            assert text.count_rects(index, count) == 1
            rect = np.array(text.get_rect(0)).reshape(2, 2)
            # On the page as it is shown: PDFium tells where its content lies.
            corners = [pdfium_shown(page, x, y, size) for x, y in rect]
            shown = [*np.min(corners, axis=0), *np.max(corners, axis=0)]
            np.testing.assert_allclose(shown, np.array(box) * 72 / 150, atol=0.6)


def pdfium_shown(page: Any, x: float, y: float, size: tuple[float, float]) -> tuple[float, float]:
    """A point of the page's content -> from the top left of the page as it is shown, in points."""
    fine = 100
    at_x, at_y = ctypes.c_int(), ctypes.c_int()
    sides = (round(side * fine) for side in size)
    pdfium_c.FPDF_PageToDevice(page, 0, 0, *sides, 0, x, y, at_x, at_y)
    return at_x.value / fine, at_y.value / fine


def boxes_in(path: Path) -> list[tuple[str, list[float]]]:
    pattern = r'<word xMin="(.*?)" yMin="(.*?)" xMax="(.*?)" yMax="(.*?)">(.*?)</word>'
    return [(text, [float(v) for v in box]) for *box, text in re.findall(pattern, poppler(path, "-bbox"))]


@needs_poppler
def test_words_stand_where_they_are_seen(picture: Path, tmp_path: Path) -> None:
    searchable_pdf(picture, [built_page(PLACED, HW)], tmp_path / "a.pdf")
    found = boxes_in(tmp_path / "a.pdf")
    assert [word for word, _ in found] == WORDS
    expected = np.array([box for _, box in PLACED]) * 72 / 150
    np.testing.assert_allclose([box for _, box in found], expected, atol=0.1)


@needs_poppler
def test_words_whose_boxes_touch_are_still_apart(picture: Path, tmp_path: Path) -> None:
    grown = [(word, (x0 - 5, y0 - 6, x1 + 5, y1 + 6)) for word, (x0, y0, x1, y1) in PLACED]
    searchable_pdf(picture, [built_page(grown, HW)], tmp_path / "a.pdf")
    assert poppler(tmp_path / "a.pdf", "-raw").split() == WORDS
    for (_, box), (_, placed) in zip(boxes_in(tmp_path / "a.pdf"), PLACED, strict=True):
        # Trimmed, no word is narrower than 0.6 of its box.
        assert box[2] - box[0] >= 0.6 * (placed[2] - placed[0]) * 72 / 150


@needs_poppler
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_pages_of_a_pdf_keep_their_size_and_turn(tmp_path: Path, turn: int) -> None:
    # Stored lying or upside down, and turned upright by the viewer.
    stored = drawn_page(PLACED, HW).rotate(turn, expand=True)
    stored.save(tmp_path / "stored.pdf", resolution=150)
    with pdfium.PdfDocument(tmp_path / "stored.pdf") as pdf:
        pdf[0].set_rotation(turn)
        size = pdf[0].get_size()
        pdf.save(tmp_path / "scan.pdf")
    (pixels,) = open_pages(tmp_path / "scan.pdf", dpi=150)
    assert pixels.shape[:2] == HW
    searchable_pdf(tmp_path / "scan.pdf", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert_pdfium_finds_words(tmp_path / "a.pdf")
    # Its own words are seen there, so none is added again.
    searchable_pdf(tmp_path / "a.pdf", [built_page(PLACED, HW)], tmp_path / "again.pdf")
    assert_pdfium_finds_words(tmp_path / "again.pdf")
    with pdfium.PdfDocument(tmp_path / "a.pdf") as pdf:
        assert pdf[0].get_size() == pytest.approx(size, abs=0.01)
        assert size == pytest.approx((384, 288), abs=0.01)
    assert sorted(poppler(tmp_path / "a.pdf").split()) == sorted(WORDS)
    found = dict(boxes_in(tmp_path / "a.pdf"))
    for word, box in PLACED:
        np.testing.assert_allclose(found[word], np.array(box) * 72 / 150, atol=0.1)


@needs_poppler
@pytest.mark.parametrize("kind", ["png", "jpg", "pdf"])
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_pages_that_were_turned_to_be_read_are_shown_upright(
    tmp_path: Path, turn: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, upright = tmp_path / f"scan.{kind}", drawn_page(PLACED, HW)
    resolution: Any = {"resolution": 150} if kind == "pdf" else {"dpi": (150, 150)}
    upright.rotate(-turn, expand=True).save(source, quality=95, **resolution)
    monkeypatch.setattr("clip4str_doctr.pages.searchable_pdf.turn_of", lambda _: turn)
    searchable_pdf(source, [built_page(PLACED, HW)], tmp_path / "a.pdf")
    (pixels,) = open_pages(tmp_path / "a.pdf", dpi=150)
    assert pixels.shape == (*HW, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 1
    assert_pdfium_finds_words(tmp_path / "a.pdf")
    found = dict(boxes_in(tmp_path / "a.pdf"))
    assert sorted(found) == sorted(WORDS)
    for word, box in PLACED:
        np.testing.assert_allclose(found[word], np.array(box) * 72 / 150, atol=0.1)


def test_words_that_a_page_has_are_not_added_again(picture: Path, tmp_path: Path, caplog: Any) -> None:
    # The first line is there already, as if it were printed over the scan; nothing is on the second page.
    searchable_pdf(picture, [built_page(PLACED[:3], HW)], tmp_path / "one.pdf")
    assert not caplog.records
    with contextlib.closing(pdfium.PdfDocument.new()) as both, pdfium.PdfDocument(tmp_path / "one.pdf") as one:
        both.import_pages(one)
        both.new_page(384, 288)
        both.save(tmp_path / "two.pdf")
    assert count_pages(tmp_path / "two.pdf") == 2
    page = built_page(PLACED, HW)
    searchable_pdf(tmp_path / "two.pdf", [page, page], tmp_path / "a.pdf")
    assert text_of(tmp_path / "a.pdf", 0).split() == text_of(tmp_path / "a.pdf", 1).split() == WORDS
    # They may be another program's bad reading, which is what will be found.
    assert f"of {2 * len(WORDS)} words 3 have text of the file's own, which stays as it is" in caplog.text


@pytest.mark.parametrize("turn", [0, 90])
def test_a_watermark_across_a_scan_hides_no_words(tmp_path: Path, turn: int, caplog: Any) -> None:
    """Large text from one corner to the other, whose boxes are half of the page; beside it a line that is printed."""
    drawn_page(PLACED, HW).rotate(turn, expand=True).save(tmp_path / "scan.pdf", resolution=150)
    with pdfium.PdfDocument(tmp_path / "scan.pdf") as pdf:
        page = pdf[0]
        page.set_rotation(turn)
        _, (x0, y0, x1, y1) = PLACED[-1]
        x, y = x0 * 72 / 150, 288 - y1 * 72 / 150
        for text, size, matrix in (
            ("MAT", 90, pdfium.PdfMatrix().rotate(-38).translate(40, 180)),
            ("xyz", (y1 - y0) * 72 / 150, pdfium.PdfMatrix().translate(x, y)),
        ):
            mark = pdfium_c.FPDFPageObj_NewTextObj(pdf, b"Helvetica-Bold", size)
            symbols = (ctypes.c_ushort * (len(text) + 1))(*map(ord, text), 0)
            assert pdfium_c.FPDFText_SetText(mark, symbols)
            if turn:
                matrix = matrix.rotate(-90).translate(288, 0)
            assert pdfium_c.FPDFPageObj_SetMatrix(mark, pdfium_c.FS_MATRIX(*matrix.get()))
            pdfium_c.FPDFPage_InsertObject(page, mark)
        page.gen_content()
        text_page = page.get_textpage()
        left, bottom, right, top = text_page.get_charbox(0)
        # Under its first letter are words of each line.
        assert right - left > 60 and top - bottom > 60
        text_page.close()
        pdf.save(tmp_path / "marked.pdf")
    searchable_pdf(tmp_path / "marked.pdf", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    found = text_of(tmp_path / "a.pdf")
    assert all(word in found for word in WORDS[:-1]) and WORDS[-1] not in found
    assert f"of {len(WORDS)} words 1 have text" in caplog.text


def test_a_cropped_page(picture: Path, tmp_path: Path) -> None:
    searchable_pdf(picture, [built_page([], HW)], tmp_path / "whole.pdf")
    with pdfium.PdfDocument(tmp_path / "whole.pdf") as pdf:
        # 10 points off the left and 20 off the bottom: 42 of 600 rows.
        pdf[0].set_cropbox(10, 20, 384, 288)
        pdf.save(tmp_path / "cropped.pdf")
    (pixels,) = open_pages(tmp_path / "cropped.pdf", dpi=72)
    assert pixels.shape[:2] == (268, 374)
    word = ("Đây", (100, 50, 130, 60))
    searchable_pdf(tmp_path / "cropped.pdf", [built_page([word], (268, 374))], tmp_path / "a.pdf")
    with pdfium.PdfDocument(tmp_path / "a.pdf") as pdf:
        found = pdf[0].get_textpage().get_text_bounded(10 + 99, 288 - 61, 10 + 131, 288 - 49)
        assert found.strip() == "Đây"
        assert not pdf[0].get_textpage().get_text_bounded(10 + 131, 288 - 61, 384, 288 - 49).strip()


def test_jpeg_data_is_not_touched(tmp_path: Path) -> None:
    drawn_page(PLACED, HW).save(tmp_path / "a.jpg", quality=70)
    searchable_pdf(tmp_path / "a.jpg", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert (tmp_path / "a.jpg").read_bytes() in (tmp_path / "a.pdf").read_bytes()
    assert text_of(tmp_path / "a.pdf").split() == WORDS


def test_photographs_of_telephones(tmp_path: Path) -> None:
    """Several pictures in one file, of which the first is the page; their data are not touched either."""
    page = drawn_page(PLACED, HW)
    page.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[page.resize((80, 60))])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    searchable_pdf(tmp_path / "a.jpg", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert (tmp_path / "a.jpg").read_bytes()[:2000] in (tmp_path / "a.pdf").read_bytes()
    (pixels,) = open_pages(tmp_path / "a.pdf", dpi=72)
    assert pixels.shape[1] > pixels.shape[0] and text_of(tmp_path / "a.pdf").split() == WORDS


@pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF at all", b"Exif\0\0II*"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_with_damaged_exif(tmp_path: Path, suffix: str, exif: bytes) -> None:
    """Of a JPEG that has its resolution elsewhere, Pillow looks at it only when it is asked for."""
    picture = tmp_path / f"a.{suffix}"
    drawn_page(PLACED, HW).save(picture, exif=exif, dpi=(150, 150))
    assert open_image(picture).shape[:2] == HW
    searchable_pdf(picture, [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert text_of(tmp_path / "a.pdf").split() == WORDS


def test_a_name_that_begins_as_a_home_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn_page(PLACED, HW).save("~bao cao.pdf", resolution=150)
    assert count_pages(Path("~bao cao.pdf")) == 1


def test_a_book_is_written_some_pages_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip4str_doctr.pages.searchable_pdf._PAGES_AT_ONCE", 2)
    words = ["một", "hai", "ba", "bốn", "năm"]
    parts = [places([[word]]) for word in words]
    first, *others = [drawn_page(part, HW).convert("L") for part in parts]
    first.save(tmp_path / "book.tif", save_all=True, append_images=others, dpi=(200, 200))
    pages = [built_page(part, HW) for part in parts]
    pages[2] = unread_page(2)
    searchable_pdf(tmp_path / "book.tif", pages, tmp_path / "a.pdf")
    assert [text_of(tmp_path / "a.pdf", number).split() for number in range(5)] == [
        [] if number == 2 else [word] for number, word in enumerate(words)
    ]
    for number, pixels in enumerate(open_pages(tmp_path / "a.pdf", dpi=200)):
        if number != 2:
            expected = np.asarray(drawn_page(parts[number], HW).convert("L"))
            assert pixels.shape[:2] == HW and np.abs(pixels[..., 0].astype(int) - expected).mean() < 1


def test_a_fax_has_square_pixels(tmp_path: Path) -> None:
    """204 dots an inch across and 98 down: half of the rows."""
    Image.new("L", (1728, 1145), 255).save(tmp_path / "fax.tif", dpi=(204, 98))
    (pixels,) = open_pages(tmp_path / "fax.tif")
    assert pixels.shape == (2383, 1728, 3)
    searchable_pdf(tmp_path / "fax.tif", [built_page([], pixels.shape[:2])], tmp_path / "a.pdf")
    with pdfium.PdfDocument(tmp_path / "a.pdf") as pdf:
        assert pdf[0].get_size() == pytest.approx((8.47 * 72, 11.68 * 72), abs=1)
    # Lying on its side, it is the same fax.
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = 6
    Image.new("L", (1728, 1145), 255).save(tmp_path / "lying.tif", dpi=(204, 98), tiffinfo=tags)
    assert next(open_pages(tmp_path / "lying.tif")).shape == (1728, 2383, 3)
    # Of a picture that says so of its pixels, but is no fax, they are left as they are.
    Image.new("L", (60, 40), 255).save(tmp_path / "a.png", dpi=(200, 100))
    assert next(open_pages(tmp_path / "a.png")).shape == (40, 60, 3)


def test_pages_of_a_scan_have_their_own_resolution(tmp_path: Path) -> None:
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "scan.tif"), new=True) as file:
        for dpi in (300, 200):
            Image.new("L", (round(8.27 * dpi), round(11.69 * dpi)), 255).save(file, format="TIFF", dpi=(dpi, dpi))
            file.newFrame()
    pages = [built_page([], pixels.shape[:2]) for pixels in open_pages(tmp_path / "scan.tif")]
    searchable_pdf(tmp_path / "scan.tif", pages, tmp_path / "a.pdf")
    with pdfium.PdfDocument(tmp_path / "a.pdf") as pdf:
        for page in pdf:
            assert page.get_size() == pytest.approx((595, 842), abs=1)


def test_turned_photographs_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn_page(PLACED, HW).rotate(90, expand=True).save(tmp_path / "a.jpg", exif=exif, quality=95)
    searchable_pdf(tmp_path / "a.jpg", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    (pixels,) = open_pages(tmp_path / "a.pdf", dpi=72)
    assert pixels.shape[1] > pixels.shape[0]
    x0, y0, x1, y1 = PLACED[0][1]
    scale = pixels.shape[1] / HW[1]
    assert pixels[int((y0 + y1) / 2 * scale), int((x0 + x1) / 2 * scale)].max() < 150


def test_every_page_of_a_tiff(tmp_path: Path) -> None:
    parts = [places([[word]]) for word in ("một", "hai", "ba")]
    first, *others = [drawn_page(part, HW).convert("L") for part in parts]
    first.save(tmp_path / "fax.tif", save_all=True, append_images=others, dpi=(200, 200))
    assert len(list(open_pages(tmp_path / "fax.tif"))) == count_pages(tmp_path / "fax.tif") == 3
    searchable_pdf(tmp_path / "fax.tif", [built_page(part, HW) for part in parts], tmp_path / "a.pdf")
    assert [text_of(tmp_path / "a.pdf", page).split() for page in range(3)] == [["một"], ["hai"], ["ba"]]
    with pdfium.PdfDocument(tmp_path / "a.pdf") as pdf:
        assert pdf[0].get_size() == pytest.approx((288, 216), abs=0.5)


def test_a_page_without_words(picture: Path, tmp_path: Path) -> None:
    searchable_pdf(picture, [built_page([], HW)], tmp_path / "a.pdf")
    assert text_of(tmp_path / "a.pdf") == "" and count_pages(tmp_path / "a.pdf") == 1


def test_a_pdf_may_be_written_over_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_page(PLACED, HW).save(tmp_path / "a.pdf", resolution=150)
    (before,) = open_pages(tmp_path / "a.pdf")
    scan = (tmp_path / "a.pdf").read_bytes()
    # What fails half-way leaves what was there.
    with monkeypatch.context() as patched:
        patched.setattr(pdfium.PdfDocument, "save", lambda self, file: file.write(b"%PDF") or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            searchable_pdf(tmp_path / "a.pdf", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == scan
    searchable_pdf(tmp_path / "a.pdf", [built_page(PLACED, HW)], tmp_path / "a.pdf")
    assert text_of(tmp_path / "a.pdf").split() == WORDS
    np.testing.assert_array_equal(next(open_pages(tmp_path / "a.pdf")), before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """By the error that says so; PDFium only fails, and Python prints the error that a function of C ignores."""
    monkeypatch.setattr(
        "clip4str_doctr.pages.searchable_pdf.written", lambda _: contextlib.nullcontext(Path("/dev/full"))
    )
    page = built_page(PLACED, HW)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*HW, 3), np.uint8)).save(picture)
    with pytest.raises(OSError, match="No space left"):
        searchable_pdf(picture, [page], tmp_path / "a.pdf")
    assert capfd.readouterr().err == ""


@needs_poppler
def test_slanted_words(picture: Path, tmp_path: Path) -> None:
    page = built_page([("nghiêng", (100, 100, 300, 140))], HW)
    (word,) = (word for block in page.blocks for line in block.lines for word in line.words)
    quad = np.array([(100, 110), (300, 100), (302, 140), (102, 150)])
    word.geometry = tuple((x / HW[1], y / HW[0]) for x, y in quad)
    searchable_pdf(picture, [page], tmp_path / "a.pdf")
    ((text, box),) = boxes_in(tmp_path / "a.pdf")
    assert text == "nghiêng"
    np.testing.assert_allclose(box, np.array([100, 100, 302, 150]) * 72 / 150, atol=3)


@pytest.mark.parametrize(
    ("dpi", "size"), [((150, 150), (384, 288)), ((72, 72), (841.9, 631.4)), (None, (841.9, 631.4))]
)
def test_page_sizes(tmp_path: Path, dpi: Any, size: tuple[float, float]) -> None:
    options = {} if dpi is None else {"dpi": dpi}
    drawn_page(PLACED, HW).save(tmp_path / "a.png", **options)
    assert page_size(tmp_path / "a.png", HW) == pytest.approx(size, abs=0.1)


def test_fonttools_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fontTools.fontBuilder", None)
    with pytest.raises(MissingFontToolsError, match=r"pip install 'clip4str-doctr\[pdf\]'"):
        glyphless_font("a")
