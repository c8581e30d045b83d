"""Timing that may be believed: cases take turns, medians are kept, and stages are told apart from the inside."""

import functools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

__all__ = ["Case", "clock", "interleave", "stopwatch"]

logger = logging.getLogger(__name__)


def clock(device: torch.device) -> float:
    """Seconds, once everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class Case:
    """One thing to time. read: reads the words of a round and gives seconds and words. every: in each n-th round."""

    model: str
    mode: str
    batch: int
    read: Callable[[int], tuple[float, int]]
    every: int = 1
    milliseconds: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Milliseconds per word: the median over rounds, and the least and greatest."""
        values = self.milliseconds
        return {
            "model": self.model,
            "mode": self.mode,
            "batch": self.batch,
            "ms_per_word": round(median(values), 3),
            "range": [round(min(values), 3), round(max(values), 3)],
            "rounds": len(values),
        }


def interleave(cases: Sequence[Case], rounds: int) -> None:
    """Every case once per round, so that whatever slows the machine down slows them all; one round before that warms
    up and is not kept."""
    for number in range(-1, rounds):
        for case in cases:
            if number < 0 or number % case.every == 0:
                seconds, words = case.read(number + 1)
                if number >= 0:
                    case.milliseconds.append(1000 * seconds / words)
        logger.info("round %d of %d", number + 1, rounds)


@contextmanager
def stopwatch(device: torch.device, *parts: tuple[type[Any], str, str]) -> Iterator[dict[str, float]]:
    """Seconds spent in each part (class, method, name), without what other parts in it take; as long as it is open."""
    spent: dict[str, float] = defaultdict(float)
    inner: list[float] = []

    def timed(original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def method(*args: Any, **kwargs: Any) -> Any:
            start = clock(device)
            inner.append(0.0)
            try:
                return original(*args, **kwargs)
            finally:
                seconds = clock(device) - start
                spent[name] += seconds - inner.pop()
                if inner:
                    inner[-1] += seconds

        return method

    originals = [(owner, method, getattr(owner, method)) for owner, method, _ in parts]
    own = [method in vars(owner) for owner, method, _ in parts]
    try:
        for owner, method, name in parts:
            setattr(owner, method, timed(getattr(owner, method), name))
        yield spent
    finally:
        for (owner, method, original), was_own in zip(originals, own, strict=True):
            setattr(owner, method, original) if was_own else delattr(owner, method)
