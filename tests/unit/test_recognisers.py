"""Recognisers by name: ours, docTR's, ONNX files, other packages'."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr import load_model
from clip4str_doctr.benchmark.peers import PEERS, TesseractReader, framed
from clip4str_doctr.benchmark.recognisers import Crops, Recogniser, doctr_recogniser, our_recogniser, recogniser
from clip4str_doctr.config import DecodeConfig, model_config_to_dict
from clip4str_doctr.modeling.clip4str import build_model
from clip4str_doctr.plugin import recognition_predictor_of
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.validate import read_words
from clip4str_doctr.weight_card import read_card
from clip4str_doctr.weights import save_model

EMBEDDED = Path(__file__).parents[2] / "pretrained" / "clip4str_vn_tiny"
RANDOM = np.random.default_rng(0)
CROPS: Crops = [
    RANDOM.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((20, 60), (32, 40), (9, 90))
]


def written_word() -> Any:
    """A word that every reader gets right: large, black on white, in Pillow's own font."""
    picture = Image.new("RGB", (190, 60), "white")
    ImageDraw.Draw(picture).text((20, 6), "Hanoi", fill="black", font=ImageFont.load_default(44))
    return np.asarray(picture)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ours_in_half_precision(micro_folder: Path, dtype: torch.dtype) -> None:
    model = load_model(micro_folder).to(dtype)
    pixels = Preprocess(model.config.image_tower.image_size, model.config.preprocess)(CROPS)
    with torch.inference_mode():
        expected = [text for text, _ in model(pixels.to(dtype), return_preds=True)["preds"]]
    assert our_recogniser("x", model)(CROPS) == expected
    assert len(our_recogniser("x", model, visual=True)(CROPS)) == len(CROPS)


def phrase(text: str) -> Any:
    """A crop that holds several words."""
    font = ImageFont.load_default(30)
    picture = Image.new("RGB", (int(font.getlength(text)) + 12, 44), "white")
    ImageDraw.Draw(picture).text((6, 4), text, fill="black", font=font)
    return np.asarray(picture)


def test_ours_with_both_branches_or_one(micro_folder: Path, tmp_path: Path) -> None:
    model = load_model(micro_folder)
    expected = read_words(model, CROPS)
    both, visual = recogniser(str(micro_folder)), recogniser(f"{micro_folder}#visual")
    assert both(CROPS) == expected.texts and visual(CROPS) == expected.visual
    assert (both.name, visual.name) == ("clip4str_vn_tiny", "clip4str_vn_tiny#visual")
    assert both.facts["weights_sha256"] == read_card(micro_folder).sha256["model.safetensors"]
    assert visual.facts["parameters"] < both.facts["parameters"] == sum(p.numel() for p in model.parameters())
    clip = recogniser(f"clip4str_vn_tiny={micro_folder}#visual#clip")
    assert clip.facts["settings"]["mean"][0] == pytest.approx(0.48145466)
    assert clip.facts["settings"]["branches"] == "visual"
    assert clip(CROPS) == read_words(load_model(micro_folder, normalization="clip"), CROPS).visual
    assert both([]) == visual([]) == []
    # A path may hold the sign that parts names from weights, as the published checkpoint's does.
    copied = shutil.copytree(micro_folder, tmp_path / "epoch=4--step=2084")
    (copied / "other.safetensors").write_bytes(b"0" * 10**6)
    signed = recogniser(str(copied))
    assert signed(CROPS) == expected.texts and signed.facts["weights_mb"] == both.facts["weights_mb"] > 0
    # A card that calls every draft certain: what is left at it, the cross branch does not read.
    sure = shutil.copytree(micro_folder, tmp_path / "sure")
    card = json.loads((sure / "card.json").read_text(encoding="utf-8"))
    (sure / "card.json").write_text(json.dumps({**card, "certain_from": 1e-60}), encoding="utf-8")
    drafts = read_words(load_model(sure, cross_modal="auto"), CROPS).texts
    assert recogniser(f"{sure}#auto")(CROPS) == drafts != expected.texts
    auto = recogniser(f"{micro_folder}#auto")
    assert auto.facts["settings"]["cross_modal"] == "auto" != both.facts["settings"]["cross_modal"]
    assert auto(CROPS) == read_words(load_model(micro_folder, cross_modal="auto"), CROPS).texts


