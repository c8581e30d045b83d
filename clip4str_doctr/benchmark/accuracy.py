"""Accuracy of a recogniser on the validation suites or on labelled pictures: figures, their protocol, and pictures."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.comparison import as_word
from clip4str_doctr.benchmark.confusion import Confusion, count_confusion
from clip4str_doctr.benchmark.gallery import Failure, draw_gallery
from clip4str_doctr.benchmark.pictures import draw_confusion, draw_reliability, png
from clip4str_doctr.benchmark.report import device_name, package_commit, weights_of, write_bytes
from clip4str_doctr.benchmark.scene_text import Shape
from clip4str_doctr.benchmark.targets import check_folder, keep_unfinished, unfinished
from clip4str_doctr.benchmark.word_sets import WordSet, check_names, suite_words, word_sets
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.calibration import calibration_error, reliability
from clip4str_doctr.training.suites import SIZE, SUITES
from clip4str_doctr.training.validate import are_right, read_words, rounded, score_answers, unsaid_scores

__all__ = [
    "COLUMNS",
    "Measured",
    "WordSet",
    "markdown_row",
    "measure",
    "protocol",
    "run_accuracy",
    "suite_words",
]

logger = logging.getLogger(__name__)

# Column of the table -> key of a suite's figures.
COLUMNS = {
    "cased": "cased",
    "uncased": "uncased",
    "HÒA = HOÀ": "tone",
    "CER": "cer",
    "1-NED": "ned",
    "visual branch alone": "visual",
    "calibration error": "ece",
}
_HEAD = (f"| suite | n | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|")


@dataclass(frozen=True)
class Measured:
    """What one set gave: JSON-ready figures, counts of what was taken for what, and the words that were wrong."""

    figures: dict[str, Any]
    confusion: Confusion
    failures: list[Failure]


def run_accuracy(
    model: CLIP4STR,
    weights: str | Path | None,
    *,
    suites: Sequence[str] | None = None,
    data: Path | None = None,
    words: int = SIZE,
    shape: Shape = "straight",
    out: Path | None = None,
    tell: Callable[[str], object] = logger.info,
) -> str:
    """Measure and return the table; with `out`, write accuracy.json, accuracy.md and pictures into that folder.

    The model must be in eval mode. weights: where it came from. suites: which to read; None means all, or none if
    there is data. data: labelled pictures (see `labelled_words`). shape: how words are cut out of whole ones.
    tell: is given the table's lines as they are known, for a set takes its time.
    Raises ValueError for an unknown suite, more words than a suite has, a folder of data that is not complete, or an
    `out` that holds such a report; RuntimeError if the suites' fonts are not installed; OSError if `out` cannot be
    written.
    """
    names = suites or (tuple(SUITES) if data is None else ())
    folders = [] if data is None else [data]
    check_names(names, folders)
    if out is not None:
        check_folder(out, "accuracy")
    lines, measured, told = list(_HEAD), {}, protocol(model, weights)
    for line in lines:
        tell(line)
    for one in word_sets(names, folders, words, shape):
        measured[one.name] = measure(model, one)
        lines.append(markdown_row(one.name, measured[one.name].figures))
        tell(lines[-1])
        report = {"suites": {name: one.figures for name, one in measured.items()}, "protocol": told}
        keep_unfinished(report, out, "accuracy")
    table = "\n".join(lines)
    if out is not None:
        write_bytes(out / "accuracy.json", (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode())
        write_bytes(out / "accuracy.md", (table + "\n").encode())
        _draw(measured, out)
        unfinished(out, "accuracy").unlink()
    return table


def measure(model: CLIP4STR, words: WordSet) -> Measured:
    """Read every word of a set, which must not be empty, and compare. The model must be in eval mode."""
    answers = read_words(model, words.crops)
    # As `comparison` compares: a label may end in a space or a carriage return, an alphabet of one's own have a space.
    answers = replace(answers, texts=[*map(as_word, answers.texts)], visual=[*map(as_word, answers.visual)])
    texts, labels = answers.texts, [as_word(model.charset.spelling(label)) for label in words.labels]
    right = are_right(texts, labels)
    confusion = count_confusion(texts, labels)
    figures = {
        "about": words.about,
        **rounded(score_answers(answers, labels)),
        "n": len(labels),
        **unsaid_scores(texts, labels),
        **words.checks,
        **({"left": round(sum(answers.left) / len(labels), 4)} if model.config.decode.cross_modal == "auto" else {}),
        "ece": round(calibration_error(answers.confidences, right), 4),
        "bins": [asdict(row) for row in reliability(answers.confidences, right)],
        "confusion": confusion.to_dict(),
    }
    read = zip(words.crops, labels, texts, answers.visual, answers.confidences, strict=True)
    failures = [Failure(*word) for word, is_right in zip(read, right, strict=True) if not is_right]
    figures["failures"] = [[one.label, one.answer, one.visual, round(one.confidence, 4)] for one in failures]
    return Measured(figures, confusion, failures)


def _draw(measured: Mapping[str, Measured], out: Path) -> None:
    """confusion.png of all sets together, reliability.png, and failures-NAME.png of each set."""
    total = Confusion()
    for one in measured.values():
        total.tones.update(one.confusion.tones)
        total.qualities.update(one.confusion.qualities)
    tables = total.to_dict()
    write_bytes(out / "confusion.png", png(draw_confusion(tables["tones"], tables["qualities"])))
    write_bytes(out / "reliability.png", png(draw_reliability({name: one.figures for name, one in measured.items()})))
    for name, one in measured.items():
        write_bytes(out / f"failures-{name}.png", png(draw_gallery(one.failures, name)))


def protocol(model: CLIP4STR, weights: str | Path | None) -> dict[str, Any]:
    """What was measured with what. weights: the folder or file that the model came from, if it is local."""
    parameter = next(model.parameters())
    return {
        "arch": model.config.arch,
        **weights_of(weights),
        "normalisation": "NFC; plain quotes, dashes and ellipses, and what else the alphabet has for symbols that it "
        "lacks; white space is taken out of labels, for a crop is one word",
        "dropped": 0,
        "cross_modal": model.config.decode.cross_modal,
        "certain_from": model.certain_from,
        "confidence": model.postprocessor.confidence,
        "temperature": model.postprocessor.temperature,
        "package": __version__,
        "package_commit": package_commit(),
        "device": device_name(parameter.device),
        "dtype": ", ".join(sorted({str(one.dtype).removeprefix("torch.") for one in model.parameters()})),
        "torch": torch.__version__,
    }


def markdown_row(name: str, figures: Mapping[str, Any]) -> str:
    """A set's line of the table, in per cent."""
    cells = [f"{100 * figures[key]:.1f} %" for key in COLUMNS.values()]
    return f"| {name} | {figures['n']} | {' | '.join(cells)} |"
