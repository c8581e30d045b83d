"""Our weight folder: config.json, model.safetensors, card.json and, for M-CLIP, tokenizer/; written whole or not."""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from clip4str_doctr.atomic import sync_file, sync_folder
from clip4str_doctr.config import ModelConfig, model_config_from_dict, model_config_to_dict
from clip4str_doctr.modeling.clip4str import CERTAIN_FROM, CLIP4STR, build_model
from clip4str_doctr.modeling.text_tower import TOKENIZER_KEY, MClipTextTower
from clip4str_doctr.tensor_file import compare_tensors, read_tensors, write_tensors
from clip4str_doctr.tokenizer import MClipTokenizer, check_pieces, load_tokenizer
from clip4str_doctr.weight_card import (
    CARD_FILE,
    CONFIG_FILE,
    TENSOR_FILE,
    TOKENIZER_FOLDER,
    WeightCard,
    WeightsError,
    WeightsNotFoundError,
    read_card,
    read_json,
    sha256_of,
    verify_files,
)

__all__ = [
    "check_target",
    "empty_model",
    "fill",
    "is_weight_folder",
    "new_folder",
    "own_tensors",
    "read_folder",
    "write_folder",
]

logger = logging.getLogger(__name__)

# What a folder is called while it is written, and where in it the files go that it replaces.
_PARTIALS = ".clip4str-*.partial"
_REPLACED = ".replaced"
# Younger ones may be of a writer that lives, perhaps in another container.
_ABANDONED_SECONDS = 24 * 60 * 60
# The tensor file is the likeliest to be in use. Without a config nobody takes a folder for weights, without a card
# nobody loads it, and under the old card new tensors are refused.
_ORDER = {TENSOR_FILE: 0, CONFIG_FILE: 2, CARD_FILE: 3}


def empty_model(config: ModelConfig) -> CLIP4STR:
    """A model without memory (on torch's meta device), to compare with and to `fill`."""
    with torch.device("meta"), _Unfilled():
        return build_model(config)


class _Unfilled(TorchFunctionMode):
    """Draws no normal numbers: for tensors without memory that does nothing, but imports torch's whole compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", None) == "normal_":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def fill(model: CLIP4STR, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an empty model its tensors, uncopied. Their names and shapes have been compared before."""
    model.load_state_dict(dict(tensors), strict=True, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_meta:
                continue
            # Index buffers of transformers' XLM-RoBERTa, which no file stores.
            if name == "position_ids":
                module.register_buffer(
                    name, torch.arange(buffer.shape[-1], device="cpu").expand(buffer.shape), persistent=False
                )
            else:
                assert name == "token_type_ids", f"unknown buffer {name} in {type(module).__name__}"
                module.register_buffer(
                    name, torch.zeros(buffer.shape, dtype=buffer.dtype, device="cpu"), persistent=False
                )


def own_tensors(model: CLIP4STR) -> dict[str, torch.Tensor]:
    """The state dict without the tokenizer's files, which have a place of their own in a folder."""
    return {name: tensor for name, tensor in model.state_dict().items() if TOKENIZER_KEY not in name}


def is_weight_folder(folder: Path) -> bool:
    """Whether a folder is one of ours, by its file names."""
    return all((folder / name).is_file() for name in (CONFIG_FILE, TENSOR_FILE))


def read_folder(folder: Path, tokenizer: MClipTokenizer | None = None) -> CLIP4STR:
    """Verify every file's SHA-256, then load strictly; float32 on the CPU, whatever the file stores.

    tokenizer: used instead of the folder's own. A float32 file is mapped, not copied (see `read_tensors`).
    Raises WeightsError for a folder that is incomplete, damaged, or at odds with itself.
    """
    card = read_card(folder)
    # Hashing releases the interpreter lock, so it costs little beside the imports and the building of the towers.
    with ThreadPoolExecutor(1) as pool:
        verification = pool.submit(verify_files, folder, card)
        config = _read_config(folder, card)
        try:
            model = empty_model(config)
        except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
            raise WeightsError(f"{folder / CONFIG_FILE} describes no model that can be: {error}") from error
        verification.result()
    tensors = read_tensors(folder / TENSOR_FILE, torch.float32)
    if problems := compare_tensors(own_tensors(model), tensors):
        raise WeightsError(
            f"{folder / TENSOR_FILE} does not fit {CONFIG_FILE} ({len(problems)} problems); convert it again:\n  "
            + "\n  ".join(problems)
        )
    fill(model, tensors)
    if isinstance(model.text_tower, MClipTextTower):
        where = folder / TOKENIZER_FOLDER if tokenizer is None else "the M_clip folder that was given"
        tokenizer = tokenizer or _read_tokenizer(folder)
        check_pieces(tokenizer, model.text_tower.pieces, where)
        model.text_tower.tokenizer = tokenizer
    model.postprocessor.temperature = card.temperature
    model.calibrated_by_card = True
    if card.certain_from is not None:
        model.certain_from = card.certain_from
    return model


def _read_config(folder: Path, card: WeightCard) -> ModelConfig:
    try:
        config = model_config_from_dict(read_json(folder / CONFIG_FILE))
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder / CONFIG_FILE} does not describe a model: {error}; convert it again") from error
    for what, on_card, in_config in (
        ("arch", card.arch, config.arch),
        ("preprocess", card.preprocess, config.preprocess),
    ):
        if on_card != in_config:
            raise WeightsError(
                f"{folder}: {CARD_FILE} and {CONFIG_FILE} disagree about {what}: {on_card} and {in_config}; "
                "convert it again"
            )
    return config


