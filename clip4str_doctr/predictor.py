"""docTR's recognition predictor: few batches at a time, and wide crops word by word where that is more certain.

docTR resizes all crops before the first is read, which of an archive's is more than memory holds. Ours go through its
predictor batch by batch, like with like: a batch is read for as long as its longest word, and wide crops mostly hold
long words. Answers come in the order of the crops, whatever the batches are.

A detector that overlooks a space gives two words as one crop, which is squashed until its letters are slivers, and of
which at most 25 symbols can be read in one pass. Such a crop is cut in the middle of the gaps between its words (see
`lines`), so that no ink is lost; the pieces are read on their own and joined without a space, since the alphabet has
none. Not every gap parts two words: of the two answers, whole and joined, the one that is more certain per symbol is
given; a crop whose whole answer is as good as certain is not cut at all. docTR's own way, overlapping pieces of fixed
width whose strings are merged, is measured beside it in `benchmark/wide_crops.py`.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from doctr.models.recognition.predictor import RecognitionPredictor

from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.lines import words_of_line
from clip4str_doctr.preprocess import to_uint8

__all__ = ["WIDE_FROM", "WideCropPredictor", "cut_at_gaps"]

logger = logging.getLogger(__name__)

# Width / height from which a crop is looked at for gaps: chosen with benchmark/wide_crops.py.
WIDE_FROM = 3.0
# Certainty per symbol from which a crop is one word beyond doubt: of 705 rendered phrases as many are read right as if
# all were cut, and of 750 ordinary wide crops of one word two in three need no second look.
CERTAIN_WHOLE = 0.995

Crop = npt.NDArray[Any]


class WideCropPredictor(RecognitionPredictor):
    """docTR's `RecognitionPredictor`, with a second way to deal with wide crops.

    pre_processor, model: as for docTR's. split_wide_crops: docTR's own way, from 8:1 on. cut_at_gaps: crops wider than
    `wide_from` heights are read whole and, if that is not certain (`CERTAIN_WHOLE` per symbol), cut between their
    words, and the more certain answer counts. The confidence of a joined answer follows the model's kind: the product
    of its pieces, the least of them, or their mean by symbols.
    Both are attributes that may be changed at any time; set one of them at most. The preprocessor's `batch_size` is the
    most crops read at once; it is halved, with one warning, where memory does not hold them.
    """

    def __init__(
        self,
        pre_processor: Any,
        model: Any,
        *,
        split_wide_crops: bool = False,
        cut_at_gaps: bool = False,
        wide_from: float = WIDE_FROM,
    ) -> None:
        super().__init__(pre_processor, model, split_wide_crops=split_wide_crops)
        self.cut_at_gaps = cut_at_gaps
        self.wide_from = wide_from
        self._told = False

    def forward(self, crops: Sequence[Crop], **kwargs: Any) -> list[tuple[str, float]]:
        """crops: as docTR's predictor takes them -> one (text, confidence) for each."""
        answers = self._read(crops, **kwargs)
        if not self.cut_at_gaps:
            return answers
        doubtful = [number for number, answer in enumerate(answers) if self._certainty([answer]) < CERTAIN_WHOLE]
        cut = {number: cut_at_gaps(crops[number], self.wide_from) for number in doubtful}
        cut = {number: parts for number, parts in cut.items() if len(parts) > 1}
        pieces = iter(self._read([piece for parts in cut.values() for piece in parts], **kwargs))
        for number, parts in cut.items():
            words = [next(pieces) for _ in parts]
            if self._certainty(words) > self._certainty([answers[number]]):
                answers[number] = self._join(words)
        return answers

    def _read(self, crops: Sequence[Crop], **kwargs: Any) -> list[tuple[str, float]]:
        """docTR's `forward`, as the module says. Where memory does not hold a batch, batches are half as large then."""
        if not all(isinstance(crop, np.ndarray) and crop.ndim == 3 and crop.size for crop in crops):
            # docTR or the preprocessor says what is wrong.
            return list(super().forward(crops, **kwargs))
        order = sorted(range(len(crops)), key=lambda number: crops[number].shape[1] / crops[number].shape[0])
        answers: list[tuple[str, float]] = [("", 0.0)] * len(crops)
        start = 0
        while start < len(order):
            batch = order[start : start + self.pre_processor.batch_size]
            try:
                read = super().forward([crops[number] for number in batch], **kwargs)
            except RuntimeError as error:
                if not _out_of_memory(error) or len(batch) == 1:
                    raise
                self.pre_processor.batch_size = len(batch) // 2
                self._tell_once(len(batch), error)
                continue
            for number, answer in zip(batch, read, strict=True):
                answers[number] = answer
            start += len(batch)
        return answers

    def _tell_once(self, count: int, error: RuntimeError) -> None:
        log = logger.debug if self._told else logger.warning
        self._told = True
        log(
            "there is no memory for %d crops at once (%s); going on with half as many. Give a smaller batch_size",
            *(count, str(error).splitlines()[0]),
        )

    @property
    def _kind(self) -> str:
        # A model of another package may come with docTR's own postprocessor, whose confidence is a mean.
        return getattr(self.model.postprocessor, "confidence", "mean")

    def _join(self, words: list[tuple[str, float]]) -> tuple[str, float]:
        text, confidences = "".join(word for word, _ in words), [confidence for _, confidence in words]
        if self._kind == "product":
            return text, math.prod(confidences)
        if self._kind == "min":
            return text, min(confidences)
        return text, sum(len(word) * confidence for word, confidence in words) / max(len(text), 1)

    def _certainty(self, words: list[tuple[str, float]]) -> float:
        """What answers of unlike lengths are compared by: a product of more factors is smaller, so its mean factor."""
        text, confidence = self._join(words)
        return float(confidence ** (1 / (len(text) + len(words)))) if self._kind == "product" else confidence


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no exception of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def cut_at_gaps(crop: Crop, wide_from: float = WIDE_FROM) -> list[Crop]:
    """crop (H, W, 3) -> its words from left to right, views of all its columns; the crop itself where it is one word.

    What is no picture is passed on: the preprocessor says what is wrong with it.
    """
    if crop.ndim != 3 or crop.shape[2] != 3 or 0 in crop.shape or crop.shape[1] <= wide_from * crop.shape[0]:
        return [crop]
    pixels = to_uint8(crop)
    if pixels.dtype != np.uint8:
        return [crop]
    height, width = crop.shape[:2]
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    boxes = enclosing_boxes(words_of_line(pixels, whole, margin=0.0))
    if len(boxes) < 2:
        return [crop]
    middles = [round((one[2] + other[0]) / 2) for one, other in zip(boxes, boxes[1:], strict=False)]
    edges = [0, *middles, width]
    return [crop[:, left:right] for left, right in zip(edges, edges[1:], strict=False) if right > left]
