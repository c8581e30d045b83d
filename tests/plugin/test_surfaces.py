"""Every door of docTR that a recognition model goes through, by name and by instance, with the embedded model."""

import contextlib
import copy
import io
import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from doctr.datasets import VOCABS
from doctr.models import recognition, recognition_predictor
from doctr.utils.metrics import TextMatch
from golden_weights import CHECKPOINT, M_CLIP, out_map, same_weights
from torch.nn import functional as F

import clip4str_doctr
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.synth import Renderer

ARCH = "clip4str_vn_tiny"
Crops = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    clip4str_doctr.register()


@pytest.fixture(scope="module")
def words() -> tuple[Crops, list[str]]:
    """200 rendered words of the validation split."""
    samples = [Renderer(style, "val", 17).sample(index) for style in ("clean", "photo") for index in range(100)]
    return [crop for crop, _ in samples], [label for _, label in samples]


@pytest.fixture(scope="module")
def model() -> CLIP4STR:
    return clip4str_doctr.clip4str_vn_tiny(pretrained=True)


@pytest.fixture(scope="module")
def answers(model: CLIP4STR, words: tuple[Crops, list[str]]) -> list[str]:
    return texts(model, words[0])


def texts(model: Any, crops: Crops) -> list[str]:
    return [text for text, _ in recognition_predictor(model, batch_size=64)(crops)]


def pixels_of(model: CLIP4STR, crops: Crops) -> torch.Tensor:
    return Preprocess(model.config.image_tower.image_size, model.config.preprocess)(crops)


# Precision and compilers


def same_answers(other: CLIP4STR, words: Any, answers: list[str]) -> int:
    """How many of 200 words read the same; of those that were right all do."""
    read = texts(other, words[0])
    for one, answer, label in zip(read, answers, words[1], strict=True):
        assert one == label or answer != label, (one, label)
    return sum(one == answer for one, answer in zip(read, answers, strict=True))


@pytest.mark.parametrize(("dtype", "least"), [(torch.bfloat16, 196), (torch.float16, 198)])
def test_half_precision_reads_the_same(
    dtype: torch.dtype, least: int, model: CLIP4STR, words: Any, answers: list[str]
) -> None:
    """At most one of 50 words differs in bfloat16, of 100 in float16."""
    half = copy.deepcopy(model).to(dtype)
    out = half(pixels_of(model, words[0][:2]).to(dtype), return_model_output=True)
    assert out["out_map"].dtype == torch.float32
    assert same_answers(half, words, answers) >= least


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_reads_the_same(dtype: torch.dtype, model: CLIP4STR, words: Any, answers: list[str]) -> None:
    """At most one of 100 words differs."""
    assert same_answers(copy.deepcopy(model).mixed_precision(dtype), words, answers) >= 198


