"""What every measurement needs to become a figure: the code it was made with, and a file that is never half-written."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.atomic import written
from clip4str_doctr.published import find_checkpoint
from clip4str_doctr.weight_card import TENSOR_FILE, read_card, sha256_of
from clip4str_doctr.weight_folder import is_weight_folder

__all__ = ["device_name", "package_commit", "tell", "weights_of", "write_bytes"]


def package_commit() -> str | None:
    """Commit of the checkout that this package lies in, with "-dirty" after it if files differ; None for an installed
    package, which may lie in somebody else's repository."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    return done.stdout.strip() or None


def device_name(device: torch.device | str) -> str:
    """What a measurement ran on: of a GPU its own name, too, and the machine around it."""
    place = torch.device(device)
    name = f"{torch.cuda.get_device_name(place)}, {place}" if place.type == "cuda" else str(place)
    return f"{name} ({platform.machine()}, {os.cpu_count()} cores)"


def write_bytes(path: Path, content: bytes) -> None:
    """Write under another name first: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as part:
        part.write_bytes(content)


def tell(report: Mapping[str, Any], out: Path | None) -> None:
    """A report as JSON: into the file `out`, or printed where there is none."""
    text = json.dumps(report, ensure_ascii=False, indent=1)
    if out is None:
        print(text)
    else:
        write_bytes(out, (text + "\n").encode())


def weights_file(weights: str | Path) -> Path | None:
    """The file that weights were loaded from; None of an address on a hub."""
    path = Path(weights)
    if not path.exists():
        return None
    folder = path.parent if path.name == TENSOR_FILE else path
    if is_weight_folder(folder):
        return folder / TENSOR_FILE
    return path if path.is_file() else find_checkpoint(path)


def weights_of(weights: str | Path | None) -> dict[str, Any]:
    """Name, SHA-256 and training commit of weights that were loaded; of an address on a hub, only the address."""
    file = None if weights is None else weights_file(weights)
    if file is None:
        return {"weights": None if weights is None else str(weights), "weights_sha256": None, "weights_commit": None}
    if file.name == TENSOR_FILE:
        card = read_card(file.parent)
        sha256 = card.sha256[TENSOR_FILE]
        return {"weights": file.parent.name, "weights_sha256": sha256, "weights_commit": card.commit}
    return {"weights": file.name, "weights_sha256": sha256_of(file), "weights_commit": None}
