"""Text, JSON, hOCR and Markdown of known words: nothing is lost, and each format can be read back."""

import copy
import json
import pickle
import re
import unicodedata
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from doctr.io.elements import Document
from fake_pages import built_page, places

from clip4str_doctr.benchmark.rendered_pages import LAYOUTS, render_page
from clip4str_doctr.pages.order import keep_order
from clip4str_doctr.pages.outputs import WRITERS, as_hocr, as_json, as_markdown, as_text
from clip4str_doctr.pages.reading import document_of, read_page, words_of

HW = (600, 800)
LEFT = [["Cộng", "hòa", "xã"], ["hội", "chủ", "nghĩa"], ["Việt", "Nam"]]
RIGHT = [["Độc", "lập", "-"], ["Tự", "do", "-"], ["Hạnh", "phúc"]]
# docTR 1.0 cannot read its own export.
needs_from_dict = pytest.mark.skipif(not hasattr(Document, "export_as_markdown"), reason="docTR 1.1 brought this")
XHTML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def columns() -> Document:
    return document_of([built_page(places(LEFT) + places(RIGHT, x=450), HW)])


def words(lines: list[list[str]]) -> list[str]:
    return [word for line in lines for word in line]


def test_lines_have_spaces_and_columns_come_one_after_the_other(columns: Document) -> None:
    lines = [line for line in as_text(columns).splitlines() if line]
    assert lines == [" ".join(line) for line in LEFT + RIGHT]


def test_columns_lose_nothing(columns: Document) -> None:
    for write in (as_text, as_markdown):
        assert Counter(write(columns).replace("\\-", "-").split()) == Counter(words(LEFT + RIGHT))


@needs_from_dict
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda page: pickle.loads(pickle.dumps(page))])
def test_copies_of_a_page_keep_its_order(copied: Any) -> None:
    """In docTR's own exports, too, which would look for another order: this page is read from the bottom."""
    page = built_page(places(LEFT) + places(RIGHT, y=400), HW)
    assert len(page.blocks) > 1
    page.blocks = page.blocks[::-1]
    others = page.render()
    keep_order(page)
    kept = "\n\n".join(block.render() for block in page.blocks)
    again = copied(page)
    assert page.render() == again.render() == copied(again).render() == kept != others
    assert again.export_as_markdown().split() == page.export_as_markdown().split()
    # The copies are pages of their own: what is changed in one is looked at anew, and only there.
    again.blocks[0].lines.pop()
    assert again.render() != kept and page.render() == kept
    again.blocks = again.blocks[1:]
    assert again.render() in others


@needs_from_dict
def test_headings_and_lists_of_a_layout_model() -> None:
    """docTR's exports make them of its labels, in our order, whose paragraphs may hold several."""
    from doctr.io.elements import LayoutElement

    lines = [["THÔNG", "BÁO"], ["một", "hai"], ["ba", "bốn"], ["năm", "sáu"], ["bảy"]]
    page = built_page(places(lines), HW)
    settled = [line for block in page.blocks for line in block.lines]
    assert len(settled) == len(lines)

    def around(first: int, last: int) -> tuple[tuple[float, float], tuple[float, float]]:
        boxes = np.array([line.geometry for line in settled[first : last + 1]])
        return (0.0, float(boxes[:, 0, 1].min())), (1.0, float(boxes[:, 1, 1].max()))

    regions = [
        ("Title", around(0, 0)),
        ("Text", around(1, 1)),
        ("List-item", around(2, 3)),
        ("List-item", around(4, 4)),
    ]
    page.layout = [LayoutElement(name, 0.9, place) for name, place in regions]
    keep_order(page)
    expected = "# THÔNG BÁO\n\nmột hai\n\n- ba bốn năm sáu\n- bảy"
    assert page.export_as_markdown() == copy.deepcopy(page).export_as_markdown() == expected
    assert [line for block in page.blocks for line in block.lines] == settled


def test_a_table_loses_nothing() -> None:
    rows = [["Mã", "Tên", "Giá"], ["A1", "Bút", "3.000"], ["A2", "Vở", "12.500"], ["A2", "Vở", "12.500"]]
    cells = [
        cell for row, line in enumerate(rows) for column, word in enumerate(line)
        for cell in places([[word]], x=60 + 200 * column, y=60 + 60 * row)
    ]  # fmt: skip
    document = document_of([built_page(cells, HW)])
    for write in (as_text, as_markdown):
        assert Counter(write(document).replace("\\\n", "\n").split()) == Counter(words(rows))
    assert Counter(re.findall(">([^<>\n]+)</span>", as_hocr(document))) == Counter(words(rows))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_page_loses_nothing(layout: Any) -> None:
    rendered = render_page(2, layout, 100)
    placed: Any = [(word.text, (*word.quad.min(0), *word.quad.max(0))) for word in rendered.words]
    text = as_text(document_of([built_page(placed, rendered.image.shape[:2])]))
    assert Counter(text.split()) == Counter(rendered.text.split())
    # In order where docTR has one; a table's cells, and prices beside names, it takes column by column.
    if hasattr(Document, "export_as_markdown") and layout not in ("table", "receipt"):
        assert text.split() == rendered.text.split()