def test_ours_as_the_command_line_reads_wide_crops() -> None:
    whole, gaps = recogniser(str(EMBEDDED)), recogniser(f"{EMBEDDED}#gaps")
    predictor = recognition_predictor_of(load_model(EMBEDDED), split_wide_crops="gaps")
    crops = [*CROPS, *map(phrase, ("Hanoi Vietnam", "one two three four", "banh mi Saigon ngon nhat"))]
    assert gaps(crops) == [text for text, _ in predictor(crops)] and gaps([]) == []
    # Good weights read some phrases whole, but not all.
    assert gaps(crops)[-3:] != whole(crops)[-3:]
    assert gaps.predictor is not None and gaps.predictor().cut_at_gaps
    assert gaps.facts["settings"]["wide_crops"] == "cut at gaps" and "wide_crops" not in whole.facts["settings"]


@pytest.mark.parametrize("decode", [{"decode_ar": False}, {"refine_iters": 0}, {"refine_iters": 2}])
def test_the_visual_branch_alone_says_what_it_says_within(micro_folder: Path, decode: dict[str, Any]) -> None:
    from clip4str_doctr.benchmark.recognisers import our_recogniser

    model = load_model(micro_folder, **decode)
    assert our_recogniser("a", model, visual=True)(CROPS) == read_words(model, CROPS).visual


def test_doctrs_by_name_and_by_instance(tmp_path: Path) -> None:
    from doctr.models import crnn_mobilenet_v3_small, recognition_predictor

    torch.manual_seed(0)
    model = crnn_mobilenet_v3_small(pretrained=False, pretrained_backbone=False, vocab="aăâ").eval()
    expected = [text for text, _ in recognition_predictor(model)(list(CROPS))]
    instance = doctr_recogniser("mine", recognition_predictor(model), weights="random")
    assert instance(CROPS) == expected and instance.facts["weights"] == "random"
    assert instance.facts["parameters"] == sum(p.numel() for p in model.parameters())
    other = crnn_mobilenet_v3_small(pretrained=False, pretrained_backbone=False)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    named = recogniser(f"crnn_mobilenet_v3_small={tmp_path / 'other.pt'}")
    assert named.name == "crnn_mobilenet_v3_small=other.pt"
    assert named(CROPS) == [text for text, _ in recognition_predictor(other.eval())(list(CROPS))]
    for spec, message in (
        ("parseq#vocab=klingon", "a key of doctr.datasets.VOCABS"),
        ("parseq#visual", "take #vocab"),
        ("parseq#vocab=vietnamese", "#vocab goes with parseq=FILE"),
    ):
        with pytest.raises(ValueError, match=message):
            recogniser(spec)
    with pytest.raises(FileNotFoundError, match="there is no file nothing.pt"):
        recogniser("parseq=nothing.pt")


def test_parseq_as_our_loop_trains_it(micro_folder: Path, tmp_path: Path) -> None:
    from clip4str_doctr.training.parseq import build_parseq, load_parseq, read_whole_crops, save_parseq

    torch.manual_seed(0)
    config = load_model(micro_folder).config
    model = build_parseq(config).eval()
    save_parseq(tmp_path / "weights", model_config_to_dict(config), model.state_dict(), {})
    found = recogniser(str(tmp_path / "weights"))
    assert found.name == "weights" and found.facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert found(CROPS) == read_whole_crops(load_parseq(tmp_path / "weights"), CROPS)
    with pytest.raises(ValueError, match="PARSeq takes no options, got #visual"):
        recogniser(f"{tmp_path / 'weights'}#visual")


