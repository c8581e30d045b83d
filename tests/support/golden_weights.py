"""The golden files as weights, and what tests of weights compare models by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.modeling.clip4str import CLIP4STR

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
CHECKPOINT = GOLDEN / "clip4str-large-tiny-A.ckpt"
M_CLIP = GOLDEN / "M_clip"


def same_weights(one: CLIP4STR, other: CLIP4STR) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def pixels(model: CLIP4STR, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *model.config.image_tower.image_size, generator=generator)


def out_map(model: CLIP4STR) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(pixels(model), return_model_output=True)["out_map"]
    return logits


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """The golden checkpoint with changes, beside nothing else."""
    content: dict[str, Any] = torch.load(CHECKPOINT, weights_only=True)
    edit(content)
    path = folder / "edited.ckpt"
    torch.save(content, path)
    return path
