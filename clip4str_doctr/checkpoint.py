"""Reading checkpoints, which are pickles, without ever running what they say: the published one, and our runs'."""

import logging
import pickle
import struct
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from clip4str_doctr.weight_card import WeightsError, WeightsNotFoundError

__all__ = ["Checkpoint", "is_safetensors", "is_state_dict", "read_checkpoint", "read_run_state", "read_state_dict"]

logger = logging.getLogger(__name__)

_ZIP_MAGIC = b"PK\x03\x04"
# torch.serialization.MAGIC_NUMBER, pickled: how files began before they were archives.
_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# What is safe to load is known to the whole process, and the first thread that is done would take it from the others.
_STANDING_IN = threading.Lock()
# What unpickling garbage ends in.
_DAMAGE = (
    pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError,
    AssertionError, struct.error,
)  # fmt: skip
_WANTED = "expected the published CLIP4STR checkpoint (a Lightning .ckpt as torch.save writes it)"


@dataclass(frozen=True)
class Checkpoint:
    """What we take from a checkpoint: its tensors, mapped from the file, and its hyper-parameters."""

    path: Path
    state_dict: Mapping[str, Any]
    hyper_parameters: Mapping[str, Any]


class _Scheduler:
    """Stands for torch's OneCycleLR, which we never need."""


def _no_attribute(*_: object) -> None:
    """Stands for `getattr`: names a method of the scheduler in checkpoints of torch < 2, which we never need."""


# Lightning stores the state of the reference's learning-rate schedule, and torch < 2 wrote its annealing function into
# it as getattr(OneCycleLR, "_annealing_cos"). Both names are read as the inert stand-ins above, and no others.
_STAND_INS: list[Any] = [
    (_no_attribute, "builtins.getattr"),
    (_no_attribute, "__builtin__.getattr"),
    (_Scheduler, "torch.optim.lr_scheduler.OneCycleLR"),
]
_STOOD_IN_FOR = {name for _, name in _STAND_INS}


def read_checkpoint(path: Path) -> Checkpoint:
    """Map a Lightning checkpoint: torch.load with weights_only=True, so no object in it is ever built or called.

    Raises WeightsNotFoundError for a missing file; WeightsError for a file that is no checkpoint, is damaged, carries
    pickled objects (naming them), or lacks a state_dict or hyper_parameters.
    """
    return _take_apart(path, _read(path))


def is_state_dict(path: Path) -> bool:
    """Whether a file is what `torch.save(model.state_dict(), path)` writes: names and tensors, nothing else.

    Raises WeightsError for a file that cannot be read safely, as `read_checkpoint` does.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            return False
    content = _read(path, check_records=False)
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items())
    )


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of tensors only, in the safetensors format, by how it starts: a length, then JSON."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _starts_as_safetensors(file.read(10))


def _starts_as_safetensors(head: bytes) -> bool:
    return head[8:10] in (b'{"', b"{ ")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of which `is_state_dict` holds, mapped. Raises WeightsError if it is damaged."""
    return dict(_read(path))


