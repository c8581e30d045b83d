"""A checkpoint -> a weights folder: `python -m clip4str_doctr.training.export CHECKPOINT FOLDER --commit REV`."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.config import model_config_from_dict
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.training.recipe import recipe_from_dict
from clip4str_doctr.training.validate import suite_scores, watched_temperature
from clip4str_doctr.weight_card import WeightCard
from clip4str_doctr.weights import load_model, save_model

__all__ = ["export"]

logger = logging.getLogger(__name__)


def export(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    commit: str | None = None,
    words: int = 0,
    training: Mapping[str, Any] | None = None,
) -> WeightCard:
    """Write a checkpoint's averaged weights in float16, with a card that says how they came; returns the card.

    commit: of the code that trained them. words: measure that many words of every suite, at most 1,000, and fit the
    temperature of confidences on the words that the run watched; 0 leaves only what the run itself measured.
    training: what else to say of the run.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config, recipe = model_config_from_dict(state["config"]), recipe_from_dict(state["recipe"])
    model: CLIP4STR = build_model(config)
    model.load_state_dict(state["average"]["weights"])
    samples = state["step"] * recipe.data.batch_size
    metrics: dict[str, Any] = {}
    if state["scores"]:
        metrics["watched"] = {**state["scores"], "words": recipe.data.val_words, "seed": recipe.data.val_seed}
    card = WeightCard(
        arch=config.arch,
        source="trained from scratch by clip4str_doctr.training",
        licence="Apache-2.0",
        metrics=metrics,
        data=f"{samples} Vietnamese words rendered by clip4str_doctr.training.synth",
        recipe=state["recipe"],
        commit=commit,
        training={"samples": samples, "hours": round(state["active_seconds"] / 3600, 2), **(training or {})},
    )
    card = save_model(model.eval(), folder, card, dtype=torch.float16)
    if words:
        # The weights as they ship, after rounding to float16.
        shipped = load_model(folder)
        shipped.postprocessor.temperature = watched_temperature(shipped, recipe.data)
        measured = replace(card, metrics={**card.metrics, "suites": suite_scores(shipped, words)})
        card = save_model(shipped, folder, measured, dtype=torch.float16)
    logger.info("exported %s", folder)
    return card


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="weights folder to write")
    parser.add_argument("--commit", help="of the code that trained the checkpoint, for the card")
    parser.add_argument("--words", type=int, default=1000, help="to measure, of each suite (default: 1000)")
    parser.add_argument("--note", help="what else to say of the run, for the card")
    arguments = parser.parse_args()
    note = {"note": arguments.note} if arguments.note else None
    card = export(arguments.checkpoint, arguments.folder, commit=arguments.commit, words=arguments.words, training=note)
    print(card.metrics)


if __name__ == "__main__":
    main()
