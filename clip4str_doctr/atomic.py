"""Files that are whole or not there at all, whoever stops us."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written"]


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A sibling to write to, which takes the name of `path` in the end; after an exception it is gone.

    Its name ends in ".part", so what goes by suffixes must be told the format.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
