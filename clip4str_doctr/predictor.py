"""docTR's recognition predictor: few batches at a time, and wide crops word by word where that is more certain.

docTR resizes all crops before the first is read, which of an archive's is more than memory holds. Ours go through its
predictor batch by batch, like with like: a batch is read for as long as its longest word, and wide crops mostly hold
long words. Answers come in the order of the crops, whatever the batches are.

Of wide crops see `wide_crops`. docTR's own way, overlapping pieces of fixed width whose strings are merged, is measured
beside it in `benchmark/wide_crops.py`.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from doctr.models.recognition.predictor import RecognitionPredictor

from clip4str_doctr.batches import in_batches, reason_of
from clip4str_doctr.wide_crops import WIDE_FROM, confidence_kind, read_at_gaps

__all__ = ["WideCropPredictor"]

logger = logging.getLogger(__name__)

Crop = npt.NDArray[Any]


class WideCropPredictor(RecognitionPredictor):
    """docTR's `RecognitionPredictor`, with a second way to deal with wide crops.

    pre_processor, model: as for docTR's. split_wide_crops: docTR's own way, from 8:1 on. cut_at_gaps: crops wider than
    `wide_from` heights get a second look (`wide_crops.read_at_gaps`).
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
        kind = confidence_kind(self.model)
        return read_at_gaps(crops, answers, lambda parts: self._read(parts, **kwargs), kind, wide_from=self.wide_from)

    def _read(self, crops: Sequence[Crop], **kwargs: Any) -> list[tuple[str, float]]:
        """docTR's `forward`, as the module says. Where memory does not hold a batch, batches are half as large then."""
        if odd := [crop for crop in crops if not (isinstance(crop, np.ndarray) and crop.ndim == 3 and crop.size)]:
            # docTR or the preprocessor says what is wrong with it, before the others are made ready at once.
            super().forward(odd[:1], **kwargs)
            return list(super().forward(crops, **kwargs))
        order = sorted(range(len(crops)), key=lambda number: crops[number].shape[1] / crops[number].shape[0])
        read = super().forward
        answers = in_batches(
            order,
            self.pre_processor.batch_size,
            lambda batch: read([crops[number] for number in batch], **kwargs),
            self._halve,
        )
        return [answer for _, answer in sorted(zip(order, answers, strict=True))]

    def _halve(self, count: int, error: Exception) -> None:
        # Only a whole batch says how many fit; what a few crops at a bad moment do not must not slow all that follow.
        if count == self.pre_processor.batch_size:
            self.pre_processor.batch_size = count // 2
        log = logger.debug if self._told else logger.warning
        self._told = True
        log(
            "there is no memory for %d crops at once (%s); going on with half as many. Give a smaller batch_size",
            *(count, reason_of(error)),
        )
