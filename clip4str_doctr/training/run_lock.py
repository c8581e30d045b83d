"""One training run a folder at a time: two would delete each other's half-written checkpoints and log lines."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from clip4str_doctr.training.recipe import RecipeError

__all__ = ["only_run"]

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
