"""A checkpoint -> a weights folder: `python -m clip4str_doctr.training.export CHECKPOINT FOLDER --commit REV`."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.checkpoint import read_run_state
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.training.provenance import (
    both_licences,
    data_of,
    licence_of,
    published_recipe,
    samples_of,
    source_of,
)
from clip4str_doctr.training.recipe import Recipe, recipe_from_dict
from clip4str_doctr.training.start import CHECKPOINT_PARTS, config_of_run
from clip4str_doctr.training.validate import (
    STYLES,
    suite_scores,
    watched_certainty,
    watched_styles,
    watched_temperature,
)
from clip4str_doctr.weight_card import TENSOR_FILE, WeightCard, read_card
from clip4str_doctr.weights import load_model, save_model

__all__ = ["averaged_model", "blend_into", "export"]

logger = logging.getLogger(__name__)


def export(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    commit: str | None = None,
    words: int = 0,
    training: Mapping[str, Any] | None = None,
    blend: str | Path | None = None,
    blend_share: float = 0.5,
) -> WeightCard:
    """Write a checkpoint's averaged weights in float16, with a card that says how they came; returns the card.

    commit: of the code that trained them. words: measure that many words of every suite, at most 1,000, and fit the
    temperature of confidences on the words that the run watched, and the certainty for `cross_modal="auto"` on four
    times as many of the same kinds as of a suite; 0 leaves only what the run itself measured.
    training: what else to say of the run.
    blend: a weights folder of the same dimensions, usually what the run started from, to make up `blend_share`, 0..1,
    of every weight (WiSE-FT, arXiv:2109.01903): what the run forgot is kept, what it learned mostly is, too.
    Raises ValueError for a share outside 0..1 and for weights of other dimensions or another alphabet, WeightsError for
    a file that is no run's checkpoint.
    """
    state = read_run_state(Path(checkpoint), CHECKPOINT_PARTS, mapped=True)
    recipe = recipe_from_dict(state["recipe"])
    origin: dict[str, Any] = state.get("origin") or {}
    licence, data = licence_of(state), data_of(state)
    model = averaged_model(state)
    if blend is not None:
        blend_into(model, load_model(blend), blend_share)
        other = read_card(Path(blend))
        sha256 = other.sha256[TENSOR_FILE]
        training = {**(training or {}), "blend": {"sha256": sha256, "share": blend_share}}
        licence = both_licences(licence, other.licence)
        if sha256 != origin.get("sha256"):  # else what they were trained on is told as what was before
            data = f"{data}; averaged with weights trained on: {other.data or 'not stated'}"
    card = WeightCard(
        arch=model.config.arch,
        source=source_of(state),
        licence=licence,
        # They are of the run's own weights, which blended ones are not.
        metrics={"watched": _watched(state, recipe)} if state["scores"] and blend is None else {},
        data=data,
        recipe=published_recipe(state["recipe"]),
        commit=commit,
        training={"samples": samples_of(state), "hours": round(state["active_seconds"] / 3600, 2), **(training or {})},
    )
    # What was fitted to the weights it started from is nearer than nothing.
    model.postprocessor.temperature = origin.get("temperature", 1.0)
    card = save_model(model, folder, card, dtype=torch.float16)
    if words:
        card = _measured(folder, card, recipe, words)
    logger.info("exported %s", folder)
    return card


def _watched(state: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The scores of a run's last validation, and of how many words they are."""
    watched: dict[str, Any] = dict(state["scores"])
    if watched.keys() & STYLES:
        watched |= {"words": recipe.data.val_words, "seed": recipe.data.val_seed}
    if (scored := state.get("scored_step", state["step"])) != state["step"]:
        watched["at_samples"] = scored * recipe.data.batch_size  # of weights on the way to these
    if own := state.get("own_words"):
        watched["own_words"] = own["val"]
    return watched


def _measured(folder: str | Path, card: WeightCard, recipe: Recipe, words: int) -> WeightCard:
    """Measure the weights as they ship, after rounding to float16, and write them again with what was found."""
    shipped = load_model(folder)
    # Rendered words tell nothing of a model that was not trained on them, or cannot write them.
    if watched_styles(recipe) and set(VIETNAMESE_SYMBOLS) <= set(shipped.vocab):
        shipped.postprocessor.temperature = watched_temperature(shipped, recipe.data)
        # Above 1 is what is found where drafts are lost at a certainty that rounds to 1: none can be asked to be surer.
        shipped.certain_from = min(watched_certainty(shipped, recipe.data, 4 * words) or shipped.certain_from, 1.0)
    measured = replace(card, metrics={**card.metrics, "suites": suite_scores(shipped, words)})
    return save_model(shipped, folder, measured, dtype=torch.float16)


def averaged_model(state: Mapping[str, Any]) -> CLIP4STR:
    """state: of a `TrainingRun`, as read from its checkpoint -> its averaged weights, in eval mode."""
    model: CLIP4STR = build_model(config_of_run(state, "the checkpoint")).eval()
    model.load_state_dict(state["average"]["weights"])
    return model


def blend_into(model: CLIP4STR, theirs: CLIP4STR, share: float) -> None:
    """Move every weight of `model` by `share`, 0..1, of the way to those of another.

    Raises ValueError for a share outside 0..1 and for weights of other dimensions or another alphabet.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"blend_share must be in 0..1, got {share}")
    if theirs.config.symbols != model.config.symbols:
        raise ValueError("weights to blend must have the run's alphabet, in its order; theirs is another")
    own, other = model.state_dict(), theirs.state_dict()
    shapes, others = ({name: one.shape for name, one in weights.items()} for weights in (own, other))
    if shapes != others:
        differing = sorted(name for name in {*shapes, *others} if shapes.get(name) != others.get(name))
        raise ValueError(f"weights to blend must have the run's dimensions; theirs differ in {differing[:3]}")
    # Counters are no weights.
    model.load_state_dict({k: v.lerp(other[k].to(v), share) if v.is_floating_point() else v for k, v in own.items()})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="weights folder to write")
    parser.add_argument("--commit", help="of the code that trained the checkpoint, for the card")
    parser.add_argument("--words", type=int, default=1000, help="to measure, of each suite (default: 1000)")
    parser.add_argument("--blend", type=Path, metavar="WEIGHTS", help="a folder to average weights with")
    parser.add_argument("--blend-share", type=float, default=0.5, metavar="0..1", help="of those (default: 0.5)")
    parser.add_argument("--note", help="what else to say of the run, for the card")
    arguments = parser.parse_args()
    note = {"note": arguments.note} if arguments.note else None
    card = export(
        arguments.checkpoint,
        arguments.folder,
        commit=arguments.commit,
        words=arguments.words,
        training=note,
        blend=arguments.blend,
        blend_share=arguments.blend_share,
    )
    print(card.metrics)


if __name__ == "__main__":
    main()
