"""CLIP4STR (arXiv:2305.14014): two towers, two decoders, one answer; docTR's recognition model contract."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import ModelConfig
from clip4str_doctr.decoding import Reading, dual_predict_and_refine
from clip4str_doctr.modeling.decoder import Decoder
from clip4str_doctr.modeling.image_tower import build_image_tower
from clip4str_doctr.modeling.text_tower import build_text_tower
from clip4str_doctr.postprocess import PostProcessor

__all__ = ["CLIP4STR", "build_model"]


class CLIP4STR(nn.Module):
    """The recogniser.

    image_tower: pixels (N, 3, H, W) -> tokens (N, M, d). text_tower: N captions -> tokens (N, T, d), pad (N, T) bool.
    visual_decoder, cross_decoder: `Decoder`s of width d. config: what the parts were built from.

    docTR's contract: `cfg`, `vocab`, `max_length`, `postprocessor`, `exportable`, `forward`, `from_pretrained`.
    """

    # What docTR asks before an ONNX export, which the text tower's strings do not allow.
    exportable = False

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
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

    @property
    def cfg(self) -> dict[str, Any]:
        """docTR's description of the model: mean, std, input_shape (C, H, W), vocab, arch."""
        return {
            "mean": self.config.preprocess.mean,
            "std": self.config.preprocess.std,
            "input_shape": (3, *self.config.image_tower.image_size),
            "vocab": self.vocab,
            "arch": self.config.arch,
        }

    @property
    def vocab(self) -> str:
        """The alphabet in id order."""
        return self.config.symbols

    @property
    def max_length(self) -> int:
        """Longest answer, in symbols."""
        return self.config.decode.max_symbols

    def read(self, pixels: torch.Tensor) -> Reading:
        """pixels: (N, 3, H, W) float, normalised -> every stage of both branches."""
        return dual_predict_and_refine(
            self.image_tower(pixels),
            (self.visual_decoder, self.cross_decoder),
            self.text_tower,
            self.charset,
            self.config.decode,
        )

    def forward(
        self,
        x: torch.Tensor,
        target: Sequence[str] | None = None,
        return_model_output: bool = False,
        return_preds: bool = False,
    ) -> dict[str, Any]:
        """x: (N, 3, H, W) float, normalised -> docTR's dict.

        "preds": [(text, confidence)], unless only a loss was asked for; "out_map": (N, L, V + 1) float32 logits of the
        answer, on request; "loss": scalar, if `target` (N labels) is given: the training loss in training mode, the
        teacher-forced cross-entropy of both branches, left to right, otherwise.
        Raises ValueError in training mode without target, and for a label that the model cannot write.
        """
        if self.training and target is None:
            raise ValueError("training needs labels: pass target=[...], or call model.eval() to read")
        out: dict[str, Any] = {}
        if target is not None:
            # The objective is the one thing this room takes from a later one, and only when a loss is asked for.
            from clip4str_doctr.training.losses import training_loss, validation_loss

            out["loss"] = (training_loss if self.training else validation_loss)(self, x, list(target))
        wants_preds = target is None or return_preds
        if wants_preds or return_model_output:
            logits = self.read(x).answer(self.charset.eos).float()
            if return_model_output:
                out["out_map"] = logits
            if wants_preds:
                out["preds"] = self.postprocessor(logits)
        return out

    def from_pretrained(self, path_or_url: str | Path, **kwargs: Any) -> None:
        """Load weights in place: a published .ckpt or `pretrained/` folder, our folder, or `hf://owner/repo`.

        kwargs: those of `clip4str_doctr.load_model`. The parts take the dimensions found in the file.
        """
        from clip4str_doctr.weights import load_into

        load_into(self, path_or_url, **kwargs)


def build_model(config: ModelConfig) -> CLIP4STR:
    """A model of this config with random weights."""
    num_symbols, max_symbols = len(config.symbols), config.decode.max_symbols
    return CLIP4STR(
        build_image_tower(config.image_tower),
        build_text_tower(config.text_tower, Charset(config.symbols), max_symbols),
        Decoder(config.decoder, num_symbols, max_symbols),
        Decoder(config.decoder, num_symbols, max_symbols),
        config,
    )
