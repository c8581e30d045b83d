"""Linear layers by oneDNN, where what PyTorch takes by itself is slower.

On CPUs PyTorch multiplies in float32 by MKL, whose best kernels are for Intel's: on a Zen 5 it gets 200 GFLOPS out of
two cores, oneDNN 430, and for the few rows of a short caption a third of oneDNN's speed. In bfloat16 PyTorch takes
oneDNN itself.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Linear", "linear", "makes_graph", "onednn_linear", "replace_linear_layers"]

# Multiplications from which on oneDNN's start, some 15 microseconds, is worth it (measured on Zen 5).
_LEAST = 4 * 2**20
_CPUINFO = Path("/proc/cpuinfo")
# What `onednn_linear` says; None: as suits the processor.
_choice: list[bool | None] = [None]


@contextmanager
def onednn_linear(enabled: bool) -> Iterator[None]:
    """While open, linear layers of this process in float32 do or do not go to oneDNN, whoever made the processor."""
    before, _choice[0] = _choice[0], enabled
    try:
        yield
    finally:
        _choice[0] = before


def makes_graph() -> bool:
    """Whether a graph is being made by torch.compile, torch.export, torch.jit.trace or the ONNX exporter."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()  # type: ignore[attr-defined, no-untyped-call]  # torch ships it so


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """As torch.nn.functional.linear, within rounding. x: (..., inputs), weight: (outputs, inputs) -> (..., outputs).

    oneDNN's is the operator that torch.compile takes for its own graphs; it knows no gradients.
    """
    if (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and not makes_graph()  # where sizes are symbols without truth value
        and x.numel() * weight.shape[0] >= _LEAST
        and x.dtype == weight.dtype == torch.float32
        # Quantised weights are subclasses that know their own product.
        and type(weight) in (torch.Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and _suits()
    ):
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """torch.nn.Linear by `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., inputs) -> (..., outputs)."""
        return linear(x, self.weight, self.bias)


def replace_linear_layers(module: nn.Module) -> None:
    """Every torch.nn.Linear inside of `module` becomes a `Linear` with the same parameters."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            layer = Linear(child.in_features, child.out_features, child.bias is not None, device="meta")
            layer.weight, layer.bias = child.weight, child.bias
            setattr(module, name, layer.train(child.training))
        else:
            replace_linear_layers(child)


def _suits() -> bool:
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]  # torch ships it so
        return False
    return _is_amd() if _choice[0] is None else _choice[0]


@lru_cache(maxsize=1)
def _is_amd() -> bool:
    said = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else platform.processor()
    return "AuthenticAMD" in said
