"""What is said of the weights that a run trained: on what, and under whose terms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["both_licences", "data_of", "licence_of", "published_recipe", "samples_of", "source_of"]

_UNSTATED = "not stated"


def samples_of(state: Mapping[str, Any]) -> int:
    """state: of a `TrainingRun` -> how many words it has learned from."""
    return int(state["step"] * state["recipe"]["data"]["batch_size"])


def source_of(state: Mapping[str, Any]) -> str:
    """state: of a `TrainingRun` -> where its weights come from, and where those came from that it started from."""
    if origin := state.get("origin"):
        return (
            f"trained by clip4str_doctr.training from {_public(origin['name'])} (SHA-256 {origin['sha256']}): "
            f"{origin['source']}"
        )
    return "trained from scratch by clip4str_doctr.training"


def licence_of(state: Mapping[str, Any]) -> str:
    """state: of a `TrainingRun`. Whoever trains on another's weights is bound by their terms, whatever the new data
    are; of a user's own words nothing is known."""
    origin = state.get("origin") or {}
    if state.get("own_words"):
        return f"not stated; of the weights it started from: {origin['licence']}" if origin else _UNSTATED
    return str(origin.get("licence", "Apache-2.0"))


def both_licences(one: str, other: str) -> str:
    """Terms of weights that are averages of two."""
    if one == other:
        return one
    unstated = one.startswith(_UNSTATED) or other.startswith(_UNSTATED)
    return f"{one}; of weights it was averaged with: {other}" if unstated else f"{one} and {other}"


def data_of(state: Mapping[str, Any]) -> str:
    """state: of a `TrainingRun` -> what it was trained on so far, and what the weights were that it started from."""
    recipe, own, origin = state["recipe"], state.get("own_words"), state.get("origin")
    samples = samples_of(state)
    rendered = "Vietnamese words rendered by clip4str_doctr.training.synth"
    if own:
        names = ", ".join(_public(folder) for folder in recipe["words"]["train"])
        whose = f"the {own['train']} of {names} (SHA-256 {own['sha256']})"
        share = recipe["words"]["share"]
        others = f", {share:.0%} of them {whose}, the others {rendered}"
        data = f"{samples} words" + (others if share < 1 else f", all of them {whose}")
    else:
        data = f"{samples} {rendered}"
    return f"{data}; before that: {origin['data'] or 'not stated'}" if origin else data


def published_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a card tells it: without the folders that its files lay in, which may say whose they are."""
    told = {part: dict(values) for part, values in recipe.items()}
    if told["model"].get("init"):
        told["model"]["init"] = _public(told["model"]["init"])
    if "words" in told:
        told["words"] |= {key: [_public(folder) for folder in told["words"].get(key, ())] for key in ("train", "val")}
    return told


def _public(name: str) -> str:
    """The name of a file or folder without where it lies; hub addresses as they are."""
    return name if name.startswith("hf://") else Path(name).name
