"""CLIP4STR (arXiv:2305.14014): two towers, two decoders, one answer; docTR's recognition model contract."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import ModelConfig, PreprocessConfig, decode_config_from_dict, is_number
from clip4str_doctr.decoding import Reading, dual_predict_and_refine, unrolled_predict_and_refine
from clip4str_doctr.eager import eager
from clip4str_doctr.fast_decoding import fast_predict_and_refine
from clip4str_doctr.modeling.decoder import Decoder, Head
from clip4str_doctr.modeling.image_tower import ImageTower, build_image_tower
from clip4str_doctr.modeling.linear import cast_products, pack_weights
from clip4str_doctr.modeling.text_tower import CharTextTower, TextTower, build_text_tower
from clip4str_doctr.postprocess import PostProcessor

__all__ = ["CERTAIN_FROM", "CLIP4STR", "build_model", "tell_of_look_alikes"]

logger = logging.getLogger(__name__)

# For weights on which nothing was calibrated. The embedded ones lose one word in 2,000 or fewer from 0.88 on.
CERTAIN_FROM = 0.99

Decoding = Literal["fast", "plain"]


class _Cfg(dict[str, Any]):
    """A model's `cfg`, of which single entries may be changed, as of docTR's models: theirs is a dict of their own."""

    def __init__(self, model: "CLIP4STR", values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._model = model

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self and key != "arch":  # which docTR's `push_to_hf_hub` sets, of what it writes
            self._model.cfg = {key: value}
        super().__setitem__(key, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is a dict."""
        return dict, (dict(self),)


