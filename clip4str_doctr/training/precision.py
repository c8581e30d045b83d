"""Which floating-point type a device trains fastest in."""

import logging
import time

import torch

logger = logging.getLogger(__name__)

# Autocast copies what it casts; a CPU that is only a little faster in bfloat16 loses by it.
_WORTHWHILE = 1.5
# By which factor a timing may be off.
_DOUBT = 1.5


def autocast_dtype(precision: str, device: torch.device, before: str | None = None) -> torch.dtype | None:
    """What to give `torch.autocast`, None for float32. precision: as in `RunRecipe`.

    "auto" is bfloat16 on GPUs that have it and on CPUs whose bfloat16 products are fast; there are CPUs that emulate
    them, 8 to 20 times slower than float32. before: the dtype, as text, that the run had until now, which it keeps
    where the other is not faster beyond doubt: a busy machine's timing shall not change what a run computes.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else None
    if device.type == "cuda":
        # Without instructions of their own for it GPUs (before Ampere) are said to support it, too.
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        logger.info("precision: %s", "bfloat16" if fast else "float32, this GPU has no bfloat16")
    else:
        # Measured, since what torch says about a CPU's instructions is private and differs by version and maker.
        ratio = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
        fast = ratio >= _WORTHWHILE * {str(torch.bfloat16): 1 / _DOUBT, str(torch.float32): _DOUBT}.get(before or "", 1)
        logger.info("precision: %s; bfloat16 products run at %.2f x float32", "bfloat16" if fast else "float32", ratio)
    return torch.bfloat16 if fast else None


def _product_seconds(dtype: torch.dtype) -> float:
    """Best of a few products of the size that training is made of: others' load on the machine only adds time."""
    a, b = torch.ones(1024, 192, dtype=dtype), torch.ones(192, 768, dtype=dtype)
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
