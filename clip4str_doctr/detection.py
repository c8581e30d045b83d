"""Any text detector in front of docTR's recognition: an adapter, and three detectors ready to use.

```python
predictor = OCRPredictor(detector("rapidocr"), recognition_predictor("clip4str_vn_tiny", pretrained=True))
predictor = OCRPredictor(any_detector(find_lines, kind="lines"), recognition_predictor("clip4str_vn"))
```
What docTR's predictors ask of a detection predictor (docTR 1.0 and 1.1): called with pages, it answers for each page
one dict of class name -> straight boxes with scores (N, 5), or quads with scores (N, 5, 2), float32, relative; with
`return_maps=True` also text maps (H, W, 1), for which they read `model.postprocessor.bin_thresh`.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clip4str_doctr.boxes import Page, Quads, Scores, as_quads, check_page, enclosing_boxes
from clip4str_doctr.finders import RapidOCRLines, TesseractWords
from clip4str_doctr.lines import MARGIN, words_of_lines

__all__ = ["DETECTORS", "AnyDetector", "any_detector", "detector"]

DETECTORS = ("rapidocr", "tesseract", "doctr:<arch>")
CLASS_NAME = "words"
# docTR's own text maps are 1024 pixels high and wide; finer ones would not tell it more about the page's angle.
_MAP_SIDE = 1024


def any_detector(
    find: Callable[[Page], Any],
    *,
    kind: Literal["words", "lines"] = "words",
    assume_straight_pages: bool = True,
    margin: float | None = None,
) -> "AnyDetector":
    """A function from a page to boxes -> what docTR's `OCRPredictor` and `KIEPredictor` take as `det_predictor`.

    find: page (H, W, 3) uint8 RGB -> boxes of its words or lines in any form that `boxes.as_quads` takes: straight
    boxes, quads or polygons, in pixels or relative, alone or in a tuple with scores. kind: "lines" are cut into words
    here. assume_straight_pages: as the predictor around it is told; False gives it quads, and cuts lines that stand on
    their side, too, whose words docTR then turns as it does its own.
    margin: by how much boxes grow on every side before they are cropped: for words, in heights of the box (default 0,
    the detector's own boxes), for lines, in heights of the letters without marks (default `lines.MARGIN`).
    Raises ValueError for another kind or a negative margin. Answers of `find` are checked when pages are read.
    """
    return AnyDetector(find, kind=kind, assume_straight_pages=assume_straight_pages, margin=margin)


def detector(name: str, *, assume_straight_pages: bool = True, device: "torch.device | str | None" = None) -> nn.Module:
    """A detection predictor by name: "rapidocr", "tesseract", or "doctr:" and an architecture of docTR's.

    rapidocr (`pip install 'clip4str-doctr[detect]'`): PP-OCR's detector, its model inside the package; lines, cut into
    words here. tesseract (Debian package tesseract-ocr): its own words. doctr:<arch>, as doctr:db_resnet50: docTR's,
    whose weights docTR downloads when they are first used. device: for docTR's; the others compute on the CPU.
    Raises ValueError for other names; RuntimeError, saying what to do, where something is missing.
    """
    if name == "rapidocr":
        return any_detector(RapidOCRLines(), kind="lines", assume_straight_pages=assume_straight_pages)
    if name == "tesseract":
        find = TesseractWords()
        return any_detector(
            find, kind="words", assume_straight_pages=assume_straight_pages, margin=TesseractWords.MARGIN
        )
    family, _, arch = name.partition(":")
    if family == "doctr" and arch:
        return _doctr_detector(arch, assume_straight_pages, device)
    raise ValueError(f"unknown detector {name!r}; expected one of {', '.join(DETECTORS)}, or use any_detector(find)")


class AnyDetector(nn.Module):
    """docTR's detection predictor around a function; made by `any_detector`. Has no parameters of its own."""

    def __init__(
        self,
        find: Callable[[Page], Any],
        *,
        kind: Literal["words", "lines"],
        assume_straight_pages: bool,
        margin: float | None,
    ) -> None:
        super().__init__()
        if kind not in ("words", "lines"):
            raise ValueError(f'kind must be "words" or "lines", got {kind!r}')
        if not callable(find):
            raise TypeError(f"find must be callable with a page, got {type(find).__name__}")
        self.find = find
        self.kind = kind
        self.margin = (MARGIN if kind == "lines" else 0.0) if margin is None else float(margin)
        if not 0 <= self.margin < 10:
            raise ValueError(f"margin must be 0 or more, in heights of the box or letters, got {margin}")
        # Where docTR looks for the threshold of the text maps and, in its own code, for the kind of boxes.
        self.model = _Model(assume_straight_pages)

    def words(self, page: Page) -> tuple[Quads, Scores]:
        """page (H, W, 3) uint8 RGB -> quads (N, 4, 2) in pixels of its words, scores (N,).

        Raises TypeError or ValueError for another page, and for answers of `find` that are no boxes.
        """
        check_page(page)
        quads, scores = as_quads(self.find(page), page.shape[:2])
        if self.kind == "words":
            return _grown(quads, self.margin, page.shape[:2]), scores
        # Crops of straight pages are never turned: a standing box there holds a letter, or what is not read either way.
        sideways = not self.model.assume_straight_pages
        words = words_of_lines(page, quads, self.margin, sideways=sideways)
        counts = [len(line) for line in words]
        return np.concatenate([np.zeros((0, 4, 2)), *words]), np.repeat(scores, counts)

    def forward(self, pages: Sequence[Page], return_maps: bool = False, **_: Any) -> Any:
        """pages, each (H, W, 3) uint8 -> [{"words": boxes}], boxes (N, 5) or (N, 5, 2) float32, relative, with scores.

        With return_maps, also a text map (h, w, 1) float32 for every page: 1 inside of the words, 0 elsewhere.
        Other arguments are what docTR passes on to its own models; they mean nothing here.
        """
        found = [self.words(page) for page in pages]
        answers = [
            {CLASS_NAME: _for_doctr(quads, scores, page.shape[:2], self.model.assume_straight_pages)}
            for page, (quads, scores) in zip(pages, found, strict=True)
        ]
        if not return_maps:
            return answers
        return answers, [_text_map(quads, page.shape[:2]) for page, (quads, _) in zip(pages, found, strict=True)]

    def extra_repr(self) -> str:
        return f"find={self.find!r}, kind={self.kind!r}, margin={self.margin}"


class _Model(nn.Module):
    """The attributes that docTR's predictors read from a detection predictor's model."""

    def __init__(self, assume_straight_pages: bool) -> None:
        super().__init__()
        self.assume_straight_pages = assume_straight_pages
        self.postprocessor = SimpleNamespace(bin_thresh=0.5, assume_straight_pages=assume_straight_pages)


def _grown(quads: Quads, margin: float, page_hw: tuple[int, int]) -> Quads:
    """Quads with every side moved outwards by `margin` heights of the quad, along its own sides, within the page."""
    if not margin or not len(quads):
        return quads
    across = (quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3]) / 2
    down = (quads[:, 3] - quads[:, 0] + quads[:, 2] - quads[:, 1]) / 2
    height = np.linalg.norm(down, axis=1, keepdims=True)
    width = np.linalg.norm(across, axis=1, keepdims=True)
    x = across / np.maximum(width, 1e-6) * height * margin
    y = down * margin
    grown = quads + np.stack([-x - y, x - y, x + y, -x + y], axis=1)
    return np.asarray(np.clip(grown, 0, (page_hw[1], page_hw[0])), np.float64)


