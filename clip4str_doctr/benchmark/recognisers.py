"""Recognisers by name: what reads crops, and what is to be known of it.

A recogniser is a function from crops (H, W, 3) uint8 RGB to as many strings. `recogniser("module:function")` takes any;
`Recogniser` adds what the report tells of it. Names, each with options after `#`:

    clip4str_vn_tiny, clip4str_vn      ours (or another package's), pretrained
    FOLDER, FILE.ckpt, hf://owner/repo  ours, from these weights; so does NAME=WEIGHTS
        a folder that a run with `reader: parseq` wrote, too: docTR's PARSeq behind our image tower
        #visual  its visual branch alone      #half, #clip  other mean and std than the weights say
        #auto    with cross_modal="auto"        #gaps    wide crops once more, cut at gaps, as predictors do
    crnn_vgg16_bn, parseq, ...          docTR's, pretrained; NAME=FILE: from this state dict
        #vocab=vietnamese  whose alphabet is this one of docTR's
    onnx=FILE.onnx                      exported by docTR or by us; a config.json beside it as docTR's hub has it
    tesseract, tesseract-word, trueocr, rapidocr, vietocr=CONFIG.yml    see `peers`
    module:name                         a function, or a `Recogniser`, found from the working folder too
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clip4str_doctr.benchmark.report import weights_file, weights_of
from clip4str_doctr.config import PRESETS
from clip4str_doctr.fast_decoding import fast_visual_branch
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.validate import read_words
from clip4str_doctr.weight_card import CONFIG_FILE, NORMALIZATIONS, TENSOR_FILE, read_json, sha256_of
from clip4str_doctr.weights import load_model

__all__ = [
    "Crops",
    "Recogniser",
    "as_path",
    "doctr_recogniser",
    "file_facts",
    "our_recogniser",
    "recogniser",
    "versions",
]

Crops = Sequence[npt.NDArray[np.uint8]]
Read = Callable[[Crops], Sequence[str]]


@dataclass(frozen=True)
class Recogniser:
    """name: in tables. read: N crops (H, W, 3) uint8 RGB -> N strings. facts: JSON-ready: parameters, weights with
    their SHA-256, versions, settings. predictor: makes the one that docTR reads pages with, where that is more than
    `read`."""

    name: str
    read: Read
    facts: Mapping[str, Any] = field(default_factory=dict)
    predictor: Callable[[], nn.Module] | None = None

    def __call__(self, crops: Crops) -> list[str]:
        """Raises ValueError if there is not one string a crop."""
        texts = list(self.read(crops))
        if len(texts) != len(crops) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{self.name} must give one string a crop, gave {len(texts)} answers to {len(crops)}")
        return texts


def recogniser(spec: str, device: torch.device | str = "cpu") -> Recogniser:
    """The recogniser that a name stands for, see above, on a device if it can be there.

    Raises ValueError for a name that stands for nothing, RuntimeError where its package is not installed,
    WeightsNotFoundError (a FileNotFoundError) where its weights are not there.
    """
    from clip4str_doctr.benchmark.peers import PEERS
    from clip4str_doctr.plugin import factories

    name, *options = spec.split("#")
    kind, _, value = name.partition("=")
    if kind in PEERS:
        if options:
            raise ValueError(f"{kind} takes no options, got #{options[0]}")
        return PEERS[kind](value or None, torch.device(device))
    # Names before paths: a folder that happens to be called as a model is, is not meant.
    if kind in PRESETS or kind in factories() or (Path(name).name != name and Path(name).expanduser().exists()):
        return _ours(spec, name, options, torch.device(device))
    if kind in _doctr_archs():
        return _doctr(spec, kind, value, options, torch.device(device))
    if name.startswith("hf://") or Path(name).expanduser().exists():
        return _ours(spec, name, options, torch.device(device))
    if ":" in name and not options:
        return _imported(name)
    raise ValueError(
        f"no recogniser is called {spec!r}; give {', '.join([*PRESETS, *PEERS])}, an architecture of docTR's, a "
        "weights folder, a .ckpt, or module:function"
    )


def as_path(spec: str) -> str:
    """The same name, but a bare folder's or file's as `./NAME`: read without asking for docTR's names first."""
    from clip4str_doctr.benchmark.peers import PEERS
    from clip4str_doctr.plugin import factories

    name = spec.partition("#")[0]
    known = (*PRESETS, *PEERS, *factories())
    if Path(name).name != name or not Path(name).exists() or name in known or name in _doctr_archs():
        return spec
    return f"./{spec}"


