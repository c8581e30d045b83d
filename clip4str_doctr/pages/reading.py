"""Page pictures -> docTR pages, with docTR's own predictor and document builder."""

import inspect
import unicodedata
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from doctr.io.elements import Block, Document, Line, Page
from doctr.models.builder import DocumentBuilder
from doctr.models.predictor import OCRPredictor
from torch import nn

from clip4str_doctr.pages.rows import LevelBuilder, RowBuilder
from clip4str_doctr.plugin import recognition_predictor_of

__all__ = ["document_of", "page_predictor", "read_page", "unread_page", "words_of"]


def page_predictor(
    model: nn.Module, detector: nn.Module, *, batch_size: int = 32, layout: Literal["blocks", "rows"] = "blocks"
) -> OCRPredictor:
    """docTR's predictor for straight pages, which builds lines, blocks and, from docTR 1.1 on, a reading order.

    model: a recogniser of ours or of the entry point group. detector: what `detection.detector` gives, or another
    detection predictor of docTR. batch_size: words at once. layout: "rows" makes one line of all words side by side
    (see `rows.RowBuilder`); for "blocks" a page that lies askew is seen as if it lay level. Raises ValueError for
    another layout.
    """
    if layout not in ("blocks", "rows"):
        raise ValueError(f'layout must be "blocks" or "rows", got {layout!r}')
    options: dict[str, Any] = {"resolve_lines": True, "resolve_blocks": True}
    if "keep_reading_order" in inspect.signature(DocumentBuilder).parameters:
        options["keep_reading_order"] = True
    # docTR's predictor calls its detector and asks for no class.
    finder: Any = detector
    predictor = OCRPredictor(finder, recognition_predictor_of(model, batch_size=batch_size), **options)
    predictor.doc_builder = RowBuilder() if layout == "rows" else LevelBuilder(**options)
    return predictor


def read_page(predictor: Any, pixels: npt.NDArray[np.uint8], page_idx: int = 0) -> Page:
    """pixels: (H, W, 3) uint8 RGB -> docTR's page, its words in NFC; words that were read as nothing are left out.

    The page does not keep its picture (`page.page` is empty), so that many of them can be kept.
    """
    (page,) = predictor([pixels]).pages
    page.page, page.page_idx = np.zeros((0, 0, 3), np.uint8), page_idx
    blocks = []
    for block in page.blocks:
        lines = []
        for line in block.lines:
            for word in line.words:
                word.value = unicodedata.normalize("NFC", word.value)
            if words := [word for word in line.words if word.value]:
                lines.append(line if len(words) == len(line.words) else Line(words))
        if lines:
            blocks.append(Block(lines, block.artefacts))
    page.blocks = blocks
    return page  # type: ignore[no-any-return]


def unread_page(page_idx: int, dimensions: tuple[int, int] = (0, 0)) -> Page:
    """A page without words. dimensions: (H, W); (0, 0) for one that could not even be drawn."""
    return Page(np.zeros((0, 0, 3), np.uint8), [], page_idx, dimensions)


def document_of(pages: list[Page]) -> Document:
    """Pages as one document, which has docTR's exports."""
    return Document(pages)


def words_of(page: Page) -> list[Any]:
    """The words of a page, in the order of its blocks and lines."""
    return [word for block in page.blocks for line in block.lines for word in line.words]
