"""What a run starts from: random weights, or those of a model that exists."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.checkpoint import read_run_state
from clip4str_doctr.config import (
    PRESETS,
    MClipTextTowerConfig,
    ModelConfig,
    model_config_from_dict,
    model_config_to_dict,
)
from clip4str_doctr.lookup import find_weights, terms_of_published
from clip4str_doctr.training.provenance import data_of, licence_of, samples_of
from clip4str_doctr.training.recipe import ModelRecipe, RecipeError
from clip4str_doctr.training.synth.words import MAX_SYMBOLS
from clip4str_doctr.weight_card import TENSOR_FILE, WeightCard, WeightsError, read_card, sha256_of
from clip4str_doctr.weights import load_model, locate

logger = logging.getLogger(__name__)

# What a run's checkpoint must hold for another run to start from it, or for weights to be made of it.
CHECKPOINT_PARTS = ("config", "average", "ctc_head", "recipe", "step")


@dataclass(frozen=True)
class Start:
    """A model's config and, unless it starts random, its weights.

    weights: the state dict of a `CLIP4STR` of this config, None for random ones. ctc_head: that of the auxiliary head,
    None for a random one. origin: where the weights come from, JSON-ready; it goes into checkpoints and onto cards.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor] | None = None
    ctc_head: Mapping[str, Tensor] | None = None
    origin: dict[str, Any] | None = None


def model_config(recipe: ModelRecipe) -> ModelConfig:
    """The preset with the recipe's overrides. Raises ValueError for an unknown preset or field."""
    if recipe.preset not in PRESETS:
        raise ValueError(f"model.preset must be one of {', '.join(PRESETS)}, got {recipe.preset!r}")
    values = model_config_to_dict(PRESETS[recipe.preset])
    _override(values, recipe.overrides)
    return model_config_from_dict(values)


def _override(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(key), dict):
            _override(values[key], change)
        else:
            values[key] = change  # an unknown key is named by model_config_from_dict


def find_start(recipe: ModelRecipe, tokenizer: str | Path | None = None) -> Start:
    """Random weights, or those that `recipe.init` names.

    init: an architecture, whose weights are looked for as `pretrained=True` does; what `load_model` takes; or the
    checkpoint.pt of another run, of which the averaged weights and the auxiliary head are taken. Dimensions are those
    of the weights. tokenizer: the published M_clip folder, for a .ckpt that lies elsewhere.
    Raises WeightsError as `load_model`, also for weights of another architecture than the recipe's or that its
    overrides do not describe; RecipeError for an M-CLIP text tower without weights.
    """
    if recipe.init is None:
        config = model_config(recipe)
        if isinstance(config.text_tower, MClipTextTowerConfig):
            raise RecipeError(
                f"{config.arch} cannot be trained from random weights, without a tokenizer; name some by --init WEIGHTS"
            )
        return Start(config)
    place = find_weights(recipe.init) if recipe.init in PRESETS else locate(recipe.init)
    if place.suffix == ".pt":
        start = _from_checkpoint(recipe.init, place)
    else:
        start = _from_weights(recipe.init, locate(place), tokenizer)
    _check_fits(recipe, start.config)
    return start


def _from_weights(name: str, place: Path, tokenizer: str | Path | None) -> Start:
    model = load_model(place, tokenizer=tokenizer)
    if place.is_dir():
        card = read_card(place)
        sha256 = card.sha256[TENSOR_FILE]
    else:
        card, sha256 = WeightCard(model.config.arch, *terms_of_published(place)), sha256_of(place)
    origin = _origin(name, sha256, card.source, card.licence, card.data, model.postprocessor.temperature)
    return Start(model.config, model.state_dict(), None, origin)


def _from_checkpoint(name: str, path: Path) -> Start:
    state = read_run_state(path, CHECKPOINT_PARTS, mapped=True)
    if (reader := state["recipe"]["model"].get("reader", "clip4str")) != "clip4str":
        raise WeightsError(f"{name} is of a run that trained a {reader}; only one of a CLIP4STR can be started from")
    before = state.get("origin") or {}
    source = f"a run of clip4str_doctr.training, at {samples_of(state)} words"
    temperature = before.get("temperature", 1.0)
    origin = _origin(name, sha256_of(path), source, licence_of(state), data_of(state), temperature)
    return Start(config_of_run(state, name), state["average"]["weights"], state["ctc_head"], origin)


def config_of_run(state: Mapping[str, Any], name: object) -> ModelConfig:
    """What a run's model is. name: the checkpoint's, for messages. Raises WeightsError for what this version lacks."""
    try:
        return model_config_from_dict(state["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{name} is of another version of this package, or damaged: its model's config says {error}; go on with "
            "that version, or start a new run"
        ) from error


def _origin(name: str, sha256: str, source: str, licence: str, data: str | None, temperature: float) -> dict[str, Any]:
    return {
        "name": name,
        "sha256": sha256,
        "source": source,
        "licence": licence,
        "data": data,
        "temperature": temperature,
    }


def _check_fits(recipe: ModelRecipe, config: ModelConfig) -> None:
    if config.arch != recipe.preset:
        raise WeightsError(
            f"{recipe.init} holds a {config.arch}, but model.preset is {recipe.preset}; change one of them, or "
            f"give another recipe, as {config.arch}_finetune"
        )
    values = model_config_to_dict(config)
    _override(values, recipe.overrides)
    wanted = model_config_from_dict(values)
    if differing := [name for name in values if getattr(wanted, name) != getattr(config, name)]:
        raise WeightsError(
            f"model.overrides asks for another {', '.join(differing)} than {recipe.init} has; leave them out, "
            "dimensions are those of the weights"
        )


def check_alphabet(config: ModelConfig) -> None:
    """Raises RecipeError for a model that cannot write what the renderer draws."""
    if config.decode.max_symbols < MAX_SYMBOLS:
        raise RecipeError(
            f"rendered words have up to {MAX_SYMBOLS} symbols, the model writes {config.decode.max_symbols}; render "
            "none (--data with words.share 1.0), or leave overrides.decode.max_symbols out"
        )
    if lacking := sorted(set(VIETNAMESE_SYMBOLS) - set(config.symbols)):
        raise RecipeError(
            f"the model's {len(config.symbols)} symbols lack {len(lacking)} of those in rendered words, as "
            f"{' '.join(lacking[:5])}; render none (--data with words.share 1.0), or start from a model of all of them"
        )


def fitting_head(ctc_head: Mapping[str, Tensor] | None, own: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    """`ctc_head` if its shapes are those of `own`, else None: it then starts random, which the log says."""
    if ctc_head is None:
        return None
    if {name: one.shape for name, one in ctc_head.items()} != {name: one.shape for name, one in own.items()}:
        logger.warning(
            "the auxiliary head of the start has other shapes than the recipe's loss.ctc_*; it starts random"
        )
        return None
    return ctc_head
