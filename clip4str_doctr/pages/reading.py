"""Page pictures -> docTR pages, with docTR's own predictor and our reading order."""

import logging
import unicodedata
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from doctr.io.elements import Block, Document, Line, Page
from doctr.models.predictor import OCRPredictor
from torch import nn

from clip4str_doctr.boxes import word_boxes
from clip4str_doctr.pages.columns import ColumnBuilder
from clip4str_doctr.pages.order import keep_order
from clip4str_doctr.pages.rows import RowBuilder
from clip4str_doctr.plugin import recognition_predictor_of
from clip4str_doctr.postprocess import Confidence
from clip4str_doctr.wide_crops import confidence_kind

logger = logging.getLogger(__name__)

__all__ = [
    "READ_ERRORS",
    "document_of",
    "page_predictor",
    "read_page",
    "read_upright",
    "turn_of",
    "unread_page",
    "words_of",
]

# A page may be turned wrongly if its words, five or more, are less certain than this on average, or most boxes stand.
# Confidences are products of those of the symbols here, or brought to their scale.
# Upside down, clean pages, photographed ones and receipts have 0.32 to 0.42, upright 0.94 to 0.98; of lines on their
# side all boxes stand.
_FEW_WORDS = 5
_DOUBTFUL = 0.6
_STANDING = 1.5  # as many times as high as wide
# It is turned if that makes its words so much more certain.
_GAIN = 0.25
# The attribute of docTR's page that remembers it.
_TURN = "clip4str_doctr_turn"

# What reading one page may fail with, while others can be read: another package's detector, memory, OpenCV.
READ_ERRORS = (OSError, RuntimeError, ValueError, MemoryError, cv2.error)


def page_predictor(
    model: nn.Module, detector: nn.Module, *, batch_size: int = 32, layout: Literal["blocks", "rows"] = "blocks"
) -> OCRPredictor:
    """docTR's predictor for straight pages, which may lie somewhat askew; what it builds stands in reading order.

    model: a recogniser of ours or of the entry point group. detector: what `detection.detector` gives, or another
    detection predictor of docTR. batch_size: words at once. layout: "blocks" reads column by column, with one block for
    each paragraph (see `columns.ColumnBuilder`), "rows" makes one line of all words side by side (`rows.RowBuilder`).
    Raises ValueError for another layout, and for a detector that gives polygons.
    """
    if layout not in ("blocks", "rows"):
        raise ValueError(f'layout must be "blocks" or "rows", got {layout!r}')
    # docTR would say nothing of it before it has read a page, and then "too many indices".
    if not getattr(getattr(detector, "model", None), "assume_straight_pages", True):
        raise ValueError(
            "the detector must give straight boxes, got one made with assume_straight_pages=False; make it with True, "
            "or give it to docTR's OCRPredictor(detector, recogniser, assume_straight_pages=False), whose doc_builder "
            "may be ColumnBuilder() or RowBuilder(), too"
        )
    # docTR's predictor calls its detector and asks for no class.
    finder: Any = detector
    predictor = OCRPredictor(finder, recognition_predictor_of(model, batch_size=batch_size))
    predictor.doc_builder = RowBuilder() if layout == "rows" else ColumnBuilder()
    return predictor


def read_page(predictor: Any, pixels: npt.NDArray[np.uint8], page_idx: int = 0) -> Page:
    """pixels: (H, W, 3) uint8 RGB -> docTR's page, its words in NFC; words that were read as nothing are left out.

    The page does not keep its picture (`page.page` is empty), so that many of them can be kept.
    Raises ValueError for a predictor whose pages are not as they were given, and what the predictor raises.
    """
    # Drawings and searchable PDFs would show the words on the page that was given, as if it had not been turned.
    if getattr(predictor, "straighten_pages", False) and not getattr(predictor, "preserve_original_coords", False):
        raise ValueError(
            "the predictor must tell where words stand on the page that it is given, got one made with "
            "straighten_pages=True, whose words stand on a turned and trimmed page that is thrown away; make it with "
            "preserve_original_coords=True, too (docTR 1.1 and later), or without straighten_pages"
        )
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
    keep_order(page)
    return page  # type: ignore[no-any-return]


def read_upright(
    predictor: Any, pixels: npt.NDArray[np.uint8], page_idx: int = 0
) -> tuple[Page, npt.NDArray[np.uint8]]:
    """As `read_page`, but a page that lies on its side or stands on its head is turned -> the page, its pixels as read.

    Pages that were hardly read, and those whose words stand and are uncertain, are tried otherwise, at the price of
    reading them twice or thrice. `turn_of` tells by how much the page was turned.
    """
    page = read_page(predictor, pixels, page_idx)
    words = len(words_of(page))
    if words < _FEW_WORDS:
        return page, pixels
    kind = _kind_of(predictor)
    certainty, stands = _certainty(page, kind)
    best = page, pixels, certainty + _GAIN
    if certainty < _DOUBTFUL or (stands and best[2] < 1):
        for quarters in (1, 3) if stands else (2,):
            turned = np.ascontiguousarray(np.rot90(pixels, quarters))
            try:
                other = read_page(predictor, turned, page_idx)
            except READ_ERRORS as error:
                logger.warning("page %d could not be tried otherwise: %s", page_idx + 1, error)
                continue
            # Lines on their side are fewer than the words in them.
            if len(words_of(other)) >= max(_FEW_WORDS, words // 2) and (found := _certainty(other, kind)[0]) > best[2]:
                # As docTR counts: clockwise, from -90 to 180.
                other.orientation = {"value": (90 * quarters + 90) % 360 - 90, "confidence": None}
                setattr(other, _TURN, 90 * quarters)
                best = other, turned, found
    return best[:2]


def turn_of(page: Page) -> int:
    """By how many degrees, 0, 90, 180 or 270, `read_upright` turned the picture counter-clockwise to read it.

    Not docTR's own `orientation`, which tells how a page lies, whatever was done about it.
    """
    return int(getattr(page, _TURN, 0))


def _kind_of(predictor: Any) -> Confidence:
    """Of what kind the words' confidences are."""
    model = getattr(getattr(predictor, "reco_predictor", None), "model", None)
    return "product" if getattr(model, "postprocessor", None) is None else confidence_kind(model)


def _certainty(page: Page, kind: Confidence) -> tuple[float, bool]:
    """The words' mean confidence, as if all were products, and whether most of what they cover stands."""
    words = words_of(page)
    boxes = word_boxes(words, page.dimensions)
    sides = boxes[:, 2:] - boxes[:, :2]
    # By their length: on its side, "ở" does not stand, nor does "I" lie.
    lengths, standing = sides.max(axis=1), sides[:, 1] > _STANDING * sides[:, 0]
    stands = float(lengths[standing].sum()) > 0.5 * float(lengths.sum())
    confidences = [word.confidence for word in words]
    if kind != "product":
        # A product of so many factors, with the end of the word: what the limits were chosen for. Of "min", this is
        # the least that the product can be.
        confidences = [word.confidence ** (len(word.value) + 1) for word in words]
    return float(np.mean(confidences)), stands


def unread_page(page_idx: int, dimensions: tuple[int, int] = (0, 0)) -> Page:
    """A page without words. dimensions: (H, W); (0, 0) for one that could not even be drawn."""
    return Page(np.zeros((0, 0, 3), np.uint8), [], page_idx, dimensions)


def document_of(pages: list[Page]) -> Document:
    """Pages as one document, which has docTR's exports."""
    return Document(pages)


def words_of(page: Page) -> list[Any]:
    """The words of a page, in the order of its blocks and lines."""
    return [word for block in page.blocks for line in block.lines for word in line.words]
