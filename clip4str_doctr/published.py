"""The published weights in our terms: dimensions from tensors, names mapped, rows put into docTR's order."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.checkpoint import Checkpoint, read_checkpoint
from clip4str_doctr.config import (
    HALF_NORMALIZATION,
    PRESETS,
    ClipImageTowerConfig,
    DecodeConfig,
    DecoderConfig,
    MClipTextTowerConfig,
    ModelConfig,
)
from clip4str_doctr.tensor_file import compare_tensors
from clip4str_doctr.tokenizer import MClipTokenizer, check_pieces, find_tokenizer_folder, load_tokenizer
from clip4str_doctr.weight_card import WeightsError, WeightsNotFoundError, read_json

__all__ = ["PublishedWeights", "find_checkpoint", "find_mclip", "published_name", "read_published"]

logger = logging.getLogger(__name__)

_ARCH = "clip4str_vn"
_BRANCHES = ("visual_decoder", "cross_decoder")

# Ours; their rows stand for symbols.
_REORDERED = {f"{branch}.{part}" for branch in _BRANCHES for part in ("embedding.weight", "head.weight", "head.bias")}

_MLP_SOURCES = (("linear1.bias", 0), ("linear1.weight", 0), ("linear2.weight", 1))

# Of hyper-parameters that count something.
_LEAST = {"max_label_length": 1, "dec_num_heads": 1, "refine_iters": 0}

# M-CLIP's config names its base model only; XLM-RoBERTa's two sizes as published (arXiv:1911.02116).
_BASE_HEADS = {"xlm-roberta-base": 12, "xlm-roberta-large": 16}
_PAD_ID = 1

# Prefix rules, ours -> published; the first match counts.
_RENAMES = (
    ("image_tower.visual.", "clip_model.visual."),
    ("text_tower.transformer.", "M_clip_model.transformer."),
    ("text_tower.linear.", "M_clip_model.LinearTransformation."),
    *((f"{branch}.layer.", f"{branch}.layers.0.") for branch in _BRANCHES),
    *((f"{branch}.embedding.", f"{branch}.text_embed.embedding.") for branch in _BRANCHES),
)

# What a checkpoint may carry beyond the recogniser. Prefixes, since "clip_model." is a part of the other names too.
_IGNORED_PREFIXES = (
    "second_clip_model.",
    "M_clip_model.transformer.pooler.",
    "clip_model.logit_scale",
    # OpenAI's own text encoder, which M-CLIP's replaced.
    "clip_model.transformer.",
    "clip_model.token_embedding.",
    "clip_model.positional_embedding",
    "clip_model.ln_final.",
    "clip_model.text_projection",
)
# Index buffers that transformers once stored.
_IGNORED_SUFFIX = ".position_ids"


def published_name(name: str) -> str:
    """Our parameter name -> the checkpoint's."""
    for ours, theirs in _RENAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


