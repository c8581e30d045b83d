"""Which recipe the command line means: a file, one that comes with the package, or that for words of one's own."""

import logging
from collections.abc import Sequence
from pathlib import Path

from clip4str_doctr.config import DEFAULT_ARCH, PRESETS
from clip4str_doctr.training.recipe import Recipe
from clip4str_doctr.weight_card import CARD_FILE, read_card

__all__ = ["find_recipe", "finetuning_recipe", "tell_of_start"]

logger = logging.getLogger(__name__)


def find_recipe(name: str) -> Path:
    """A recipe by its path or, where there is no such file, by the bare name of one that comes with the package.

    Raises ValueError if there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).parents[1]
    # Installed, recipes lie inside the package; in a checkout, beside it.
    folders = [folder for folder in (package / "_configs", package.parent / "configs") if folder.is_dir()]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ValueError(f"no recipe {name}; give the path of a YAML file, or one of {', '.join(known)}")


def finetuning_recipe(init: str | None, data: Sequence[str] | None) -> str:
    """The recipe for words of one's own, which lie in `data`, and the weights that `init` names.

    Raises ValueError without words, WeightsError for a folder of weights without a readable card.
    """
    if not data:
        raise ValueError("say what to train: a recipe, or words of your own with --data DIR")
    arch = init or DEFAULT_ARCH
    if arch not in PRESETS:
        place = Path(arch).expanduser()
        if (place / CARD_FILE).is_file():
            arch = read_card(place).arch
        else:
            # A folder without a card has the published layout. What else may be either is taken for the usual one; the
            # run says which recipe it needs if that is wrong.
            arch = "clip4str_vn" if place.is_dir() or place.suffix == ".ckpt" else DEFAULT_ARCH
    return f"{arch}_finetune"


def tell_of_start(recipe: Recipe, path: Path) -> None:
    """Warn of a recipe that is not made for the weights it is to start from."""
    if recipe.model.init is None and recipe.words.train:
        logger.warning("%s starts from random weights; %s_finetune trains ours further", path, recipe.model.preset)
    elif recipe.model.init is not None and recipe.data.mixed_fraction:
        logger.warning(
            "%s is for weights that start random: its rates are too high for trained ones, and batch norms learn anew. "
            "Recipes to train weights further are %s_finetune and clip4str_vn_tiny_continue",
            *(path, recipe.model.preset),
        )
