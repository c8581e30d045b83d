"""What every measurement needs to become a figure: the code it was made with, and a file that is never half-written."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["package_commit", "tell", "write_bytes"]


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


def write_bytes(path: Path, content: bytes) -> None:
    """Write under another name first: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def tell(report: Mapping[str, Any], out: Path | None) -> None:
    """A report as JSON: into the file `out`, or printed where there is none."""
    text = json.dumps(report, ensure_ascii=False, indent=1)
    if out is None:
        print(text)
    else:
        write_bytes(out, (text + "\n").encode())
