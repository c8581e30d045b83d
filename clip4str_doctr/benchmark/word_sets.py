"""Words to be read: crops and labels of a frozen suite, or of a data set on the user's disk."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip4str_doctr.benchmark.labelled import labelled_words, name_of, open_labelled
from clip4str_doctr.benchmark.scene_text import SceneText, Shape
from clip4str_doctr.training.suites import SIZE, SUITES, rendered
from clip4str_doctr.training.validate import suite_checks

__all__ = ["ALL", "WordSet", "check_names", "data_words", "suite_words", "word_sets"]

logger = logging.getLogger(__name__)

# What all sets of a report together are called.
ALL = "all"


@dataclass(frozen=True)
class WordSet:
    """Crops (H, W, 3) uint8 RGB and labels to be read; checks: what tells that the set is the one it is named."""

    name: str
    about: str
    crops: list[npt.NDArray[np.uint8]]
    labels: list[str]
    checks: dict[str, Any]


def check_names(suites: Sequence[str], data: Sequence[Path]) -> None:
    """Raise ValueError for a suite that does not exist, for two sets of one name, or for one that tables need."""
    if unknown := [name for name in suites if name not in SUITES]:
        raise ValueError(f"there is no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    names = list(suites)
    if len(set(names)) < len(names):
        raise ValueError(f"a suite can be read once, got {', '.join(names)}")
    for path in data:
        name = name_of(path)
        if name == ALL:
            raise ValueError(f"{path} bears the name that all sets together have in tables, {ALL}; rename it")
        if name in suites:
            raise ValueError(f"{path} bears the name of a suite that is to be read, too; rename it, or read one a time")
        if name in names:
            raise ValueError(f"{path} bears the name of another data set, {name}; rename one of them")
        names.append(name)


def word_sets(
    suites: Sequence[str], data: Sequence[Path], words: int = SIZE, shape: Shape = "straight"
) -> Iterator[WordSet]:
    """One after the other, so that memory holds the pictures of one; data sets first, of which all words are read.

    Raises as `suite_words` and `data_words` do.
    """
    for path in data:
        yield data_words(path, shape)
    for name in suites:
        yield suite_words(name, words)


def data_words(path: Path, shape: Shape = "straight") -> WordSet:
    """All words of a data set, see `labelled`; shape: how crops are cut out of whole pictures.

    Raises ValueError naming what is missing or unreadable.
    """
    words = open_labelled(path, shape)
    crops, labels = labelled_words(words)
    checks = words.counts() if isinstance(words, SceneText) else {}
    return WordSet(name_of(path), "labelled pictures", crops, labels, checks)


def suite_words(name: str, words: int = SIZE) -> WordSet:
    """The first `words` words of a suite. Raises as `suites.rendered` does; warns if it is not what it was."""
    suite = rendered(name, words)
    if suite.as_defined is False:
        logger.warning(
            "suite %s: the pictures are not those it was defined with (renderer, Pillow, OpenCV or fonts have "
            "changed); figures of other states are not to be compared with these",
            name,
        )
    return WordSet(name, SUITES[name].about, suite.crops, suite.labels, suite_checks(suite))
