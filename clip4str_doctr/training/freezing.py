"""Parts of a model that training leaves as they are, and layers that are computed twice to save memory.

CLIP4STR (arXiv:2305.14014, section 3.3) trains its image tower whole and freezes the first half of the text tower's
layers with its embeddings, so that the knowledge of language is kept.
"""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.image_tower import ClipImageTower, ConvImageTower
from clip4str_doctr.modeling.text_tower import CharTextTower, MClipTextTower
from clip4str_doctr.training.recipe import FreezeRecipe, RecipeError


def tower_layers(tower: nn.Module) -> tuple[list[nn.Module | nn.Parameter], list[nn.Module]]:
    """-> what a tower computes before its transformer layers, and these layers from first to last.

    Raises TypeError for a tower of another kind than ours.
    """
    if isinstance(tower, ConvImageTower):
        return [tower.stem, tower.positions], list(tower.blocks)
    if isinstance(tower, ClipImageTower):
        visual = tower.visual
        before = [visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre]
        return before, list(visual.transformer.resblocks)
    if isinstance(tower, CharTextTower):
        return [tower.embedding, tower.positions], list(tower.blocks)
    if isinstance(tower, MClipTextTower):
        return [tower.transformer.embeddings], list(tower.transformer.encoder.layer)
    raise TypeError(f"the layers of a {type(tower).__name__} are not known here; add it to tower_layers")


def freeze(model: CLIP4STR, recipe: FreezeRecipe) -> list[nn.Module]:
    """Switch gradients off as the recipe says -> the frozen modules, to be kept in eval mode.

    Raises RecipeError if a tower has fewer layers than are to be frozen.
    """
    frozen: list[nn.Module] = []
    for name, layers, whole in (
        ("image", recipe.image_layers, recipe.image_tower),
        ("text", recipe.text_layers, recipe.text_tower),
    ):
        tower = getattr(model, f"{name}_tower")
        before, blocks = tower_layers(tower)
        if layers > len(blocks):
            raise RecipeError(f"freeze.{name}_layers is {layers}, but the {name} tower has {len(blocks)} layers")
        parts: list[nn.Module | nn.Parameter] = [*before, *blocks[:layers]] if layers else []
        for part in [tower] if whole else parts:
            part.requires_grad_(False)
            if isinstance(part, nn.Module):
                frozen.append(part)
    return frozen


def recompute_layers(model: CLIP4STR) -> None:
    """Have the layers of both towers keep nothing but their inputs for the gradient, and compute the rest again.

    The same gradients, for a third more time and a fraction of the memory.
    """
    for tower in (model.image_tower, model.text_tower):
        for layer in tower_layers(tower)[1]:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
