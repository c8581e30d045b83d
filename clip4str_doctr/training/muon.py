"""Muon (Keller Jordan, 2024; arXiv:2502.16982): steps of hidden matrices are made orthogonal, all else is AdamW's.

torch.optim.Muon takes matrices only and computes in bfloat16, which is emulated, thirty times slower, by many CPUs.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from clip4str_doctr.modeling.layers import Attention

__all__ = ["MuonAndAdamW", "hidden_matrices", "orthogonalised"]

# Newton-Schulz steps with these take all singular values to 0.7..1.2 (Jordan).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_MOMENTUM = 0.95
# Root mean square of AdamW's steps, so that both take the same learning rate and decay (arXiv:2502.16982, section 2.2).
_STEP_SIZE = 0.2


class MuonAndAdamW(torch.optim.AdamW):
    """AdamW, but for groups with "parts" of 1 or more: their matrices, each cut into so many by rows, are Muon's."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of all groups. Closures are not taken."""
        assert closure is None, "Muon takes no closure"
        every = self.param_groups
        self.param_groups = [group for group in every if not group["parts"]]
        try:
            super().step()
        finally:
            self.param_groups = every
        for group in every:
            if group["parts"]:
                self._orthogonal_step(group)

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        """Matrices of one shape together: a few large products are faster than many small ones."""
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape.setdefault(parameter.shape, []).append(parameter)
        for parameters in by_shape.values():
            momenta = []
            for parameter in parameters:
                state, gradient = self.state[parameter], parameter.grad
                assert gradient is not None
                if not state:
                    # AdamW wants to find a step in every state that is loaded.
                    state.update(step=torch.zeros(()), momentum=torch.zeros_like(parameter))
                state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
                # Nesterov's look ahead.
                momenta.append(gradient.lerp(state["momentum"], _MOMENTUM))
            stacked = torch.stack(momenta)
            rows, columns = stacked.shape[1] // group["parts"], stacked.shape[2]
            steps = orthogonalised(stacked.view(-1, rows, columns)).view_as(stacked)
            size = group["lr"] * _STEP_SIZE * math.sqrt(max(rows, columns))
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=size)


def orthogonalised(matrices: Tensor) -> Tensor:
    """(N, rows, columns) -> the same, of the same type, with singular vectors kept and values near one."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    # GPUs have bfloat16, whose precision is enough here.
    x: Tensor = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    steps: Tensor = (x.transpose(1, 2) if tall else x).to(matrices.dtype)
    return steps


def hidden_matrices(model: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """Matrices between hidden layers, with how many are stacked in one: queries, keys and values are three.

    No embeddings, no heads (their rows are symbols), no kernels.
    """
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            yield module.in_proj_weight, 3
        elif isinstance(module, nn.Linear) and name.rpartition(".")[2] != "head":
            yield module.weight, 1
