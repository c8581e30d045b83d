"""docTR documents -> text, JSON, hOCR and Markdown, with docTR's own exports where it has them.

Blocks, lines and words are written in the order in which they stand, also those of pages that another builder made, for
which docTR 1.1 would look for one at each export.
"""

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
from doctr.io.elements import Document, Page

from clip4str_doctr.boxes import word_boxes

__all__ = ["WRITERS", "as_hocr", "as_json", "as_markdown", "as_text"]

# Between words, in heights of a line: such rows are of a table.
_WIDE_GAP = 1.5

_XHTML = "http://www.w3.org/1999/xhtml"

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

# What follows an element of hOCR.
_HOCR_TAILS = {"ocrx_word": " ", "ocr_line": "\n", "ocr_par": "\n", "ocr_carea": "\n"}

# docTR 1.0 has no order of its own.
_HAS_ORDER = "reading_order" in inspect.signature(Page.export).parameters
_AS_IT_STANDS: dict[str, Any] = {"reading_order": False} if _HAS_ORDER else {}


def as_text(document: Document) -> str:
    """Blocks are parted by one empty line, pages by three, as docTR does; words of a line by a space."""
    pages = ("\n\n".join(block.render() for block in page.blocks) for page in document.pages)
    return "\n\n\n\n".join(pages) + "\n"


def as_json(document: Document) -> str:
    """docTR's export; `doctr.io.Document.from_dict` of docTR 1.1 takes it back."""
    return json.dumps(document.export(**_AS_IT_STANDS), ensure_ascii=False, indent=1, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """docTR 1.0 leaves numpy's scalars in its export."""
    return value.item()


def as_markdown(document: Document, *, keep_lines: bool = False) -> str:
    """A paragraph for each block, a thematic break between pages; what would be markup is escaped.

    Markdown fills paragraphs. Hard breaks keep lines that end before they need to, and rows of tables; keep_lines: all.
    Not docTR 1.1's own Markdown: it puts a backslash before a digit that begins a line, where Markdown shows it.
    """
    pages = (
        "\n\n".join(
            _paragraph(block, [True] * (len(block.lines) - 1) if keep_lines else _kept_breaks(block, page.dimensions))
            for block in page.blocks
        )
        for page in document.pages
    )
    return "\n\n---\n\n".join(pages) + "\n"


def _kept_breaks(block: Any, page_hw: tuple[int, int]) -> list[bool]:
    """Of each line whether the next one's first word would fit behind it, or one of both is a row of a table.

    Where that is so of half of the lines, as in addresses and verses, all keep their breaks.
    """
    lines = [word_boxes(line.words, page_hw) for line in block.lines]
    heights = [np.median(line[:, 3] - line[:, 1]) for line in lines]
    gaps = [np.max(line[1:, 0] - line[:-1, 2], initial=0) for line in lines]
    rows = [gap > _WIDE_GAP * height for gap, height in zip(gaps, heights, strict=True)]
    widths = [line[:, 2].max() - line[:, 0].min() for line in lines]
    needed = [line[0, 2] - line[0, 0] + height for line, height in zip(lines, heights, strict=True)]
    fits = [width + word < max(widths) for width, word in zip(widths, needed[1:], strict=False)]
    kept = [bool(np.any(reasons)) for reasons in zip(fits, rows, rows[1:], strict=False)]
    return [True] * len(kept) if 2 * sum(kept) >= len(kept) else kept


def _paragraph(block: Any, kept: Sequence[bool]) -> str:
    lines = (re.sub(r"([\\`*_\[\]|#<>~$&])", r"\\\1", line.render()) for line in block.lines)
    # A line that begins like a list or a heading is none, nor does one of dashes end a heading or part pages.
    lines = (re.sub(r"^([-=])(?=[-=\s]*$)", r"\\\1", line) for line in lines)
    first, *others = (re.sub(r"^(\d*)([-+=]|(?<=\d)[.)])(?=\s|$)", r"\1\\\2", line) for line in lines)
    return first + "".join(("\\\n" if own else "\n") + line for own, line in zip(kept, others, strict=True))


def as_hocr(document: Document) -> str:
    """One hOCR file for all pages; docTR's export gives one for each, and numbers the elements of each from 1."""
    ElementTree.register_namespace("", _XHTML)
    whole: ElementTree.Element | None = None
    for number, page in enumerate(document.pages, start=1):
        # Written and parsed, as docTR sets the name space as if it were an attribute.
        root = ElementTree.fromstring(page.export_as_xml(**_AS_IT_STANDS)[0])
        body = root.find(f"{{{_XHTML}}}body")
        assert body is not None, "docTR's hOCR has a body"
        for element in body.iter():
            if element.get("class") == "ocr_page":
                element.set("id", f"page_{number}")
                element.set("title", element.get("title", "").replace("ppageno 0", f"ppageno {number - 1}"))
            elif "id" in element.attrib:
                element.set("id", f"page_{number}_{element.get('id')}")
            if element.get("class") in _HOCR_TAILS:
                # docTR writes them side by side: a browser would show one word a page.
                element.tail = _HOCR_TAILS[element.get("class", "")]
            if "title" in element.attrib:
                # docTR 1.0 breaks these lines.
                element.set("title", " ".join(element.get("title", "").split()))
        # docTR knows no language of these pages and writes English then.
        root.attrib.pop(_XML_LANG, None)
        if whole is None:
            whole = root
        else:
            target = whole.find(f"{{{_XHTML}}}body")
            assert target is not None
            target.extend(body)
    assert whole is not None, "a file has at least one page"
    text = ElementTree.tostring(whole, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


# --format -> writer
WRITERS: dict[str, Callable[[Document], str]] = {
    "text": as_text,
    "json": as_json,
    "hocr": as_hocr,
    "md": as_markdown,
}