def test_onnx_files(micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    from doctr.models import crnn_mobilenet_v3_small, recognition_predictor

    from clip4str_doctr.benchmark import onnx_models

    # What ships with the package is larger, and the graph of 26 steps takes long to write; a random one of 3 stands in.
    torch.manual_seed(3)
    config = load_model(micro_folder).config
    ours = build_model(replace(config, decode=DecodeConfig(max_symbols=2, refine_iters=0))).eval()
    save_model(ours, tmp_path / "small", {"source": "random, for tests", "licence": "Apache-2.0"})
    monkeypatch.setattr(onnx_models, "embedded_folder", lambda arch: tmp_path / "small")
    expected = read_words(ours, CROPS).texts
    ours.exportable = True
    path = exported(ours, tmp_path / "ours" / "model")
    found = recogniser(f"onnx={path}")
    assert found(CROPS) == expected and found.name == "onnx=model.onnx"
    parameters = sum(p.numel() for p in ours.parameters())
    assert abs(found.facts["parameters"] - parameters) < 0.2 * parameters
    # docTR's own, whose config.json says how to read it.
    torch.manual_seed(0)
    theirs = crnn_mobilenet_v3_small(pretrained=False, pretrained_backbone=False, vocab="aăâbc", exportable=True).eval()
    path = exported(theirs, tmp_path / "theirs" / "model")
    beside = path.parent / "config.json"
    beside.write_text(
        json.dumps({**theirs.cfg, "arch": "crnn_mobilenet_v3_small", "task": "recognition"}), encoding="utf-8"
    )
    theirs.exportable = False
    found = recogniser(f"onnx={path}")
    assert found(CROPS) == [text for text, _ in recognition_predictor(theirs)(list(CROPS))]
    beside.write_text(json.dumps({"arch": "crnn_mobilenet_v3_small"}))
    with pytest.raises(ValueError, match="lacks input_shape, mean, std, vocab"):
        recogniser(f"onnx={path}")
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="no model that onnxruntime reads"):
        recogniser(f"onnx={path.rename(tmp_path / 'broken.onnx')}")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        recogniser("onnx=nothing.onnx")


def exported(model: Any, path: Path) -> Path:
    """docTR's way to ONNX; torch warns of its older exporter and of numbers that become constants."""
    import warnings

    from doctr.models.utils import export_model_to_onnx

    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Path(export_model_to_onnx(model, str(path), torch.zeros(1, *model.cfg["input_shape"])))


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is not installed")
@pytest.mark.parametrize("name", ["tesseract", "tesseract-word"])
def test_tesseract(name: str) -> None:
    try:
        found = recogniser(name)
    except RuntimeError as error:
        pytest.skip(str(error))
    first, _, last = found([written_word(), np.full((40, 60, 3), 255, np.uint8), written_word()])
    # As a word in wide margins it adds a dash.
    assert first == last and first.split()[0] == "Hanoi"
    assert found([]) == [] and found.facts["settings"]["psm"] == (7 if name == "tesseract" else 8)
    assert found.facts["versions"]["tesseract"] and found.facts["weights"] == "vie.traineddata"


def test_tesseract_must_answer_every_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        language = "vie"

        def __init__(self, seconds: float) -> None:
            assert seconds > 300

        def run(self, arguments: list[str], data: bytes) -> str:
            return "a\fb"

    monkeypatch.setattr("clip4str_doctr.benchmark.peers.TesseractWords", Fake)
    assert TesseractReader(8)(CROPS[:2]) == ["a", "b"]
    with pytest.raises(RuntimeError, match="answered 2 of 3 crops"):
        TesseractReader(8)(CROPS)
    Fake.language = "eng"
    with pytest.raises(RuntimeError, match="apt install tesseract-ocr-vie"):
        TesseractReader(8)


