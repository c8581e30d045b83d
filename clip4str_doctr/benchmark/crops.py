"""Scene text -> a folder of word crops in docTR's format, on the disk of whoever has the pictures."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clip4str_doctr.benchmark.report import write_bytes
from clip4str_doctr.benchmark.scene_text import SceneText, Shape
from clip4str_doctr.images import UnreadableImageError
from clip4str_doctr.training.datasets import IMAGES_FOLDER, LABELS_FILE, DatasetError

__all__ = ["NOTICE", "write_crops"]

NOTICE = (
    "These crops are parts of the data set's pictures, and its terms hold for them. Those of VinText: research or "
    "education only; not to be passed on, whole or in part, in original or changed form; cite Nguyen et al., "
    "Dictionary-guided Scene Text Recognition, CVPR 2021."
)
_ABOUT = "about.json"


def write_crops(source: Path, out: Path, shape: Shape = "straight") -> dict[str, Any]:
    """Write images/, labels.json and about.json with the notice; returns the counts of what was taken and left out.

    about.json is written first and labels.json last: a folder with the one was written by us and may be written anew,
    a folder with both is complete. Raises DatasetError for what `SceneText` does not read, for a picture that cannot be
    opened, and for a folder that holds anything else.
    """
    words = SceneText(source, shape)
    if not words.entries():
        raise DatasetError(f"{source} holds no legible words: {words.counts()}")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    # A data set of somebody's own has images/ and labels.json, too.
    others = held - {IMAGES_FOLDER, LABELS_FILE, _ABOUT} if _is_ours(out) else held
    if others:
        shown = ", ".join(sorted(others)[:5])
        raise DatasetError(f"{out} holds {shown}; give a folder that is new, or was written by this command before")
    told = {"notice": NOTICE, **words.counts()}
    write_bytes(out / _ABOUT, (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode())
    (out / LABELS_FILE).unlink(missing_ok=True)
    for path in (out / IMAGES_FOLDER).glob("*.png"):
        path.unlink()
    labels = {}
    for number, (name, label) in enumerate(words.entries(), 1):
        try:
            crop = words.crop(name)
        except UnreadableImageError as error:
            raise DatasetError(f"{source}, {name}: {error}; every word needs its picture") from error
        done, content = cv2.imencode(".png", np.ascontiguousarray(crop[..., ::-1]))
        assert done
        file = f"{number:06d}.png"
        write_bytes(out / IMAGES_FOLDER / file, content.tobytes())
        labels[file] = label
    write_bytes(out / LABELS_FILE, (json.dumps(labels, ensure_ascii=False, indent=1) + "\n").encode())
    return words.counts()


def _is_ours(folder: Path) -> bool:
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(about, dict) and about.get("notice") == NOTICE
