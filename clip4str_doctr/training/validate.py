"""How well a model reads: word accuracy and 1-NED over a fixed set of crops.

`python -m clip4str_doctr.training.validate [WEIGHTS]` measures the figures that stand on the embedded model's card.
"""

import argparse
import itertools
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.preprocess import Preprocess

# What the renderer draws and validation scores apart.
STYLES = ("clean", "photo")


@dataclass(frozen=True)
class Scores:
    """Shares in 0..1 over all words; none is ever dropped.

    cased, uncased: whole words right (NFC). ned: mean of 1 - edit distance / length of the longer string.
    visual: cased, of the visual branch alone.
    """

    cased: float
    uncased: float
    ned: float
    visual: float


def score(
    model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], labels: Sequence[str], batch_size: int = 128
) -> Scores:
    """Read the crops by the model's own decoding and compare with the labels. The model must be in eval mode."""
    answers, drafts = read_both_branches(model, crops, batch_size)
    truth = [unicodedata.normalize("NFC", label) for label in labels]
    return Scores(
        cased=_share(answers, truth),
        uncased=_share([one.casefold() for one in answers], [one.casefold() for one in truth]),
        ned=float(np.mean([similarity(answer, label) for answer, label in zip(answers, truth, strict=True)])),
        visual=_share(drafts, truth),
    )


@torch.inference_mode()
def read_both_branches(
    model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], batch_size: int
) -> tuple[list[str], list[str]]:
    """-> the model's answers, and the answers of its visual branch alone."""
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    device = next(model.parameters()).device
    answers: list[str] = []
    drafts: list[str] = []
    for start in range(0, len(crops), batch_size):
        reading = model.read(preprocess(crops[start : start + batch_size]).to(device))
        ids = reading.answer(model.charset.eos).argmax(-1).tolist()
        answers += [model.charset.decode(word) for word in ids]
        drafts += reading.stages[-1].captions
    return answers, drafts


def _share(answers: Sequence[str], truth: Sequence[str]) -> float:
    return sum(answer == label for answer, label in zip(answers, truth, strict=True)) / len(truth)


def similarity(answer: str, label: str) -> float:
    """1 - edit distance / length of the longer string; 1.0 for two empty strings."""
    longest = max(len(answer), len(label))
    return 1.0 - edit_distance(answer, label) / longest if longest else 1.0


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance."""
    previous = list(range(len(second) + 1))
    for row, one in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            current.append(min(previous[column] + 1, current[column - 1] + 1, previous[column - 1] + (one != other)))
        previous = current
    return previous[-1]


@dataclass(frozen=True)
class Suite:
    """Held-out renderings of one style whose crops are `heights` = (least, below) pixels high."""

    style: str
    heights: tuple[int, int]
    about: str


SUITES: dict[str, Suite] = {
    "clean": Suite("clean", (0, 1000), "document print, crops of 11 to 44 pixels"),
    "clean_from_20px": Suite("clean", (20, 1000), "the same, only crops of 20 pixels and higher"),
    "photo": Suite("photo", (0, 1000), "signs as photographed"),
}


def rendered_words(suite: Suite, words: int, seed: int) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """The first `words` samples of a suite, of fonts and lexical words that no training run sees."""
    from clip4str_doctr.training.data import default_samples

    samples = default_samples(suite.style, "val", seed)
    drawn = (samples.sample(index) for index in itertools.count())
    least, below = suite.heights
    kept = list(itertools.islice((one for one in drawn if least <= one[0].shape[0] < below), words))
    return [crop for crop, _ in kept], [label for _, label in kept]


def rendered_scores(model: CLIP4STR, words: int, seed: int) -> dict[str, Any]:
    """Scores on `words` words of every suite, as they stand on a weight card."""
    figures: dict[str, Any] = {}
    for name, suite in SUITES.items():
        scores = score(model, *rendered_words(suite, words, seed))
        figures[name] = {"about": suite.about, **{key: round(value, 4) for key, value in asdict(scores).items()}}
    return figures


def main() -> None:
    """Print one JSON object: the figures, and the protocol that makes them figures."""
    from clip4str_doctr.weights import find_weights, load_model, read_card

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("weights", nargs="?", help="weights folder (default: the embedded model)")
    parser.add_argument("--words", type=int, default=1000, help="of each suite (default: 1000)")
    parser.add_argument("--seed", type=int, default=3, help="of the renderer; training watches seed 2 (default: 3)")
    args = parser.parse_args()
    folder = args.weights or find_weights("clip4str_vn_tiny")
    model = load_model(folder)
    card = read_card(folder)
    protocol = {
        "normalisation": "NFC",
        "words_per_suite": args.words,
        "seed": args.seed,
        "split": "fonts and lexical words held out from training; nothing dropped",
        "weights_sha256": card.sha256["model.safetensors"],
        "weights_commit": card.commit,
        "device": str(next(model.parameters()).device),
        "torch": torch.__version__,
    }
    print(json.dumps({**rendered_scores(model, args.words, args.seed), "protocol": protocol}, indent=2))


if __name__ == "__main__":
    main()
