"""How well a model reads words: the figures that training watches and that stand on weight cards."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.metrics import Scores, score_strings
from clip4str_doctr.training.suites import SUITES, RenderedSuite, rendered

__all__ = ["STYLES", "Answers", "read_words", "score", "score_answers", "suite_figures", "suite_scores"]

# What the renderer draws and training watches apart.
STYLES = ("clean", "photo")


@dataclass(frozen=True)
class Answers:
    """What a model reads in N crops: its answers, those of its visual branch alone, and the answers' confidences."""

    texts: list[str]
    visual: list[str]
    confidences: list[float]


@torch.inference_mode()
def read_words(model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], batch_size: int = 128) -> Answers:
    """Read crops (H, W, 3) uint8 RGB by the model's own decoding. The model must be in eval mode."""
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    device = next(model.parameters()).device
    answers = Answers([""] * len(crops), [""] * len(crops), [0.0] * len(crops))
    # A batch is decoded as long as its longest word, and wide crops mostly hold long words.
    order = sorted(range(len(crops)), key=lambda number: crops[number].shape[1] / crops[number].shape[0])
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        reading = model.read(preprocess([crops[number] for number in batch]).to(device))
        words = model.postprocessor(reading.answer(model.charset.eos))
        for number, (text, confidence), visual in zip(batch, words, reading.stages[-1].captions, strict=True):
            answers.texts[number], answers.confidences[number], answers.visual[number] = text, confidence, visual
    return answers


def score(
    model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], labels: Sequence[str], batch_size: int = 128
) -> Scores:
    """Read the crops and compare with the labels. The model must be in eval mode."""
    return score_answers(read_words(model, crops, batch_size), labels)


def score_answers(answers: Answers, labels: Sequence[str]) -> Scores:
    """Compare what was read with the labels."""
    return score_strings(answers.texts, answers.visual, labels)


def suite_figures(suite: RenderedSuite, scores: Scores) -> dict[str, Any]:
    """What a report says of one suite: rounded scores, how many words, and whether the suite is what it was."""
    rounded = {name: round(value, 4) for name, value in asdict(scores).items()}
    checks = {"labels_crc": suite.labels_crc, "pixels_crc": suite.pixels_crc, "as_defined": suite.as_defined}
    return {"about": SUITES[suite.name].about, **rounded, "n": len(suite.labels), **checks}


def suite_scores(model: CLIP4STR, words: int, names: Iterable[str] = tuple(SUITES)) -> dict[str, Any]:
    """Figures of the first `words` words of the named suites, as they stand on a weight card."""
    figures: dict[str, Any] = {}
    for name in names:
        suite = rendered(name, words)
        figures[name] = suite_figures(suite, score(model, suite.crops, suite.labels))
    return figures
