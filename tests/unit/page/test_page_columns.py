"""The order in which a page is read: columns of any length, and where paragraphs end."""

import numpy as np
import numpy.typing as npt
import pytest
from fake_pages import built_page, turned

from clip4str_doctr.benchmark.rendered_pages import RenderedPage, photographed, render_page
from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.pages.columns import columns_of
from clip4str_doctr.pages.reading import words_of

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


def read(placed: list[Placed]) -> list[list[str]]:
    """Paragraphs of lines, in the order in which they are read; words are given in another."""
    mixed = [placed[number] for number in np.random.default_rng(0).permutation(len(placed))]
    boxes = np.array([box for _, box in mixed], np.float64)
    return [[" ".join(mixed[number][0] for number in line) for line in lines] for lines in columns_of(boxes)]


def boxes_of(page: RenderedPage) -> npt.NDArray[np.float64]:
    return enclosing_boxes(np.array([word.quad for word in page.words]))


@pytest.mark.parametrize("photo", [False, True])
@pytest.mark.parametrize("layout", ["text", "columns", "letter"])
@pytest.mark.parametrize("seed", range(3))
def test_rendered_pages(seed: int, layout: str, photo: bool) -> None:
    page = render_page(seed, layout, 100)  # type: ignore[arg-type]
    boxes = boxes_of(photographed(page, seed) if photo else page)
    read = [[page.words[number].text for number in line] for lines in columns_of(boxes) for line in lines]
    assert [" ".join(words) for words in read] == page.text.splitlines()


def test_a_letter() -> None:
    """Two lines beside three, a heading and text below, copies beside who signs, whose name stands lower."""
    sender, motto = ["ỦY BAN NHÂN DÂN", "Số: 5/QĐ"], ["CỘNG HÒA XÃ HỘI CHỦ", "Độc lập, Tự do", "Huế, ngày 2 tháng 9"]
    text = ["Căn cứ luật tổ chức chính quyền địa phương và các văn bản", "hướng dẫn của chính phủ, nay quyết định:"]
    copies, signs = ["Nơi nhận:", "Như trên;", "Lưu: VT."], ["KT. CHỦ TỊCH", "PHÓ CHỦ TỊCH"]
    placed = lines(sender) + lines(motto, x=330) + lines(["QUYẾT ĐỊNH"], x=250, y=160) + lines(text, y=210)
    placed += lines(copies, y=300) + lines(signs, x=360, y=300) + lines(["Nguyễn Văn An"], x=350, y=430)
    assert read(placed) == [sender, motto, ["QUYẾT ĐỊNH"], text, copies, signs, ["Nguyễn Văn An"]]


def test_a_heading_across_parts_columns_above_from_those_below() -> None:
    above = ["một hai ba bốn", "năm sáu bảy"], ["tám chín mười", "mười một hai"]
    below = ["ba bốn năm", "sáu bảy tám"], ["chín mười", "hai mươi"]
    heading = "Một tiêu đề dài đi qua cả hai cột của trang báo này"
    placed = lines(above[0]) + lines(above[1], x=330) + line(heading, 30, 110)
    placed += lines(below[0], y=160) + lines(below[1], x=330, y=160)
    assert read(placed) == [*above, [heading], *below]


def test_three_columns_and_one_that_goes_on_alone() -> None:
    columns = [[f"{column} {row} cột hàng" for row in range(rows)] for column, rows in enumerate((5, 9, 3))]
    placed = [one for column, texts in enumerate(columns) for one in lines(texts, x=30 + 190 * column)]
    assert read(placed) == columns


def test_columns_of_unlike_pitch() -> None:
    left, right = ([f"{side} {row} một hai ba" for row in range(rows)] for side, rows in (("a", 12), ("b", 9)))
    assert read(lines(left) + lines(right, x=330, pitch=31)) == [left, right]


@pytest.mark.parametrize("marks", [["1.", "2.", "3."], ["a)", "b)", "c)"], ["-", "-", "-"]])
def test_what_stands_before_items_of_a_list_is_no_column(marks: list[str]) -> None:
    items = ["điều thứ nhất", "điều thứ hai", "điều thứ ba"]
    placed = lines(marks) + lines(items, x=75)
    assert [words for paragraph in read(placed) for words in paragraph] == [
        f"{mark} {item}" for mark, item in zip(marks, items, strict=True)
    ]


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
                texts.append(f"{column}.{row}.{x:.0f}")
                x += width + 6
    askew = turned(np.array(boxes), degrees, HW)
    page = built_page([(text, tuple(box)) for text, box in zip(texts, askew, strict=True)], HW)
    assert [word.value for word in words_of(page)] == texts
    seen = {word.value: np.ravel(word.geometry) * (HW[1], HW[0], HW[1], HW[0]) for word in words_of(page)}
    assert all(np.allclose(seen[text], box, atol=1e-3) for text, box in zip(texts, askew, strict=True))
    for block in page.blocks:
        inner = np.array([np.ravel(line.geometry) for line in block.lines])
        assert np.allclose(np.ravel(block.geometry), [*inner[:, :2].min(0), *inner[:, 2:].max(0)])


def test_no_words_one_and_many() -> None:
    assert columns_of(np.zeros((0, 4))) == []
    assert columns_of(np.array([[5.0, 5, 9, 9]])) == [[[0]]]
    assert built_page([], HW).blocks == []
    across, down = np.meshgrid(np.arange(60), np.arange(50))
    corners = np.stack([across.ravel() * 50.0, down.ravel() * 20.0], axis=1)
    assert columns_of(np.concatenate([corners, corners + (40, 12)], axis=1)) == [
        np.arange(3000).reshape(50, 60).tolist()
    ]
