"""Whether weights are still what they were: what is made of them once, and kept, hangs on that."""

import weakref

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["WeightState", "active_autocast", "tensor_facts"]

# Steps that optimizers have taken in this process: fused ones change weights without autograd taking notice.
_steps = [0]


def _count_step(*_: object) -> None:
    _steps[0] += 1


register_optimizer_step_post_hook(_count_step)


def tensor_facts(tensor: torch.Tensor) -> tuple[object, ...]:
    """What differs after a tensor was changed, as far as `WeightState` sees that. Not for tensors made under
    inference_mode, which have no count of their changes."""
    return tensor.dtype, tensor.device, tensor._version, _address(tensor), _steps[0]


def active_autocast(device: torch.device) -> torch.dtype | None:
    """What autocast casts to on a device, None where it is off or, as on torch's meta device, not to be had."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


class WeightState:
    """What a module's tensors are at one moment, to be compared with a later one; keeps none of them alive.

    Seen: tensors put in the place of others, moved, cast, or changed in place by anything that autograd keeps count of
    (`copy_`, `load_state_dict`) or by an optimizer, autocast, and on GPUs another stream, which would not wait for what
    the first one is still computing. Not seen: values written through `tensor.data`, and what changes a module without
    changing a tensor, as adapters that are switched off, or hooks.
    """

    def __init__(self, module: nn.Module, *others: object) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        # Tensors made under inference_mode have no count of their changes.
        # The replicas of torch.nn.DataParallel have no parameters at all.
        self.known = bool(tensors) and not any(tensor.is_inference() for tensor in tensors)
        self._tensors = [weakref.ref(tensor) for tensor in tensors] if self.known else []
        facts = [tensor_facts(tensor) for tensor in tensors] if self.known else []
        device = tensors[0].device if tensors else torch.device("cpu")
        self._facts = (active_autocast(device), _stream(device), facts)
        self._others = others

    def same_as(self, other: "WeightState") -> bool:
        """Whether nothing has changed between the two; an unknown state is like no other."""
        return (
            self.known
            and other.known
            and self._facts == other._facts
            and all(mine is theirs for mine, theirs in zip(self._others, other._others, strict=True))
            # An address may be given out again, but not while its first owner lives.
            and all(one() is two() is not None for one, two in zip(self._tensors, other._tensors, strict=True))
        )


def _stream(device: torch.device) -> int | None:
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None


def _address(tensor: torch.Tensor) -> int:
    # Subclasses (quantised weights) may be wrappers without memory of their own.
    return tensor.data_ptr() if type(tensor) in (torch.Tensor, nn.Parameter) else 0
