"""`clip4str-doctr page`: what can happen to files while they are read and written.

Only what needs no other package at the head: the command line's help shall not wait for torch.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clip4str_doctr.pages.jobs import PageCommandError

__all__ = ["State", "outdate", "state_of", "writing"]

# What is wrong with the disk, and so with every output that comes after this one.
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

State = tuple[int, int]  # nanoseconds of the last change, bytes


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Around what writes an output. Raises PageCommandError where the disk is full or read-only: not even the best of
    inputs could be written, so none needs to be read any more."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise PageCommandError(
            f"{output} cannot be written: {error}; once there is room, or the disk may be written to, the same command "
            "goes on from there"
        ) from error


def state_of(source: Path) -> State | None:
    """By which it is seen that a file was changed; None where it has gone."""
    try:
        status = source.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def outdate(output: Path, source: Path, before: State | None) -> None:
    """Make an output older than its source if that was changed since before it was read: it is read again next time."""
    now = state_of(source)
    if now == before:
        return
    oldest = min(state[0] for state in (before, now, state_of(output)) if state is not None) - 1
    os.utime(output, ns=(oldest, oldest))
