"""Every door of docTR for both models, by name and by instance, on docTR as it is: nothing of it is replaced.

`clip4str_vn` is the golden checkpoint in the published layout: the published model's code in small dimensions.
"""

import contextlib
import copy
import io
import logging
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import doctr.models
import numpy as np
import numpy.typing as npt
import pytest
import torch
from doctr.datasets import VOCABS
from doctr.models import kie_predictor, ocr_predictor, recognition, recognition_predictor
from doctr.models.kie_predictor import KIEPredictor
from doctr.models.predictor import OCRPredictor
from doctr.models.preprocessor import PreProcessor
from doctr.utils.geometry import extract_crops
from doctr_pages import eager_detector, no_words, three_words, values
from golden_weights import CHECKPOINT, GOLDEN, M_CLIP, same_weights
from PIL import Image
from watched_compile import watched_compile

import clip4str_doctr
from clip4str_doctr.config import PRESETS
from clip4str_doctr.detection import any_detector
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.linear import onednn_linear
from clip4str_doctr.plugin import CropPreProcessor
from clip4str_doctr.preprocess import Preprocess

Crops = list[npt.NDArray[np.uint8]]

WORD = Path(__file__).parents[2] / "examples" / "pho.png"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `pretrained=True` finds clip4str_vn; clip4str_vn_tiny is the embedded one."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "clip4str").mkdir()
    (folder / "clip4str" / "published.ckpt").symlink_to(CHECKPOINT)
    (folder / "M_clip").symlink_to(M_CLIP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIP4STR_DOCTR_HOME", str(folder))
        clip4str_doctr.register()
        yield folder


@pytest.fixture(scope="module", params=["clip4str_vn_tiny", "clip4str_vn"])
def arch(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def model(arch: str, home: Path) -> CLIP4STR:
    made: CLIP4STR = recognition.__dict__[arch](pretrained=True)
    return made


@pytest.fixture(scope="module")
def crops() -> Crops:
    pictures = sorted((GOLDEN / "images").iterdir())
    return [np.array(Image.open(path).convert("RGB")) for path in pictures]


@pytest.fixture(scope="module")
def answers(model: CLIP4STR, crops: Crops) -> list[str]:
    read = texts(model, crops)
    assert len(set(read)) > len(read) / 2, "a model that says the same to everything would prove nothing"
    return read


@pytest.fixture(scope="module")
def page(crops: Crops) -> npt.NDArray[np.uint8]:
    page = np.full((128, 128, 3), 255, np.uint8)
    for number, crop in enumerate(crops[:3]):
        page[10 + 40 * number : 40 + 40 * number, 10:110] = np.asarray(Image.fromarray(crop).resize((100, 30)))
    return page


def texts(model: Any, crops: Crops, **options: Any) -> list[str]:
    return [text for text, _ in recognition_predictor(model, batch_size=9, **options)(crops)]


def pixels_of(model: CLIP4STR, crops: Crops) -> torch.Tensor:
    return Preprocess(model.config.image_tower.image_size, model.config.preprocess)(crops)


# Predictors


def test_recognition_by_name_reads_as_the_instance_does(arch: str, crops: Crops, answers: list[str]) -> None:
    predictor = recognition_predictor(arch, pretrained=True, batch_size=4)
    assert predictor.pre_processor.batch_size == 4 and predictor.model.cfg["arch"] == arch
    assert predictor.model.postprocessor.vocab == predictor.model.vocab
    assert [text for text, _ in predictor(crops)] == answers


@pytest.mark.parametrize("make", [ocr_predictor, kie_predictor])
@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("straight", [True, False])
def test_pages(make: Any, by_name: bool, straight: bool, arch: str, model: CLIP4STR, page: Any) -> None:
    # docTR's orientation classifiers would be downloaded.
    upright = {} if straight else {"disable_crop_orientation": True, "disable_page_orientation": True}
    predictor = make(
        eager_detector(straight),
        arch if by_name else model,
        pretrained=by_name,
        assume_straight_pages=straight,
        detect_language=True,
        reco_bs=2,
        **upright,
    )
    assert predictor.reco_predictor.pre_processor.batch_size == 2
    (found,) = predictor([page]).pages
    assert values(found) and set("".join(values(found))) <= set(model.vocab)
    assert set(found.language) == {"value", "confidence"}
    # Untrained, docTR's detector sees one word in all of the page. Those that there are, alone and together, read the
    # same: nothing depends on reco_bs.
    predictor.det_predictor = any_detector(three_words, assume_straight_pages=straight)
    read = values(predictor([page]).pages[0])
    assert len(set(read)) == 3
    for size in (1, 3):
        predictor.reco_predictor.pre_processor.batch_size = size
        assert values(predictor([page]).pages[0]) == read


@pytest.mark.parametrize(
    "options",
    [
        {"assume_straight_pages": False, "export_as_straight_boxes": True},
        {"straighten_pages": True},
        {"detect_orientation": True, "symmetric_pad": False, "preserve_aspect_ratio": False},
        {"resolve_blocks": True, "resolve_lines": False, "paragraph_break": 0.1},
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_pages(options: dict[str, Any], model: CLIP4STR, page: Any) -> None:
    detector = eager_detector(options.get("assume_straight_pages", True))
    upright = {"disable_crop_orientation": True, "disable_page_orientation": True}
    predictor = ocr_predictor(detector, model, pretrained=False, **options, **upright)
    # How the page is brought to the detector's size says nothing of crops.
    assert isinstance(predictor.reco_predictor.pre_processor, CropPreProcessor)
    resize = predictor.det_predictor.pre_processor.resize
    for name in ("preserve_aspect_ratio", "symmetric_pad"):
        assert getattr(resize, name) == options.get(name, True)
    document = predictor([page, page])
    first, second = document.pages
    assert values(first) and values(first) == values(second)
    assert document.render() and document.export()["pages"] and document.export_as_xml()
    for exported in document.export()["pages"]:
        assert (exported["orientation"]["value"] is not None) == options.get("detect_orientation", False)
    if options.get("export_as_straight_boxes"):
        assert all(len(word["geometry"]) == 2 for word in words_of(document))


def test_pages_letterbox_crops_where_the_models_cfg_says_so(model: CLIP4STR, page: Any) -> None:
    boxed = copy.deepcopy(model)
    boxed.cfg = {"preserve_aspect_ratio": True}
    predictor = ocr_predictor(eager_detector(), boxed, pretrained=False, preserve_aspect_ratio=False)
    letterbox = predictor.reco_predictor.pre_processor
    assert isinstance(letterbox, PreProcessor) and letterbox.resize.preserve_aspect_ratio
    read = OCRPredictor(any_detector(three_words), predictor.reco_predictor)([page])
    squashed = OCRPredictor(any_detector(three_words), recognition_predictor(model))([page])
    assert values(read.pages[0]) != values(squashed.pages[0])


def words_of(document: Any) -> Iterator[dict[str, Any]]:
    for exported in document.export()["pages"]:
        for block in exported["blocks"]:
            for line in block["lines"]:
                yield from line["words"]


@pytest.mark.parametrize("make", [OCRPredictor, KIEPredictor])
@pytest.mark.parametrize("straight", [True, False])
def test_a_page_without_words(make: Any, straight: bool, model: CLIP4STR, page: Any) -> None:
    upright = {"disable_crop_orientation": True, "disable_page_orientation": True}
    detector = any_detector(no_words, assume_straight_pages=straight)
    predictor = make(detector, recognition_predictor(model), assume_straight_pages=straight, **upright)
    document = predictor([page])
    assert values(document.pages[0]) == [] and document.export()["pages"]


def test_words_of_a_page_are_read_as_their_crops_are(model: CLIP4STR, page: Any) -> None:
    """A hook of docTR's sees the boxes; their crops, read alone, say what the page says."""
    seen: list[npt.NDArray[np.float32]] = []

    def look(loc_preds: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        seen.extend(boxes.copy() for boxes in loc_preds)
        return loc_preds

    predictor = OCRPredictor(any_detector(three_words), recognition_predictor(model))
    predictor.add_hook(look)
    (found,) = predictor([page]).pages
    (boxes,) = seen
    alone = texts(model, extract_crops(page, boxes[:, :4]))
    assert len(alone) == 3 and sorted(values(found)) == sorted(text for text in alone if text)


@pytest.mark.parametrize("how", [torch.bfloat16, torch.float16])
def test_pages_in_half_precision(how: torch.dtype, model: CLIP4STR, page: Any) -> None:
    """As `predictor.half()` of docTR's users; the detector here has no parameters to convert."""
    predictor = OCRPredictor(any_detector(three_words), recognition_predictor(copy.deepcopy(model))).to(how)
    assert {p.dtype for p in predictor.parameters()} == {how}
    expected = OCRPredictor(any_detector(three_words), recognition_predictor(model))([page])
    read = values(predictor([page]).pages[0])
    assert read and sum(a == b for a, b in zip(read, values(expected.pages[0]), strict=False)) >= len(read) - 1


def test_copies_and_pickles_of_predictors(model: CLIP4STR, crops: Crops, answers: list[str], page: Any) -> None:
    predictor = recognition_predictor(model, batch_size=9)
    for again in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert again.model is not model and same_weights(again.model, model)
        assert [text for text, _ in again(crops)] == answers
    pages = OCRPredictor(any_detector(three_words), predictor)
    for again in (copy.deepcopy(pages), pickle.loads(pickle.dumps(pages))):
        assert values(again([page]).pages[0]) == values(pages([page]).pages[0])


def test_threads_may_share_a_predictor(model: CLIP4STR, crops: Crops, answers: list[str]) -> None:
    predictor = recognition_predictor(model, batch_size=2)
    parts = [crops[start : start + 3] for start in range(0, len(crops), 3)] * 3
    with ThreadPoolExecutor(4) as pool:
        together = [text for preds in pool.map(predictor, parts) for text, _ in preds]
    assert together == answers * 3


def test_it_says_what_it_is(arch: str, model: CLIP4STR) -> None:
    text = repr(recognition_predictor(model))
    size = model.config.image_tower.image_size
    assert f"output_size={size}" in text and "CLIP4STR" in text
    assert type(model.text_tower).__name__ in text and type(model.image_tower).__name__ in text


SPAWN = """
import multiprocessing, os, numpy as np, torch
from PIL import Image
from doctr.models import recognition_predictor
from torch.utils.data import DataLoader, Dataset

WORD = np.asarray(Image.open(os.environ["WORD"]).convert("RGB"))
NOISE = np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8)
CROPS = [WORD, WORD[:, : WORD.shape[1] // 2], NOISE, NOISE[:, :40]]

class Words(Dataset):
    def __init__(self, predictors):
        self.predictors = predictors
    def __len__(self):
        return len(CROPS)
    def __getitem__(self, number):
        crops = [CROPS[number]]
        return [(one(crops)[0][0], one.pre_processor(crops)[0][0]) for one in self.predictors]

def read(predictor):
    from doctr.models.recognition import zoo
    assert {"clip4str_vn", "clip4str_vn_tiny"} <= set(zoo.ARCHS)
    return predictor(CROPS)

def main():
    predictors = [recognition_predictor(arch, pretrained=True) for arch in ("clip4str_vn", "clip4str_vn_tiny")]
    here = [[text for text, _ in one(CROPS)] for one in predictors]
    assert all(len(set(texts)) > 2 for texts in here), "what says the same to everything would prove nothing"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = [[text for text, _ in preds] for preds in pool.map(read, predictors)]
    assert there == here, (here, there)
    options = {"num_workers": 1, "multiprocessing_context": "spawn", "batch_size": None}
    loaded = list(zip(*DataLoader(Words(predictors), **options)))
    for words, predictor, texts in zip(loaded, predictors, here):
        assert [text for text, _ in words] == texts, (here, words)
        assert torch.equal(torch.stack([pixels for _, pixels in words]), torch.cat(predictor.pre_processor(CROPS)))
    print("fine")

if __name__ == "__main__":
    main()
"""


def test_spawned_workers(home: Path, run_python: Any, tmp_path: Path) -> None:
    (tmp_path / "spawn.py").write_text(SPAWN)
    done = run_python("-W", "error::RuntimeWarning", "spawn.py", CLIP4STR_DOCTR_HOME=str(home), WORD=str(WORD))
    assert done.stdout == "fine\n", done.stderr


# Precision and compilers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype, model: CLIP4STR, crops: Crops) -> None:
    """Float32 comes out, whatever is inside; how many strings stay the same is measured in test_surfaces.py."""
    half = copy.deepcopy(model).to(dtype)
    out = half(pixels_of(model, crops[:4]).to(dtype), target=["a", "b", "c", "d"], return_model_output=True)
    assert out["out_map"].dtype == torch.float32 and out["out_map"].isfinite().all() and out["loss"].isfinite()
    read, expected = texts(half, crops[:8]), texts(model, crops[:8])
    assert sum(one == other for one, other in zip(read, expected, strict=True)) >= 7, (read, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype, model: CLIP4STR, crops: Crops) -> None:
    mixed = copy.deepcopy(model).mixed_precision(dtype)
    pixels = pixels_of(model, crops[:8])
    with torch.no_grad():
        tokens, expected = mixed.image_tower(pixels), model.image_tower(pixels)
        assert tokens.dtype == torch.float32 and {one.dtype for one in mixed.text_tower.encode(["phở"])} == {dtype}
    assert 0 < float((tokens - expected).norm()) < 0.02 * float(expected.norm())
    out = mixed(pixels, target=["a"] * 8, return_model_output=True)
    assert out["out_map"].dtype == torch.float32 and out["loss"].isfinite()
    kinds = [one.dtype for one in mixed.parameters()]
    read, answers = texts(mixed, crops[:8]), texts(model, crops[:8])
    assert sum(one == other for one, other in zip(read, answers, strict=True)) >= 7, (read, answers)
    # docTR 1.0 casts the model to its first parameter's type before every batch.
    assert [one.dtype for one in mixed.parameters()] == kinds
    assert {one.dtype for one in mixed.float().parameters()} == {torch.float32}
    with pytest.raises(ValueError, match=r"bfloat16 or torch\.float16, got torch\.float32"):
        mixed.mixed_precision(torch.float32)


@pytest.mark.parametrize("mixed", [False, True])
def test_packed(mixed: bool, model: CLIP4STR, crops: Crops) -> None:
    """The same answers, from threads, too, and from copies and pickles of what is packed."""
    plain = copy.deepcopy(model)
    plain = plain.mixed_precision() if mixed else plain
    packed = copy.deepcopy(plain).pack()
    pixels = pixels_of(model, crops)
    with torch.no_grad(), onednn_linear(True):
        expected = plain(pixels, return_model_output=True)["out_map"]
        for again in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            assert torch.equal(again(pixels, return_model_output=True)["out_map"], expected)
        one = packed.image_tower(pixels)
        # Modes are a thread's own; recognition_predictor sets this one.
        read = torch.inference_mode()(packed.image_tower)
        with ThreadPoolExecutor(4) as pool:
            assert all(torch.equal(other, one) for other in pool.map(read, [pixels] * 8))


def test_compiled(model: CLIP4STR, crops: Crops, answers: list[str]) -> None:
    with watched_compile(model) as (compiled_model, graphs):
        read = texts(compiled_model, crops)
    assert read == answers
    assert sum(len(graph.graph.nodes) for graph in graphs) > 20, "the image tower is compiled"


def test_modes_of_torch(model: CLIP4STR, crops: Crops, answers: list[str]) -> None:
    pixels = pixels_of(model, crops)
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            model.eval().eval()
            assert [text for text, _ in model(pixels)["preds"]] == answers
    torch.set_default_dtype(torch.float64)
    try:
        assert [text for text, _ in model(pixels)["preds"]] == answers
        assert texts(model, crops) == answers
    finally:
        torch.set_default_dtype(torch.float32)


def test_channels_last_and_odd_strides(model: CLIP4STR, crops: Crops, answers: list[str]) -> None:
    pixels = pixels_of(model, crops)
    assert [text for text, _ in model(pixels.to(memory_format=torch.channels_last))["preds"]] == answers
    flipped = [np.ascontiguousarray(crop[:, ::-1])[:, ::-1] for crop in crops]
    assert texts(model, flipped) == answers


def test_tracing_is_refused_with_words(model: CLIP4STR, crops: Crops) -> None:
    pixels = pixels_of(model, crops[:1])
    with pytest.raises(RuntimeError, match="exportable=True"), warnings.catch_warnings():
        # torch deprecates what is tried here, in different ways in different releases.
        warnings.simplefilter("ignore")
        torch.jit.trace(model, pixels)


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="torch says so since 2.7")
def test_torch_export_is_refused_with_words(model: CLIP4STR, crops: Crops) -> None:
    with pytest.raises(RuntimeError, match="exportable=True"):
        torch.export.export(copy.deepcopy(model), (pixels_of(model, crops[:1]),), strict=False)


# Dynamo looks whether what the image tower gives has a gradient of its own.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_is_trained(model: CLIP4STR) -> None:
    compiled = torch.compile(copy.deepcopy(model).train(), backend="eager")
    plain = copy.deepcopy(model).train()
    size = model.config.image_tower.image_size
    for number, labels in enumerate((["phở", "bò"], ["xe", "tàu"], ["a", "bcd"])):
        pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(number))
        losses = []
        for one in (plain, compiled):
            torch.manual_seed(number)
            losses.append(one(pixels, labels)["loss"])
            losses[-1].backward()
        torch.testing.assert_close(*losses)


def test_another_postprocessor_may_stand_in(model: CLIP4STR, crops: Crops) -> None:
    other = copy.deepcopy(model)
    other.postprocessor = import_module("doctr.models.recognition.parseq.pytorch").PARSeqPostProcessor(model.vocab)
    assert other.cfg["temperature"] == 1.0 and other.cfg["confidence"] == "mean"
    assert [text for text, _ in recognition_predictor(other)(crops)] == texts(model, crops)


def test_factories_travel_to_other_processes(arch: str) -> None:
    for zoo in (doctr.models, recognition):
        factory = getattr(zoo, arch)
        assert pickle.loads(pickle.dumps(factory)) is getattr(doctr.models, arch)


def test_onnx_export_without_exportable_is_refused_with_words(
    model: CLIP4STR, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    export = import_module("doctr.models.utils").export_model_to_onnx
    with (
        pytest.raises(RuntimeError, match="exportable=True"),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        # docTR asks for torch's older exporter, which torch deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        export(model, "model", dummy_input=pixels_of(model, crops[:1]))


def test_exportable_by_name(arch: str) -> None:
    if arch == "clip4str_vn":
        with pytest.raises(ValueError, match="clip4str_vn cannot be exported: between its branches a tokenizer reads"):
            recognition.__dict__[arch](pretrained=True, exportable=True)
    else:
        assert recognition.__dict__[arch](pretrained=True, exportable=True).exportable


# Whitelist


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("door", ["pages", "crops", "model"])
def test_digits_only(by_name: bool, door: str, arch: str, model: CLIP4STR, crops: Crops, page: Any) -> None:
    add_whitelist = getattr(import_module("doctr.models.utils"), "add_whitelist", None)
    if add_whitelist is None:
        pytest.skip("add_whitelist came with docTR 1.1")
    given = arch if by_name else copy.deepcopy(model)
    if door == "pages":
        predictor = ocr_predictor(eager_detector(), given, pretrained=by_name)
        inner = predictor.reco_predictor
    else:
        inner = recognition_predictor(given, pretrained=by_name)
        predictor = inner if door == "crops" else inner.model
    free = inner(crops)
    with add_whitelist(predictor, "0123456789"):
        read = [text for text, _ in inner(crops)]
        assert any(read) and set("".join(read)) <= set("0123456789")
        if door == "pages":
            assert set("".join(values(predictor([page]).pages[0]))) <= set("0123456789")
        with torch.inference_mode():
            reading = inner.model.read(pixels_of(model, crops))
    allowed = {*model.charset.encode("0123456789"), model.charset.eos}
    for stage in reading.stages:
        for logits in (stage.visual, stage.cross):
            assert set(logits.argmax(-1).flatten().tolist()) <= allowed
    assert inner(crops) == free


# Arguments, state dicts, training


def test_state_dicts_travel(model: CLIP4STR, tmp_path: Path, crops: Crops, answers: list[str]) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert texts(other, crops) != answers
    other.load_state_dict(model.state_dict())
    assert same_weights(other, model) and texts(other, crops) == answers
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with torch.no_grad():
        next(other.parameters()).zero_()
    other.from_pretrained(tmp_path / "model.pt")
    assert texts(other, crops) == answers


def test_a_misspelt_way_of_decoding_is_refused(model: CLIP4STR, crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "decoding", "plainn")
    with pytest.raises(ValueError, match="decoding must be one of fast, plain, got 'plainn'"):
        texts(model, crops)


def test_another_alphabet(arch: str, model: CLIP4STR, crops: Crops, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of new symbols are random, and that is said; all other weights are the pretrained ones."""
    vocab = VOCABS["vietnamese"]
    other = recognition.__dict__[arch](pretrained=True, vocab=vocab)
    assert other.vocab == other.cfg["vocab"] == other.postprocessor.vocab == vocab
    (told,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert "new to the weights" in told and "random until trained" in told
    changed = {
        name
        for name, tensor in other.state_dict().items()
        if tensor.shape != model.state_dict()[name].shape or not torch.equal(tensor, model.state_dict()[name])
    }
    assert changed and all("embedding" in name or "head" in name for name in changed), changed
    assert set("".join(texts(other, crops))) <= set(vocab)
    assert other(pixels_of(model, crops[:2]), return_model_output=True)["out_map"].shape[-1] == len(vocab) + 1


def test_another_input_shape(arch: str, caplog: pytest.LogCaptureFixture, crops: Crops, answers: list[str]) -> None:
    other = recognition.__dict__[arch](pretrained=True, input_shape=(3, 48, 160))
    own = PRESETS[arch].image_tower.image_size
    assert other.cfg["input_shape"] == (3, *own)
    (told,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert "input_shape=(3, 48, 160) is ignored" in told
    assert texts(other, crops) == answers
    with pytest.raises(ValueError, match=r"input_shape must be \(3, H, W\), got \(1, 32, 128\)"):
        recognition.__dict__[arch](pretrained=False, input_shape=(1, 32, 128))


def test_tensors_of_the_scripts_size(arch: str, model: CLIP4STR, caplog: pytest.LogCaptureFixture) -> None:
    """H x 4H, as docTR's scripts feed, whatever the model reads."""
    fresh = copy.deepcopy(model)
    fresh._resizing_told = False
    for size in ((32, 128), (64, 256), (48, 192)):
        assert len(fresh(torch.rand(2, 3, *size))["preds"]) == 2
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1 and "are resized to that" in told[0]
    for shape in ((2, 1, 32, 128), (3, 32, 128), (0, 3, 32, 128)):
        with pytest.raises(ValueError, match=r"got \("):
            fresh(torch.rand(*shape))


def test_training_as_the_scripts_do(arch: str, home: Path) -> None:
    torch.manual_seed(0)
    model = recognition.__dict__[arch](pretrained=True, vocab=VOCABS["vietnamese"])
    for parameter in model.feat_extractor.parameters():
        parameter.requires_grad = False
    images, targets = torch.rand(4, 3, 32, 128), ["PHỞ", "bò", "25.000đ", "x"]
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model(images, targets)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="training needs labels"):
        model(images)
    model.eval()
    out = model(images, targets, return_preds=True)
    assert out["loss"].item() > 0 and len(out["preds"]) == 4
    assert model.cfg["mean"] and model.cfg["std"] and len(model.cfg["input_shape"]) == 3
    with pytest.raises(ValueError, match="中"):
        model(images[:1], ["中"], return_preds=True)
