"""How much of a run to take: what averages of it and of what it started from read.

`python -m clip4str_doctr.training.shares CHECKPOINT WEIGHTS [--shares S...]` reads new words of every suite's kinds in
its fonts, so that the suites themselves choose nothing; the best share goes to `training.export --blend-share`.
"""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from clip4str_doctr.checkpoint import read_run_state
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.export import averaged_model, blend_into
from clip4str_doctr.training.metrics import Scores
from clip4str_doctr.training.start import CHECKPOINT_PARTS
from clip4str_doctr.training.suites import SUITES, Crop, drawn
from clip4str_doctr.training.validate import score
from clip4str_doctr.weights import load_model

__all__ = ["averaged_of_run", "main", "scores_of_shares"]

logger = logging.getLogger(__name__)

# Of words and pictures that no suite, and no recipe's validation, is drawn with.
SEED = 1213
SHARES = (1.0, 0.6, 0.4, 0.25, 0.15, 0.0)

Words = Mapping[str, tuple[Sequence[Crop], Sequence[str]]]


def scores_of_shares(
    run: CLIP4STR,
    other: CLIP4STR,
    shares: Sequence[float],
    words: Words,
    tell: Callable[[float, dict[str, Scores]], object] | None = None,
) -> dict[float, dict[str, Scores]]:
    """Share of `other` in the average with `run`, 0..1 -> name of words -> what is read of them.

    words: name -> crops (H, W, 3) uint8 RGB and their labels. tell: is called with each share as soon as it is read.
    Raises ValueError as `export` does for shares and weights that do not fit.
    """
    found: dict[float, dict[str, Scores]] = {}
    for share in shares:
        model = deepcopy(run)
        blend_into(model, other, share)
        found[share] = {name: score(model, crops, labels) for name, (crops, labels) in words.items()}
        if tell is not None:
            tell(share, found[share])
    return found


def averaged_of_run(checkpoint: str | Path) -> CLIP4STR:
    """The averaged weights of a run, as they read. Raises WeightsError for a file that is no run's checkpoint."""
    state = read_run_state(Path(checkpoint), CHECKPOINT_PARTS, mapped=True)
    return averaged_model(state)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path, help="a folder to average them with, usually what the run started from")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, metavar="0..1", help="of those weights")
    parser.add_argument("--words", type=int, default=600, help="of each suite's kinds (default: 600)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of words and pictures (default: {SEED})")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    # Before the pictures, which take a while: a wrong path is told at once.
    run, other = averaged_of_run(arguments.checkpoint), load_model(arguments.weights)
    words: dict[str, tuple[list[Crop], list[str]]] = {}
    for name in SUITES:
        words[name] = drawn(name, arguments.words, arguments.seed)
        logger.info("drew %s", name)
    print("| share | mean | visual branch alone | CER | " + " | ".join(words) + " |")
    print("|--:" * (4 + len(words)) + "|")
    scores_of_shares(run, other, arguments.shares, words, _print_row)


def _print_row(share: float, scores: Mapping[str, Scores]) -> None:
    figures = list(scores.values())
    means = [sum(getattr(one, key) for one in figures) / len(figures) for key in ("cased", "visual", "cer")]
    cells = [f"{100 * value:.1f}" for value in (*means, *(one.cased for one in figures))]
    print(f"| {share:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
