"""Accuracy of a recogniser on the validation suites, with the protocol that makes it a figure."""

import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr import __version__
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.suites import SIZE, SUITES, rendered
from clip4str_doctr.training.validate import read_words, score_answers, suite_figures
from clip4str_doctr.weight_card import CARD_FILE, TENSOR_FILE, WeightsError, read_card, sha256_of

__all__ = ["COLUMNS", "markdown_table", "measure_suites", "protocol", "run_accuracy", "write_text"]

logger = logging.getLogger(__name__)

# Column of the table -> key of a suite's figures.
COLUMNS = {
    "cased": "cased",
    "uncased": "uncased",
    "HÒA = HOÀ": "tone",
    "CER": "cer",
    "1-NED": "ned",
    "visual branch alone": "visual",
}


def run_accuracy(
    model: CLIP4STR,
    weights: str | Path | None,
    *,
    suites: Sequence[str] | None = None,
    words: int = SIZE,
    out: Path | None = None,
) -> str:
    """Measure and return the table; with `out`, write accuracy.json and accuracy.md into that folder.

    The model must be in eval mode. weights: where it came from. Raises as `measure_suites` does, OSError if `out`
    cannot be written.
    """
    figures = measure_suites(model, suites or tuple(SUITES), words)
    table = markdown_table(figures)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        report = {"suites": figures, "protocol": protocol(model, weights)}
        write_text(out / "accuracy.json", json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        write_text(out / "accuracy.md", table + "\n")
    return table


def measure_suites(model: CLIP4STR, names: Iterable[str] = tuple(SUITES), words: int = SIZE) -> dict[str, Any]:
    """Suite name -> figures of its first `words` words, read one suite after the other.

    Raises ValueError for an unknown suite or too many words, RuntimeError if the suites' fonts are not installed.
    """
    figures: dict[str, Any] = {}
    for name in names:
        suite = rendered(name, words)
        if suite.as_defined is False:
            logger.warning(
                "suite %s: the pictures are not those it was defined with (renderer, Pillow, OpenCV or fonts have "
                "changed); figures of other states are not to be compared with these",
                name,
            )
        figures[name] = suite_figures(suite, score_answers(read_words(model, suite.crops), suite.labels))
    return figures


def protocol(model: CLIP4STR, weights: str | Path | None) -> dict[str, Any]:
    """What was measured with what. weights: the folder or file that the model came from, if it is local."""
    device = next(model.parameters()).device
    return {
        "arch": model.config.arch,
        **_weights(weights),
        "normalisation": "NFC",
        "dropped": 0,
        "confidence": model.postprocessor.confidence,
        "package": __version__,
        "package_commit": _commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})",
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }


def _weights(weights: str | Path | None) -> dict[str, Any]:
    if weights is None or not Path(weights).exists():
        return {"weights": None if weights is None else str(weights), "weights_sha256": None, "weights_commit": None}
    path = Path(weights)
    if (path / CARD_FILE).is_file():
        try:
            card = read_card(path)
        except WeightsError as error:  # it was loaded, so this is another kind of folder
            logger.warning("no card for %s: %s", path, error)
        else:
            digest = card.sha256.get(TENSOR_FILE)
            return {"weights": path.name, "weights_sha256": digest, "weights_commit": card.commit}
    return {"weights": path.name, "weights_sha256": sha256_of(path) if path.is_file() else None, "weights_commit": None}


def _commit() -> str | None:
    """Of the checkout this package lies in; None for an installed one."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def markdown_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a suite: accuracies and 1-NED in per cent."""
    lines = [f"| suite | n | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, row in figures.items():
        cells = [f"{100 * row[key]:.1f} %" for key in COLUMNS.values()]
        lines.append(f"| {name} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    """Write under another name first: a reader sees the old file or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
