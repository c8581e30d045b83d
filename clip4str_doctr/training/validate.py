"""How well a model reads words: the figures that training watches and that stand on weight cards."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clip4str_doctr.decoding import draft_certainty
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.calibration import calibration_error, fit_certainty, fit_temperature
from clip4str_doctr.training.data import SamplesFactory, default_samples, validation_crops
from clip4str_doctr.training.metrics import Scores, nfc, score_strings
from clip4str_doctr.training.recipe import DataRecipe, Recipe
from clip4str_doctr.training.suites import SUITES, RenderedSuite, rendered
from clip4str_doctr.training.synth.words import is_unsaid

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
    "unsaid_scores",
    "watched_certainty",
    "watched_styles",
    "watched_temperature",
]

# What the renderer draws and training watches apart.
STYLES = ("clean", "photo")
# Of the words that `cross_modal="auto"` may lose: half of one in a thousand, for other words are other than these.
_MOST_LOST = 0.0005


@dataclass(frozen=True)
class Answers:
    """What a model reads in N crops.

    texts: its answers. visual: those of its visual branch alone. confidences: of the answers, 0..1. logits: of the
    answers, a tensor (rows, V + 1) float32 on the CPU each, EOS being the last row unless the word has none. drafts:
    what the visual branch read first; certainties: of it, 0..1 (`draft_certainty`). left: whether that was the answer
    because the visual branch was certain of it.
    """

    texts: list[str]
    visual: list[str]
    confidences: list[float]
    logits: list[torch.Tensor]
    drafts: list[str]
    certainties: list[float]
    left: list[bool]


@torch.inference_mode()
def read_words(model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], batch_size: int = 128) -> Answers:
    """Read crops (H, W, 3) uint8 RGB by the model's own decoding. The model must be in eval mode."""
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    weight = next(model.parameters())
    n = len(crops)
    answers = Answers([""] * n, [""] * n, [0.0] * n, [torch.empty(0)] * n, [""] * n, [0.0] * n, [False] * n)
    # A batch is decoded as long as its longest word, and wide crops mostly hold long words.
    order = sorted(range(len(crops)), key=lambda number: crops[number].shape[1] / crops[number].shape[0])
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        reading = model.read(
            preprocess([crops[number] for number in batch]).to(weight.device, weight.dtype), all_rows=False
        )
        logits = reading.answer(model.charset.eos)
        words = model.postprocessor(logits)
        certainties = draft_certainty(reading.stages[0].visual, model.charset.eos).tolist()
        left = [False] * len(batch) if reading.certain is None else reading.certain.tolist()
        for place, number in enumerate(batch):
            answers.texts[number], answers.confidences[number] = words[place]
            answers.visual[number] = reading.stages[-1].captions[place]
            answers.drafts[number], answers.certainties[number] = reading.stages[0].captions[place], certainties[place]
            answers.left[number] = left[place]
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
            **unsaid_scores(answers.texts, suite.labels),
            **suite_checks(suite),
        }
    return figures


def unsaid_scores(texts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """{"unsaid": {"cased", "n"}}: of those labels alone that the recipes' training never says; {} if there are none."""
    right = [is_right for is_right, label in zip(are_right(texts, labels), labels, strict=True) if is_unsaid(label)]
    return {"unsaid": {"cased": round(sum(right) / len(right), 4), "n": len(right)}} if right else {}


def are_right(texts: Sequence[str], labels: Sequence[str]) -> list[bool]:
    """Whether each answer is its label, cased, NFC."""
    return [text == label for text, label in zip(nfc(texts), nfc(labels), strict=True)]


def watched_styles(recipe: Recipe) -> tuple[str, ...]:
    """What a run's validation renders: nothing for one that renders nothing else, and so needs no fonts."""
    return () if recipe.words.train and recipe.words.share == 1.0 else STYLES


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


def watched_certainty(
    model: CLIP4STR, recipe: DataRecipe, words: int, factory: SamplesFactory = default_samples
) -> float | None:
    """From which certainty on the visual branch may be left alone with a word (`fit_certainty`), in print and in signs.

    words: to be read of each style, those that a run watches and more of the kind; one lost of a thousand takes
    thousands to be seen. None if they are too few, or less than half of a style is read. The model must be in eval
    mode; its `cross_modal` does not matter.
    """
    config, found = model.config, []
    model.config = config.with_decode(cross_modal="always")
    try:
        for style in STYLES:
            crops, labels = validation_crops(style, replace(recipe, val_words=words), factory)
            answers = read_words(model, crops)
            right, draft_right = are_right(answers.texts, labels), are_right(answers.drafts, labels)
            if 2 * sum(right) < len(right):
                return None  # of a model that hardly reads, few drafts are lost, and that says nothing
            lost = [last and not first for last, first in zip(right, draft_right, strict=True)]
            found.append(fit_certainty(answers.certainties, lost, _MOST_LOST))
    finally:
        model.config = config
    return max((one for one in found if one is not None), default=None)
