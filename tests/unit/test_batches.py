"""Batches of crops, and what is taken for a lack of memory."""

import pytest
import torch

from clip4str_doctr.batches import in_batches, is_out_of_memory


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_memory_errors_without_a_type_of_their_own(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    halved = []

    def read(batch: object) -> list[int]:
        assert isinstance(batch, list)
        if len(batch) > 2:
            raise RuntimeError(text)
        return batch

    assert in_batches([1, 2, 3, 4, 5], 4, read, lambda count, error: halved.append(count)) == [1, 2, 3, 4, 5]
    assert halved == [4]


def test_other_errors_are_none_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("full"))


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_nothing_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
        in_batches([1, 2], size, lambda batch: batch, lambda *_: None)
