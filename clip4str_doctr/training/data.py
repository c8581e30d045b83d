"""Rendered words as training batches: index-driven, so that a run resumes exactly where it stopped."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clip4str_doctr.preprocess import resize_crop
from clip4str_doctr.training.recipe import DataRecipe


class Samples(Protocol):
    """What `synth.Renderer` offers: the same sample for the same index, at any time and in any process."""

    def sample(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        """-> crop (H, W, 3) uint8 RGB, label in NFC."""
        ...


# (style, split, seed) -> samples; style is "clean", "page", "photo" or "sign", split "train" or "val".
SamplesFactory = Callable[[str, str, int], Samples]


def default_samples(style: str, split: str, seed: int) -> Samples:
    """Our renderer, imported when first needed: it loads fonts and word lists."""
    from clip4str_doctr.training.synth import Renderer

    samples: Samples = Renderer(style, split, seed)  # type: ignore[arg-type]  # a plain str; the renderer checks it
    return samples


@dataclass(frozen=True)
class Batch:
    """pixels: (N, H, W, 3) uint8, of the model's size; labels: N strings."""

    pixels: Tensor
    labels: list[str]


def clean_share(index: int, total_samples: int, recipe: DataRecipe) -> float:
    """Share of clean words, pages among them, around sample `index`.

    Linear over the first `clean_fraction` of the run, then constant.
    """
    ramp = max(recipe.clean_fraction * total_samples, 1.0)
    return recipe.clean_start + (recipe.clean_end - recipe.clean_start) * min(index / ramp, 1.0)


def sample_style(index: int, total_samples: int, recipe: DataRecipe) -> str:
    """Style of sample `index`, drawn once and for all from the seed."""
    draws = random.Random(f"style {recipe.seed} {index}")
    if draws.random() < clean_share(index, total_samples, recipe):
        return "page" if draws.random() < recipe.page else "clean"
    return "sign" if draws.random() < recipe.sign else "photo"


def is_mixed(index: int, total_samples: int, recipe: DataRecipe) -> bool:
    """Whether batches around sample `index` mix words of all lengths."""
    return index < recipe.mixed_fraction * total_samples


class Pools(Dataset[list[Batch]]):
    """Pool p holds samples p * size .. (p + 1) * size - 1 as batches, in shuffled order; the last what is left of them.

    Decoder passes are as long as a batch's longest label, so words of like length belong together, but for the first
    `mixed_fraction` of all samples, from which the image tower's batch norms learn. A pool depends on its number only,
    so neither workers nor resuming change what the model sees.
    """

    def __init__(
        self, image_size: tuple[int, int], total_samples: int, recipe: DataRecipe, factory: SamplesFactory
    ) -> None:
        self.image_size, self.total_samples, self.recipe, self.factory = image_size, total_samples, recipe, factory
        # Seen by the workers, too: whether SIGTERM is meant for them.
        self.leaving = multiprocessing.RawValue("b", 0)
        self._samples: dict[str, Samples] = {}

    def close(self) -> None:
        """Let workers be ended: an error's traceback holds them, and Python would wait for them without end."""
        self.leaving.value = 1

    def _render(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        style = sample_style(index, self.total_samples, self.recipe)
        if style not in self._samples:
            self._samples[style] = self.factory(style, "train", self.recipe.seed)
        crop, label = self._samples[style].sample(index)
        return resize_crop(crop, self.image_size), label

    def __getitem__(self, pool: int) -> list[Batch]:
        batch_size, batches = self.recipe.batch_size, self.recipe.pool_batches
        first = pool * batch_size * batches
        # A whole pool at the end would have samples of beyond in the batches of the run's last steps, and some of its
        # own in batches that no step takes. Behind the end lies one batch, which workers render ahead for nothing.
        end = -(-self.total_samples // batch_size) * batch_size
        last = max(min(first + batch_size * batches, end), first + batch_size)
        samples = [self._render(index) for index in range(first, last)]
        if not is_mixed(first, self.total_samples, self.recipe):
            samples.sort(key=lambda sample: len(sample[1]))
        starts = list(range(0, len(samples), batch_size))
        random.Random(f"pool {self.recipe.seed} {pool}").shuffle(starts)
        return [_collate(samples[start : start + batch_size]) for start in starts]


def _collate(samples: Sequence[tuple[npt.NDArray[np.uint8], str]]) -> Batch:
    pixels = torch.from_numpy(np.stack([crop for crop, _ in samples]))
    return Batch(pixels, [label for _, label in samples])


def _start_worker(leaving: Any, worker: int) -> None:
    """One thread a worker; signals are the main process's business, which saves a checkpoint and then stops us.

    leaving: set once that is over, or has failed; Python then ends us by SIGTERM, and waits until that is done.
    """

    def leave(*_: object) -> None:
        if leaving.value:
            os._exit(0)

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    try:
        import cv2
    except ImportError:  # only some renderers use it
        return
    cv2.setNumThreads(0)


def batches_from(step: int, pools: Pools, *, by_turns: bool = False) -> Iterator[Batch]:
    """Batches number `step`, `step` + 1, ... without end; `step` counts all batches since the run began.

    The pool that batch `step` lies in is rendered anew, its earlier batches are dropped. Workers render ahead, or, if
    `by_turns`, only when all of theirs are used up: the batches are the same.
    """
    pool, skip = divmod(step, pools.recipe.pool_batches)
    rendered = _in_rounds(pool, pools) if by_turns and pools.recipe.workers else iter(_loader(pools, count(pool)))
    return islice(chain.from_iterable(rendered), skip, None)


def _loader(pools: Pools, numbers: Iterable[int], persistent: bool = False) -> DataLoader[list[Batch]]:
    workers = pools.recipe.workers
    return DataLoader(
        pools,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=partial(_start_worker, pools.leaving),
        prefetch_factor=2 if workers else None,
        persistent_workers=persistent,
    )


def _in_rounds(first: int, pools: Pools) -> Iterator[list[Batch]]:
    """Pools from number `first` on, one of each worker at a time."""
    numbers: list[int] = []
    loader = _loader(pools, numbers, persistent=True)
    for begin in count(first, pools.recipe.workers):
        numbers[:] = range(begin, begin + pools.recipe.workers)  # what the loader iterates over anew
        yield from list(loader)


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unchanged(pool: list[Batch]) -> list[Batch]:
    return pool


def validation_crops(
    style: str, recipe: DataRecipe, factory: SamplesFactory
) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """The fixed validation set of one style -> `val_words` crops of any size, and their labels."""
    samples = factory(style, "val", recipe.val_seed)
    drawn = [samples.sample(index) for index in range(recipe.val_words)]
    return [crop for crop, _ in drawn], [label for _, label in drawn]