def _read_tokenizer(folder: Path) -> MClipTokenizer:
    if not (folder / TOKENIZER_FOLDER / "tokenizer.json").is_file():
        raise WeightsNotFoundError(
            f"{folder} has no {TOKENIZER_FOLDER}/tokenizer.json, which its text tower needs; pass "
            "tokenizer='.../M_clip' (--mclip on the command line)"
        )
    return load_tokenizer(folder / TOKENIZER_FOLDER)


def write_folder(
    folder: Path,
    model: CLIP4STR,
    tensors: Mapping[str, torch.Tensor],
    card: WeightCard,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    advance: Callable[[int], object] | None = None,
) -> WeightCard:
    """Write a folder under a passing name and move it to its destination when complete; returns the card it got.

    model: may be empty; its config, parameter count and tokenizer are written. tensors: its state dict, possibly
    mapped from elsewhere. dtype: of stored floating point tensors, None keeps theirs.
    Raises FileExistsError for a non-empty folder that is not ours, unless `overwrite`, which replaces our files in it;
    ValueError for a dtype of whole numbers; WeightsError for a model that could not be loaded again as it is; OSError,
    leaving what was there, if the folder cannot be written.
    """
    tokenizer = getattr(model.text_tower, "tokenizer", None)
    if isinstance(model.text_tower, MClipTextTower) and not isinstance(tokenizer, MClipTokenizer):
        raise WeightsError("the model has no M-CLIP tokenizer, so it could not be loaded again; load it with one first")
    if model.preserve_aspect_ratio:
        raise WeightsError(
            "the model reads letterboxed crops (preserve_aspect_ratio), which no weights folder records, so they would "
            "be squashed; docTR's push_to_hf_hub and from_hub keep it"
        )
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be float32, float16 or bfloat16, or None for the tensors' own, got {dtype}")
    with new_folder(folder, overwrite) as partial:
        digests = {TENSOR_FILE: write_tensors(partial / TENSOR_FILE, tensors, dtype, advance)}
        (partial / CONFIG_FILE).write_text(_json(model_config_to_dict(model.config)), encoding="utf-8")
        digests[CONFIG_FILE] = sha256_of(partial / CONFIG_FILE)
        if isinstance(tokenizer, MClipTokenizer):
            (partial / TOKENIZER_FOLDER).mkdir()
            for name, content in tokenizer.files.items():
                path = partial / TOKENIZER_FOLDER / name
                path.write_bytes(content)
                digests[f"{TOKENIZER_FOLDER}/{name}"] = sha256_of(path)
        stored = {dtype or tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        card = replace(
            card,
            sha256=digests,
            preprocess=model.config.preprocess,
            dtype=", ".join(sorted(str(one).removeprefix("torch.") for one in stored)),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            temperature=model.cfg["temperature"],  # of another package's postprocessor: none
            certain_from=None if model.certain_from == CERTAIN_FROM else model.certain_from,
        )
        (partial / CARD_FILE).write_text(_json(card.to_dict()), encoding="utf-8")
    return card


def _json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise FileExistsError for a file, and for a non-empty folder that is not ours, unless `overwrite`."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another folder for the weights")
    if overwrite or not folder.is_dir() or (is_weight_folder(folder) and (folder / CARD_FILE).is_file()):
        return
    # Where files of ours were being replaced and the writer was killed, some are there, the others in its own folder.
    if any(_holds_files(left / _REPLACED) for left in folder.glob(_PARTIALS)):
        return
    if any(not path.match(_PARTIALS) for path in folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files that are no weights of ours; choose an empty folder, or pass overwrite=True "
            "(--overwrite on the command line)"
        )


