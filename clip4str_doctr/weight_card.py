"""The card beside every weight file: what it is, where it comes from, and the SHA-256 it must have."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from clip4str_doctr.config import CLIP_NORMALIZATION, HALF_NORMALIZATION, PreprocessConfig, is_number

__all__ = [
    "CARD_FILE",
    "CONFIG_FILE",
    "NORMALIZATIONS",
    "TENSOR_FILE",
    "TOKENIZER_FOLDER",
    "WeightCard",
    "WeightsError",
    "WeightsNotFoundError",
    "card_from_dict",
    "read_card",
    "read_json",
    "sha256_of",
    "verify_files",
]

CARD_FILE = "card.json"
CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"

NORMALIZATIONS: dict[str, PreprocessConfig] = {"half": HALF_NORMALIZATION, "clip": CLIP_NORMALIZATION}

_CHUNK = 4 << 20
_UNSTATED = "not stated"


class WeightsError(ValueError):
    """Weights that cannot be used: wrong kind of file, damaged, unsafe, or not fitting the model."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """Weights that are not where they were looked for; the message says where to get them."""


@dataclass(frozen=True)
class WeightCard:
    """What is known about a weight file.

    arch: the model's name. source, licence: where the weights come from and on which terms. sha256: file name inside
    the folder -> hexadecimal digest, written by `save_model` and verified at every load. preprocess: the mean and std
    the weights are read with. dtype, parameters: as stored. temperature: the postprocessor's, for confidences.
    certain_from: the model's, for `cross_modal="auto"`; None: nothing was calibrated, and the model's default holds.
    metrics: accuracies with their protocol. data, recipe, commit, training: how the weights were made, as far as known.
    """

    arch: str
    source: str = _UNSTATED
    licence: str = _UNSTATED
    sha256: dict[str, str] = field(default_factory=dict)
    preprocess: PreprocessConfig | None = None
    dtype: str | None = None
    parameters: int | None = None
    temperature: float = 1.0
    certain_from: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    recipe: Any = None
    commit: str | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def normalization(self) -> str | None:
        """ "half", "clip", or None for a mean and std that have no name."""
        return next((name for name, value in NORMALIZATIONS.items() if value == self.preprocess), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `normalization` stands beside the numbers for the human reader."""
        return {**asdict(self), "normalization": self.normalization}


def card_from_dict(values: Mapping[str, Any]) -> WeightCard:
    """The inverse of `WeightCard.to_dict`. Raises WeightsError naming missing or unknown fields."""
    parts = {key: value for key, value in values.items() if key != "normalization"}
    known = {item.name for item in fields(WeightCard)}
    if unknown := sorted(set(parts) - known):
        raise WeightsError(f"the weight card has unknown fields {unknown}; it takes {sorted(known)}")
    if "arch" not in parts:
        raise WeightsError(f"the weight card lacks 'arch', the model's name; got {sorted(parts)}")
    temperature = parts.get("temperature", 1.0)
    if not is_number(temperature) or not 0 < temperature < float("inf"):
        raise WeightsError(f"the card's temperature must be a number above 0, got {temperature!r}")
    certain = parts.get("certain_from")
    if certain is not None and not is_number(certain):
        raise WeightsError(f"the card's certain_from must be a number, or left out, got {certain!r}")
    if certain is not None and not 0 < certain <= 1:
        raise WeightsError(f"the card's certain_from must be above 0, and 1 at most, got {certain!r}")
    digests = parts.get("sha256", {})
    if not isinstance(digests, Mapping) or not all(isinstance(one, str) for one in digests.values()):
        raise WeightsError(f"the card's sha256 must map file names to hexadecimal digests, got {digests!r}")
    preprocess = parts.get("preprocess")
    if isinstance(preprocess, Mapping):
        try:
            parts["preprocess"] = PreprocessConfig(**{key: tuple(value) for key, value in preprocess.items()})
        except (TypeError, ValueError) as error:
            what = f"the card's preprocess must hold mean and std, got {dict(preprocess)} ({error})"
            raise WeightsError(what) from error
    card = WeightCard(**parts)
    if "normalization" in values and values["normalization"] != card.normalization:
        raise WeightsError(
            f"the weight card says normalization {values['normalization']!r}, but its preprocess is {card.preprocess}; "
            "change neither by hand, pass normalization= to load_model"
        )
    return card


def read_card(folder: Path) -> WeightCard:
    """The card of one of our weight folders. Raises WeightsError if it is absent or malformed."""
    return card_from_dict(read_json(folder / CARD_FILE))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises WeightsError for a missing file or anything that is not an object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(f"{path} is missing; the weight folder is incomplete, copy it again") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} must be JSON, got something else ({error}); copy the folder again") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path} must hold a JSON object, got {type(values).__name__}; copy the folder again")
    return values


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a whole file, read in chunks."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def verify_files(folder: Path, card: WeightCard) -> None:
    """Hash every file the card lists. Raises WeightsError naming the first that is missing or differs."""
    if TENSOR_FILE not in card.sha256:
        raise WeightsError(f"{folder / CARD_FILE} lists no SHA-256 of {TENSOR_FILE}; convert or download it again")
    for name, expected in card.sha256.items():
        path = folder / name
        # Judged by name, not by where links lead: the hub's cache is made of links.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise WeightsError(f"{folder / CARD_FILE} lists {name!r}, which lies outside the folder; do not trust it")
        if not path.is_file():
            raise WeightsNotFoundError(f"{path} is on the card but missing; convert or download the folder again")
        if (got := sha256_of(path)) != expected:
            raise WeightsError(
                f"{path} is damaged or was changed: its card says SHA-256 {expected}, got {got}; "
                "convert or download the folder again"
            )