def our_recogniser(
    name: str, model: CLIP4STR, weights: str | Path | None = None, *, visual: bool = False, gaps: bool = False
) -> Recogniser:
    """A CLIP4STR, which is put in eval mode. weights: where it came from. visual: what its visual branch says alone.

    gaps: wide crops are read a second time, cut at the gaps between words, as docTR's users have `clip4str_vn_tiny`
    read; else every crop is read whole, as its reference does.
    """
    from clip4str_doctr.plugin import recognition_predictor_of

    model.eval()
    predictor = recognition_predictor_of(model, split_wide_crops="gaps") if gaps else None

    @torch.inference_mode()
    def read(crops: Crops) -> list[str]:
        if predictor is not None:
            return [text for text, _ in predictor(list(crops))]
        return _visual_words(model, crops) if visual else read_words(model, crops).texts

    mean, std = model.config.preprocess.mean, model.config.preprocess.std
    decode = {name: getattr(model.config.decode, name) for name in ("decode_ar", "refine_iters", "cross_modal")}
    facts = {
        # What the visual branch does without is not counted as its own.
        "parameters": _parameters(*([model.image_tower, model.visual_decoder] if visual else [model])),
        **weights_of(weights),
        **_size(weights),
        "settings": {"mean": list(mean), "std": list(std), **decode, "branches": "visual" if visual else "both"}
        | ({"wide_crops": "cut at gaps"} if gaps else {}),
        "versions": versions("clip4str-doctr", "torch"),
    }
    of_pages = partial(recognition_predictor_of, model, split_wide_crops="gaps" if gaps else None)
    return Recogniser(name, read, facts, None if visual else of_pages)


@torch.inference_mode()
def _visual_words(model: CLIP4STR, crops: Crops, batch_size: int = 128) -> list[str]:
    """The visual branch alone, so that time and memory are its own, too."""
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    weight, words = next(model.parameters()), []
    for start in range(0, len(crops), batch_size):
        tokens = model.image_tower(preprocess(crops[start : start + batch_size]).to(weight.device, weight.dtype))
        words += fast_visual_branch(tokens, model.visual_decoder, model.charset, model.config.decode)
    return words


def doctr_recogniser(name: str, predictor: Any, **facts: Any) -> Recogniser:
    """An instance of docTR's `RecognitionPredictor`, or whatever answers as it does: (text, confidence) a crop."""

    @torch.inference_mode()
    def read(crops: Crops) -> list[str]:
        return [text for text, _ in predictor(list(crops))]

    model = getattr(predictor, "model", None)
    known = {"parameters": _parameters(model)} if isinstance(model, nn.Module) else {}
    facts = {**known, "versions": versions("python-doctr", "torch"), **facts}
    return Recogniser(name, read, facts, (lambda: predictor) if isinstance(predictor, nn.Module) else None)


def file_facts(*paths: str | Path) -> dict[str, Any]:
    """Names, SHA-256 and megabytes of the files that a recogniser reads with."""
    files = [Path(path) for path in paths]
    digests = [sha256_of(path) for path in files]
    return {
        "weights": ", ".join(path.name for path in files),
        "weights_sha256": digests[0] if len(digests) == 1 else digests,
        "weights_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1),
    }


def versions(*packages: str) -> dict[str, str | None]:
    """What is installed of each; None for what is not."""

    def found(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: found(package) for package in packages}


def _parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _size(weights: str | Path | None) -> dict[str, float]:
    file = None if weights is None else weights_file(weights)
    return {} if file is None else {"weights_mb": round(file.stat().st_size / 1e6, 1)}


