"""Optimiser, learning-rate schedule and moving average of the weights."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clip4str_doctr.training.muon import MuonAndAdamW, hidden_matrices
from clip4str_doctr.training.recipe import OptimRecipe, ScheduleRecipe

TOWERS = ("image_tower.", "text_tower.", "feat_extractor.")  # the last is docTR's name for the image tower


def parameter_groups(model: nn.Module, auxiliary: nn.Module, recipe: OptimRecipe) -> list[dict[str, Any]]:
    """Towers (the auxiliary head among them) and decoders, each with and without weight decay, and what is Muon's.

    Frozen parameters, which take no gradient, are in none.

    Every group carries its own `peak` learning rate, to be scaled by `schedule_factor`, and in "parts" how many
    matrices are stacked in each of its parameters, 0 if AdamW takes them.
    """
    parts = {id(one): count for one, count in hidden_matrices(model)} if recipe.matrices == "muon" else {}
    groups: dict[tuple[bool, bool, int], list[nn.Parameter]] = {}
    for prefix, module in (("", model), (TOWERS[0], auxiliary)):
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            tower = (prefix + name).startswith(TOWERS)
            key = (tower, decays(module, name, parameter), parts.get(id(parameter), 0))
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": recipe.learning_rate * (recipe.tower_factor if tower else recipe.decoder_factor),
            "weight_decay": recipe.weight_decay if decay else 0.0,
            "parts": count,
        }
        for (tower, decay, count), parameters in groups.items()
    ]


def decays(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay makes sense: for matrices and kernels, not for norms, biases, embeddings, positions."""
    owner, _, own_name = name.rpartition(".")
    embedding = isinstance(module.get_submodule(owner), nn.Embedding)
    return parameter.ndim > 1 and own_name.endswith("weight") and not embedding


def build_optimizer(model: nn.Module, auxiliary: nn.Module, recipe: OptimRecipe) -> torch.optim.AdamW:
    """Over the model and the auxiliary head; the learning rate starts at zero and is set before each step."""
    groups = parameter_groups(model, auxiliary, recipe)
    return MuonAndAdamW(groups, lr=0.0, betas=recipe.betas, fused=True)


def schedule_progress(samples: int, active_seconds: float, recipe: ScheduleRecipe) -> float:
    """Share of the run that is behind us, 0..1: of the samples or of the hours, whichever is further.

    A busy machine then still anneals to the end within `max_hours`.
    """
    progress = samples / recipe.total_samples
    if recipe.max_hours is not None:
        progress = max(progress, active_seconds / (recipe.max_hours * 3600))
    return min(progress, 1.0)


def schedule_factor(progress: float, recipe: ScheduleRecipe) -> float:
    """Share of the peak learning rate: linear warm-up, `hold` at the peak, then half a cosine to `final_factor`.

    The long peak is that of Hu et al. 2024, MiniCPM (arXiv:2404.06395): the average rate, and with it the way gone,
    is larger than a cosine's from the start, and the decay at the end takes the noise away as well.
    """
    if progress < recipe.warmup:
        # Never quite zero, so that the first step already learns.
        return max(progress / recipe.warmup, 1e-3)
    decaying = recipe.warmup + recipe.hold
    if progress < decaying:
        return 1.0
    after = (progress - decaying) / max(1.0 - decaying, 1e-9)
    return recipe.final_factor + (1.0 - recipe.final_factor) * 0.5 * (1.0 + math.cos(math.pi * after))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


class MovingAverage:
    """Exponential moving average of a model's state in float32: parameters and running statistics alike.

    Whole numbers (counters) are taken as they are. from_random: the decay warms up as (1 + n) / (10 + n), so that a
    random start is soon forgotten; weights that were trained before stay in the average as long as any others.
    """

    def __init__(self, model: nn.Module, decay: float, *, from_random: bool = True) -> None:
        self.decay, self.updates, self.from_random = decay, 0, from_random
        self.weights = {name: _averaged(tensor).clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.from_random else self.decay
        averages, present = [], []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.weights[name])
                present.append(_averaged(tensor))
            else:
                self.weights[name].copy_(tensor)
        torch._foreach_lerp_(averages, present, 1.0 - decay)

    def copy_to(self, model: nn.Module) -> None:
        """Put the averages into a model of the same shapes."""
        model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "from_random": self.from_random, "weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the names differ from the model's."""
        if state["weights"].keys() != self.weights.keys():
            differing = sorted(state["weights"].keys() ^ self.weights.keys())
            raise ValueError(f"averaged weights of another model; they differ in {differing[:3]}")
        self.updates = int(state["updates"])
        self.from_random = bool(state.get("from_random", True))  # runs of earlier versions warmed up always
        for name, tensor in state["weights"].items():
            self.weights[name].copy_(tensor)


def _averaged(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