def test_pages_are_parted() -> None:
    document = document_of([built_page(places([[word]]), HW) for word in ("một", "hai")])
    assert as_text(document) == "một\n\n\n\nhai\n"
    assert as_markdown(document) == "một\n\n---\n\nhai\n"


@needs_from_dict
def test_json_is_what_doctr_takes_back(columns: Document) -> None:
    text = as_json(columns)
    assert "nghĩa" in text
    again = Document.from_dict(json.loads(text))
    assert again.render() == columns.render()
    (word, *_) = words_of(again.pages[0])
    assert word.confidence == pytest.approx(0.8) and np.shape(word.geometry) == (2, 2)


def test_hocr_has_all_pages_and_no_id_twice(columns: Document) -> None:
    other = built_page(places([["trang", "hai"]]), HW)
    root = ElementTree.fromstring(as_hocr(document_of([columns.pages[0], other])).encode())
    pages = root.findall(f".//{XHTML}div[@class='ocr_page']")
    assert ["ppageno 0" in page.get("title", "") for page in pages] == [True, False]
    assert "ppageno 1" in pages[1].get("title", "") and "bbox 0 0 800 600" in pages[1].get("title", "")
    ids = [element.get("id") for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    found = [[word.text for word in page.iter(f"{XHTML}span") if word.get("class") == "ocrx_word"] for page in pages]
    assert [sorted(page) for page in found] == [sorted(words(LEFT + RIGHT)), ["hai", "trang"]]
    first = next(word for word in root.iter() if word.get("class") == "ocrx_word")
    assert first.get("title") == "bbox 60 60 108 84; x_wconf 80"
    # As a browser or an index takes it: words apart, lines apart, in no language that nobody looked for.
    lines = [line.split() for line in "".join(pages[1].itertext()).splitlines() if line.strip()]
    assert lines == [["trang", "hai"]] and "English" not in "".join(root.attrib) and not root.attrib


def test_markdown_shows_markup_as_it_is_written() -> None:
    lines = [["1.", "*Điều*", "#2"], ["-", "a_b"], ["2026", "là"], ["+"], ["3)", "x-y"], ["---"], ["==="], ["--", "--"]]
    text = as_markdown(document_of([built_page(places(lines), HW)]))
    expected = ["1\\. \\*Điều\\* \\#2", "\\- a\\_b", "2026 là", "\\+", "3\\) x-y", "\\---", "\\===", "\\-- --"]
    assert [line for line in text.replace("\\\n", "\n").splitlines() if line] == expected


def test_markdown_fills_paragraphs_but_keeps_rows_and_short_lines() -> None:
    prose = [["một", "hai", "ba", "bốn", "năm"], ["sáu", "bảy", "tám", "chín"], ["mười"]]
    assert as_markdown(document_of([built_page(places(prose), HW)])) == "một hai ba bốn năm\nsáu bảy tám chín\nmười\n"
    address = [["Ông", "Nguyễn", "Văn"], ["12", "Lê"], ["Huế"]]
    assert as_markdown(document_of([built_page(places(address), HW)])) == "Ông Nguyễn Văn\\\n12 Lê\\\nHuế\n"
    prices = places([["Phở", "bò"], ["Bún", "bò", "Huế"]]) + places([["50.000"], ["9.000"]], x=500)
    assert as_markdown(document_of([built_page(prices, HW)])) == "Phở bò 50.000\\\nBún bò Huế 9.000\n"


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_page_without_words(kind: str) -> None:
    text = WRITERS[kind](document_of([built_page([], HW)]))
    assert text.endswith("\n")
    if kind in ("text", "md"):
        assert not text.strip()
    if kind == "json":
        assert json.loads(text)["pages"][0]["blocks"] == []


def test_read_words_are_nfc_and_empty_ones_left_out() -> None:
    placed = places([["Việt", "", "Nam"], [""], [unicodedata.normalize("NFD", "Tiếng")]])

    def predictor(pixels: list[Any]) -> Document:
        return Document([built_page(placed, pixels[0].shape[:2])])

    page = read_page(predictor, np.zeros((*HW, 3), np.uint8), 4)
    assert [word.value for word in words_of(page)] == ["Việt", "Nam", "Tiếng"]
    assert as_text(document_of([page])).split() == ["Việt", "Nam", "Tiếng"]
    assert page.page_idx == 4 and page.page.size == 0