def test_autocast_reads(model: CLIP4STR, words: Any, answers: list[str]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        read = texts(model, words[0][::5])
    assert sum(one == other for one, other in zip(read, answers[::5], strict=True)) >= len(read) - 1


# ONNX


def test_onnx_gives_the_same_strings(
    model: CLIP4STR, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    exportable = recognition.__dict__[ARCH](pretrained=True, exportable=True)
    example = torch.rand(2, 3, 32, 128)
    assert set(exportable(example)) == {"logits"}
    export = import_module("doctr.models.utils").export_model_to_onnx
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # docTR asks for torch's older exporter, which torch deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = export(exportable, "tiny", dummy_input=example)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    pixels = pixels_of(model, words[0])
    parts = [session.run(None, {given.name: pixels[at : at + 80].numpy()})[0] for at in range(0, 200, 80)]
    logits = torch.from_numpy(np.concatenate(parts))
    # No early stop: every row there is, whatever the words' lengths.
    assert logits.shape == (200, model.max_length + 1, len(model.vocab) + 1)
    # Not the predictor's answers: it cuts wide crops first, and a graph reads what it is given.
    with torch.inference_mode():
        assert [text for text, _ in model.postprocessor(logits)] == [text for text, _ in model(pixels)["preds"]]


@pytest.mark.parametrize("decode_ar", [True, False])
def test_the_exported_graph_computes_the_answer(decode_ar: bool, model: CLIP4STR, words: Any) -> None:
    one = clip4str_doctr.clip4str_vn_tiny(pretrained=True, decode_ar=decode_ar, refine_iters=2)
    pixels = pixels_of(model, words[0][90:110])
    with torch.inference_mode():
        expected = one(pixels, return_model_output=True)["out_map"]
        one.exportable = True
        logits = one(pixels)["logits"]
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=2e-5, rtol=0)


# State dicts and docTR's hub


def test_saved_for_the_hub_and_read_back(model: CLIP4STR, tmp_path: Path) -> None:
    """What `push_to_hf_hub` writes and the calls `from_hub` makes; the real `from_hub` is run in test_hub.py."""
    from doctr.models.factory.hub import _save_model_and_config_for_hf_hub

    _save_model_and_config_for_hf_hub(model, str(tmp_path), arch=ARCH, task="recognition")
    other = recognition.__dict__[ARCH](pretrained=False, input_shape=[3, 32, 128], vocab=model.vocab)
    other.cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_shape": [3, 32, 128], "vocab": model.vocab}
    other.from_pretrained(str(tmp_path / "pytorch_model.bin"))
    assert same_weights(other, model) and other.training
    assert other.cfg["mean"] == (0.1, 0.2, 0.3) and other.cfg["std"] == (0.4, 0.5, 0.6)
    with pytest.raises(ValueError, match="cfg\\['input_shape'\\] is"):
        other.cfg = {**model.cfg, "input_shape": [3, 64, 256]}
    with pytest.raises(ValueError, match="takes no options, got \\['refine_iters'\\]"):
        other.from_pretrained(tmp_path / "pytorch_model.bin", refine_iters=2)


def test_a_state_dict_of_another_model_is_refused_by_name(model: CLIP4STR, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = clip4str_doctr.clip4str_vn_tiny(vocab="abc")
    before = copy.deepcopy(other)
    with pytest.raises(ValueError, match=r"is no state dict of this model \(\d+ problems\)[\s\S]*head.weight"):
        other.from_pretrained(tmp_path / "model.pt")
    assert same_weights(other, before)


def test_the_tokenizer_travels_in_the_state_dict(tmp_path: Path) -> None:
    published = clip4str_doctr.load_model(CHECKPOINT, tokenizer=M_CLIP)
    torch.save(published.state_dict(), tmp_path / "pytorch_model.bin")
    other = build_model(published.config).eval()
    other.from_pretrained(tmp_path / "pytorch_model.bin")
    assert torch.equal(out_map(other), out_map(published))


# What docTR's reference scripts (references/recognition of its repository) call


class TestScripts:
    """evaluate.py, whose arguments these are; train.py and latency.py are in test_both_models.py."""

    targets = ["PHỞ", "bò", "25.000đ", "x"]

    def test_evaluation(self, caplog: pytest.LogCaptureFixture) -> None:
        shape = (3, 48, 192)
        model = recognition.__dict__[ARCH](pretrained=True, input_shape=shape, vocab=VOCABS["vietnamese"]).eval()
        assert model.vocab == VOCABS["vietnamese"]
        metric = TextMatch()
        for _ in range(2):
            out = model(torch.rand(4, *shape), self.targets, return_preds=True)
            metric.update(self.targets, [text for text, _ in out["preds"]])
            assert out["loss"].item() > 0
        assert set(metric.summary()) >= {"raw", "unicase"}
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(told) == 3, told
        assert "input_shape=(3, 48, 192) is ignored" in told[0] and "random until trained" in told[1]
        assert "reads 32 x 128 pixels; tensors of 48 x 192 are resized" in told[2]
        # The script skips a batch whose labels it cannot write, and knows it by this.
        with pytest.raises(ValueError, match="中"):
            model(torch.rand(1, *shape), ["中"], return_preds=True)

    def test_resized_tensors_read_as_crops_do(self, model: CLIP4STR, words: Any, answers: list[str]) -> None:
        big = F.interpolate(pixels_of(model, words[0]), (64, 256), mode="bicubic", antialias=True)
        with torch.inference_mode():
            read = [text for text, _ in model(big)["preds"]]
        assert sum(one == other for one, other in zip(read, answers, strict=True)) >= 0.9 * len(answers)
