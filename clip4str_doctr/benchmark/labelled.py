"""Labelled pictures of words in docTR's recognition dataset format: `images/` and `labels.json`."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clip4str_doctr.images import UnreadableImageError, open_image

__all__ = ["LABELS", "labelled_words"]

LABELS = "labels.json"


def labelled_words(folder: Path) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """-> crops (H, W, 3) uint8 RGB and their labels, in the order of labels.json.

    folder: holds labels.json, {"name of a picture": "label"}, and the pictures, in images/ or beside it. All of them
    are read: a figure over those that can be found would be another one.
    Raises ValueError naming what is missing, unreadable or no label.
    """
    labels = _read_labels(folder / LABELS)
    place = folder / "images" if (folder / "images").is_dir() else folder
    if missing := [name for name in labels if not (place / name).is_file()]:
        raise ValueError(
            f"{place} lacks {len(missing)} of the {len(labels)} pictures of {LABELS}: {', '.join(missing[:10])}"
        )
    crops = []
    for name in labels:
        try:
            crops.append(open_image(place / name))
        except UnreadableImageError as error:
            raise ValueError(f"{place / name}: {error}") from error
    return crops, list(labels.values())


def _read_labels(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give a folder with {LABELS} and pictures, in images/ or beside it")
    try:
        labels = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} must be JSON in UTF-8: {error}") from error
    if not isinstance(labels, dict) or not labels:
        raise ValueError(f'{path} must map names of pictures to labels: {{"1.jpg": "PHỞ"}}')
    if wrong := [name for name, label in labels.items() if not isinstance(label, str) or not label]:
        raise ValueError(f"{path}: every label must be a text, those of {', '.join(wrong[:10])} are not")
    return labels
