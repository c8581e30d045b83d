"""The architectures by name, called as docTR calls its own."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import PRESETS, CrossModal
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model, tell_of_look_alikes
from clip4str_doctr.modeling.decoder import Decoder, Head
from clip4str_doctr.modeling.text_tower import CharTextTower
from clip4str_doctr.postprocess import PostProcessor
from clip4str_doctr.weights import load_model

__all__ = ["change_vocab", "clip4str_vn", "clip4str_vn_tiny"]

logger = logging.getLogger(__name__)

# Bias of a row that no label is encoded by: as good as never, in half precision, too.
_NEVER = -100.0


def clip4str_vn(pretrained: bool = False, **kwargs: Any) -> CLIP4STR:
    """CLIP4STR for Vietnamese in the published size: CLIP ViT-B/16 and M-CLIP XLM-RoBERTa Large, 655 M parameters.

    pretrained: load the published weights, converted or not, from CLIP4STR_DOCTR_HOME, ./pretrained or the user's
    cache. False: random weights, in training mode, and no tokenizer: reading needs one, which comes with weights.
    kwargs: vocab, input_shape, decode_ar, refine_iters, cross_modal, exportable, pretrained_backbone; see `_build`.
    Raises WeightsNotFoundError, saying where each file comes from and what to type, if there are no weights.
    """
    return _build("clip4str_vn", pretrained, **kwargs)


def clip4str_vn_tiny(pretrained: bool = False, **kwargs: Any) -> CLIP4STR:
    """CLIP4STR for Vietnamese, small: weights ship with the package, and neither open_clip nor transformers is needed.

    pretrained, kwargs: as for `clip4str_vn`.
    """
    return _build("clip4str_vn_tiny", pretrained, **kwargs)


def _build(
    arch: str,
    pretrained: bool,
    *,
    pretrained_backbone: bool = True,
    vocab: str | None = None,
    input_shape: Sequence[int] | None = None,
    exportable: bool = False,
    decode_ar: bool | None = None,
    refine_iters: int | None = None,
    cross_modal: CrossModal | None = None,
) -> CLIP4STR:
    """docTR's keyword arguments.

    pretrained_backbone: ignored, there are no weights for a tower alone. vocab: another alphabet; symbols known to the
    weights keep their rows, others start random, and a warning says so. input_shape: (3, H, W) of a new model.
    With pretrained weights another one is not the model's: as without it, tensors are resized to what the weights read.
    exportable: `forward` gives logits alone, for docTR's `export_model_to_onnx`; not for a text tower that reads
    strings. decode_ar, refine_iters, cross_modal: None for what the weights or the preset say.
    Raises ValueError for what cannot be had.
    """
    if input_shape is not None and (len(input_shape) != 3 or input_shape[0] != 3):
        raise ValueError(f"input_shape must be (3, H, W), got {tuple(input_shape)}")
    if pretrained:
        model = _pretrained(arch, decode_ar=decode_ar, refine_iters=refine_iters, cross_modal=cross_modal)
        own_shape = (3, *model.config.image_tower.image_size)
        if input_shape is not None and tuple(input_shape) != own_shape:
            logger.warning(
                "the weights of %s read %s; input_shape=%s is ignored, tensors of that size are resized",
                *(arch, own_shape, tuple(input_shape)),
            )
        if vocab is not None:
            change_vocab(model, vocab)
    else:
        config = PRESETS[arch].with_decode(decode_ar, refine_iters, cross_modal)
        if input_shape is not None:
            size = (int(input_shape[1]), int(input_shape[2]))
            config = replace(config, image_tower=replace(config.image_tower, image_size=size))
        model = build_model(config if vocab is None else replace(config, symbols=vocab))
    model.exportable = exportable
    return model


def _pretrained(arch: str, **options: Any) -> CLIP4STR:
    folder = find_weights(arch)
    model = load_model(folder, **options)
    if model.config.arch != arch:
        raise ValueError(
            f"the weights found for {arch} in {folder} are of a {model.config.arch}; move that folder away, or load it "
            "with clip4str_doctr.load_model"
        )
    return model


def change_vocab(model: CLIP4STR, vocab: str) -> None:
    """Give a model another alphabet in place: rows of known symbols and of EOS, BOS, PAD are kept, others are random.

    Raises ValueError for an empty alphabet.
    """
    old, new = model.charset, Charset(vocab)
    if new == old:
        return
    if unknown := [symbol for symbol in vocab if symbol not in old.symbols]:
        logger.warning(
            "%d of the %d symbols of this alphabet are new to the weights: %s. Their rows in embeddings and heads are "
            "random until trained, all else is kept",
            *(len(unknown), len(vocab), "".join(unknown)),
        )
        model.forget_calibration()
    # Of a symbol that stands twice, as the published alphabet's apostrophe does, one row is trained: that which labels
    # are encoded by. The other must not become as likely.
    known, untrained = [], []
    for index, symbol in enumerate(vocab):
        if symbol not in old.symbols:
            continue
        first, trained = old.symbols.index(symbol), old.encode(symbol)[0]
        if new.encode(symbol)[0] == index:
            known.append((index, trained))
        elif first != trained:
            known.append((index, first))
        else:
            untrained.append(index)
    kept = [*known, (new.eos, old.eos), (new.bos, old.bos), (new.pad, old.pad)]
    for decoder in (model.visual_decoder, model.cross_decoder):
        assert isinstance(decoder, Decoder)
        decoder.embedding = _embedding(decoder.embedding, len(new) + 3, kept)
        decoder.head = _head(decoder.head, len(new) + 1, kept[:-2])
        with torch.no_grad():
            decoder.head.bias[untrained] = _NEVER
    if isinstance(model.text_tower, CharTextTower):
        model.text_tower.embedding = _embedding(model.text_tower.embedding, len(new) + 3, kept)
        model.text_tower.charset = new
    model.config = replace(model.config, symbols=vocab)
    model.charset = new
    # cfg, for another package's postprocessor may stand there.
    model.postprocessor = PostProcessor(vocab, model.cfg["confidence"], model.cfg["temperature"])
    tell_of_look_alikes(model)


def _embedding(old: nn.Embedding, rows: int, kept: list[tuple[int, int]]) -> nn.Embedding:
    new = nn.Embedding(rows, old.embedding_dim).to(old.weight)
    nn.init.trunc_normal_(new.weight, std=0.02)
    _copy_rows(new.weight, old.weight, kept)
    return new


def _head(old: Head, rows: int, kept: list[tuple[int, int]]) -> Head:
    new = Head(old.in_features, rows).to(old.weight)
    nn.init.trunc_normal_(new.weight, std=0.02)
    nn.init.zeros_(new.bias)
    _copy_rows(new.weight, old.weight, kept)
    _copy_rows(new.bias, old.bias, kept)
    return new


def _copy_rows(new: torch.Tensor, old: torch.Tensor, kept: list[tuple[int, int]]) -> None:
    targets, sources = (list(column) for column in zip(*kept, strict=True))
    with torch.no_grad():
        new[targets] = old[sources]