class CLIP4STR(nn.Module):
    """The recogniser.

    image_tower: pixels (N, 3, H, W) -> tokens (N, M, d). text_tower: N captions -> tokens (N, T, d), pad (N, T) bool.
    visual_decoder, cross_decoder: `Decoder`s of width d. config: what the parts were built from.
    certain_from: of what certainty on (`decoding.draft_certainty`, 0..1) a word is left at the visual branch's draft
    where `config.decode.cross_modal` is "auto"; belongs to the weights, whose card may bring it.
    preserve_aspect_ratio: whether `recognition_predictor` letterboxes crops as docTR does, instead of squashing them:
    for weights that docTR's training script made. Our weights folders cannot record it.
    decoding: "fast" (default), or "plain": the algorithm as it is written down, several times slower, to compare with.

    docTR's contract: `cfg`, `vocab`, `max_length`, `postprocessor`, `feat_extractor`, `exportable`, `forward`,
    `from_pretrained`.
    """

    def __init__(
        self,
        image_tower: ImageTower,
        text_tower: TextTower,
        visual_decoder: Decoder,
        cross_decoder: Decoder,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.text_tower = text_tower
        self.visual_decoder = visual_decoder
        self.cross_decoder = cross_decoder
        self.config = config
        self.charset = Charset(config.symbols)
        self.postprocessor = PostProcessor(config.symbols)
        self.certain_from = CERTAIN_FROM
        # Whether temperature and certain_from are those of a weights folder's card, and so go with its weights.
        self.calibrated_by_card = False
        self.preserve_aspect_ratio = False
        self.decoding: Decoding = "fast"
        self._exportable = False
        self._resizing_told = False
        self._mixed = False

    @property
    def cfg(self) -> dict[str, Any]:
        """docTR's description of the model: mean, std, input_shape (C, H, W), vocab, arch; and what else its answers
        hang on besides the weights: preserve_aspect_ratio, decode (`DecodeConfig` as a dict), confidence, temperature,
        certain_from. An entry that is set is taken over as by setting all of it."""
        values = {
            "mean": self.config.preprocess.mean,
            "std": self.config.preprocess.std,
            "input_shape": (3, *self.config.image_tower.image_size),
            "vocab": self.vocab,
            "arch": self.config.arch,
            "preserve_aspect_ratio": self.preserve_aspect_ratio,
            "decode": asdict(self.config.decode),
            # Another package's postprocessor may stand here, which has neither.
            "confidence": getattr(self.postprocessor, "confidence", "mean"),
            "temperature": getattr(self.postprocessor, "temperature", 1.0),
            "certain_from": self.certain_from,
        }
        return _Cfg(self, values)

    @cfg.setter
    def cfg(self, cfg: Mapping[str, Any]) -> None:
        """What docTR's `from_hub` assigns: the repository's config.json. What it has of mean, std,
        preserve_aspect_ratio, decode, confidence, temperature and certain_from is taken over.

        Raises ValueError if its vocab, input_shape or longest answer are not the model's own, or a value is none.
        """
        own = self.cfg
        for key in ("vocab", "input_shape"):
            given = cfg.get(key)
            if given is not None and (not isinstance(given, str | Sequence) or list(given) != list(own[key])):
                raise ValueError(f"cfg[{key!r}] is {own[key]!r} for this model, got {given!r}; build the model with it")
        mean, std = cfg.get("mean", self.config.preprocess.mean), cfg.get("std", self.config.preprocess.std)
        preprocess = PreprocessConfig(mean, std)
        options = cfg.get("decode", {})
        if not isinstance(options, Mapping):
            raise ValueError(f"cfg['decode'] must be a dict of decoding options, got {options!r}")
        decode = decode_config_from_dict({**asdict(self.config.decode), **options})
        if decode.max_symbols != self.max_length:
            raise ValueError(f"cfg['decode'] has max_symbols {decode.max_symbols}, the model has {self.max_length}")
        certain_from = cfg.get("certain_from", self.certain_from)
        if not is_number(certain_from) or not 0 < certain_from <= 1:
            raise ValueError(f"cfg['certain_from'] must be a number above 0, 1 at most, got {certain_from!r}")
        letterbox = cfg.get("preserve_aspect_ratio", self.preserve_aspect_ratio)
        if not isinstance(letterbox, bool):
            raise ValueError(f"cfg['preserve_aspect_ratio'] must be True or False, got {letterbox!r}")
        if cfg.keys() & {"confidence", "temperature"} or isinstance(self.postprocessor, PostProcessor):
            confidence = cfg.get("confidence", own["confidence"])
            temperature = cfg.get("temperature", own["temperature"])
            self.postprocessor = PostProcessor(self.vocab, confidence, temperature)
        self.certain_from = float(certain_from)
        self.calibrated_by_card &= not cfg.keys() & {"temperature", "certain_from"}
        self.preserve_aspect_ratio = letterbox
        self.config = replace(self.config, preprocess=preprocess, decode=decode)

    def forget_calibration(self) -> None:
        """Set back a temperature and `certain_from` that a weights folder's card brought: its weights are gone."""
        if self.calibrated_by_card:
            if isinstance(self.postprocessor, PostProcessor):
                self.postprocessor.temperature = 1.0
            self.certain_from, self.calibrated_by_card = CERTAIN_FROM, False

    @property
    def exportable(self) -> bool:
        """Whether `forward` gives {"logits": (N, max_length + 1, V + 1)} alone, by a graph that ONNX can hold.

        Raises ValueError when set for a text tower that reads strings, as the published one does.
        """
        return self._exportable

    @exportable.setter
    def exportable(self, value: bool) -> None:
        if value and not isinstance(self.text_tower, CharTextTower):
            raise ValueError(
                f"{self.config.arch} cannot be exported: between its branches a tokenizer reads strings, which no "
                "graph holds. clip4str_vn_tiny can; leave exportable out"
            )
        self._exportable = value

    @property
    def feat_extractor(self) -> nn.Module:
        """docTR's name for the image tower: what `--freeze_backbone` of its training script freezes."""
        return self.image_tower

    @property
    def vocab(self) -> str:
        """The alphabet in id order."""
        return self.config.symbols

    @property
    def max_length(self) -> int:
        """Longest label, in symbols; an answer that finds no end has one more."""
        return self.config.decode.max_symbols

    def read(self, pixels: torch.Tensor, *, all_rows: bool = True) -> Reading:
        """pixels: (N, 3, H, W) float, normalised -> every stage of both branches.

        all_rows: False where rows behind a word's EOS are of no interest: they need not be computed.
        """
        reading: Reading = self._decode(self.image_tower(pixels), all_rows)
        return reading

    # torch.compile compiles the image tower and runs this as it is: contexts grow by a symbol a step and captions are
    # strings, so it would compile a graph for each length and break between them.
    @eager
    def _decode(self, image_tokens: torch.Tensor, all_rows: bool) -> Reading:
        decoders = (self.visual_decoder, self.cross_decoder)
        rest = self.charset, self.config.decode, self._leaves_from()
        if self.decoding not in get_args(Decoding):
            raise ValueError(f"decoding must be one of {', '.join(get_args(Decoding))}, got {self.decoding!r}")
        if self.decoding == "plain":
            return dual_predict_and_refine(image_tokens, decoders, self.text_tower, *rest)
        return fast_predict_and_refine(image_tokens, decoders, self.text_tower.encode, *rest, all_rows)

    def _leaves_from(self) -> float | None:
        return self.certain_from if self.config.decode.cross_modal == "auto" else None

    def read_unrolled(self, pixels: torch.Tensor) -> torch.Tensor:
        """The answer's logits (N, max_length + 1, V + 1), those of `read`, by a graph without strings or early stop."""
        assert isinstance(self.text_tower, CharTextTower)
        reading = unrolled_predict_and_refine(
            self.image_tower(pixels),
            (self.visual_decoder, self.cross_decoder),
            self.text_tower.encode_ids,
            self.charset,
            self.config.decode,
            self._leaves_from(),
        )
        return reading.answer(self.charset.eos)

    def forward(
        self,
        x: torch.Tensor,
        target: Sequence[str] | None = None,
        return_model_output: bool = False,
        return_preds: bool = False,
    ) -> dict[str, Any]:
        """x: (N, 3, H, W) float, normalised -> docTR's dict. Of another H x W than the model's, it is resized to that.

        "preds": [(text, confidence)], unless only a loss was asked for; "out_map": (N, L, V + 1) float32 logits of the
        answer, on request; "loss": scalar, if `target` (N labels) is given: the training loss in training mode, the
        teacher-forced cross-entropy of both branches, left to right, otherwise.
        "logits" alone if the model is `exportable`.
        Raises ValueError in training mode without target, and for a label that the model cannot write; RuntimeError
        where torch.jit, torch.export or the ONNX exporter traces a model that is not exportable.
        """
        if self.exportable:
            return {"logits": self.read_unrolled(x).float()}
        if _is_exporting():
            raise RuntimeError(
                f"{self.config.arch} writes strings and stops where a word ends, which no traced graph holds; build "
                "clip4str_vn_tiny with exportable=True to export it, and use torch.compile for speed"
            )
        if self.training and target is None:
            raise ValueError("training needs labels: pass target=[...], or call model.eval() to read")
        if target is not None and (isinstance(target, str) or len(target) != len(x)):
            raise ValueError(f"target must be one label for each of {len(x)} crops, got {target!r}")
        x = self._fit(x)
        out: dict[str, Any] = {}
        if target is not None:
            # The objective is the one thing this room takes from a later one, and only when a loss is asked for.
            from clip4str_doctr.training.losses import training_loss, validation_loss

            out["loss"] = (training_loss if self.training else validation_loss)(self, x, list(target))
        wants_preds = target is None or return_preds
        if wants_preds or return_model_output:
            logits = self.read(x, all_rows=return_model_output).answer(self.charset.eos).float()
            if return_model_output:
                out["out_map"] = logits
            if wants_preds:
                out["preds"] = self.postprocessor(logits)
        return out

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What `DistributedDataParallel` leaves alone. It would send the buffers round at every forward, and wait for
        ever where docTR's train.py validates on one rank only."""
        # Of a compiled model, too, which hands this on, but gives its buffers names of its own.
        return [prefix + name for name, _ in self.named_buffers() for prefix in ("", "_orig_mod.")]

    def from_pretrained(self, path_or_url: str | Path | None, **kwargs: Any) -> None:
        """Load weights in place: a published .ckpt or `pretrained/` folder, our folder, or `hf://owner/repo`.

        Or a state dict of a model like this one, as `torch.save(model.state_dict(), path)` in docTR's training script
        writes it; or the http(s) address of a file. kwargs: docTR's `ignore_keys` and `hash_prefix`, and those of
        `clip4str_doctr.load_model`; see `weights.load_into`. The parts take the dimensions found in the file.
        None: as for docTR's models, nothing is loaded, which is logged.
        """
        if path_or_url is None:
            logger.warning("no path or address of weights was given; %s stays as it is", self.config.arch)
            return
        from clip4str_doctr.weights import load_into

        load_into(self, path_or_url, **kwargs)

    def mixed_precision(self, dtype: torch.dtype = torch.bfloat16) -> "CLIP4STR":
        """Most work in `dtype`, what decides in the precision there was -> the model itself, changed in place.

        In `dtype`: the linear layers and attention of the image tower's transformer, and the text tower. Norms, the
        sums that run from layer to layer, and the decoders stay: fewer answers change than where all is cast
        (`model.to(dtype)`), for little more time. Undone by `model.float()`, but for the rounding of the weights.
        Before `torch.compile`, for of a compiled model it gives the one within.
        Raises ValueError for another dtype than torch.bfloat16 or torch.float16.
        """
        if dtype not in (torch.bfloat16, torch.float16):
            raise ValueError(f"mixed_precision takes torch.bfloat16 or torch.float16, got {dtype}")
        cast_products(self.image_tower.layers, dtype)
        self.text_tower.to(dtype)
        self._mixed = True
        return self

    def to(self, *args: Any, **kwargs: Any) -> "CLIP4STR":
        """As of any module, but that after `mixed_precision` `to(device=..., dtype=...)` changes nothing where all is
        on the device and what decides has the dtype: docTR 1.0 asks for that before every batch."""
        if self._mixed and not args and kwargs.keys() == {"device", "dtype"}:
            device = torch.empty(0, device=kwargs["device"]).device  # "cuda" is short for one of them
            there = all(parameter.device == device for parameter in self.parameters())
            if there and next(self.parameters()).dtype == kwargs["dtype"]:
                return self
        super().to(*args, **kwargs)
        return self

    def pack(self) -> "CLIP4STR":
        """The image tower's weights are kept a second time, as a CPU's products want them -> the model itself.

        Same answers, about a tenth faster in bfloat16, for the memory of these weights (172 MB of clip4str_vn in
        bfloat16); see `modeling.linear.pack_weights` for where it has no effect. Before `torch.compile`, too.
        """
        pack_weights(self.image_tower)
        return self

    def _fit(self, x: torch.Tensor) -> torch.Tensor:
        """docTR's scripts feed H x 4H, whatever the model reads. What is no picture is for the image tower to say."""
        size = self.config.image_tower.image_size
        if 0 in x.shape:
            raise ValueError(f"x must hold at least one crop and pixel, got {tuple(x.shape)}; leave empty batches out")
        if x.ndim != 4 or x.shape[1] != 3 or tuple(x.shape[-2:]) == size:
            return x
        if not self._resizing_told:
            self._resizing_told = True
            logger.warning(
                "%s reads %d x %d pixels; tensors of %d x %d are resized to that. Give whole crops to "
                "recognition_predictor for the preprocessing that the weights know",
                *(self.config.arch, *size, *x.shape[-2:]),
            )
        # In float32: not every device has this kernel for the half precisions.
        return F.interpolate(x.float(), size, mode="bicubic", antialias=True).to(x.dtype)


def _is_exporting() -> bool:
    """Whether a graph is being made that shall stand alone, by any of torch's ways."""
    if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():  # type: ignore[attr-defined, no-untyped-call]  # torch's
        return True
    exporting = getattr(torch.compiler, "is_exporting", None)  # since torch 2.7
    return exporting is not None and bool(exporting())


def tell_of_look_alikes(model: CLIP4STR) -> None:
    """Warn where docTR's `add_whitelist` takes inner layers for heads: it knows these by the size of the alphabet.

    With infinities in the middle of the model, its answers would be noise.
    """
    sizes = range(len(model.vocab) + 1, len(model.vocab) + 4)
    linear = [one for one in model.modules() if isinstance(one, nn.Linear) and not isinstance(one, Head)]
    if any(layer.out_features in sizes for layer in linear):
        logger.warning(
            "do not use docTR's add_whitelist with an alphabet of %d symbols: it would mistake layers of %s inside of "
            "this model for its heads. Three symbols more or fewer help",
            *(len(model.vocab), sorted({layer.out_features for layer in linear} & set(sizes))),
        )


def build_model(config: ModelConfig) -> CLIP4STR:
    """A model of this config with random weights."""
    num_symbols, max_symbols = len(config.symbols), config.decode.max_symbols
    model = CLIP4STR(
        build_image_tower(config.image_tower),
        build_text_tower(config.text_tower, Charset(config.symbols), max_symbols),
        Decoder(config.decoder, num_symbols, max_symbols),
        Decoder(config.decoder, num_symbols, max_symbols),
        config,
    )
    tell_of_look_alikes(model)
    return model
