"""The published comparison on VinText, in one command, for whoever has the weights and the pictures.

The table that is published (PARSeq-VN 86.38 / 91.3, CLIP4STR-VN 90.16 / 94.48: words right and 1-NED, in per cent) does
not say that its scoring compares upper-cased strings, which pictures it is of, how words were cut out, or which mean
and std the weights are to be read with: training was configured with CLIP's, the published script uses 0.5. So the
weights read with both, on each folder of test pictures, and what comes nearest is told beside the figures.
"""

import copy
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.benchmark.comparison import compare
from clip4str_doctr.benchmark.labelled import labelled_words
from clip4str_doctr.benchmark.recognisers import Recogniser, our_recogniser
from clip4str_doctr.benchmark.scene_text import SceneText, Shape, splits_of
from clip4str_doctr.benchmark.statistics import compare_pair
from clip4str_doctr.benchmark.tables import Table
from clip4str_doctr.benchmark.word_sets import WordSet
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.datasets import DatasetError
from clip4str_doctr.training.metrics import judge
from clip4str_doctr.weight_card import NORMALIZATIONS
from clip4str_doctr.weights import load_model

__all__ = ["PUBLISHED", "right_normalisation", "run_vintext", "vintext_sets", "without_answers"]

logger = logging.getLogger(__name__)

# Words right without regard to case and 1-NED, in per cent, as published.
PUBLISHED = {"PARSeq-VN": (86.38, 91.3), "CLIP4STR-VN": (90.16, 94.48)}
# Below this p one normalisation is called right; above, the words do not tell.
_SIGNIFICANT = 0.05


def run_vintext(
    root: Path,
    weights: str | Path,
    *,
    tokenizer: Path | None = None,
    others: Sequence[Recogniser] = (),
    shape: Shape = "straight",
    words: int | None = None,
    device: torch.device | str = "cpu",
    tell: Callable[[str], object] = logger.info,
    save: Callable[[dict[str, Any]], object] = lambda report: None,
) -> tuple[dict[str, Any], list[Table]]:
    """The comparison's report, its key "vintext" saying which normalisation is right, and the table beside the
    published figures.

    root: VinText's folder, see `scene_text`; its training pictures are left out. weights, tokenizer: as `load_model`
    takes them. others: read too. words: of each folder of pictures, None for all. save: is given the report after each
    folder, VinText's words in it. Raises ValueError where there are no test pictures or one cannot be read, before
    anything is read, and as `load_model` does.
    """
    sets = vintext_sets(root, shape, words)
    loaded = load_model(weights, tokenizer=tokenizer).to(device)
    models = [our_recogniser(f"CLIP4STR-VN, {name}", _normalised(loaded, name), weights) for name in NORMALIZATIONS]
    parts = ["clip4str-doctr", "bench", "vintext", "--root", "DIR", "--weights", "WEIGHTS", "--crops", shape]
    parts += ["--words", str(words)] if words else []
    parts += ["--models", *(one.name for one in others)] if others else []
    command = shlex.join(parts)
    report = compare([*models, *others], sets, title="VinText", command=command, device=device, tell=tell, save=save)
    names = [one.name for one in models]
    report["vintext"] = {
        "normalisation": right_normalisation(report, names),
        "published": PUBLISHED,
        "as_published": {},
    }
    table = _beside(report)
    tell(report["vintext"]["normalisation"]["told"])
    return report, [table]


def vintext_sets(root: Path, shape: Shape = "straight", words: int | None = None) -> list[WordSet]:
    """The words of every folder of pictures but those to train on, all of them cut out: what is wrong with the last
    folder is better known before hours of reading. words: of each folder, None for all.

    Raises DatasetError if there is no such folder, ValueError for a picture that cannot be opened.
    """
    splits = [split for split in splits_of(root.expanduser()) if not split.name.startswith("train")]
    if not splits:
        raise DatasetError(
            f"{root} is not VinText: expected labels/gt_*.txt beside folders of test pictures (test_image, "
            "unseen_test_images), in it or in its folder vietnamese/"
        )
    sets = []
    for split in splits:
        source = SceneText(split, shape)
        crops, labels = labelled_words(source, words)
        counts, whole = source.counts(words), len(source.entries())
        taken = f"{whole}" if len(crops) == whole else f"the first {len(crops)} of {whole}"
        about = f"VinText, {taken} legible words, {counts['illegible']} illegible ones left out, {shape} crops"
        sets.append(WordSet(split.name, about, crops, labels, counts))
    return sets


def _normalised(model: CLIP4STR, name: str) -> CLIP4STR:
    """The model read with another mean and std; both share one copy of the weights, 2.6 GB at full size."""
    other = copy.copy(model)
    other.config = replace(model.config, preprocess=NORMALIZATIONS[name])
    return other


def without_answers(report: dict[str, Any]) -> dict[str, Any]:
    """The report without labels and answers: those of VinText are a part of it, which must not be passed on.

    Nothing is left of a set that not all have read.
    """
    kept = {
        name: {key: one[key] for key in one if key not in ("labels", "answers")}
        for name, one in report["sets"].items()
        if "figures" in one
    }
    return {**report, "sets": kept}


def right_normalisation(report: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Which of two normalisations reads more words right, without regard to case, and whether the words tell."""
    one, other = names
    labels = _labels(report)
    first, second = (judge(_answers(report, name), labels) for name in names)
    pair = compare_pair(first, second, figure="uncased")
    shares = {one: float(first.uncased.mean()), other: float(second.uncased.mean())}
    better = max(shares, key=lambda name: shares[name])
    sure = pair["p"] < _SIGNIFICANT
    counts = ", ".join(f"{name}: {100 * share:.2f} %" for name, share in shares.items())
    verdict = f"{better.rpartition(', ')[2]} is right" if sure else "these words do not tell which is right"
    told = f"normalisation: {verdict} ({counts} of {len(labels)} words, uncased; p = {pair['p']:.3g})"
    return {"right": better.rpartition(", ")[2] if sure else None, "uncased": shares, "pair": pair, "told": told}


def _labels(report: dict[str, Any]) -> list[str]:
    return [label for one in report["sets"].values() for label in one["labels"]]


def _answers(report: dict[str, Any], name: str) -> list[str]:
    return [text for one in report["sets"].values() for text in one["answers"][name]]


def _beside(report: dict[str, Any]) -> Table:
    """Published and own figures by the published scoring: upper-cased strings, words right and 1-NED."""
    own: dict[str, dict[str, tuple[float, float]]] = {}
    sets = {name: (one["labels"], one["answers"]) for name, one in report["sets"].items()}
    if len(sets) > 1:
        sets["all"] = (_labels(report), {name: _answers(report, name) for name in report["models"]})
    for name in report["models"]:
        own[name] = {}
        for place, (labels, answers) in sets.items():
            judged = judge([text.upper() for text in answers[name]], [text.upper() for text in labels])
            own[name][place] = 100 * float(judged.cased.mean()), 100 * float(judged.similarity.mean())
    report["vintext"]["as_published"] = {
        name: {key: list(told) for key, told in row.items()} for name, row in own.items()
    }
    blank = [""] * len(sets)
    rows = [(name, f"{right:.2f} / {ned:.2f}", *blank) for name, (right, ned) in PUBLISHED.items()]
    rows += [(name, "", *(f"{right:.2f} / {ned:.2f}" for right, ned in row.values())) for name, row in own.items()]
    head = ("reader", "published", *sets)
    return Table(
        "Words right / 1-NED of upper-cased strings, per cent, as published figures are counted", head, tuple(rows)
    )
