"""Where a training run begins and ends: one a folder at a time, for two would delete each other's half-written
checkpoints and log lines; and no step that is cut short by a signal.
"""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from clip4str_doctr.training.recipe import RecipeError

__all__ = ["only_run", "stop_requests"]

logger = logging.getLogger(__name__)


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Hold the folder of a run. The system lets go of it with the process, however that ends.

    Raises RecipeError if another process holds it.
    """
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RecipeError(f"another run writes to {out}; wait for it, stop it, or give another folder") from error
    except NotImplementedError:
        logger.warning("the file system of %s knows no locks: nothing keeps a second run out of it", out)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM comes; the run then ends after the present step."""
    received: list[int] = []

    def request(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
