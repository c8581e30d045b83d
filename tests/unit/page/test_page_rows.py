"""Rows across the page: receipts and tables, on pages that lie askew or are seen at an angle."""

import inspect
import json
import re

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from doctr.models.builder import DocumentBuilder
from fake_pages import built_page, places

from clip4str_doctr.benchmark.rendered_pages import RenderedPage, photographed, render_page
from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.pages.outputs import as_hocr, as_json, as_markdown, as_text
from clip4str_doctr.pages.reading import document_of, page_predictor, words_of
from clip4str_doctr.pages.rows import LevelBuilder, RowBuilder, rows_of

HW = (900, 600)
ORDER = {"keep_reading_order": True} if "keep_reading_order" in inspect.signature(DocumentBuilder).parameters else {}


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


def turned(boxes: npt.NDArray[np.float64], degrees: float) -> npt.NDArray[np.float64]:
    quads = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    turn = np.vstack([cv2.getRotationMatrix2D((300, 450), degrees, 1), [0, 0, 1]])
    return enclosing_boxes(cv2.perspectiveTransform(quads, turn))


@pytest.mark.parametrize("degrees", [-4, -2, 0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_receipt_that_lies_askew(seed: int, degrees: float) -> None:
    boxes, rows = receipt(seed)
    assert rows_of(turned(boxes, degrees)) == rows


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
    """docTR's exports would take what stands alone on its side, as the price in the second row, for a column's."""
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


@pytest.mark.parametrize("degrees", [-2.5, 0, 0.3, 2.5])
@pytest.mark.skipif(not ORDER, reason="docTR 1.0 has no reading order")
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
    askew = turned(np.array(boxes), degrees)
    builder = LevelBuilder(resolve_lines=True, resolve_blocks=True, **ORDER)
    page = built_page([(text, tuple(box)) for text, box in zip(texts, askew, strict=True)], HW, builder=builder)
    assert [word.value for word in words_of(page)] == texts
    seen = {word.value: np.ravel(word.geometry) * (HW[1], HW[0], HW[1], HW[0]) for word in words_of(page)}
    assert all(np.allclose(seen[text], box, atol=1e-3) for text, box in zip(texts, askew, strict=True))
    for block in page.blocks:
        inner = np.array([np.ravel(line.geometry) for line in block.lines])
        assert np.allclose(np.ravel(block.geometry), [*inner[:, :2].min(0), *inner[:, 2:].max(0)])


def test_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout must be .*, got 'columns'"):
        page_predictor(None, None, layout="columns")  # type: ignore[arg-type]
