"""Reading crops batch by batch, in smaller ones where memory does not hold what was asked for."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

__all__ = ["in_batches", "is_out_of_memory", "reason_of"]

Crop = TypeVar("Crop")
Answer = TypeVar("Answer")

# Allocators without an exception of their own: the CPU's on POSIX and on Windows, Apple's, oneDNN, which does not say
# what it lacked, and CUDA's where torch asks it for more than tensors (its context, kernels, cuBLAS, cuDNN).
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "MPS backend out of memory",
    "could not create a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator failed: torch's, numpy's or Python's."""
    by_name = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return by_name or any(text in str(error) for text in _OUT_OF_MEMORY)


def reason_of(error: Exception) -> str:
    """The first line of what an error says; Python's MemoryError says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def in_batches(
    crops: Sequence[Crop],
    size: int,
    read: Callable[[Sequence[Crop]], Sequence[Answer]],
    halved: Callable[[int, Exception], None],
) -> list[Answer]:
    """Answers of `read`, of `size` crops at once, in order.

    Where memory does not hold a batch, this and the following are half as large, which `halved(crops, error)` is told,
    with how many were too many. Raises what `read` does; the error of the allocator, if there is no room for one crop;
    ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    answers: list[Answer] = []
    while len(answers) < len(crops):
        batch = crops[len(answers) : len(answers) + size]
        try:
            answers += read(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            size = len(batch) // 2
            halved(len(batch), error)
    return answers