@dataclass(frozen=True)
class PublishedWeights:
    """A checkpoint, understood: the model to build, its tokenizer, and the tensors to put into it."""

    checkpoint: Checkpoint
    config: ModelConfig
    tokenizer: MClipTokenizer

    def tensors(self, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors under our names and in our row order; mapped from the file but for the reordered ones.

        expected: our state dict, for names and shapes. Raises WeightsError naming every tensor that is missing,
        unexpected or of another shape.
        """
        stored = {name: value for name, value in self.checkpoint.state_dict.items() if not _is_ignored(name)}
        if problems := compare_tensors({published_name(name): tensor for name, tensor in expected.items()}, stored):
            raise WeightsError(
                f"{self.checkpoint.path} holds other weights than a CLIP4STR recogniser's ({len(problems)} problems); "
                "use the published checkpoint unchanged:\n  " + "\n  ".join(problems)
            )
        order = row_order(len(self.config.symbols))
        tensors = {}
        for name in expected:
            tensor = stored[published_name(name)].detach()
            if name in _REORDERED:
                tensor = tensor[order[: len(tensor)]]
            tensors[name] = tensor
        return tensors


def row_order(num_symbols: int) -> torch.Tensor:
    """(V + 3,) row indices, published -> ours. Published: EOS, symbols, BOS, PAD; ours: symbols, EOS, BOS, PAD.

    The head has V + 1 rows (no BOS, no PAD) and takes the first V + 1 of these.
    """
    return torch.tensor([*range(1, num_symbols + 1), 0, num_symbols + 1, num_symbols + 2], device="cpu")


def _is_ignored(name: str) -> bool:
    return name.startswith(_IGNORED_PREFIXES) or name.endswith(_IGNORED_SUFFIX)


def find_checkpoint(folder: Path) -> Path:
    """The .ckpt of a folder in the published layout, in clip4str/ or the folder itself.

    Raises WeightsNotFoundError if there is none, WeightsError if there are several.
    """
    found = sorted(folder.glob("clip4str/*.ckpt")) or sorted(folder.glob("*.ckpt"))
    if not found:
        raise WeightsNotFoundError(
            f"{folder} holds no weights: expected config.json with model.safetensors (a converted folder), or the "
            "published layout: the recogniser as clip4str/ANY-NAME.ckpt and, beside clip4str/, M-CLIP's config.json "
            "and tokenizer.json in M_clip/"
        )
    if len(found) > 1:
        raise WeightsError(f"{folder} holds several checkpoints: {[path.name for path in found]}; pass one of them")
    return found[0]


def find_mclip(checkpoint: Path) -> Path:
    """The M_clip folder of the published layout that a checkpoint lies in. Raises WeightsNotFoundError."""
    # Not resolved: a link in the layout stands for a file elsewhere.
    checkpoint = checkpoint.absolute()
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / "M_clip").is_dir():
            return folder / "M_clip"
    raise WeightsNotFoundError(
        f"{checkpoint} needs M-CLIP's tokenizer, and no M_clip folder lies beside it: download config.json and the "
        "tokenizer files of https://huggingface.co/M-CLIP/XLM-Roberta-Large-Vit-B-32 to "
        f"{checkpoint.parent / 'M_clip'}, or pass tokenizer='.../M_clip' to load_model (--weights and --mclip on the "
        "command line)"
    )


def read_published(path: Path, mclip: Path | None = None) -> PublishedWeights:
    """Understand a published checkpoint.

    mclip: the M_clip folder; None: the one in the layout around the file. Mean and std are those that the reference's
    script reads with, although training was configured with CLIP's.
    Raises WeightsError for anything that does not fit, WeightsNotFoundError for a missing file.
    """
    checkpoint = read_checkpoint(path)
    folder = find_tokenizer_folder(find_mclip(path) if mclip is None else mclip)
    tokenizer = load_tokenizer(folder)
    hyper = _believed(checkpoint)
    sizes = _Sizes(checkpoint)
    decoder = _decoder(sizes, hyper["dec_num_heads"])
    config = ModelConfig(
        arch=_ARCH,
        symbols=hyper["charset_train"],
        image_tower=_image_tower(sizes, hyper["img_size"], decoder.width),
        text_tower=_text_tower(sizes, folder, tokenizer, decoder.width),
        decoder=decoder,
        decode=DecodeConfig(hyper["max_label_length"], hyper["decode_ar"], hyper["refine_iters"]),
        preprocess=HALF_NORMALIZATION,
    )
    return PublishedWeights(checkpoint, config, tokenizer)


def _believed(checkpoint: Checkpoint) -> dict[str, Any]:
    """The hyper-parameters that are true in published files; patch_size, enc_* and embed_dim, for example, are not."""
    preset = PRESETS[_ARCH]
    kinds: dict[str, tuple[type, Any]] = {
        "charset_train": (str, None),
        "max_label_length": (int, None),
        "img_size": (list, None),
        "dec_num_heads": (int, None),
        "decode_ar": (bool, preset.decode.decode_ar),
        "refine_iters": (int, preset.decode.refine_iters),
    }
    believed: dict[str, Any] = {}
    problems = []
    for key, (kind, default) in kinds.items():
        value = checkpoint.hyper_parameters.get(key, default)
        value = list(value) if isinstance(value, tuple) else value
        if not isinstance(value, kind) or value in ("", []) or (kind is int and isinstance(value, bool)):
            problems.append(f"{key} must be a {kind.__name__}, got {value!r}")
        elif isinstance(value, int) and value < _LEAST.get(key, value):
            problems.append(f"{key} must be at least {_LEAST[key]}, got {value}")
        else:
            believed[key] = value
    if problems:
        raise WeightsError(f"{checkpoint.path}: hyper_parameters are not those of CLIP4STR: {'; '.join(problems)}")
    charset_test = checkpoint.hyper_parameters.get("charset_test", believed["charset_train"])
    if charset_test != believed["charset_train"]:
        # CLIP4STR's code reduces to it what it scores, and the captions that its text tower sees.
        logger.warning(
            "%s: charset_test %r is not charset_train; here answers and captions are written in charset_train, so "
            "answers may differ from the reference's, and its scores are of other strings",
            *(checkpoint.path, charset_test),
        )
    return believed


class _Sizes:
    """Dimensions by majority over the tensors that share one, so that a single bad tensor is named, not followed."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path = checkpoint.path
        tensors = checkpoint.state_dict.items()
        self._shapes = {name: tuple(value.shape) for name, value in tensors if hasattr(value, "shape")}

    def of(self, absent: int, *sources: tuple[str, int]) -> int:
        """The size most of the (name, axis) sources show; `absent` if none is there, and each will be named missing."""
        shown = [self._shapes[name][axis] for name, axis in sources if axis < len(self._shapes.get(name, ()))]
        return int(Counter(shown).most_common(1)[0][0]) if shown else absent

    def layers(self, absent: int, prefix: str) -> int:
        """How many numbered layers stand under a prefix; a stray key or two do not make a layer."""
        counts = Counter(name.removeprefix(prefix).split(".")[0] for name in self._shapes if name.startswith(prefix))
        full = max(counts.values(), default=0)
        return 1 + max(
            (int(index) for index, n in counts.items() if index.isdigit() and 2 * n > full), default=absent - 1
        )


def _decoder(sizes: _Sizes, heads: int) -> DecoderConfig:
    preset = PRESETS[_ARCH].decoder
    norms = [(f"{branch}.layers.0.{norm}.weight", 0) for branch in _BRANCHES for norm in ("norm1", "norm2", "norm_q")]
    width = sizes.of(preset.width, *norms)
    if width % heads:
        raise WeightsError(
            f"{sizes.path}: hyper_parameters: dec_num_heads must divide the decoder's width {width}, got {heads}"
        )
    linears = [(f"{branch}.layers.0.{name}", axis) for branch in _BRANCHES for name, axis in _MLP_SOURCES]
    return DecoderConfig(width, heads, sizes.of(preset.mlp_width, *linears))


def _image_tower(sizes: _Sizes, image_size: list[int], output_dim: int) -> ClipImageTowerConfig:
    preset = PRESETS[_ARCH].image_tower
    assert isinstance(preset, ClipImageTowerConfig)
    visual = "clip_model.visual"
    norms = [(f"{visual}.{norm}.{kind}", 0) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")]
    width = sizes.of(preset.width, *norms)
    if width % 64:
        raise WeightsError(
            f"{sizes.path}: the image tower's width must be a multiple of 64 (one head each), got {width}"
        )
    if len(image_size) != 2 or not all(isinstance(side, int) and side > 0 for side in image_size):
        raise WeightsError(
            f"{sizes.path}: hyper_parameters: img_size must be two positive integers, got {image_size!r}"
        )
    conv = f"{visual}.conv1.weight"
    return ClipImageTowerConfig(
        image_size=(image_size[0], image_size[1]),
        patch_size=(sizes.of(preset.patch_size[0], (conv, 2)), sizes.of(preset.patch_size[1], (conv, 3))),
        width=width,
        layers=sizes.layers(preset.layers, f"{visual}.transformer.resblocks."),
        output_dim=output_dim,
    )


def _text_tower(sizes: _Sizes, folder: Path, tokenizer: MClipTokenizer, output_dim: int) -> MClipTextTowerConfig:
    preset = PRESETS[_ARCH].text_tower
    assert isinstance(preset, MClipTextTowerConfig)
    embeddings, layer = "M_clip_model.transformer.embeddings", "M_clip_model.transformer.encoder.layer."
    layers = sizes.layers(preset.layers, layer)
    norms = [(f"{layer}{index}.output.LayerNorm.{kind}", 0) for index in range(layers) for kind in ("weight", "bias")]
    width = sizes.of(preset.width, (f"{embeddings}.LayerNorm.weight", 0), *norms)
    vocab_size = sizes.of(tokenizer.vocab_size, (f"{embeddings}.word_embeddings.weight", 0))
    check_pieces(tokenizer, vocab_size, folder)
    mlp_parts = (("intermediate.dense.bias", 0), ("intermediate.dense.weight", 0), ("output.dense.weight", 1))
    mlps = [(f"{layer}{index}.{part}", axis) for index in range(layers) for part, axis in mlp_parts]
    return MClipTextTowerConfig(
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=_text_heads(folder, width, output_dim),
        mlp_width=sizes.of(preset.mlp_width, *mlps),
        max_positions=sizes.of(preset.max_positions, (f"{embeddings}.position_embeddings.weight", 0)),
        pad_id=_PAD_ID,
        output_dim=output_dim,
    )


def _text_heads(folder: Path, width: int, output_dim: int) -> int:
    """Attention heads leave no trace in tensors: they follow from M-CLIP's `modelBase`."""
    if not (folder / "config.json").is_file():
        raise WeightsNotFoundError(
            f"{folder} lacks M-CLIP's config.json: download it from "
            "https://huggingface.co/M-CLIP/XLM-Roberta-Large-Vit-B-32 to where the tokenizer is"
        )
    mclip = read_json(folder / "config.json")
    for key, expected in (("transformerDimensions", width), ("numDims", output_dim)):
        if mclip.get(key, expected) != expected:
            raise WeightsError(
                f"{folder / 'config.json'} says {key} {mclip[key]}, the checkpoint's is {expected}; "
                "pass the M_clip folder that belongs to the checkpoint"
            )
    base = mclip.get("modelBase")
    if isinstance(base, str) and base in _BASE_HEADS:
        return _BASE_HEADS[base]
    if isinstance(base, str) and (folder / base / "config.json").is_file():
        heads = read_json(folder / base / "config.json").get("num_attention_heads")
        if isinstance(heads, int) and heads > 0:
            return heads
    raise WeightsError(
        f"{folder / 'config.json'}: modelBase must be one of {sorted(_BASE_HEADS)} or a folder beside it with a "
        f"config.json, got {base!r}"
    )
