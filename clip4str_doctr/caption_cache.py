"""Text tokens of captions that were encoded before: a page repeats its words, and so does an archive.

The least recently used leave first. What is kept counts for one state of the weights only (`WeightState`).
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from clip4str_doctr.weight_state import WeightState

__all__ = ["CacheInfo", "CaptionCache"]

# 64 MiB hold the tokens of about 5,000 captions in the published size, and of 10,000 in the small one.
DEFAULT_BYTES = 64 * 2**20


class CacheInfo(NamedTuple):
    """hits, misses: captions asked for since the last `reset_info`. captions, size: what is kept, size in bytes."""

    hits: int
    misses: int
    captions: int
    size: int
    max_bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of the captions asked for that were there, 0..1; 0 if none was asked for."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0


class CaptionCache:
    """caption -> text tokens (T, d), for one state of the weights at a time; threads may share it.

    max_bytes: of tokens kept; 0 switches it off, and it may be set at any time. Copies and pickles start empty.
    Raises ValueError for a negative bound.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._state: WeightState | None = None
        self._size = self._hits = self._misses = 0
        self.max_bytes = max_bytes

    def __reduce__(self) -> tuple[type["CaptionCache"], tuple[int]]:
        return type(self), (self.max_bytes,)

    @property
    def max_bytes(self) -> int:
        """Most bytes of tokens kept; 0: none are."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"max_bytes must be 0 (off) or more, got {value}")
        with self._lock:
            self._max_bytes = value
            self._shrink()

    def find(self, captions: Sequence[str], state: WeightState) -> dict[str, torch.Tensor]:
        """Those of the captions that are kept for this state of the weights; what is of another one is dropped."""
        with self._lock:
            if self._state is None or not state.same_as(self._state):
                self._forget()
                self._state = state
            found = {caption: self._kept[caption] for caption in captions if caption in self._kept}
            for caption in found:
                self._kept.move_to_end(caption)
            self._hits += len(found)
            self._misses += len(captions) - len(found)
        return found

    def keep(self, tokens: Mapping[str, torch.Tensor], state: WeightState) -> None:
        """Keep tokens that the weights of this state gave, unless these are no longer the ones last asked for."""
        with self._lock:
            if self._state is None or not state.same_as(self._state):
                return
            for caption, one in tokens.items():
                size = _bytes(one)
                if size > self._max_bytes or caption in self._kept:
                    continue
                # A part of a batch would hold on to all of it.
                self._kept[caption] = one.clone() if one.untyped_storage().nbytes() > size else one
                self._size += size
            self._shrink()

    def clear(self) -> None:
        """Forget all captions, and keep counting."""
        with self._lock:
            self._forget()

    def info(self) -> CacheInfo:
        """Counts so far; see `CacheInfo`."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, len(self._kept), self._size, self._max_bytes)

    def reset_info(self) -> None:
        """Count hits and misses from 0."""
        with self._lock:
            self._hits = self._misses = 0

    def _forget(self) -> None:
        self._kept.clear()
        self._size = 0
        self._state = None

    def _shrink(self) -> None:
        while self._size > self._max_bytes:
            _, one = self._kept.popitem(last=False)
            self._size -= _bytes(one)


def _bytes(tokens: torch.Tensor) -> int:
    return tokens.numel() * tokens.element_size()
