"""What tests of `clip4str-doctr page` share: the pages they read, and what is seen of its outputs."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pypdfium2 as pdfium

HW = (400, 600)
PAGES = {
    "trang 1.png": [["một", "hai"], ["ba"]],
    "trang 2.jpg": [["bốn", "năm", "sáu"]],
    "trang 10.png": [["bảy"], ["tám", "chín"]],
}
FORMATS = [("text", "txt"), ("json", "json"), ("hocr", "hocr"), ("md", "md"), ("pdf", "pdf")]
Page = Callable[..., int]


def outputs(out: Path) -> list[str]:
    """What a user sees of a folder."""
    return [name for name in os.listdir(out) if not name.startswith(".")]


def words_by_page(output: Path) -> list[list[str]]:
    """The words that an output of any format holds."""
    if output.suffix == ".pdf":
        with pdfium.PdfDocument(output) as pdf:
            return [pdf[number].get_textpage().get_text_range().split() for number in range(len(pdf))]
    text = output.read_text(encoding="utf-8")
    if output.suffix == ".json":
        pages = json.loads(text)["pages"]
        lines = [[line for block in page["blocks"] for line in block["lines"]] for page in pages]
        return [[word["value"] for line in page for word in line["words"]] for page in lines]
    if output.suffix == ".hocr":
        pages = [div for div in ElementTree.fromstring(text).iter() if div.get("class") == "ocr_page"]
        return [[str(word.text) for word in page.iter() if word.get("class") == "ocrx_word"] for page in pages]
    if output.suffix == ".md":
        text = text.replace("\\\n", "\n")
        return [re.sub(r"\\([^\w\s])", r"\1", page).split() for page in text.split("\n\n---\n\n")]
    return [page.split() for page in text.split("\n\n\n\n")]
