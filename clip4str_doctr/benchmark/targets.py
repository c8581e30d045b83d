"""Where reports go: what was measured in hours is neither lost nor takes the place of what was measured before."""

import os
from pathlib import Path
from typing import Any

__all__ = ["check_file", "check_folder", "keep_unfinished", "unfinished"]


def check_file(path: Path) -> None:
    """Raise ValueError or OSError if no report can be written to a file: better known before hours of reading."""
    if path.is_dir():
        raise ValueError(f"-o {path} is a folder; name the JSON file to write")
    _check(path.parent, path.stem)


def check_folder(folder: Path, name: str) -> None:
    """As `check_file`, for the report NAME.json and what goes with it. Raises ValueError, too, if there is one already:
    its name is that of its title, which is easily forgotten."""
    _check(folder, name)
    if (report := folder / f"{name}.json").exists():
        raise ValueError(f"{report} is there already; give another folder or --title, or move it away")


def _check(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"-o: nothing can be made in {folder}")
    if (left := unfinished(folder, name)).exists():
        raise ValueError(f"{left} holds what a run read that did not come to its end; move it away, or remove it")


def unfinished(folder: Path, name: str) -> Path:
    """Where what was read so far is kept: under a name that nothing takes for a report."""
    return folder / f"{name}.json.unfinished"


def keep_unfinished(report: dict[str, Any], folder: Path | None, name: str) -> None:
    """Write what was read so far, if reports are written at all."""
    if folder is not None:
        from clip4str_doctr.benchmark.report import tell  # and torch

        tell(report, unfinished(folder, name))
