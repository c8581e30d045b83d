"""ONNX files as recognisers: what docTR's `export_model_to_onnx` makes of our models and of docTR's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clip4str_doctr.benchmark.recognisers import Recogniser, doctr_recogniser, file_facts, versions
from clip4str_doctr.config import PRESETS
from clip4str_doctr.lookup import embedded_folder
from clip4str_doctr.weight_card import CONFIG_FILE
from clip4str_doctr.weights import load_model

__all__ = ["onnx_parameters", "onnx_recogniser"]

_EMBEDDED = "clip4str_vn_tiny"


class _OnnxModel(nn.Module):
    """In the place of a model in docTR's predictor: pixels (N, 3, H, W) -> {"preds": [(text, confidence)]}."""

    def __init__(self, path: Path, postprocessor: Any, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.postprocessor, self.cfg = postprocessor, cfg
        self._session = _session(path)
        self._input = self._session.get_inputs()[0]
        # docTR's predictor asks its model's first parameter for device and dtype.
        self._place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, pixels: torch.Tensor, **_: Any) -> dict[str, Any]:
        # Docs of exporting show fixed batches of one, too.
        size = self._input.shape[0] if isinstance(self._input.shape[0], int) else len(pixels)
        logits = [self._session.run(None, {self._input.name: part.numpy()})[0] for part in torch.split(pixels, size)]
        return {"preds": self.postprocessor(torch.from_numpy(np.concatenate(logits)))}


def onnx_recogniser(path: Path) -> Recogniser:
    """The recogniser in a file that maps pixels to logits (N, L, V + 1).

    `config.json` beside it says how to read, with the keys that docTR's `push_to_hf_hub` writes: arch, vocab,
    input_shape, mean, std. Without one it is taken for the embedded model's.
    Raises RuntimeError where onnxruntime is not installed, FileNotFoundError, ValueError for a file that does not fit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    cfg_file = path.parent / CONFIG_FILE
    cfg = json.loads(cfg_file.read_text(encoding="utf-8")) if cfg_file.is_file() else None
    postprocessor, cfg = _reading(cfg, cfg_file)
    model = _OnnxModel(path, postprocessor, cfg)
    with torch.inference_mode():
        _try(model, path)
    facts = {"parameters": onnx_parameters(path), **file_facts(path), "versions": versions("onnxruntime")}
    return doctr_recogniser(f"onnx={path.name}", _predictor(model, cfg), **facts)


def onnx_parameters(path: Path) -> int | None:
    """Numbers in a file's weights, constants of the graph's arithmetic aside; None where `onnx` is not installed."""
    try:
        import onnx
    except ImportError:
        return None
    graph = onnx.load(str(path)).graph
    tensors = [tensor for tensor in graph.initializer if tensor.data_type != onnx.TensorProto.INT64]
    tensors += [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    sizes = [int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type != onnx.TensorProto.INT64]
    return sum(size for size in sizes if size > 1)


def _session(path: Path) -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise RuntimeError("an ONNX file needs onnxruntime; type: pip install onnxruntime") from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class of their own
        raise ValueError(f"{path} is no model that onnxruntime reads: {error}") from error


def _reading(cfg: dict[str, Any] | None, place: Path) -> tuple[Any, dict[str, Any]]:
    """The postprocessor of an architecture, and mean, std, input_shape."""
    if cfg is None:
        folder = embedded_folder(_EMBEDDED)
        if folder is None:
            raise ValueError(f"there is no {place}, and no {_EMBEDDED} to take the file for")
        model = load_model(folder)
        return model.postprocessor, model.cfg
    if missing := sorted({"arch", "vocab", "input_shape", "mean", "std"} - set(cfg)):
        raise ValueError(f"{place} lacks {', '.join(missing)}; it is what docTR's push_to_hf_hub writes")
    from doctr.models import recognition

    factory = getattr(recognition, str(cfg["arch"]), None)
    if factory is None:
        raise ValueError(f"{place}: docTR has no {cfg['arch']!r}")
    # Only the postprocessor of this model, whose weights are random, is used.
    model = factory(
        pretrained=False, pretrained_backbone=False, vocab=cfg["vocab"], input_shape=tuple(cfg["input_shape"])
    )
    return model.postprocessor, cfg


def _predictor(model: _OnnxModel, cfg: dict[str, Any]) -> Any:
    """docTR's predictor with the preprocessing of the architecture: ours squash, docTR's letterbox."""
    from doctr.models.preprocessor import PreProcessor
    from doctr.models.recognition.predictor import RecognitionPredictor

    from clip4str_doctr.plugin import recognition_predictor_of

    if cfg.get("arch", _EMBEDDED) in PRESETS:
        return recognition_predictor_of(model, split_wide_crops=False)
    size, mean, std = tuple(cfg["input_shape"][-2:]), tuple(cfg["mean"]), tuple(cfg["std"])
    return RecognitionPredictor(
        PreProcessor(size, batch_size=32, mean=mean, std=std, preserve_aspect_ratio=True), model
    )


def _try(model: _OnnxModel, path: Path) -> None:
    height, width = model.cfg["input_shape"][-2:]
    try:
        model(torch.zeros(1, 3, height, width))
    except Exception as error:
        raise ValueError(f"{path} does not give logits for pixels (1, 3, {height}, {width}): {error}") from error
