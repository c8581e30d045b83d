"""What lies in the folder of a training run."""

import json
from pathlib import Path
from typing import Any

from clip4str_doctr.training.recipe import OtherRecipeError
from clip4str_doctr.weight_card import CARD_FILE, CONFIG_FILE, TENSOR_FILE

__all__ = ["CHECKPOINT", "LOG", "WEIGHTS", "check_unused", "is_exported", "remove_parts", "said_by"]

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
WEIGHTS = "weights"


def remove_parts(out: Path) -> None:
    """Remove what a run left behind that was killed while it saved."""
    for part in out.glob(f".{CHECKPOINT}.*.part"):
        part.unlink()


def check_unused(out: Path) -> None:
    """Raise OtherRecipeError where another run has begun, or a new one's weights would take the place of something."""
    if (out / CHECKPOINT).exists():
        raise OtherRecipeError(f"another run has begun in {out} meanwhile; the same command goes on from there")
    weights = out / WEIGHTS
    if weights.is_file() or (weights.is_dir() and any(weights.iterdir())):
        raise OtherRecipeError(
            f"{weights} is there, but no {CHECKPOINT} of the run that wrote it, so that it would be lost; give another "
            "--out folder, or move it away"
        )


def is_exported(out: Path, reader: str) -> bool:
    """Whether a run's folder holds the weights of its last checkpoint; those of a run given more time are older."""
    saved = (out / CHECKPOINT).stat().st_mtime_ns
    # The file that is moved there first, and the last one.
    names = (TENSOR_FILE, CARD_FILE if reader == "clip4str" else CONFIG_FILE)
    files = [out / WEIGHTS / name for name in names]
    return all(file.is_file() and file.stat().st_mtime_ns >= saved for file in files)


def said_by(line: str) -> dict[str, Any] | None:
    """What a line of log.jsonl says; None if it is none, as a crash may leave one."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("step"), int) else None