def _for_doctr(quads: Quads, scores: Scores, page_hw: tuple[int, int], straight: bool) -> npt.NDArray[np.float32]:
    height, width = page_hw
    # docTR crops up to and including the last pixel: from xmin to xmax * width + 1.
    relative = quads / (width, height)
    if straight:
        boxes = np.concatenate([enclosing_boxes(relative), scores[:, None]], axis=1)
    else:
        # docTR keeps the score in a fifth point.
        boxes = np.concatenate([relative, np.repeat(scores[:, None, None], 2, axis=2)], axis=1)
    return boxes.astype(np.float32)


def _text_map(quads: Quads, page_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    height, width = page_hw
    scale = min(1.0, _MAP_SIDE / max(height, width))
    canvas = np.zeros((max(round(height * scale), 1), max(round(width * scale), 1)), np.uint8)
    for quad in np.rint(quads * scale).astype(np.int32):
        cv2.fillConvexPoly(canvas, quad, 1)
    return canvas[..., None].astype(np.float32)


def _doctr_detector(arch: str, straight: bool, device: "torch.device | str | None") -> nn.Module:
    from doctr.models import detection_predictor
    from doctr.models.detection.zoo import ARCHS

    if arch not in ARCHS:
        raise ValueError(f"docTR has no detection architecture {arch!r}; it has {', '.join(sorted(ARCHS))}")
    try:
        predictor: nn.Module = detection_predictor(arch, pretrained=True, assume_straight_pages=straight)
    except OSError as error:  # urllib's errors are among these
        raise RuntimeError(
            f"the weights of doctr:{arch} could not be downloaded ({error}); connect to the network once, or use "
            "the detectors rapidocr or tesseract, which need none"
        ) from error
    return predictor if device is None else predictor.to(device)
