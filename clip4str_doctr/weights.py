"""Loading and saving models: one door to the published checkpoint, our own folders, and the hub."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.batches import reason_of
from clip4str_doctr.config import HALF_NORMALIZATION, CrossModal, DecodeConfig, ModelConfig
from clip4str_doctr.lookup import embedded_folder, find_all, find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.text_tower import MClipTextTower
from clip4str_doctr.postprocess import PostProcessor
from clip4str_doctr.published import find_checkpoint, read_published
from clip4str_doctr.state_dict import check_prefix, downloaded, holds_state_dict, is_web_address, load_state_dict
from clip4str_doctr.tensor_file import compare_tensors
from clip4str_doctr.tokenizer import find_tokenizer_folder, load_tokenizer
from clip4str_doctr.weight_card import (
    NORMALIZATIONS,
    TENSOR_FILE,
    WeightCard,
    WeightsError,
    WeightsNotFoundError,
    card_from_dict,
    read_card,
)
from clip4str_doctr.weight_folder import empty_model, fill, is_weight_folder, own_tensors, read_folder, write_folder

__all__ = [
    "WeightCard",
    "WeightsError",
    "WeightsNotFoundError",
    "embedded_folder",
    "find_all",
    "find_weights",
    "load_into",
    "load_model",
    "locate",
    "read_card",
    "save_model",
]

logger = logging.getLogger(__name__)

_HUB = "hf://"
_HUB_PATH = re.compile(r"(?P<repo>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>\S+))?")
_PARTS = ("image_tower", "text_tower", "visual_decoder", "cross_decoder")


def load_model(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    normalization: str | None = None,
    decode_ar: bool | None = None,
    refine_iters: int | None = None,
    cross_modal: CrossModal | None = None,
) -> CLIP4STR:
    """A model in eval mode, float32, on the CPU.

    path: the published `.ckpt`, a folder in the published layout (`clip4str/*.ckpt` and `M_clip/`), one of our folders,
    or `hf://owner/repo[@revision]` holding either. Published files are never unpickled beyond tensors and containers;
    our folders are verified by SHA-256. Files are mapped, not copied: replace them by renaming while a model is in use.
    tokenizer: the published M_clip folder; None: the one beside the weights.
    normalization: "half" (mean and std 0.5) or "clip" (CLIP's); None: what the weight card says, and for a `.ckpt`
    "half", which the reference's script reads with.
    decode_ar, refine_iters, cross_modal: as in `DecodeConfig`; None: what the file says.

    Raises ValueError for a wrong option; WeightsError (a ValueError) for weights that are damaged, unsafe or do not
    fit, naming every tensor concerned; WeightsNotFoundError (also a FileNotFoundError) for a file that is not there.
    """
    _check_normalization(normalization)
    DecodeConfig().replaced(decode_ar, refine_iters, cross_modal)  # raises before anything is read
    place = locate(path)
    mclip = None if tokenizer is None else find_tokenizer_folder(Path(tokenizer).expanduser())
    if place.is_dir():
        model = read_folder(place, None if mclip is None else load_tokenizer(mclip))
        if mclip is not None and not isinstance(model.text_tower, MClipTextTower):
            raise WeightsError(f"{path} holds a {model.config.arch}, whose text tower takes no tokenizer; leave it out")
    else:
        model = _load_published(place, mclip)
    if normalization is not None:
        model.config = replace(model.config, preprocess=NORMALIZATIONS[normalization])
    model.config = model.config.with_decode(decode_ar, refine_iters, cross_modal)
    return model.eval()


def locate(path: str | Path) -> Path:
    """The file or folder that `load_model` reads for `path`; what `hf://` names is downloaded, or found in the cache.

    Raises WeightsError for a web address, WeightsNotFoundError for a file that is not there.
    """
    if is_web_address(path):
        raise WeightsError(
            f"web addresses are loaded by a model's from_pretrained only, got {path}; download the file and give its "
            f"path, or {_HUB}..."
        )
    place = _fetch(str(path)) if str(path).startswith(_HUB) else Path(path).expanduser()
    if not place.exists():
        raise WeightsNotFoundError(f"{place} does not exist; give a .ckpt file, a weights folder, or {_HUB}owner/repo")
    if place.name == TENSOR_FILE and is_weight_folder(place.parent):
        return place.parent
    return find_checkpoint(place) if place.is_dir() and not is_weight_folder(place) else place


def _load_published(checkpoint: Path, mclip: Path | None) -> CLIP4STR:
    published = read_published(checkpoint, mclip)
    model = empty_model(published.config)
    tensors = published.tensors(own_tensors(model))
    fill(model, {name: tensor.to(torch.float32) for name, tensor in tensors.items()})
    assert isinstance(model.text_tower, MClipTextTower)
    model.text_tower.tokenizer = published.tokenizer
    return model


def _check_normalization(normalization: str | None) -> None:
    if normalization is not None and normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {sorted(NORMALIZATIONS)} or None, got {normalization!r}")


def _fetch(url: str) -> Path:
    """Download (or find in the hub's cache) a repository with weights; returns its folder."""
    match = _HUB_PATH.fullmatch(url.removeprefix(_HUB))
    if match is None:
        raise WeightsError(f"a hub address must be {_HUB}owner/repo or {_HUB}owner/repo@revision, got {url!r}")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    failures: tuple[type[Exception], ...] = (HfHubHTTPError, OSError)
    if find_spec("httpx") is not None:
        # huggingface_hub 1.x lets some of its HTTP library's own errors through.
        from httpx import HTTPError

        failures = (*failures, HTTPError)
    try:
        return Path(huggingface_hub.snapshot_download(repo_id=match["repo"], revision=match["revision"]))
    except HFValidationError as error:
        raise WeightsError(f"{url} is no valid hub address: {error}") from error
    # Network failures and an empty cache are OSErrors or come wrapped in HfHubHTTPError, depending on the version.
    except failures as error:
        raise WeightsNotFoundError(
            f"cannot get {url} from the Hugging Face hub ({type(error).__name__}: {reason_of(error)}); check the name, "
            "the network and, for a private repository, `hf auth login`"
        ) from error


def load_into(
    model: CLIP4STR,
    path: str | Path,
    *,
    ignore_keys: Sequence[str] | None = None,
    hash_prefix: str | None = None,
    **options: Any,
) -> None:
    """Load weights into a model that exists; its parts take the dimensions found in the file.

    path: as for `load_model`; or a file with the state dict of a model like this one, by torch.save, as docTR's
    training script and `push_to_hf_hub` write it, or in the safetensors format; its tensors must fit, and it takes no
    options. Or the http(s) address of a file, which is downloaded once into docTR's cache (DOCTR_CACHE_DIR).

    ignore_keys: docTR's: entries of a state dict that are neither taken nor missed. hash_prefix: docTR's: what the
    SHA-256 of a file begins with. options: those of `load_model`.
    The model keeps its device, its training mode and its kind of confidence, and is unchanged if loading fails. Weights
    of its own sizes and alphabet are copied in: what hangs on its modules (docTR's whitelist, frozen layers, the dtype,
    how it decodes) stays but for what `options` say. Others replace its parts, which is logged: parameters are new
    objects of float32 then, so cast, freeze and make optimizers afterwards.
    Raises as `load_model`, and ValueError for weights of another architecture.
    """
    if is_web_address(path):
        path = downloaded(str(path), hash_prefix)
    elif hash_prefix is not None:
        check_prefix(Path(path).expanduser(), hash_prefix)
    if not str(path).startswith(_HUB) and holds_state_dict(place := Path(path).expanduser()):
        if options:
            raise ValueError(f"{path} holds a model's state dict, which takes no options, got {sorted(options)}")
        load_state_dict(model, place, frozenset(ignore_keys or ()))
        return
    if ignore_keys:
        raise ValueError(f"ignore_keys is for state dicts, and {path} holds a whole model; leave it out")
    loaded = load_model(path, **options)
    if loaded.config.arch != model.config.arch:
        raise ValueError(
            f"{path} holds a {loaded.config.arch}, but the model is a {model.config.arch}; use load_model, or the "
            f"factory {loaded.config.arch}()"
        )
    if _sizes(loaded.config) == _sizes(model.config):
        # torch copies what fits before it complains of the rest.
        if problems := compare_tensors(own_tensors(model), own_tensors(loaded)):
            raise WeightsError(
                f"the model has other tensors than {path} ({len(problems)} problems), as pruned or wrapped layers do; "
                "load the weights first, and change the model then:\n  " + "\n  ".join(problems[:20])
            )
        model.load_state_dict(own_tensors(loaded))
        if isinstance(model.text_tower, MClipTextTower):
            model.text_tower.tokenizer = loaded.text_tower.tokenizer
        own = model.config.decode
        kept = {name: getattr(own, name) for name in _OF_THE_READER if options.get(name) is None}
        model.config = replace(loaded.config, decode=replace(loaded.config.decode, **kept))
    else:
        _take_parts(model, loaded)
    model.certain_from = loaded.certain_from
    model.calibrated_by_card = loaded.calibrated_by_card
    model.preserve_aspect_ratio = loaded.preserve_aspect_ratio
    # cfg, for another package's postprocessor may stand there.
    model.postprocessor = PostProcessor(loaded.vocab, model.cfg["confidence"], loaded.postprocessor.temperature)


# Of `DecodeConfig`: what is chosen for reading, where the rest goes with the weights.
_OF_THE_READER = ("decode_ar", "refine_iters", "cross_modal")


def _sizes(config: ModelConfig) -> ModelConfig:
    """A config without what says how to prepare pictures and how to decode: what tensors and symbols hang on."""
    decode = replace(DecodeConfig(), max_symbols=config.decode.max_symbols)
    return replace(config, preprocess=HALF_NORMALIZATION, decode=decode)


def _take_parts(model: CLIP4STR, loaded: CLIP4STR) -> None:
    logger.warning(
        "the weights are of another size or alphabet than the model, whose parts are replaced: cast, freeze, compile "
        "and add a whitelist again"
    )
    device = next(model.parameters()).device
    # All first, for a device may have no room for one of them.
    parts = {name: getattr(loaded, name).to(device).train(model.training) for name in _PARTS}
    for name, part in parts.items():
        setattr(model, name, part)
    model.config = loaded.config
    model.charset = loaded.charset


def save_model(
    model: CLIP4STR,
    folder: str | Path,
    card: WeightCard | Mapping[str, Any],
    dtype: torch.dtype | None = None,
    *,
    overwrite: bool = False,
) -> WeightCard:
    """Write config.json, model.safetensors, card.json and tokenizer files that `load_model` takes; returns the card.

    card: what is known of the weights; arch, SHA-256, preprocess, dtype, parameter count, temperature and certain_from
    are filled in. model: compiled or not.
    dtype: what floating point tensors are stored as, None keeps theirs. The folder appears complete or not at all.
    Raises FileExistsError for a non-empty folder that is not ours, unless `overwrite`; WeightsError for a card of
    another architecture, for values that float16 cannot hold, and for an M-CLIP text tower without its tokenizer;
    TypeError for another kind of model; ValueError for a dtype of whole numbers.
    """
    # torch.compile wraps a module, and puts the name of that before all of its tensors'.
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, CLIP4STR):
        raise TypeError(f"save_model takes a CLIP4STR, got {type(model).__name__}")
    arch = model.config.arch
    known = card if isinstance(card, WeightCard) else card_from_dict({"arch": arch, **card})
    if known.arch != arch:
        raise WeightsError(f"the card is of {known.arch!r}, but the model is a {arch!r}; correct the card's arch")
    return write_folder(Path(folder).expanduser(), model, own_tensors(model), known, dtype=dtype, overwrite=overwrite)
