"""Recognisers of other packages, each optional: it says what to install. None is a dependency of ours.

Each reads words as well as it can be made to: crops as its package wants them, with its own preprocessing.
"""

import importlib.util
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import yaml
from PIL import Image

from clip4str_doctr.benchmark.onnx_models import onnx_parameters, onnx_recogniser
from clip4str_doctr.benchmark.recognisers import Crops, Recogniser, file_facts, versions
from clip4str_doctr.finders import TesseractWords, import_rapidocr, quiet_rapidocr
from clip4str_doctr.training.data import usable_cores

__all__ = ["PEERS", "TesseractReader"]

# Of the heights 0 (as it is), 24, 28, 32, 36, 40, 48, 64, 96 and the borders 4 to 32, read on 80 words of print and 80
# of signs that no table of ours shows, these gave most words right: 85; psm 8 gave 68.
_LINE_HEIGHT, _BORDER = 36, 8
_PAGE_END = "\f"

Crop = npt.NDArray[np.uint8]
Make = Callable[[str | None, torch.device], Recogniser]


class TesseractReader:
    """Crops -> words, by one call of the program for all of them, so that its start is no part of a word's time.

    psm 7: a line; crops are scaled up to 36 pixels of height and get a border in their own colour. psm 8: a word, and
    the crop as it is. Raises RuntimeError where the program or its Vietnamese data are not installed, or it fails.
    """

    def __init__(self, psm: int) -> None:
        # Time for hundreds of words, on a busy machine too; a page has less.
        self._program = TesseractWords(seconds=3600)
        self._psm = psm
        if self._program.language != "vie":
            raise RuntimeError("tesseract has no Vietnamese data; type: apt install tesseract-ocr-vie")

    def __call__(self, crops: Crops) -> list[str]:
        if not crops:
            return []
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, crop in enumerate(crops):
                paths.append(str(Path(folder) / f"{number}.png"))
                picture = framed(crop) if self._psm == 7 else crop
                if not cv2.imwrite(paths[-1], np.ascontiguousarray(picture[..., ::-1])):
                    raise RuntimeError(f"cannot write {paths[-1]}")
            (Path(folder) / "list.txt").write_text("\n".join(paths) + "\n", encoding="utf-8")
            settings = ["--psm", str(self._psm), "-c", f"page_separator={_PAGE_END}"]
            read = self._program.run([str(Path(folder) / "list.txt"), "stdout", "-l", "vie", *settings], b"")
        texts = read.split(_PAGE_END)
        if len(texts) != len(crops):
            raise RuntimeError(f"tesseract answered {len(texts)} of {len(crops)} crops")
        return [" ".join(text.split()) for text in texts]

    def facts(self) -> dict[str, Any]:
        """Version and data of the program."""
        told = self._program.run(["--version"], b"").splitlines()
        # 'List of available languages in "/usr/share/tesseract-ocr/5/tessdata/" (2):'
        place = re.search(r'"(.+)"', self._program.run(["--list-langs"], b"").splitlines()[0])
        data = Path(place[1]) / "vie.traineddata" if place else Path()
        frame = {"height": _LINE_HEIGHT, "border": _BORDER} if self._psm == 7 else {}
        return {
            "parameters": None,
            **(file_facts(data) if data.is_file() else {}),
            "settings": {"psm": self._psm, **frame},
            "versions": {"tesseract": told[0].removeprefix("tesseract ") if told else None},
        }