def read_run_state(path: Path, parts: Sequence[str], *, mapped: bool = False) -> dict[str, Any]:
    """What one of our training runs saved: tensors and plain containers, which must hold `parts`.

    mapped: tensors stay in the file, which must not be written over meanwhile; an optimiser's may be gigabytes.
    Raises WeightsError for a file that is anything else, or damaged, which takes a second or two to find out.
    """
    wanted = f"expected the checkpoint.pt of a training run, which holds {', '.join(parts)}"
    # torch checks no checksums, and what is wrong in a tensor shows nowhere.
    if zipfile.is_zipfile(path) and (damaged := _damaged_record(path)):
        raise WeightsError(
            f"{path} is damaged: the CRC-32 of {damaged} in it does not match; take a copy that is whole"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _DAMAGE as error:
        raise WeightsError(f"{path} cannot be read ({_reason(error)}); {wanted}") from error
    if not isinstance(state, dict) or any(part not in state for part in parts):
        got = sorted(map(str, state))[:10] if isinstance(state, dict) else type(state).__name__
        raise WeightsError(f"{path} holds {got}; {wanted}")
    return state


def _read(path: Path, *, check_records: bool = True) -> Any:
    """What torch.save wrote: tensors and plain containers. check_records: look for damage, a second for 2.6 GB."""
    if not path.is_file():
        raise WeightsNotFoundError(f"{path} does not exist or is no file; {_WANTED}")
    _check_archive(path)
    _check_records(path, checksums=check_records)
    _check_pickle(path)
    try:
        with _STANDING_IN, safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGE as error:
        raise WeightsError(
            f"{path} cannot be read as a checkpoint ({_reason(error)}); {_WANTED}; download it again"
        ) from error


def _check_archive(path: Path) -> None:
    """Tell the usual mix-ups apart: an empty or cut download, a web page, a Git LFS pointer, another format."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP_MAGIC):
        if path.suffix == ".safetensors":  # torch.load goes by this name
            raise WeightsError(f"{path} is named like a safetensors file, but torch.save wrote it; rename it to .pt")
        if not zipfile.is_zipfile(path):
            raise WeightsError(
                f"{path} is cut short or damaged (its {size} bytes have no end record); download it again"
            )
        return
    text = head.lstrip().lower()
    if not head:
        got = "an empty file"
    elif text.startswith((b"<!doctype", b"<html")):
        got = "a web page (Google Drive shows one instead of a big file; confirm its warning and download again)"
    elif text.startswith(b"version https://git-lfs"):
        got = "a Git LFS pointer (run `git lfs pull`)"
    elif head.startswith(_OLD_MAGIC):
        got = "a file in torch's format before 1.6; torch.save again what torch.load(path, weights_only=True) gives"
    elif _starts_as_safetensors(head):
        got = "a safetensors file; pass its folder, with config.json and card.json"
    else:
        got = f"a file of {size} bytes that starts with {head[:8]!r}"
    raise WeightsError(f"{path} is no checkpoint: {_WANTED}, got {got}")


def _check_records(path: Path, *, checksums: bool) -> None:
    """Refuse an archive that torch.save did not write, and one whose records have changed since."""
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightsError(
            f"{path} is damaged: its table of contents says {_reason(error)}; download it again"
        ) from error
    with opened as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise WeightsError(
                f"{path} is a TorchScript archive, such as OpenAI's ViT-B-16.pt; {_WANTED}, pretrained/clip4str/*.ckpt"
            )
        if not any(name.endswith("data.pkl") for name in names):
            raise WeightsError(f"{path} is a zip archive without tensors, starting with {names[:3]}; {_WANTED}")
    # The only check there is: nobody has published a hash of the file.
    if checksums and (damaged := _damaged_record(path)):
        raise WeightsError(f"{path} is damaged: the CRC-32 of {damaged} in it does not match; download it again")


def _damaged_record(path: Path) -> str | None:
    """The first record of an archive that is not what was written, if any: one or two seconds for 2.6 GB."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError) as error:
        return _reason(error)


def _check_pickle(path: Path) -> None:
    """Refuse a pickle that names anything but tensors and plain containers."""
    try:
        unsafe = sorted(set(get_unsafe_globals_in_checkpoint(path)) - _STOOD_IN_FOR)
    except _DAMAGE as error:
        raise WeightsError(f"{path} holds a malformed pickle ({_reason(error)}); download it again") from error
    if unsafe:
        raise WeightsError(
            f"{path} carries pickled objects, which loading could run: {', '.join(unsafe)}. Only tensors and plain "
            "containers are read. If you trust the file, load it yourself and save its 'state_dict' and "
            "'hyper_parameters' again with torch.save"
        )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _take_apart(path: Path, content: object) -> Checkpoint:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}; {_WANTED}, a dict with 'state_dict'")
    for key in ("state_dict", "hyper_parameters"):
        if not isinstance(content.get(key), Mapping):
            raise WeightsError(
                f"{path} has no {key!r} (its keys: {sorted(map(str, content))[:10]}); {_WANTED} with 'state_dict' and "
                "'hyper_parameters'"
            )
    logger.debug("read %s: %d entries", path, len(content["state_dict"]))
    return Checkpoint(path, content["state_dict"], content["hyper_parameters"])
