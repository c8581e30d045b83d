"""Wide crops: a second look at what may be several words, cut at the gaps between them.

A detector that overlooks a space gives two words as one crop, which is squashed until its letters are slivers, and of
which at most 25 symbols can be read in one pass. Such a crop is cut in the middle of the gaps between its words (see
`lines`), so that no ink is lost; the pieces are read on their own and joined without a space, since the alphabet has
none. Not every gap parts two words: of the two answers, whole and joined, the one that is more certain per symbol is
given; a crop whose whole answer is as good as certain is not cut at all.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from clip4str_doctr.postprocess import Confidence
from clip4str_doctr.preprocess import to_uint8

__all__ = ["WIDE_FROM", "confidence_kind", "cut_at_gaps", "read_at_gaps"]

# Width / height from which a crop is looked at for gaps: chosen with benchmark/wide_crops.py.
WIDE_FROM = 3.0
# Certainty per symbol from which a crop is one word beyond doubt: of 705 rendered phrases as many are read right as if
# all were cut, and of 750 ordinary wide crops of one word two in three need no second look.
CERTAIN_WHOLE = 0.995

# Heights of paper put around a crop before it is looked at: where ink touches the edge, what goes on beyond it would be
# strokes without end, which pass for rules.
_AROUND = 0.65

Crop = npt.NDArray[Any]
Answer = tuple[str, float]  # text, confidence


def read_at_gaps(
    crops: Sequence[Crop],
    answers: Sequence[Answer],
    read: Callable[[list[Crop]], Sequence[Answer]],
    kind: Confidence,
    *,
    wide_from: float = WIDE_FROM,
) -> list[Answer]:
    """Answers of whole crops -> the same, but of wide ones of which they are not certain the more certain answer.

    read: what gave the answers. kind: of their confidences, as in `PostProcessor`. The confidence of a joined answer
    follows it: the product of its pieces, the least of them, or their mean by symbols.
    """
    better = list(answers)
    doubtful = [number for number, answer in enumerate(answers) if _certainty([answer], kind) < CERTAIN_WHOLE]
    cut = {number: cut_at_gaps(crops[number], wide_from) for number in doubtful}
    cut = {number: parts for number, parts in cut.items() if len(parts) > 1}
    if not cut:
        return better
    pieces = iter(read([piece for parts in cut.values() for piece in parts]))
    for number, parts in cut.items():
        words = [next(pieces) for _ in parts]
        if _certainty(words, kind) > _certainty([answers[number]], kind):
            better[number] = _join(words, kind)
    return better


def confidence_kind(model: Any) -> Confidence:
    """Of what kind a model's confidences are, as in `PostProcessor`."""
    # A model of another package may come with docTR's own postprocessor, whose confidence is a mean.
    kind: Any = getattr(model.postprocessor, "confidence", None)
    return kind if kind in get_args(Confidence) else "mean"


def _join(words: Sequence[Answer], kind: Confidence) -> Answer:
    text, confidences = "".join(word for word, _ in words), [confidence for _, confidence in words]
    if kind == "product":
        return text, math.prod(confidences)
    if kind == "min":
        return text, min(confidences)
    return text, sum(len(word) * confidence for word, confidence in words) / max(len(text), 1)


def _certainty(words: Sequence[Answer], kind: Confidence) -> float:
    """What answers of unlike lengths are compared by: a product of more factors is smaller, so its mean factor."""
    text, confidence = _join(words, kind)
    return float(confidence ** (1 / (len(text) + len(words)))) if kind == "product" else confidence


def cut_at_gaps(crop: Crop, wide_from: float = WIDE_FROM) -> list[Crop]:
    """crop (H, W, 3) -> its words from left to right, views of all its columns; the crop itself where it is one word.

    What is no picture is passed on: the preprocessor says what is wrong with it.
    """
    if crop.ndim != 3 or crop.shape[2] != 3 or 0 in crop.shape or crop.shape[1] <= wide_from * crop.shape[0]:
        return [crop]
    # Imported here: they need OpenCV, and few crops come this far.
    import cv2

    from clip4str_doctr.boxes import enclosing_boxes
    from clip4str_doctr.lines import words_of_line

    pixels = to_uint8(crop)
    if pixels.dtype != np.uint8:
        return [crop]
    height, width = crop.shape[:2]
    around = round(_AROUND * height)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    paper = np.median(edge, axis=0).astype(np.uint8)
    framed: Any = cv2.copyMakeBorder(pixels, *4 * (around,), cv2.BORDER_CONSTANT, value=paper.tolist())
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) + around
    boxes = enclosing_boxes(words_of_line(framed, whole, margin=0.0)) - around
    if len(boxes) < 2:
        return [crop]
    middles = [round((one[2] + other[0]) / 2) for one, other in zip(boxes, boxes[1:], strict=False)]
    edges = [0, *middles, width]
    return [crop[:, left:right] for left, right in zip(edges, edges[1:], strict=False) if right > left]
