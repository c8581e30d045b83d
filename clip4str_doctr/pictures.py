"""`clip4str-doctr read`: pictures of single words, from files, as many at once as memory holds."""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clip4str_doctr.batches import in_batches, reason_of
from clip4str_doctr.images import UnreadableImageError, frames_of, open_image
from clip4str_doctr.plugin import cuts_at_gaps, preprocessor_of
from clip4str_doctr.wide_crops import WIDE_FROM, confidence_kind, read_at_gaps

__all__ = ["read_pictures"]

logger = logging.getLogger(__name__)

_Preprocess = Callable[[Sequence[npt.NDArray[np.uint8]]], torch.Tensor]
_Opened = tuple[Path, torch.Tensor, "npt.NDArray[np.uint8] | None"]


def read_pictures(model: Any, paths: Sequence[Path], batch_size: int) -> Iterator[tuple[Path, str, float]]:
    """(path, text, confidence) of every image that can be opened, in order; the others are reported on stderr.

    model: any docTR recogniser, in eval mode; it reads where its weights are. Where memory does not hold `batch_size`
    crops, batches are halved, with one warning. Raises torch's error, if there is no room for one.
    """
    # Letterboxed or squashed, as a predictor of this model has it.
    processor = preprocessor_of(model)
    device = next(model.parameters()).device
    sizes = [batch_size]

    def preprocess(crops: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
        return torch.cat(processor(crops))

    def read(pixels: torch.Tensor) -> list[tuple[str, float]]:
        with torch.inference_mode():
            preds: list[tuple[str, float]] = model(pixels.to(device), return_preds=True)["preds"]
        return preds

    def halved(count: int, error: Exception) -> None:
        if len(sizes) == 1:
            logger.warning(
                "there is no memory for %d crops at once (%s); going on with half as many. Give a smaller --batch-size",
                *(count, reason_of(error)),
            )
        sizes.append(count // 2)

    def answers_of(pixels: torch.Tensor) -> list[tuple[str, float]]:
        return in_batches(pixels, sizes[-1], read, halved)  # type: ignore[arg-type]  # a tensor is sliced so

    images = _opened(paths, preprocess, WIDE_FROM if cuts_at_gaps(model) else math.inf)
    while batch := list(islice(images, batch_size)):
        preds = answers_of(torch.cat([pixels for _, pixels, _ in batch]))
        wide = [number for number, (_, _, crop) in enumerate(batch) if crop is not None]
        crops = [crop for _, _, crop in batch if crop is not None]
        second = read_at_gaps(
            *(crops, [preds[number] for number in wide], lambda pieces: answers_of(preprocess(pieces))),
            confidence_kind(model),
        )
        for number, answer in zip(wide, second, strict=True):
            preds[number] = answer
        for (path, _, _), (text, confidence) in zip(batch, preds, strict=True):
            yield path, text, confidence


def _opened(paths: Sequence[Path], preprocess: _Preprocess, cut_from: float) -> Iterator[_Opened]:
    """(path, pixels (1, 3, H, W), the crop where it is wider than `cut_from` heights).

    An image is brought to the model's size as soon as it is open, so that memory holds one whole image at a time; but
    wide ones are kept for a second look, where docTR's users get that.
    """
    for path in paths:
        try:
            frames = _frames_of(path)
            crop = open_image(path, frames[0])
        except UnreadableImageError as error:
            print(f"{path}: {error}", file=sys.stderr, flush=True)
            continue
        if len(frames) > 1:
            told = f"only the first of its {len(frames)} pictures is read; save each of them as a file, or try page"
            print(f"{path}: {told}", file=sys.stderr, flush=True)
        yield path, preprocess([crop]), crop if crop.shape[1] > cut_from * crop.shape[0] else None


def _frames_of(path: Path) -> list[int]:
    """Which frames of a TIFF are pictures of their own; of other files the first, and pipes cannot be opened twice.

    Raises UnreadableImageError.
    """
    return frames_of(path) if path.suffix.lower() in (".tif", ".tiff") else [0]
