"""Linear layers by oneDNN, where what PyTorch takes by itself is slower; with weights of less precision, and packed.

On CPUs PyTorch multiplies in float32 by MKL, whose best kernels are for Intel's: on a Zen 5 it gets 200 GFLOPS out of
two cores, oneDNN 430, and for the few rows of a short caption a third of oneDNN's speed. In bfloat16 PyTorch takes
oneDNN itself, but arranges the weights anew for every product (`pack_weights`).
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from clip4str_doctr.weight_state import active_autocast, tensor_facts

__all__ = [
    "Linear",
    "cast_products",
    "linear",
    "makes_graph",
    "onednn_linear",
    "pack_weights",
    "replace_linear_layers",
]

# Multiplications from which on oneDNN's start, some 15 microseconds, is worth it (measured on Zen 5).
_LEAST = 4 * 2**20
_CPUINFO = Path("/proc/cpuinfo")
# What `onednn_linear` says; None: as suits the processor.
_choice: list[bool | None] = [None]
# Rows that packed weights are arranged for: an image's tokens. Other numbers of rows gain as much.
_ROWS = 197
# Weight -> its packed copy, None before its first use. Beside the modules, whose copies and pickles cannot hold it.
_packed = WeakIdKeyDictionary()


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

    Computed in the dtype of the weight, which is the result's. oneDNN's is the operator that torch.compile takes for
    its own graphs; it knows no gradients.
    """
    # Autocast casts both by itself; through the weight's dtype it would cost two passes more, and two backward.
    if x.dtype != weight.dtype and active_autocast(x.device) is None:
        x = x.to(weight.dtype)
    if (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and not makes_graph()  # where sizes are symbols without truth value
        and x.numel() * weight.shape[0] >= _LEAST
        # Quantised weights are subclasses that know their own product.
        and type(weight) in (torch.Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and _suits(weight)
    ):
        packed = _packed_copy(weight) if weight in _packed else weight
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
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


def cast_products(module: nn.Module, dtype: torch.dtype) -> None:
    """Weights of all linear layers inside of `module`, those of attention among them, become `dtype`, and so do their
    products. All else stays: norms, and the sums that a float32 input runs through from layer to layer."""
    for child in module.modules():
        own = dict(child.named_parameters(recurse=False))
        if isinstance(child, Linear) or "in_proj_weight" in own:
            for parameter in own.values():
                parameter.data = parameter.data.to(dtype)


def pack_weights(module: nn.Module) -> None:
    """Matrices inside of `module` are kept a second time as the CPU's products want them, from their first use on.

    The answers are the same bit for bit. Where oneDNN is not what multiplies (gradients, graphs, other devices), and in
    copies and pickles of the module, nothing is packed. Changed weights are packed anew; values written through
    `tensor.data` are not seen to have changed.
    """
    for parameter in module.parameters():
        # Quantised ones go their own ways, and could not be moved while something refers to them.
        if parameter.ndim == 2 and type(parameter) in (torch.Tensor, nn.Parameter):
            _packed[parameter] = None


class _Packed:
    """A packed copy, and what its weight was like then."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.facts = _facts(weight)
        self.copy: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)


def _packed_copy(weight: torch.Tensor) -> torch.Tensor:
    if weight.is_inference():  # no count of its changes
        return weight
    packed: _Packed | None = _packed[weight]
    if packed is None or packed.facts != _facts(weight):
        packed = _packed[weight] = _Packed(weight)
    return packed.copy


def _facts(weight: torch.Tensor) -> tuple[object, ...]:
    # Casting there and back may end at the same address, but not in the same storage while that is referred to.
    return StorageWeakRef(weight.untyped_storage()), *tensor_facts(weight)  # type: ignore[no-untyped-call]  # torch ships it so


def _suits(weight: torch.Tensor) -> bool:
    """Whether oneDNN is there, and better at it than what PyTorch does by itself."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]  # torch ships it so
        return False
    if weight.dtype == torch.bfloat16:
        return weight in _packed and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if weight.dtype != torch.float32:
        return False
    return _is_amd() if _choice[0] is None else _choice[0]


@lru_cache(maxsize=1)
def _is_amd() -> bool:
    said = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else platform.processor()
    return "AuthenticAMD" in said
