"""The order in which a page is read: columns of any length, and where paragraphs end."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from doctr.io.elements import Block, Line
from fake_pages import built_page, turned

from clip4str_doctr.benchmark.rendered_pages import RenderedPage, photographed, render_page
from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.pages.columns import ColumnBuilder, columns_of
from clip4str_doctr.pages.order import OrderedBuilder
from clip4str_doctr.pages.reading import words_of
from clip4str_doctr.pages.rows import RowBuilder

HW = (900, 600)
HEIGHT, LETTER, PITCH = 14, 8.0, 24
Placed = tuple[str, tuple[float, float, float, float]]


def line(text: str, x: float, y: float) -> list[Placed]:
    """One line from x on, at y: each letter as wide as another."""
    placed = []
    for word in text.split():
        placed.append((word, (x, y, x + LETTER * len(word), y + HEIGHT)))
        x += LETTER * (len(word) + 1)
    return placed


def lines(texts: list[str], x: float = 30, y: float = 40, pitch: float = PITCH) -> list[Placed]:
    return [one for number, text in enumerate(texts) for one in line(text, x, y + pitch * number)]


def table(rows: Sequence[Sequence[str]], edges: Sequence[float], y: float = 40) -> list[Placed]:
    """Cells of each row, from the edges on."""
    return [
        one for number, row in enumerate(rows) for cell, x in zip(row, edges, strict=True)
        for one in line(cell, x, y + PITCH * number)
    ]  # fmt: skip


def across(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[" ".join(row) for row in rows]]


def read(placed: list[Placed]) -> list[list[str]]:
    """Paragraphs of lines, in the order in which they are read; words are given in another."""
    mixed = [placed[number] for number in np.random.default_rng(0).permutation(len(placed))]
    boxes = np.array([box for _, box in mixed], np.float64)
    return [
        [" ".join(mixed[number][0] for number in line) for line in lines]
        for lines in columns_of(boxes, [text for text, _ in mixed])
    ]


def boxes_of(page: RenderedPage) -> npt.NDArray[np.float64]:
    return enclosing_boxes(np.array([word.quad for word in page.words]))


@pytest.mark.parametrize("photo", [False, True])
@pytest.mark.parametrize("layout", ["text", "columns", "table", "receipt", "letter"])
@pytest.mark.parametrize("seed", range(3))
def test_rendered_pages(seed: int, layout: str, photo: bool) -> None:
    page = render_page(seed, layout, 100)  # type: ignore[arg-type]
    boxes = boxes_of(photographed(page, seed) if photo else page)
    texts = [word.text for word in page.words]
    read = [" ".join(texts[number] for number in line) for lines in columns_of(boxes, texts) for line in lines]
    assert " ".join(read).split() == page.text.split()
    # The table's cells are lines of their own there.
    assert layout == "table" or read == page.text.splitlines()


@pytest.mark.parametrize("marks", [["1.", "2.", "3."], ["a)", "b)", "c)"], ["-", "-", "-"]])
def test_what_stands_before_items_of_a_list_is_no_column(marks: list[str]) -> None:
    items = ["điều thứ nhất", "điều thứ hai", "điều thứ ba"]
    placed = lines(marks) + lines(items, x=75)
    assert [words for paragraph in read(placed) for words in paragraph] == [
        f"{mark} {item}" for mark, item in zip(marks, items, strict=True)
    ]


@pytest.mark.parametrize(
    ("rows", "edges"),
    [
        ([("Họ và tên:", "Nguyễn Văn An"), ("Nơi sinh:", "Thừa Thiên Huế"), ("Quê quán:", "Huế")], (30, 250)),
        ([("Bún bò Huế đặc biệt", "110.000"), ("Chả giò", "2 x 40.000"), ("Cà phê sữa đá", "58.000 đ")], (30, 400)),
        ([("07h30", "Đón khách và phát tài liệu"), ("08h00", "Khai mạc"), ("11h45", "Bế mạc")], (30, 110)),
        ([("A. Hà Nội", "B. Đà Nẵng"), ("C. Cần Thơ", "D. Huế")], (30, 330)),
        # Rows are read across their other columns, too, and where figures are narrow.
        ([("Nguyễn An", "12 đường Lê Lợi", "0912 345 678"), ("Trần Bình", "Huế", "0987 654 321")], (30, 160, 400)),
        ([("SP001", "Máy in", "Chiếc", "3.500.000"), ("SP002", "Giấy in", "Hộp", "70.000")], (30, 110, 270, 400)),
        ([("Tên hàng", "ĐVT", "SL"), ("Máy in", "Chiếc", "2"), ("Giấy in", "Hộp", "12")], (30, 220, 400)),
        ([("STT", "Họ tên", "Chức vụ"), ("1", "Nguyễn An", "Giám đốc"), ("2", "Lê Hồng", "Thủ quỹ")], (30, 80, 300)),
    ],
)  # fmt: skip
def test_forms_and_tables_are_read_across(rows: list[tuple[str, ...]], edges: tuple[float, ...]) -> None:
    assert read(table(rows, edges)) == across(rows)


def test_what_stands_beside_a_form_is_a_column() -> None:
    sender = ["CÔNG TY TNHH SAO MAI", "đường Lê Lợi thành phố Huế", "Giấy phép kinh doanh vận tải"]
    numbers = ["Số: 15", "Ngày: 3/5/2024", "Trang: 1/2"]
    assert read(lines(sender) + lines(numbers, x=400)) == [sender, numbers]
    form = [("Mẫu số:", "01GTKT"), ("Ký hiệu:", "AA/20E"), ("Số:", "0000123")]
    assert read(lines(sender) + table(form, (350, 460))) == [sender, *across(form)]


def test_a_list_in_two_columns_is_not_counted_across() -> None:
    items = ["1. Hà Nội", "2. Đà Nẵng", "3. Cần Thơ"], ["4. Nha Trang", "5. Huế"]
    assert read(lines(items[0]) + lines(items[1], x=330)) == [*items]


@pytest.mark.parametrize("offset", [0, 12])
def test_a_menu_in_two_columns(offset: int) -> None:
    menu = [("Phở bò tái", "50.000"), ("Bún chả", "45.000")], [("Cà phê sữa", "25.000"), ("Nước cam", "30.000")]
    placed = table(menu[0], (30, 170)) + table(menu[1], (320, 460), y=40 + offset)
    assert read(placed) == [*across(menu[0]), *across(menu[1])]


@pytest.mark.parametrize("offset", [8, 12, 16])
def test_columns_that_do_not_stand_level_with_each_other(offset: int) -> None:
    left, right = ([f"{word} một hai ba bốn" for word in words.split()] for words in ("an bình cam", "dung em hà"))
    assert read(lines(left) + lines(right, x=330, y=40 + offset)) == [left, right]


def test_a_logo_beside_an_address() -> None:
    logo = [("VNPT", (30.0, 46.0, 113.0, 82.0))]
    address = ["TẬP ĐOÀN BƯU CHÍNH VIỄN THÔNG", "số 57 đường Huỳnh Thúc Kháng", "quận Đống Đa, Hà Nội"]
    assert read(logo + lines(address, x=200)) == [["VNPT"], address]


def test_a_line_above_columns_is_not_theirs() -> None:
    columns = ["một hai ba bốn năm", "sáu bảy tám chín"], ["mười một hai ba", "bốn năm sáu bảy"]
    head = line("BÁO NHÂN DÂN", 30, 0) + line("Thứ hai", 400, 0)
    assert read(head + lines(columns[0], y=60) + lines(columns[1], x=330, y=60)) == [["BÁO NHÂN DÂN Thứ hai"], *columns]


def test_names_below_the_room_for_signatures() -> None:
    signs = ["NGƯỜI LẬP", "(Ký, họ tên)"], ["KẾ TOÁN TRƯỞNG", "(Ký, họ tên)"], ["GIÁM ĐỐC", "(Ký, đóng dấu)"]
    names = ["Nguyễn Văn An", "Trần Thị Bình", "Lê Hồng Ánh"]
    placed = [one for column in range(3) for one in lines(signs[column], x=30 + 190 * column)]
    placed += table([names], (30, 220, 410), y=190)
    assert read(placed) == [part for sign, name in zip(signs, names, strict=True) for part in (sign, [name])]


def test_wide_gaps_of_one_line_are_no_columns() -> None:
    texts = ["một hai ba bốn năm sáu bảy tám chín mười", "mười một mười hai mười ba mười bốn mười lăm"]
    assert read([*lines(texts), *line("Huế", 30, 88), *line("2024", 400, 88)]) == [[*texts, "Huế 2024"]]


def test_paragraphs_end_at_space_indents_and_short_lines() -> None:
    full, short = "một hai ba bốn năm sáu bảy tám chín mười một hai", "một hai ba"
    indented = lines([full], x=60, y=40) + lines([full, full], y=64) + lines([full], x=60, y=112) + line(full, 30, 136)
    assert read(indented) == [[full] * 3, [full] * 2]
    assert read(lines([full, full]) + lines([full, full], y=40 + 2 * PITCH + 8)) == [[full] * 2] * 2
    assert read(lines([full, full, short, full, full, full, short])) == [[full] * 2 + [short], [full] * 3 + [short]]
    assert read(lines([short, "một hai", "một", short])) == [[short, "một hai", "một", short]]


def test_lines_that_stand_far_apart_are_no_paragraph() -> None:
    """However even the space between them is, as on a certificate, and of two there is no other to compare with."""
    title, place = "GIẤY CHỨNG NHẬN", "Huế 2024"
    assert read([*line(title, 30, 40), *line(place, 30, 400)]) == [[title], [place]]
    rows = [one for row, text in enumerate((title, place, title)) for one in line(text, 30, 40 + 8 * HEIGHT * row)]
    assert read(rows) == [[title], [place], [title]]


def test_items_of_a_list_go_on_below_their_text() -> None:
    texts = ["1. một hai ba bốn năm sáu bảy", "tám chín mười một hai ba bốn", "2. năm sáu bảy tám chín mười", "một hai"]
    placed = [one for row, text in enumerate(texts) for one in line(text, 54 if row % 2 else 30, 40 + PITCH * row)]
    assert read(placed) == [texts]


def test_tails_and_marks_are_no_space_between_lines() -> None:
    """Boxes are of ink: "nghiệp" begins and ends lower than others."""
    texts = [
        "thành phố luôn luôn tìm cách thu hút",
        "nhân tài và khách vào làm ở doanh",
        "nghiệp,",
        "các nhà máy và các",
    ]
    placed = []
    for word, (left, top, right, bottom) in lines([*texts[:2], texts[3]]):
        placed.append((word, (left, top - 2, right, bottom)))
    placed = [(word, (x0, y0 + PITCH * (y0 > 80), x1, y1 + PITCH * (y0 > 80))) for word, (x0, y0, x1, y1) in placed]
    placed.append(("nghiệp,", (30.0, 40.0 + 2 * PITCH, 86.0, 58.0 + 2 * PITCH)))
    assert read(placed) == [texts]


def test_a_heading_in_larger_type_is_a_paragraph() -> None:
    heading = [(text, (x0, y0, x0 + 2 * (x1 - x0), y0 + 2 * HEIGHT)) for text, (x0, y0, x1, _) in line("Hà", 30, 30)]
    assert read([*heading, *lines(["một hai ba", "bốn năm sáu"], y=64)]) == [["Hà"], ["một hai ba", "bốn năm sáu"]]


@pytest.mark.parametrize("degrees", [-2.5, 0, 0.3, 2.5])
def test_columns_that_lie_askew(degrees: float) -> None:
    """Each column is read to its end, and every word keeps its own box."""
    random = np.random.default_rng(5)
    boxes, texts = [], []
    for column, left in enumerate((30.0, 330.0)):
        for row in range(24):
            x = left
            while x < left + 200:
                width = float(random.uniform(25, 60))
                boxes.append((x, 40.0 + 24 * row, x + width, 54.0 + 24 * row))
                texts.append("".join(chr(ord("a") + int(digit)) for digit in f"{column}{row:02d}{x:.0f}"))
                x += width + 6
    askew = turned(np.array(boxes), degrees, HW)
    page = built_page([(text, tuple(box)) for text, box in zip(texts, askew, strict=True)], HW)
    assert [word.value for word in words_of(page)] == texts
    seen = {word.value: np.ravel(word.geometry) * (HW[1], HW[0], HW[1], HW[0]) for word in words_of(page)}
    assert all(np.allclose(seen[text], box, atol=1e-3) for text, box in zip(texts, askew, strict=True))
    for block in page.blocks:
        inner = np.array([np.ravel(line.geometry) for line in block.lines])
        assert np.allclose(np.ravel(block.geometry), [*inner[:, :2].min(0), *inner[:, 2:].max(0)])


@pytest.mark.parametrize("builder", [ColumnBuilder(), RowBuilder()])
def test_the_exports_of_doctr_keep_the_order(builder: OrderedBuilder) -> None:
    """docTR 1.1 would look for one of its own in each of them."""
    names, prices = ["Bún bò Huế đặc biệt", "Chả giò"], ["110.000", "40.000"]
    page = built_page(lines(names) + lines(prices, x=400), HW, builder=builder)
    rows = [f"{name} {price}" for name, price in zip(names, prices, strict=True)]
    assert page.render().splitlines() == rows
    hocr = page.export_as_xml()[0].decode()
    assert re.findall(">([^<>\n]+)</span>", hocr) == " ".join(rows).split()
    # Not once somebody has put in other blocks.
    page.blocks = [Block([Line(line.words[:1])]) for block in page.blocks for line in block.lines]
    assert page.render().split() == ["Bún", "Chả"]


def test_no_words_one_and_many() -> None:
    assert columns_of(np.zeros((0, 4)), []) == []
    assert columns_of(np.array([[5.0, 5, 9, 9]]), ["a"]) == [[[0]]]
    assert built_page([], HW).blocks == []
    across, down = np.meshgrid(np.arange(60), np.arange(50))
    corners = np.stack([across.ravel() * 50.0, down.ravel() * 20.0], axis=1)
    boxes = np.concatenate([corners, corners + (40, 12)], axis=1)
    assert columns_of(boxes, ["a"] * 3000) == [np.arange(3000).reshape(50, 60).tolist()]
