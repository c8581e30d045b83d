"""Where `pretrained=True` finds weights, and what to do when it finds none."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from clip4str_doctr.config import PRESETS
from clip4str_doctr.weight_card import CONFIG_FILE, TENSOR_FILE, WeightsError, WeightsNotFoundError, read_json

__all__ = [
    "CHECKPOINT_URL",
    "HOME_VARIABLE",
    "embedded_folder",
    "find_all",
    "find_weights",
    "search_folders",
    "terms_of_published",
]

HOME_VARIABLE = "CLIP4STR_DOCTR_HOME"
_PUBLISHED_ARCH = "clip4str_vn"
_EMBEDDED_ARCH = "clip4str_vn_tiny"

# The recogniser's checkpoint, where its authors published it.
CHECKPOINT_URL = "https://drive.google.com/file/d/1yI-F9VBWNtZ-VuK_r9zoBjag_iGDat0R/view"

_HOW_TO_GET_PUBLISHED = """\
Get them once and convert them (2.6 GB):
  1. clip4str/*.ckpt, the recogniser:
     {url}
  2. M_clip/, tokenizer and config of M-CLIP:
     https://drive.google.com/drive/folders/1-aCM5xHcHWe2Z4Mw4NlAV3RDxSxP3Koc
     or: hf download M-CLIP/XLM-Roberta-Large-Vit-B-32 config.json tokenizer.json --local-dir M_clip
  3. clip4str-doctr convert CKPT --mclip M_clip -o {target}
For a small model that needs no download, use clip4str_vn_tiny."""


def cache_folder() -> Path | None:
    """The user's cache for this package, by platform; XDG_CACHE_HOME counts everywhere.

    None for a user without a home, as a container's whose number is in no passwd file.
    """
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "clip4str_doctr"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "clip4str_doctr"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    caches = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    return caches.get(sys.platform, home / ".cache") / "clip4str_doctr"


def search_folders() -> list[Path]:
    """Folders that weights are looked for in, in order: CLIP4STR_DOCTR_HOME, ./pretrained, the user's cache."""
    home, cache = os.environ.get(HOME_VARIABLE), cache_folder()
    # Not Path.expanduser, which raises where it knows no home.
    named = [Path(os.path.expanduser(home))] if home else []
    return [*named, Path("pretrained"), *([] if cache is None else [cache])]


def embedded_folder(arch: str) -> Path | None:
    """The weights that ship with the package, or None: inside it once installed, beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "_pretrained" / arch, package.parent / "pretrained" / arch):
        if arch == _EMBEDDED_ARCH and _is_converted(folder):
            return folder
    return None


def _is_converted(folder: Path) -> bool:
    """Where we may not look there is nothing for us; until Python 3.14 `is_file` raises PermissionError there."""
    try:
        return (folder / CONFIG_FILE).is_file() and (folder / TENSOR_FILE).is_file()
    except OSError:
        return False


def _holds(folder: Path, arch: str) -> bool:
    """Whether a converted folder says that it is of this architecture."""
    try:
        return _is_converted(folder) and read_json(folder / CONFIG_FILE).get("arch") == arch
    except (OSError, WeightsError):
        return False


def _has_checkpoint(folder: Path) -> bool:
    try:
        return any(folder.glob("clip4str/*.ckpt"))
    except OSError:
        return False


def _candidates(arch: str) -> Iterator[tuple[Path, bool]]:
    """(path, is it there) of every place, in order."""
    for folder in search_folders():
        yield folder / arch, _is_converted(folder / arch)
        if _holds(folder, arch):
            yield folder, True
        if arch == _PUBLISHED_ARCH:
            yield folder / "clip4str" / "*.ckpt", _has_checkpoint(folder)
    embedded = embedded_folder(arch)
    if embedded is not None:
        yield embedded, True


def find_weights(arch: str) -> Path:
    """What `load_model` takes for an architecture: a converted folder, or one in the published layout.

    Raises ValueError for an unknown name, WeightsNotFoundError saying where it looked, where to get each file, and what
    to type. The name decides: clip4str_vn never becomes the tiny model.
    """
    if arch not in PRESETS:
        raise ValueError(f"arch must be one of {sorted(PRESETS)}, got {arch!r}")
    looked = []
    for path, there in _candidates(arch):
        if there:
            if path.suffix != ".ckpt":
                return path
            # A checkpoint stands for its layout, where the tokenizer is too; but not where a converted folder of the
            # other architecture lies around it, which would be taken first.
            layout = path.parent.parent
            if not _is_converted(layout):
                return layout
            # Imported here: it needs torch.
            from clip4str_doctr.published import find_checkpoint

            return find_checkpoint(layout)
        looked.append(str(path))
    target = search_folders()[0] / arch
    if arch == _PUBLISHED_ARCH:
        advice = _HOW_TO_GET_PUBLISHED.format(url=CHECKPOINT_URL, target=target)
    else:
        advice = "They ship with the package; install it again, or put a converted folder there."
    raise WeightsNotFoundError(f"no weights of {arch}: looked for {', '.join(looked)}.\n{advice}")


def find_all() -> dict[str, list[tuple[Path, str]]]:
    """Architecture -> (place, "used" | "found" | "not there"), in the order of the search."""
    listing: dict[str, list[tuple[Path, str]]] = {}
    for arch in PRESETS:
        used = False
        listing[arch] = []
        for path, there in _candidates(arch):
            listing[arch].append((path, ("found" if used else "used") if there else "not there"))
            used = used or there
    return listing


def terms_of_published(checkpoint: Path) -> tuple[str, str]:
    """What a weight card says of a published checkpoint: source, licence."""
    return f"{checkpoint.name}, published at {CHECKPOINT_URL}", "not stated by the publisher of the weights"
