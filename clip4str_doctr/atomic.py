"""Files that are whole or not there at all, whoever stops us."""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["remove_remains", "sync_file", "sync_folder", "written"]

# Another process may be writing what is younger.
_ABANDONED_AFTER = 3600.0  # seconds


@contextmanager
def written(path: Path, prefix: str = "") -> Iterator[Path]:
    """A sibling to write to, which takes the name of `path` in the end; after an exception it is gone.

    Its name is ".", `prefix`, a random word and ".part", so what goes by suffixes must be told the format, and who
    knows the prefix finds what killed writers left. Raises OSError if the disk does not take the content.
    """
    # Random, as in containers every process is number 1; without the name of `path`, which may have no room for more.
    part = path.with_name(f".{prefix}{secrets.token_hex(8)}.part")
    try:
        yield part
        sync_file(part)
        os.replace(part, path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def remove_remains(folder: Path) -> None:
    """Remove what writers without a prefix that were killed left in a folder, an hour after they last wrote to it."""
    for part in folder.glob(".*.part"):
        if not re.fullmatch(r"\.[0-9a-f]{16}\.part", part.name):
            continue
        with suppress(OSError):  # another process was faster, or may do it
            if time.time() - part.stat().st_mtime > _ABANDONED_AFTER:
                part.unlink()


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk: a rename may get there first, and a power cut leave an empty file.

    Raises OSError if the disk does not take it.
    """
    with open(path, "r+b") as file:  # Windows syncs only what may be written
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot sync
                raise


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where that can be had: Windows opens no folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