@contextmanager
def new_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end, or nothing at all if an exception comes first.

    Files of an existing `folder` are replaced by those of the same name, and its card in any case; others stay.
    Raises FileExistsError as `check_target`; OSError if `folder` cannot be written, which then holds what it held.
    """
    check_target(folder, overwrite)
    folder = Path(os.path.realpath(folder))
    # Beside a new folder, which thus appears by one rename. Within one that is there: it may be a mount, or all that
    # we may write to. Either is on the file system of the folder, unlike what lies beside a link to it.
    partial = (folder if folder.is_dir() else folder.parent) / _PARTIALS.replace("*", secrets.token_hex(8))
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        what = f"cannot write the weights {folder} ({error.strerror}: {partial.parent}); choose another folder"
        raise OSError(error.errno, what) from error
    try:
        yield partial
        _install(partial, folder)
    finally:
        if not _holds_files(partial / _REPLACED):
            shutil.rmtree(partial, ignore_errors=True)


def _install(partial: Path, folder: Path) -> None:
    """Make a complete partial folder, or what it holds, the destination. Raises OSError saying what became of both."""
    for path in (*partial.rglob("*"), partial):
        (sync_folder if path.is_dir() else sync_file)(path)
    place = partial.parent
    replaced = partial / _REPLACED
    try:
        if place == folder:
            _exchange(partial, folder)
        else:
            partial.rename(folder)
    except OSError as error:
        old = f"the files that were there lie in {replaced}" if _holds_files(replaced) else "it holds what it held"
        what = f"cannot move the new weights to {folder}, {old} ({error}); end what uses it, or choose another folder"
        raise OSError(error.errno, what) from error
    for changed in (folder / TOKENIZER_FOLDER, folder, place):
        sync_folder(changed)
    shutil.rmtree(replaced, ignore_errors=True)
    if _holds_files(replaced):
        logger.warning("%s holds replaced weights that are in use; it can be removed when they are not", partial)
    _sweep(place)


def _exchange(partial: Path, folder: Path) -> None:
    """Move files from one folder to the other, and what they replace out of the way; after an exception all is back.

    Replaced files are moved, not overwritten: they can be put back, and Windows overwrites no file that a model maps.
    """
    replaced = partial / _REPLACED
    new = {path.relative_to(partial) for path in partial.rglob("*") if path.is_file()}
    with ExitStack() as undo:
        for name in sorted(new | {Path(CARD_FILE)}, key=lambda name: (_ORDER.get(name.as_posix(), 1), name)):
            if os.path.lexists(folder / name):
                _move(folder / name, replaced / name, undo)
            if name in new:
                _move(partial / name, folder / name, undo)
        undo.pop_all()


def _move(source: Path, target: Path, undo: ExitStack) -> None:
    made = not target.parent.is_dir()
    if made:
        target.parent.mkdir(parents=True)

    def back() -> None:
        if not os.path.lexists(source):
            os.replace(target, source)
        if made:
            with suppress(OSError):  # it is left empty at worst, or with what could not be put back
                target.parent.rmdir()

    undo.callback(back)  # first, for an interrupt may come between the two
    os.replace(source, target)


def _holds_files(folder: Path) -> bool:
    return any(not path.is_dir() for path in folder.rglob("*"))


def _sweep(place: Path) -> None:
    """Remove partial folders that killed writers left long ago."""
    for left in place.glob(_PARTIALS):
        with suppress(OSError):  # its writer lives and moves its files
            touched = max(path.lstat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - touched > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