def _ours(spec: str, name: str, options: Sequence[str], device: torch.device) -> Recogniser:
    from clip4str_doctr.plugin import factories, recognition_predictor_of

    visual, gaps = "visual" in options, "gaps" in options
    normalizations = [option for option in options if option in NORMALIZATIONS]
    if unknown := [option for option in options if option not in ("visual", "auto", "gaps", *NORMALIZATIONS)]:
        raise ValueError(f"{spec}: options are #visual, #auto, #gaps, #{', #'.join(NORMALIZATIONS)}, got #{unknown[0]}")
    if visual and gaps:
        raise ValueError(f"{spec}: the visual branch alone reads crops whole; leave #visual or #gaps out")
    if len(normalizations) > 1:
        raise ValueError(f"{spec}: one normalisation at a time, got #{' #'.join(normalizations)}")
    kind, _, value = name.partition("=")
    if kind not in (*PRESETS, *factories()):
        kind, value = name, ""  # a path may hold the sign, as the published checkpoint's does
    if kind in factories() and kind not in PRESETS:
        model = factories()[kind].load()(pretrained=not value).to(device).eval()
        if value:
            model.from_pretrained(value)
        if options:
            raise ValueError(f"{spec}: {kind} is of another package and takes no options")
        return doctr_recogniser(spec, recognition_predictor_of(model))
    source = value or (find_weights(kind) if kind in PRESETS else name)
    if kind not in PRESETS and _is_parseq(Path(source).expanduser()):
        if options:
            raise ValueError(f"{spec}: docTR's PARSeq takes no options, got #{options[0]}")
        return _parseq(_short(spec, name), Path(source).expanduser(), device)
    model = load_model(
        source,
        normalization=normalizations[0] if normalizations else None,
        cross_modal="auto" if "auto" in options else None,
    )
    if kind in PRESETS and model.config.arch != kind:
        raise ValueError(f"{source} holds a {model.config.arch}, not a {kind}")
    return our_recogniser(_short(spec, name), model.to(device), source, visual=visual, gaps=gaps)


def _is_parseq(folder: Path) -> bool:
    """Whether a run with `reader: parseq` wrote it."""
    return (folder / CONFIG_FILE).is_file() and read_json(folder / CONFIG_FILE).get("reader") == "parseq"


def _parseq(name: str, folder: Path, device: torch.device) -> Recogniser:
    """docTR's PARSeq behind our image tower, as `training.parseq` trains it; crops are squashed, as in training."""
    from clip4str_doctr.training.parseq import load_parseq, read_whole_crops

    model = load_parseq(folder).to(device)
    facts = {"parameters": _parameters(model), **file_facts(folder / TENSOR_FILE)}
    read = partial(read_whole_crops, model)
    return Recogniser(name, read, {**facts, "versions": versions("python-doctr", "clip4str-doctr", "torch")})


def _short(spec: str, name: str) -> str:
    """A folder's own name with the options, that tables do not show where somebody keeps his files."""
    place = Path(name).expanduser()
    return spec.replace(name, place.resolve().name) if place.exists() else spec


def _doctr_archs() -> list[str]:
    from doctr.models.recognition import zoo

    return list(zoo.ARCHS)


def _doctr(spec: str, arch: str, weights: str, options: Sequence[str], device: torch.device) -> Recogniser:
    from doctr.datasets import VOCABS
    from doctr.models import recognition, recognition_predictor

    vocabs = [option.removeprefix("vocab=") for option in options if option.startswith("vocab=")]
    if len(vocabs) != len(options) or len(vocabs) > 1 or any(vocab not in VOCABS for vocab in vocabs):
        raise ValueError(f"{spec}: docTR's models take #vocab=NAME, a key of doctr.datasets.VOCABS, got {options}")
    if vocabs and not weights:
        raise ValueError(f"{spec}: docTR's own weights are of their own alphabet; #vocab goes with {arch}=FILE")
    alphabet = {"vocab": VOCABS[vocabs[0]]} if vocabs else {}
    model = getattr(recognition, arch)(pretrained=not weights, pretrained_backbone=False, **alphabet)
    facts: dict[str, Any] = {"weights": "docTR's own", "weights_sha256": None}
    if weights:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"{spec}: there is no file {weights}")
        model.from_pretrained(weights)
        facts = file_facts(weights)
    predictor = recognition_predictor(model.to(device).eval())
    return doctr_recogniser(spec.replace(weights, Path(weights).name) if weights else spec, predictor, **facts)


def _imported(spec: str) -> Recogniser:
    module, _, attribute = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        # As `python -m` has it; a console script does not look where it is called.
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{spec}: expected module:function, from crops to strings; {error}") from error
    if isinstance(found, Recogniser):
        return found
    if not callable(found):
        raise ValueError(f"{spec} must be a function from crops to strings, got a {type(found).__name__}")
    return Recogniser(spec, found)
