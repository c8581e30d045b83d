"""Rows across the page: receipts and tables, on pages that lie askew or are seen at an angle."""

import json
import re

import numpy as np
import numpy.typing as npt
import pytest
from fake_pages import built_page, places, turned

from clip4str_doctr.benchmark.rendered_pages import RenderedPage, photographed, render_page
from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.pages.outputs import as_hocr, as_json, as_markdown, as_text
from clip4str_doctr.pages.reading import document_of, page_predictor
from clip4str_doctr.pages.rows import RowBuilder, rows_of

HW = (900, 600)


def boxes_of(page: RenderedPage) -> npt.NDArray[np.float64]:
    return enclosing_boxes(np.array([word.quad for word in page.words]))


def receipt(seed: int) -> tuple[npt.NDArray[np.float64], list[list[int]]]:
    """Boxes of words of all heights, names from the left, prices at the right in most rows; the rows' numbers."""
    random = np.random.default_rng(seed)
    boxes: list[tuple[float, float, float, float]] = []
    rows, top = [], 40.0
    for row in range(24):
        height = float(random.integers(14, 26)) if row % 5 else 40.0
        begin, x = len(boxes), 20.0
        for _ in range(int(random.integers(1, 4))):
            width = float(random.uniform(1, 3)) * height
            # Without marks, with tails: boxes are of ink.
            up, down = random.choice([0, 0.25]) * height, random.choice([0, 0.2]) * height
            boxes.append((x, top + up, x + width, top + height + down))
            x += width + 0.3 * height
        if row % 7 != 3:
            boxes.append((580 - 2 * height, top + 0.2 * height, 580, top + height))
        rows.append(list(range(begin, len(boxes))))
        top += 1.35 * height
    return np.array(boxes), rows


@pytest.mark.parametrize("degrees", [-4, -2, 0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_receipt_that_lies_askew(seed: int, degrees: float) -> None:
    boxes, rows = receipt(seed)
    assert rows_of(turned(boxes, degrees, HW)) == rows


@pytest.mark.parametrize("seed", range(3))
def test_a_table_seen_at_an_angle(seed: int) -> None:
    page = render_page(seed, "table", 100)
    words = [page.words[number].text for row in rows_of(boxes_of(photographed(page, seed))) for number in row]
    assert words == page.text.split()


def test_a_logo_beside_three_lines() -> None:
    lines = [[(x, y, x + 60, y + 30) for x in (200, 270, 340)] for y in (0, 45, 90)]
    boxes = np.array([(20, 0, 150, 120), *lines[0], *lines[1], *lines[2], (200, 140, 260, 170)], float)
    assert rows_of(boxes) == [[1, 2, 3], [0, 4, 5, 6], [7, 8, 9], [10]]


def test_thousands_of_words() -> None:
    """Of a newspaper, compared some at a time."""
    across, down = np.meshgrid(np.arange(60), np.arange(50))
    corners = np.stack([across.ravel() * 50.0, down.ravel() * 20.0], axis=1)
    boxes = np.concatenate([corners, corners + (40, 12)], axis=1)
    assert rows_of(boxes) == np.arange(3000).reshape(50, 60).tolist()


def test_no_words_and_one() -> None:
    assert rows_of(np.zeros((0, 4))) == []
    assert rows_of(np.array([[5.0, 5, 9, 9]])) == [[0]]
    assert built_page([], HW, builder=RowBuilder()).blocks == []


def test_every_output_keeps_the_rows() -> None:
    """Also where a price stands alone in its row."""
    rows = [(["Cà", "phê", "sữa"], "25.000"), ([], "9.000"), (["Bánh", "mì"], ""), (["Tổng", "cộng"], "34.000")]
    placed = []
    for number, (name, price) in enumerate(rows):
        placed += places([name], y=60 + 60 * number) + places([[price] if price else []], x=480, y=60 + 60 * number)
    expected = [" ".join([*name, price]).strip() for name, price in rows]
    document = document_of([built_page(placed, HW, builder=RowBuilder())])
    assert as_text(document).splitlines() == expected
    assert as_markdown(document, keep_lines=True).replace("\\\n", "\n").splitlines() == expected
    (block,) = json.loads(as_json(document))["pages"][0]["blocks"]
    assert [" ".join(word["value"] for word in line["words"]) for line in block["lines"]] == expected
    assert re.findall(">([^<>\n]+)</span>", as_hocr(document)) == " ".join(expected).split()


def test_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout must be .*, got 'columns'"):
        page_predictor(None, None, layout="columns")  # type: ignore[arg-type]
