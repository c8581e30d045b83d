"""How well a model reads words: the figures that training watches and that stand on weight cards."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.calibration import calibration_error, fit_temperature
from clip4str_doctr.training.data import SamplesFactory, default_samples, validation_crops
from clip4str_doctr.training.metrics import Scores, nfc, score_strings
from clip4str_doctr.training.recipe import DataRecipe
from clip4str_doctr.training.suites import SUITES, RenderedSuite, rendered

__all__ = [
    "STYLES",
    "Answers",
    "are_right",
    "read_words",
    "rounded",
    "score",
    "score_answers",
    "suite_checks",
    "suite_scores",
    "watched_temperature",
]

# What the renderer draws and training watches apart.
STYLES = ("clean", "photo")


@dataclass(frozen=True)
class Answers:
    """What a model reads in N crops.

    texts: its answers. visual: those of its visual branch alone. confidences: of the answers, 0..1. logits: of the
    answers, a tensor (rows, V + 1) float32 on the CPU each, EOS being the last row unless the word has none.
    """

    texts: list[str]
    visual: list[str]
    confidences: list[float]
    logits: list[torch.Tensor]


@torch.inference_mode()
def read_words(model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], batch_size: int = 128) -> Answers:
    """Read crops (H, W, 3) uint8 RGB by the model's own decoding. The model must be in eval mode."""
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    device = next(model.parameters()).device
    answers = Answers([""] * len(crops), [""] * len(crops), [0.0] * len(crops), [torch.empty(0)] * len(crops))
    # A batch is decoded as long as its longest word, and wide crops mostly hold long words.
    order = sorted(range(len(crops)), key=lambda number: crops[number].shape[1] / crops[number].shape[0])
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        reading = model.read(preprocess([crops[number] for number in batch]).to(device))
        logits = reading.answer(model.charset.eos)
        words = model.postprocessor(logits)
        for place, number in enumerate(batch):
            answers.texts[number], answers.confidences[number] = words[place]
            answers.visual[number] = reading.stages[-1].captions[place]
            answers.logits[number] = logits[place, : len(words[place][0]) + 1].float().cpu()
    return answers


def score(
    model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], labels: Sequence[str], batch_size: int = 128
) -> Scores:
    """Read the crops and compare with the labels. The model must be in eval mode."""
    return score_answers(read_words(model, crops, batch_size), labels)


def score_answers(answers: Answers, labels: Sequence[str]) -> Scores:
    """Compare what was read with the labels."""
    return score_strings(answers.texts, answers.visual, labels)


def rounded(scores: Scores) -> dict[str, float]:
    """Scores as they are written down."""
    return {name: round(value, 4) for name, value in asdict(scores).items()}


def suite_checks(suite: RenderedSuite) -> dict[str, Any]:
    """Whether a suite is what it was, as far as its checksums tell."""
    return {"labels_crc": suite.labels_crc, "pixels_crc": suite.pixels_crc, "as_defined": suite.as_defined}


def suite_scores(model: CLIP4STR, words: int, names: Iterable[str] = tuple(SUITES)) -> dict[str, Any]:
    """Figures of the first `words` words of the named suites, as they stand on a weight card."""
    figures: dict[str, Any] = {}
    for name in names:
        suite = rendered(name, words)
        answers = read_words(model, suite.crops)
        figures[name] = {
            "about": SUITES[name].about,
            **rounded(score_answers(answers, suite.labels)),
            "n": len(suite.labels),
            "ece": round(calibration_error(answers.confidences, are_right(answers.texts, suite.labels)), 4),
            **suite_checks(suite),
        }
    return figures


def are_right(texts: Sequence[str], labels: Sequence[str]) -> list[bool]:
    """Whether each answer is its label, cased, NFC."""
    return [text == label for text, label in zip(nfc(texts), nfc(labels), strict=True)]


def watched_temperature(model: CLIP4STR, recipe: DataRecipe, factory: SamplesFactory = default_samples) -> float:
    """The temperature that fits the words a run watches, print and signs alike; the suites are other words."""
    logits: list[torch.Tensor] = []
    right: list[bool] = []
    for style in STYLES:
        crops, labels = validation_crops(style, recipe, factory)
        answers = read_words(model, crops)
        logits += answers.logits
        right += are_right(answers.texts, labels)
    return fit_temperature(logits, right)
