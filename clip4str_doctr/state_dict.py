"""State dicts as docTR's scripts and hub exchange them: from a file or a web address into a model that exists."""

import hashlib
import logging
import os
import re
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import torch

from clip4str_doctr.atomic import written
from clip4str_doctr.checkpoint import is_safetensors, is_state_dict, read_checkpoint, read_state_dict
from clip4str_doctr.config import PRESETS, ModelConfig
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.image_tower import build_image_tower
from clip4str_doctr.modeling.text_tower import MClipTextTower
from clip4str_doctr.tensor_file import compare_tensors, read_tensors
from clip4str_doctr.weight_card import CARD_FILE, TENSOR_FILE, WeightsError, WeightsNotFoundError, sha256_of
from clip4str_doctr.weight_folder import empty_model, is_weight_folder, own_tensors

__all__ = ["check_prefix", "downloaded", "holds_state_dict", "is_web_address", "load_state_dict"]

logger = logging.getLogger(__name__)

# Not of digits alone or shorter, which are numbers and dates: model-2.pt, model-20260101.pt.
_HASH_IN_NAME = re.compile(r"-(?=[0-9]*[a-f])([0-9a-f]{8,64})\.")
# What DistributedDataParallel and torch.compile put before the names of what they wrap.
_WRAPPERS = ("module.", "_orig_mod.")
# In paths and queries of addresses (RFC 3986), escapes among them.
_MAY_STAND = "/?%:@!$&'()*+,;=~"


def is_web_address(path: str | Path) -> bool:
    """Whether a path is the http(s) address of a file."""
    return str(path).startswith(("http://", "https://"))


def downloaded(url: str, hash_prefix: str | None = None) -> Path:
    """The file behind an http(s) address, downloaded unless it lies in docTR's cache already.

    hash_prefix: what its SHA-256 must begin with; None: what a name like model-0a1b2c3d.pt says, if any.
    Raises WeightsNotFoundError if it cannot be had, WeightsError for another hash and for what holds no weights.
    """
    name = PurePosixPath(urlsplit(url).path).name or "weights"
    if hash_prefix is None and (said := _HASH_IN_NAME.search(name)):
        hash_prefix = said[1]
    cache = Path(os.environ.get("DOCTR_CACHE_DIR") or os.path.expanduser("~/.cache/doctr"), "models").absolute()
    # Of the whole address: most files are called pytorch_model.bin.
    target = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}_{name}"
    if target.is_file() and (hash_prefix is None or sha256_of(target).startswith(hash_prefix)):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with written(target) as partial:
            # Not docTR's own function: where https fails that asks by http, from whoever may answer.
            torch.hub.download_url_to_file(_quoted(url), str(partial))
            if hash_prefix is not None:
                check_prefix(partial, hash_prefix)
            _check_whole(partial)
    except WeightsError as error:
        raise WeightsError(f"{url} is not the file that was expected: {error}") from error
    except (OSError, HTTPException, UnicodeError) as error:
        raise WeightsNotFoundError(f"cannot get {url} ({error}); check the address and the network") from error
    return target


def _quoted(url: str) -> str:
    """An address as people type it, with what only its escapes may stand for: letters beyond ASCII, spaces."""
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(path=quote(parts.path, safe=_MAY_STAND), query=quote(parts.query, safe=_MAY_STAND))
    )


def _check_whole(file: Path) -> None:
    """Raise WeightsError for what is no whole state dict or checkpoint: half of one, one damaged, a web page."""
    if is_safetensors(file):
        read_tensors(file, None)
    elif is_state_dict(file):
        read_state_dict(file)
    else:
        read_checkpoint(file)


def check_prefix(file: Path, hash_prefix: str) -> None:
    """Raise WeightsError unless a file's SHA-256 begins so, WeightsNotFoundError if it is no file."""
    if not file.is_file():
        raise WeightsNotFoundError(f"{file} is no file, so it has no SHA-256; leave hash_prefix={hash_prefix!r} out")
    if not (got := sha256_of(file)).startswith(hash_prefix):
        raise WeightsError(f"{file} must have a SHA-256 that begins with {hash_prefix}, got {got}; download it again")


def holds_state_dict(file: Path) -> bool:
    """Whether a file is a state dict by torch.save, or a safetensors file outside of our weights folders.

    Raises WeightsError for a file that cannot be read safely.
    """
    # With its card: docTR's hubs, too, have a config.json beside weights.
    ours = file.name == TENSOR_FILE and is_weight_folder(file.parent) and (file.parent / CARD_FILE).is_file()
    return is_state_dict(file) or (is_safetensors(file) and not ours)


def load_state_dict(model: CLIP4STR, file: Path, ignored: frozenset[str] = frozenset()) -> None:
    """Put the tensors of a file of which `holds_state_dict` is true into a model; a tokenizer may come along.

    ignored: names that are neither taken nor missed. Names that all begin as a wrapper's do, DistributedDataParallel's
    or torch.compile's, are taken without that. A model that was built for crops of another size than the weights'
    gets the image tower of the architecture, if they are for that: docTR's evaluation script builds any model for crops
    of H x 4H. A temperature and `certain_from` that a weights folder's card brought are set back; those of `cfg` stay.
    Raises WeightsError, naming what does not fit; the model is unchanged then.
    """
    stored = read_tensors(file, torch.float32) if is_safetensors(file) else read_state_dict(file)
    stored = {name: tensor for name, tensor in _unwrapped(stored).items() if name not in ignored}
    # Read first, so that a bad one leaves the model as it was.
    tower = model.text_tower
    tokenizer = tower.take_tokenizer(stored, "text_tower.", file) if isinstance(tower, MClipTextTower) else None
    if problems := _problems(own_tensors(model), stored, ignored):
        config = _of_preset_size(model.config)
        if config == model.config or _problems(own_tensors(empty_model(config)), stored, ignored):
            raise WeightsError(
                f"{file} is no state dict of this model ({len(problems)} problems); build {model.config.arch} with the "
                "vocab and input_shape that it was saved from:\n  " + "\n  ".join(problems[:20])
            )
        _resize(model, config)
    model.load_state_dict(stored, strict=not ignored)
    model.forget_calibration()  # of these weights nobody measured any
    if tokenizer is not None and isinstance(model.text_tower, MClipTextTower):
        model.text_tower.tokenizer = tokenizer


def _unwrapped(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    while prefix := next((one for one in _WRAPPERS if stored and all(name.startswith(one) for name in stored)), None):
        stored = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
    return stored


def _problems(own: dict[str, torch.Tensor], stored: dict[str, Any], ignored: frozenset[str]) -> list[str]:
    return compare_tensors({name: tensor for name, tensor in own.items() if name not in ignored}, stored)


def _of_preset_size(config: ModelConfig) -> ModelConfig:
    if config.arch not in PRESETS:
        return config
    size = PRESETS[config.arch].image_tower.image_size
    return replace(config, image_tower=replace(config.image_tower, image_size=size))


def _resize(model: CLIP4STR, config: ModelConfig) -> None:
    logger.warning(
        "the weights of %s read %s; the model was built for %s, tensors of that size are resized",
        *(config.arch, config.image_tower.image_size, model.config.image_tower.image_size),
    )
    model.image_tower = build_image_tower(config.image_tower).to(next(model.parameters())).train(model.training)
    model.config = config