def test_a_frame_has_the_colour_of_the_edge() -> None:
    crop = np.full((18, 30, 3), 200, np.uint8)
    crop[5:10, 5:25] = 0
    assert framed(crop).shape == (36 + 16, 60 + 16, 3)
    assert framed(crop)[0, 0].tolist() == [200, 200, 200]
    assert framed(np.zeros((50, 30, 3), np.uint8)).shape == (66, 46, 3)


@pytest.mark.parametrize("name", ["trueocr", "rapidocr"])
def test_packages_with_weights_of_their_own(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    found = recogniser(name)
    assert found([written_word(), written_word()]) == ["Hanoi", "Hanoi"] and found([]) == []
    assert found.facts["weights_mb"] > 1 and found.facts["versions"][name]


def test_vietocr_reads_with_weights_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the place of its package, which brings no weights and wants old versions of others."""
    given: dict[str, Any] = {}

    class Predictor:
        def __init__(self, config: dict[str, Any]) -> None:
            given.update(config)
            self.model = torch.nn.Linear(2, 3)

        def predict(self, image: Any) -> str:
            return f"{image.size[0]}x{image.size[1]}"

    for name in ("vietocr", "vietocr.tool", "vietocr.tool.predictor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["vietocr.tool.predictor"])["Predictor"] = Predictor
    config = tmp_path / "config.yml"
    config.write_text("weights: w.pth\ncnn: {pretrained: true, ss: 1}\ndevice: cuda:0\n")
    with pytest.raises(FileNotFoundError, match="must be a file beside it"):
        recogniser(f"vietocr={config}")
    (tmp_path / "w.pth").write_bytes(b"weights")
    found = recogniser(f"vietocr={config}")
    assert found(CROPS) == ["60x20", "40x32", "90x9"] and found.facts["parameters"] == 9
    assert given["weights"] == str(tmp_path / "w.pth") and given["device"] == "cpu"
    assert given["cnn"] == {"pretrained": False, "ss": 1}
    with pytest.raises(ValueError, match="its complete configuration"):
        recogniser("vietocr")


@pytest.mark.parametrize("name", ["trueocr", "rapidocr", "vietocr=CONFIG"])
def test_what_is_missing_says_what_to_install(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = name.partition("=")[0]
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "c.yml").write_text("weights: w")
    with pytest.raises(RuntimeError, match=rf"{package} is not installed .*pip install"):
        recogniser(name.replace("CONFIG", str(tmp_path / "c.yml")))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "no recogniser is called 'nothing'; give clip4str_vn"),
        ("trueocr=1", "trueocr takes no value"),
        ("rapidocr#visual", "rapidocr takes no options"),
        ("onnx", "given as onnx=FILE.onnx"),
        ("no_such_module:read", "expected module:function, from crops to strings; No module"),
        ("json:nothing", "expected module:function"),
        ("json:__doc__", "must be a function from crops to strings, got a str"),
        ("clip4str_vn_tiny#loud", "options are #visual, #auto, #gaps, #half, #clip, got #loud"),
        ("clip4str_vn_tiny#visual#gaps", "the visual branch alone reads crops whole; leave"),
        ("clip4str_vn_tiny#half#clip", "one normalisation at a time"),
    ],
)
def test_other_names_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recogniser(spec)


def test_another_architectures_weights_are_refused(micro_folder: Path) -> None:
    with pytest.raises(ValueError, match="holds a clip4str_vn_tiny, not a clip4str_vn"):
        recogniser(f"clip4str_vn={micro_folder}")


def test_a_recogniser_in_a_module_keeps_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept_reader.py").write_text(
        "from clip4str_doctr.benchmark.recognisers import Recogniser\n"
        "mine = Recogniser('mine', lambda crops: ['a'] * len(crops), {'parameters': 3})\n"
    )
    found = recogniser("kept_reader:mine")
    assert isinstance(found, Recogniser) and found.facts == {"parameters": 3} and found(CROPS) == ["a"] * 3
    assert set(PEERS) == {"tesseract", "tesseract-word", "trueocr", "rapidocr", "vietocr", "onnx"}
