"""What `cross_modal="auto"` leaves to the visual branch, and what it loses by that.

`python -m clip4str_doctr.benchmark.adaptive -o FILE.json` reads the suites with the embedded model, both branches
throughout and "auto".
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

import torch

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.report import package_commit, tell, weights_of
from clip4str_doctr.benchmark.word_sets import suite_words
from clip4str_doctr.factories import clip4str_vn_tiny
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.suites import SUITES
from clip4str_doctr.training.validate import are_right, read_words

__all__ = ["adaptive_figures", "main"]

logger = logging.getLogger(__name__)


def adaptive_figures(model: CLIP4STR, words: int, names: Iterable[str] = tuple(SUITES)) -> dict[str, dict[str, float]]:
    """Suite, and "all" -> number of words, right answers (cased) of both ways, and words left to the visual branch.

    model: in eval mode; its own `cross_modal` does not matter, and stays.
    """
    figures: dict[str, dict[str, float]] = {}
    config = model.config
    for name in names:
        suite = suite_words(name, words)
        told: dict[str, float] = {"n": len(suite.labels)}
        try:
            for way in ("always", "auto"):
                model.config = config.with_decode(cross_modal=way)
                answers = read_words(model, suite.crops)
                told[f"right_{way}"] = sum(are_right(answers.texts, suite.labels))
        finally:
            model.config = config
        told["left"] = sum(answers.left)  # by "auto", the last
        figures[name] = told
        logger.info("%s: %s", name, told)
    figures["all"] = {key: sum(told[key] for told in figures.values()) for key in next(iter(figures.values()))}
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", type=int, default=1000, help="of each suite (default: 1000)")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write (default: standard output)")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    model = clip4str_vn_tiny(pretrained=True)
    made = {"version": __version__, "commit": package_commit(), "torch": torch.__version__}
    facts = {**weights_of(find_weights(model.config.arch)), "certain_from": model.certain_from}
    tell({**made, **facts, "suites": adaptive_figures(model, arguments.words)}, arguments.out)


if __name__ == "__main__":
    main()
