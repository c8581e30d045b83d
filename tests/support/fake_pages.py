"""Pages whose words are known beforehand, built as `page` does, and a detector that finds dark patches."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from doctr.models.builder import DocumentBuilder
from PIL import Image, ImageDraw

from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.pages.columns import ColumnBuilder

LETTER, HEIGHT, GAP, LEADING = 12, 24, 10, 40
Box = tuple[int, int, int, int]


def places(lines: Sequence[Sequence[str]], x: int = 60, y: int = 60) -> list[tuple[str, Box]]:
    """Words set in a column from (x, y) on, left to right and line by line: (word, (x0, y0, x1, y1) in pixels)."""
    placed = []
    for row, words in enumerate(lines):
        left = x
        for word in words:
            right = left + LETTER * len(word)
            placed.append((word, (left, y + row * LEADING, right, y + row * LEADING + HEIGHT)))
            left = right + GAP
    return placed


def built_page(
    placed: Sequence[tuple[str, Box]],
    page_hw: tuple[int, int],
    confidence: float = 0.8,
    builder: DocumentBuilder | None = None,
    pixels: npt.NDArray[np.uint8] | None = None,
) -> Any:
    """What a builder makes of these words, on a white page if no other is given: one page of a document."""
    height, width = page_hw
    boxes = np.array([box for _, box in placed], np.float64).reshape(-1, 4) / (width, height, width, height)
    document = (builder or ColumnBuilder())(
        [np.full((*page_hw, 3), 255, np.uint8) if pixels is None else pixels],
        [boxes],
        [np.ones(len(placed))],
        [[(word, confidence) for word, _ in placed]],
        [page_hw],
        [[{"value": 0, "confidence": None} for _ in placed]],
    )
    return document.pages[0]


def turned(boxes: npt.NDArray[np.float64], degrees: float, page_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """boxes (N, 4) in pixels -> what encloses them on a page that lies askew."""
    quads = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    turn = np.vstack([cv2.getRotationMatrix2D((page_hw[1] / 2, page_hw[0] / 2), degrees, 1), [0, 0, 1]])
    return enclosing_boxes(cv2.perspectiveTransform(quads, turn))


def pdf_form(path: Path, value: str) -> None:
    """A PDF of one page with one field that somebody has filled in, as a viewer saves it that draws nothing for it."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R] /DA (/Helv 24 Tf 0 g) "
        "/DR << /Font << /Helv 5 0 R >> >> >> >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Annots [4 0 R] >>",
        f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V ({value}) /Rect [50 80 250 120] "
        "/DA (/Helv 24 Tf 0 g) /F 4 /P 3 0 R >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, starts = "%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        starts.append(len(content))
        content += f"{number} 0 obj\n{one}\nendobj\n"
    table = "".join(f"{start:010d} 00000 n \n" for start in starts)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(content)}\n%%EOF\n"
    path.write_text(f"{content}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}", encoding="ascii", newline="\n")


def drawn_page(placed: Sequence[tuple[str, Box]], page_hw: tuple[int, int]) -> Image.Image:
    """The same page with a dark patch for each word; the patches differ, so that they are read differently."""
    image = Image.new("RGB", page_hw[::-1], "white")
    draw = ImageDraw.Draw(image)
    for number, (_, box) in enumerate(placed):
        draw.rectangle((*box[:2], box[2] - 1, box[3] - 1), fill=(20, 60 * number % 120, 37 * number % 120))
    return image


def find_patches(page: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """page (H, W, 3) uint8 -> (N, 4) boxes of what is dark in it."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((page.max(2) < 128).astype(np.uint8))
    x, y, width, height = stats[1:, :4].astype(np.float64).T
    return np.stack([x, y, x + width, y + height], 1)


def spoil_pdf_page(path: Path, number: int) -> None:
    """Page `number`, from 0 on, of a PDF that Pillow wrote becomes one that cannot be opened."""
    data = path.read_bytes()
    kids = re.search(rb"/Kids \[([^\]]*)\]", data)
    assert kids is not None
    page = re.search(rb"\n" + re.findall(rb"\d+ 0 ", kids[1])[number] + rb"obj(.*?)endobj", data, re.DOTALL)
    assert page is not None
    path.write_bytes(data[: page.start(1)] + b"null".ljust(len(page[1])) + data[page.end(1) :])


def spoil_tiff_page(path: Path, number: int) -> None:
    """The pixels of page `number`, from 0 on, of a compressed TIFF become undecodable."""
    with Image.open(path) as image:
        image.seek(number)
        begin, size = image.tag_v2[273][0], image.tag_v2[279][0]
    data = bytearray(path.read_bytes())
    data[begin : begin + size] = b"\xff" * size
    path.write_bytes(data)
