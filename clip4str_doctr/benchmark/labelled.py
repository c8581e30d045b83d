"""Labelled pictures of words, to be read and compared: the formats that training takes, but nothing may be left out."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from clip4str_doctr.images import UnreadableImageError
from clip4str_doctr.training.datasets import open_word_set

__all__ = ["labelled_words"]


def labelled_words(folder: Path) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """-> crops (H, W, 3) uint8 RGB and their labels, in the order of the data set.

    folder: docTR's recognition format (pictures in images/ or beside labels.json) or an LMDB, see `training.datasets`.
    All words are read: a figure over those that can be found would be another one.
    Raises ValueError naming what is missing, unreadable or no label.
    """
    words = open_word_set(folder)
    entries = words.entries()
    if not entries:
        raise ValueError(f"{folder} holds no words; every picture needs a label")
    if empty := [name for name, label in entries if not label]:
        raise ValueError(f"{folder}: every word needs a label, those of {', '.join(empty[:10])} are empty")
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