def framed(crop: Crop) -> Crop:
    """A crop scaled up to `_LINE_HEIGHT` pixels, if it is lower, with a border in the median colour of its edge."""
    if crop.shape[0] < _LINE_HEIGHT:
        width = max(round(crop.shape[1] * _LINE_HEIGHT / crop.shape[0]), 1)
        crop = np.asarray(cv2.resize(crop, (width, _LINE_HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    edge = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
    framing = np.empty((crop.shape[0] + 2 * _BORDER, crop.shape[1] + 2 * _BORDER, 3), np.uint8)
    framing[:] = np.median(edge, axis=0).astype(np.uint8)
    framing[_BORDER:-_BORDER, _BORDER:-_BORDER] = crop
    return framing


def _tesseract(psm: int, name: str) -> Make:
    def make(value: str | None, device: torch.device) -> Recogniser:
        _no_value(name, value)
        reader = TesseractReader(psm)
        return Recogniser(name, reader, reader.facts())

    return make


def _trueocr(value: str | None, device: torch.device) -> Recogniser:
    _no_value("trueocr", value)
    package = _needed("trueocr", "pip install trueocr")
    models = Path(str(package.__file__)).parent / "models"
    # As its own pages are read, and no more than there are: by itself it takes one.
    threads = min(4, usable_cores())
    reader = package.Recognizer(models, threads=threads)

    def read(crops: Crops) -> list[str]:
        # It takes arrays for BGR, and says nothing to no crops.
        answers = reader.predict([np.ascontiguousarray(crop[..., ::-1]) for crop in crops]) if crops else []
        return [answer.text for answer in answers]

    weights = models / "rec.onnx"
    facts = {"parameters": onnx_parameters(weights), **file_facts(weights)}
    facts |= {"settings": {"threads": threads}, "versions": versions("trueocr", "onnxruntime")}
    return Recogniser("trueocr", read, facts)


def _rapidocr(value: str | None, device: torch.device) -> Recogniser:
    _no_value("rapidocr", value)
    package = Path(str(importlib.import_module("rapidocr").__file__)).parent if _there("rapidocr") else Path()
    # Else it brings both sides of a picture to multiples of 32, as for finding lines, and squeezes small words by it.
    engine = quiet_rapidocr(import_rapidocr(), **{"Global.use_preprocess_img": False})

    def read(crops: Crops) -> list[str]:
        return [_line(engine(np.ascontiguousarray(crop[..., ::-1]), False, False, True)) for crop in crops]

    def _line(found: Any) -> str:
        return " ".join(found.txts or ())

    files = sorted((package / "models").glob("*rec*.onnx"))
    facts = {"parameters": onnx_parameters(files[0]), **file_facts(files[0])} if len(files) == 1 else {}
    facts |= {"settings": {"use_preprocess_img": False}, "versions": versions("rapidocr", "onnxruntime")}
    return Recogniser("rapidocr", read, facts)


def _vietocr(value: str | None, device: torch.device) -> Recogniser:
    """value: its complete configuration (base and model in one YAML), whose `weights` is a file on this disk."""
    if value is None or not Path(value).is_file():
        raise ValueError(
            "vietocr needs vietocr=CONFIG.yml, its complete configuration with `weights: FILE`, as "
            f"Cfg.load_config_from_name(...).save(CONFIG.yml) writes it; got {value}"
        )
    predictor = _needed("vietocr.tool.predictor", "pip install vietocr")
    config = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
    weights = Path(value).parent / str(config.get("weights"))
    if not weights.is_file():
        raise FileNotFoundError(f"{value} names the weights {config.get('weights')}, which must be a file beside it")
    config = {**config, "weights": str(weights), "device": str(device)}
    # Else it downloads what its weights overwrite.
    config["cnn"] = {**config.get("cnn", {}), "pretrained": False}
    reader = predictor.Predictor(config)

    def read(crops: Crops) -> list[str]:
        return [str(reader.predict(Image.fromarray(crop))) for crop in crops]

    parameters = sum(parameter.numel() for parameter in reader.model.parameters())
    facts = {"parameters": parameters, **file_facts(weights), "versions": versions("vietocr", "torch")}
    return Recogniser(f"vietocr={weights.name}", read, facts)


def _onnx(value: str | None, device: torch.device) -> Recogniser:
    if value is None:
        raise ValueError("an ONNX model is given as onnx=FILE.onnx")
    return onnx_recogniser(Path(value))


def _there(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _needed(module: str, install: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RuntimeError(f"{module.partition('.')[0]} is not installed ({error}); type: {install}") from error


def _no_value(name: str, value: str | None) -> None:
    if value is not None:
        raise ValueError(f"{name} takes no value, got {name}={value}")


PEERS: dict[str, Make] = {
    "tesseract": _tesseract(7, "tesseract"),
    "tesseract-word": _tesseract(8, "tesseract-word"),
    "trueocr": _trueocr,
    "rapidocr": _rapidocr,
    "vietocr": _vietocr,
    "onnx": _onnx,
}
