"""docTR's builder of pages with another order of words, which docTR's own exports keep."""

from abc import ABC, abstractmethod
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from doctr.io.elements import Block, Document, Line, Page
from doctr.models.builder import DocumentBuilder

from clip4str_doctr.boxes import word_boxes
from clip4str_doctr.pages.lone_letters import settle_cases

__all__ = ["OrderedBuilder", "keep_order"]


class OrderedBuilder(DocumentBuilder, ABC):
    """docTR's builder, but blocks, lines and words are what `order` makes of the words of a page.

    Letters that stand alone get the case that they have beside the other words of their line.

    export_as_straight_boxes: as docTR's builder takes it, for words that are polygons.
    """

    def __init__(self, *, export_as_straight_boxes: bool = False) -> None:
        super().__init__(resolve_lines=True, resolve_blocks=False, export_as_straight_boxes=export_as_straight_boxes)

    def __call__(self, pages: list[npt.NDArray[np.uint8]], *args: Any, **options: Any) -> Document:
        document = super().__call__(pages, *args, **options)
        for page, pixels in zip(document.pages, pages, strict=True):
            words = [word for block in page.blocks for line in block.lines for word in line.words]
            blocks = self.order(word_boxes(words, page.dimensions), [word.value for word in words])
            page.blocks = [Block([Line([words[number] for number in line]) for line in lines]) for lines in blocks]
            settle_cases(pixels, [line.words for block in page.blocks for line in block.lines])
            keep_order(page)
        return document

    @abstractmethod
    def order(self, boxes: npt.NDArray[np.float64], texts: list[str]) -> list[list[list[int]]]:
        """boxes (N, 4) of words in pixels, and the words -> blocks, lists of lines, of numbers of words."""


class _Kept:
    """Equal to docTR's signature of a page with these blocks, for as long as they have as many lines.

    docTR's own knows blocks by their ids, which others have once a page was pickled or copied; these come along.
    """

    tables = ()

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = list(blocks)
        self._counts = [len(block.lines) for block in blocks]

    def __eq__(self, other: object) -> bool:
        from doctr.io.exporters import _reading_order_signature

        same = self._counts == [len(block.lines) for block in self.blocks]
        return same and bool(_reading_order_signature(cast(Page, self), "auto") == other)

    __hash__ = None  # type: ignore[assignment]  # what it is equal to hangs on where its blocks lie


def keep_order(page: Page) -> None:
    """Let `page.render()` and docTR's other exports take the blocks as they stand, and not look for another order.

    docTR 1.1 remembers the order that it found in a place of its own: where that has gone, its exports look for an
    order again, as they do once the blocks are replaced. docTR 1.0 has none.
    """
    try:
        from doctr.io.exporters import _store_reading_order
    except ImportError:
        return
    if not page.tables:
        signature: Any = _Kept(page.blocks)
        _store_reading_order(page, signature, (*_labelled(page), "ltr"))


def _labelled(page: Page) -> tuple[list[Block], list[str | None]]:
    """The blocks as docTR's exports take them, and of each what its layout model calls it, which makes headings and
    items of lists. As in docTR lines have labels; a block of several is parted."""
    if not page.layout or not page.blocks:
        return list(page.blocks), [None] * len(page.blocks)
    from doctr.io.exporters import _LIST_LABELS, _covering_region_indices
    from doctr.models.reading_order import assign_layout_labels, deskew_reading_geometries, normalize_layout_label

    lines = [line for block in page.blocks for line in block.lines]
    places, regions = deskew_reading_geometries(
        [line.geometry for line in lines],
        [region.geometry for region in page.layout],
        page_shape=page.dimensions,
        angle_geoms=[word.geometry for line in lines for word in line.words],
    )
    names = assign_layout_labels(places, regions, [region.type for region in page.layout])
    # Each item of a list has a region of its own.
    owns = [normalize_layout_label(name) in _LIST_LABELS for name in names]
    found = zip(names, np.where(owns, _covering_region_indices(places, regions), -1).tolist(), strict=True)
    blocks: list[Block] = []
    labels: list[str | None] = []
    for block in page.blocks:
        runs = [
            (name, [line for line, _ in run])
            for (name, _), run in groupby(zip(block.lines, found, strict=False), key=itemgetter(1))
        ]
        parts = [block] if len(runs) == 1 else [Block(part) for _, part in runs]
        parts[0].artefacts = block.artefacts
        blocks += parts
        labels += [name for name, _ in runs]
    return blocks, labels
