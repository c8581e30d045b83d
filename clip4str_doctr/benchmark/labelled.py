"""Labelled pictures of words, to be read and compared: nothing that has a label may be left out.

Formats: those that training takes (docTR's folder, LMDB, see `training.datasets`), and those of scene text, whose
words are cut out of whole pictures (VinText's folders, ICDAR's zips, see `scene_text`).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from clip4str_doctr.benchmark.scene_text import SceneText, Shape, is_scene_text
from clip4str_doctr.images import UnreadableImageError
from clip4str_doctr.training.datasets import WordSet, open_word_set

__all__ = ["check_labels", "labelled_words", "name_of", "open_labelled"]


def name_of(path: Path) -> str:
    """What a data set is called in tables: its folder's or file's name; "." and "..", too, are folders with a name."""
    place = path.expanduser().resolve()
    return place.stem if place.is_file() else place.name


def open_labelled(path: Path, shape: Shape = "straight") -> WordSet:
    """The data set of a folder or zip, by what lies in it. Raises DatasetError, a ValueError, if it is none."""
    return SceneText(path, shape) if is_scene_text(path) else open_word_set(path)


def check_labels(words: WordSet) -> list[tuple[str, str]]:
    """(name, label) of all words. Raises ValueError if there are none, or one's label is empty, naming it."""
    entries = words.entries()
    if not entries:
        raise ValueError(f"{words.folder} holds no words; every picture needs a label")
    if empty := [name for name, label in entries if not label.strip()]:
        raise ValueError(f"{words.folder}: every word needs a label, those of {', '.join(empty[:10])} are empty")
    return entries


def labelled_words(source: Path | WordSet, first: int | None = None) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """-> crops (H, W, 3) uint8 RGB and their labels, in the order of the data set.

    source: a path as `open_labelled` takes, or what that gave. first: so many words only, None for all. None of them
    is left out: a figure over those that can be found would be another one. Raises ValueError naming what is missing,
    unreadable or no label.
    """
    words = open_labelled(source) if isinstance(source, Path) else source
    folder, entries = words.folder, check_labels(words)[:first]
    crops, unread = [], []
    for name, _ in entries:
        try:
            crops.append(words.crop(name))
        except UnreadableImageError as error:
            unread.append(f"{name}: {error}")
    if unread:
        raise ValueError(
            f"{folder}: {len(unread)} of {len(entries)} pictures cannot be read: " + "; ".join(unread[:10])
        )
    return crops, [label for _, label in entries]
