"""Registration, and docTR's own calls with our models in them."""

import copy
import os
import pickle
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import doctr
import numpy as np
import numpy.typing as npt
import pytest
import torch
from doctr.models import recognition_predictor
from doctr.models.factory import hub
from doctr.models.kie_predictor import KIEPredictor
from doctr.models.predictor import OCRPredictor
from doctr.models.recognition import crnn_mobilenet_v3_small, zoo
from doctr.transforms import Resize
from doctr.utils.geometry import extract_crops
from golden_weights import GOLDEN
from PIL import Image
from torchvision.transforms import Normalize

import clip4str_doctr
from clip4str_doctr import plugin
from clip4str_doctr.config import PreprocessConfig
from clip4str_doctr.detection import any_detector
from clip4str_doctr.images import find_images
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.pictures import read_pictures
from clip4str_doctr.preprocess import Preprocess

# Left, top, right, bottom, score of two words on a page.
BOXES = np.array([[0.1, 0.1, 0.4, 0.2, 0.9], [0.5, 0.1, 0.9, 0.2, 0.9]], np.float32)
NAMES = {"clip4str_vn", "clip4str_vn_tiny"}


@pytest.fixture(autouse=True)
def registered() -> None:
    clip4str_doctr.register()


@pytest.fixture(scope="module")
def model(micro_folder: Path) -> clip4str_doctr.CLIP4STR:
    return clip4str_doctr.load_model(micro_folder).eval()


@pytest.fixture(scope="module")
def crops() -> list[npt.NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((32, 100), (40, 200), (1, 1), (90, 30), (20, 400))
    ]


def test_names_stand_where_doctr_looks() -> None:
    assert NAMES <= set(zoo.ARCHS) and len(zoo.ARCHS) == len(set(zoo.ARCHS))
    for namespace in (doctr.models, doctr.models.recognition):
        assert NAMES <= set(vars(namespace))
    assert set(hub.AVAILABLE_ARCHS["recognition"]) >= NAMES


def test_only_our_names_and_models_are_taken_over() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'clip5str'"):
        recognition_predictor("clip5str")
    with pytest.raises(ValueError, match="unknown architecture"):
        recognition_predictor(torch.nn.Linear(2, 2))
    exportable = clip4str_doctr.clip4str_vn_tiny(pretrained=True, exportable=True)
    with pytest.raises(ValueError, match="an exportable model gives logits alone"):
        recognition_predictor(exportable)
    stock = recognition_predictor("crnn_mobilenet_v3_small", pretrained=False, pretrained_backbone=False)
    assert type(stock.pre_processor).__module__.startswith("doctr.")


def test_predictor_squashes_and_normalises_as_the_weights_ask(model: Any, crops: Any) -> None:
    predictor = recognition_predictor(model, batch_size=2, symmetric_pad=True, preserve_aspect_ratio=False)
    batches = predictor.pre_processor(crops)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    expected = Preprocess((32, 128), model.config.preprocess)(crops)
    assert torch.equal(torch.cat(batches), expected)


@pytest.mark.parametrize("symmetric_pad", [False, True])
def test_predictor_letterboxes_as_doctrs_training_script_does(
    symmetric_pad: bool, model: CLIP4STR, crops: Any, tmp_path: Path
) -> None:
    """Where asked to, or where the model's cfg says so, which travels with it."""
    mean, std = (0.694, 0.695, 0.693), (0.299, 0.296, 0.301)
    resize = Resize((32, 128), preserve_aspect_ratio=True, symmetric_pad=symmetric_pad)
    tensors = [torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]
    # docTR 1.1 resizes samples, 1.0 tensors.
    sample = getattr(import_module("doctr.utils"), "Sample", None)
    boxed = [resize(one) if sample is None else resize(sample(image=one)).image for one in tensors]
    expected = Normalize(mean, std)(torch.stack(boxed) / 255)
    options = {"batch_size": 2, "symmetric_pad": symmetric_pad}
    given = recognition_predictor(model, mean=mean, std=std, preserve_aspect_ratio=True, **options)
    own = copy.deepcopy(model)
    own.cfg = {"mean": mean, "std": std, "preserve_aspect_ratio": True}
    with pytest.raises(ValueError, match="preserve_aspect_ratio'] must be True or False, got 1"):
        own.cfg = {"preserve_aspect_ratio": 1}
    for predictor in (given, recognition_predictor(own, **options)):
        torch.testing.assert_close(torch.cat(predictor.pre_processor(crops)), expected)
        assert len(predictor(crops)) == len(crops)
    if symmetric_pad:
        return  # `cfg` cannot ask for it
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / f"{number}.png")
    read = [text for _, text, _ in read_pictures(own, find_images([tmp_path]), 32)]
    assert read == [text for text, _ in recognition_predictor(own, **options, split_wide_crops=False)(crops)]
    squashed = recognition_predictor(own, preserve_aspect_ratio=False, **options)
    assert isinstance(squashed.pre_processor, plugin.CropPreProcessor)


def test_predictor_answers_as_the_model_does(model: Any, crops: Any) -> None:
    predictor = recognition_predictor(model, batch_size=2, split_wide_crops=False)
    pixels = Preprocess((32, 128), model.config.preprocess)(crops)
    with torch.inference_mode():
        alone = [model(pixel[None], return_preds=True)["preds"][0] for pixel in pixels]
    together = predictor(crops)
    assert [text for text, _ in together] == [text for text, _ in alone]
    assert [conf for _, conf in together] == pytest.approx([conf for _, conf in alone], rel=1e-3, abs=0)
    assert predictor([]) == []


def test_mean_and_std_can_be_given_and_nonsense_cannot(model: Any, crops: Any) -> None:
    predictor = recognition_predictor(model, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    (batch,) = predictor.pre_processor(crops)
    assert batch.min() >= 0 and batch.max() <= 1
    with pytest.raises(TypeError, match="interpolate"):
        recognition_predictor(model, interpolate="bilinear")


class TestCropPreProcessor:
    processor = plugin.CropPreProcessor((32, 128), PreprocessConfig((0.5,) * 3, (0.5,) * 3), 2)

    def test_takes_one_array_of_crops(self) -> None:
        array = np.random.default_rng(1).integers(0, 256, (3, 20, 50, 3), np.uint8)
        assert torch.equal(torch.cat(self.processor(array)), torch.cat(self.processor(list(array))))

    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    def test_float_crops_read_as_their_bytes(self, crops: Any, dtype: Any) -> None:
        floats = [(crop / 255).astype(dtype) for crop in crops]
        assert torch.equal(torch.cat(self.processor(floats)), torch.cat(self.processor(crops)))

    def test_read_only_and_strided_crops(self, crops: Any) -> None:
        page = np.zeros((100, 300, 3), np.uint8)
        page[10:42, 50:150] = crops[0]
        page.flags.writeable = False
        assert torch.equal(self.processor([page[10:42, 50:150]])[0], self.processor([crops[0]])[0])

    @pytest.mark.parametrize(
        ("crop", "error"),
        [
            (np.zeros((9, 9, 4), np.uint8), "uint8"),
            (np.zeros((9, 9, 3), np.int64), "int64"),
            (np.zeros((0, 9, 3), np.uint8), "at least one pixel"),
            (np.full((9, 9, 3), 200, np.float32), "0..1"),
            (np.full((9, 9, 3), np.nan, np.float32), "0..1"),
        ],
    )
    def test_says_what_is_wrong_with_a_crop(self, crop: Any, error: str) -> None:
        with pytest.raises(ValueError, match=error):
            self.processor([crop])

    def test_says_what_is_wrong_with_the_argument(self) -> None:
        with pytest.raises(ValueError, match="N, H, W, 3"):
            self.processor(np.zeros((9, 9, 3), np.uint8))
        with pytest.raises(TypeError, match="str"):
            self.processor(["crop.png"])
        with pytest.raises(TypeError, match="list of arrays"):
            self.processor({1: 2})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="batch_size"):
            plugin.CropPreProcessor((32, 128), PreprocessConfig((0.5,) * 3, (0.5,) * 3), 0)

    def test_can_be_pickled(self, crops: Any) -> None:
        again = pickle.loads(pickle.dumps(self.processor))
        assert torch.equal(torch.cat(again(crops)), torch.cat(self.processor(crops)))


def test_compiled_model_is_ours_too(model: Any) -> None:
    compiled = torch.compile(model, backend="eager")
    predictor = recognition_predictor(compiled, batch_size=2)
    assert isinstance(predictor.pre_processor, plugin.CropPreProcessor)
    assert predictor.model is compiled


def test_a_compiled_model_keeps_its_mixed_precision(model: Any) -> None:
    """docTR 1.0 moves the model to its own device and dtype before every batch."""
    predictor = recognition_predictor(torch.compile(copy.deepcopy(model).mixed_precision(), backend="eager"))
    compiled: Any = predictor.model

    def dtypes() -> set[torch.dtype]:
        return {parameter.dtype for parameter in compiled.parameters()}

    assert dtypes() == {torch.float32, torch.bfloat16}
    assert compiled.to(device="cpu", dtype=torch.float32) is compiled
    assert dtypes() == {torch.float32, torch.bfloat16}
    compiled.to(torch.float32)
    assert dtypes() == {torch.float32}


def two_words(_: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return BOXES[:, :4]


@pytest.mark.parametrize("make", [OCRPredictor, KIEPredictor])
def test_whole_pages(make: Any, model: Any) -> None:
    page = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    predictor = make(any_detector(two_words), recognition_predictor(model, batch_size=1))
    document = predictor([page])
    crops = extract_crops(page, BOXES[:, :4])
    expected = [text for text, _ in recognition_predictor(model)(crops)]
    if make is OCRPredictor:
        found = [word.value for block in document.pages[0].blocks for line in block.lines for word in line.words]
    else:
        found = [word.value for word in document.pages[0].predictions["words"]]
    assert found == [text for text in expected if text]
    assert document.export() is not None


def test_the_published_layout_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pretrained=True` finds `$CLIP4STR_DOCTR_HOME/clip4str/*.ckpt` and `M_clip/`, and pages are read with it."""
    (tmp_path / "clip4str").mkdir()
    (tmp_path / "clip4str" / "published.ckpt").symlink_to(GOLDEN / "clip4str-large-tiny-A.ckpt")
    (tmp_path / "M_clip").symlink_to(GOLDEN / "M_clip")
    monkeypatch.setenv("CLIP4STR_DOCTR_HOME", str(tmp_path))
    predictor = OCRPredictor(any_detector(two_words), recognition_predictor("clip4str_vn", pretrained=True))
    assert predictor.reco_predictor.model.cfg["input_shape"] == (3, 224, 224)
    page = np.full((300, 300, 3), 255, np.uint8)
    with Image.open(GOLDEN / "images" / "w03.png") as word:
        page[30:60, 30:120] = np.asarray(word.convert("RGB").resize((90, 30)))
    crops = extract_crops(page, BOXES[:, :4])
    expected = [text for text, _ in recognition_predictor("clip4str_vn", pretrained=True)(crops)]
    words = [word.value for block in predictor([page]).pages[0].blocks for line in block.lines for word in line.words]
    assert words == expected and any(words)


@pytest.mark.parametrize("strategy", ["mask", "nearest"])
def test_whitelist_reaches_every_symbol_that_is_written(model: Any, crops: Any, strategy: str) -> None:
    # By name: as an attribute, `doctr.models.utils` is the recognition package's module of that name.
    add_whitelist = getattr(import_module("doctr.models.utils"), "add_whitelist", None)
    if add_whitelist is None:
        pytest.skip("add_whitelist came with docTR 1.1")
    predictor = recognition_predictor(model)
    free = predictor(crops)
    with add_whitelist(predictor, "0123456789", strategy=strategy):
        texts = [text for text, _ in predictor(crops)]
    assert any(texts) and set("".join(texts)) <= set("0123456789")
    assert predictor(crops) == free


class Theirs(torch.nn.Module):
    """A recogniser of another package, as small as can be."""

    def __init__(self, **cfg: Any) -> None:
        super().__init__()
        self.cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_shape": (3, 16, 64), "vocab": "ab", **cfg}
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.postprocessor = None

    def forward(self, x: torch.Tensor, return_preds: bool = False) -> dict[str, Any]:
        return {"preds": [("a", 1.0)] * len(x)}


@pytest.fixture
def their_factories(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The entry points "theirs", "their_crnn", a model of docTR's own class, and "parseq", a name of docTR's."""
    module = ModuleType("their_package")
    vars(module)["theirs"] = lambda pretrained=False: Theirs()
    vars(module)["their_crnn"] = lambda pretrained=False: crnn_mobilenet_v3_small(pretrained_backbone=False)
    monkeypatch.setitem(sys.modules, "their_package", module)
    values = {"theirs": "theirs", "their_crnn": "their_crnn", "parseq": "theirs"}
    theirs = [EntryPoint(name, f"their_package:{one}", plugin.FACTORY_GROUP) for name, one in values.items()]
    everyone = (*entry_points(group=plugin.FACTORY_GROUP), *theirs)
    monkeypatch.setattr(plugin, "entry_points", lambda group: everyone)
    plugin.register()
    yield
    for name in {"theirs", "their_crnn"} & set(zoo.ARCHS):
        zoo.ARCHS.remove(name)
        delattr(zoo.recognition, name)
        delattr(doctr.models, name)
        del plugin._ours[name]


def is_squashed(arch: Any, **options: Any) -> bool:
    return isinstance(recognition_predictor(arch, **options).pre_processor, plugin.CropPreProcessor)


def test_another_package_can_add_its_own(their_factories: None, crops: Any, caplog: pytest.LogCaptureFixture) -> None:
    stock = doctr.models.parseq
    assert zoo.recognition.parseq is doctr.models.parseq is stock and zoo.ARCHS.count("parseq") == 1
    assert stock.__module__.startswith("doctr.")
    plugin.register()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["docTR has a 'parseq' of its own, so their_package:theirs is not registered"]
    predictor = recognition_predictor("theirs", pretrained=True)
    assert isinstance(predictor.model, Theirs) and predictor.pre_processor(crops)[0].shape == (5, 3, 16, 64)


THEIRS = """
import torch

class Theirs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_shape": (3, 16, 64), "vocab": "ab"}
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.postprocessor = None

    def forward(self, x, return_preds=False):
        assert x.shape[1:] == (3, 16, 64)
        return {"preds": [("a", 1.0)] * len(x)}

def theirs(pretrained=False):
    return Theirs()
"""

THEIR_USER = """
import numpy as np
from doctr.models import recognition_predictor

predictor = recognition_predictor("theirs", pretrained=False)
crops = [np.zeros((20, 50, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)]
print(type(predictor.model).__module__, type(predictor.pre_processor).__name__, predictor(crops))
"""


def test_another_package_is_found_by_its_metadata(run_python: Any, tmp_path: Path) -> None:
    """As pip installs it; who uses it names neither it nor us."""
    metadata = tmp_path / "site" / "theirs-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata.parent / "theirs.py").write_text(THEIRS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[clip4str_doctr.recognition]\ntheirs = theirs:theirs\n")
    paths = [str(metadata.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    done = run_python("-W", "error::RuntimeWarning", "-c", THEIR_USER, PYTHONPATH=os.pathsep.join(paths))
    assert done.stdout == "theirs CropPreProcessor [('a', 1.0), ('a', 1.0)]\n", done.stderr


def test_models_of_other_packages_are_known_as_their_names_are(their_factories: None, crops: Any) -> None:
    for name in ("theirs", "their_crnn"):
        made = zoo.recognition.__dict__[name](pretrained=True)
        copies = copy.deepcopy(made), pickle.loads(pickle.dumps(made)), torch.compile(made, backend="eager")
        assert all(is_squashed(model) for model in (made, *copies))
    # Built by hand, a model may say itself what it is.
    by_hand = Theirs(arch="theirs")
    for model in (by_hand, torch.compile(by_hand, backend="eager")):
        assert is_squashed(model) and len(recognition_predictor(model)(crops)) == len(crops)
    with pytest.raises(ValueError, match="unknown architecture"):
        recognition_predictor(Theirs(arch="nobody's"))
    # Models of docTR's class that docTR made stay docTR's.
    assert not is_squashed(crnn_mobilenet_v3_small(pretrained_backbone=False))


def test_a_doctr_that_is_built_otherwise_is_left_alone() -> None:
    other = ModuleType("doctr.models.recognition.zoo")
    vars(other)["ARCHS"] = ("a", "tuple")
    with pytest.raises(RuntimeError, match=r"python-doctr \d+\.\d+.* lacks the list ARCHS, the function _predictor"):
        plugin.register_into(other)
    assert other.ARCHS == ("a", "tuple")


def test_not_installed_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "entry_points", lambda group: ())
    with pytest.raises(RuntimeError, match="pip install"):
        plugin.register()


def test_what_hangs_on_a_model_stays_where_weights_of_its_size_are_loaded(
    micro_folder: Path, crops: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = clip4str_doctr.load_model(micro_folder, refine_iters=0, cross_modal="auto")
    expected = [text for text, _ in recognition_predictor(model, split_wide_crops=False)(crops)]
    model.feat_extractor.requires_grad_(False)
    head = model.visual_decoder.head
    calls: list[int] = []
    head.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        head.weight.mul_(-1)
    model.from_pretrained(micro_folder)
    assert model.visual_decoder.head is head and model.config.decode.refine_iters == 0
    assert model.config.decode.cross_modal == "auto" and not caplog.records
    assert not any(parameter.requires_grad for parameter in model.feat_extractor.parameters())
    assert [text for text, _ in recognition_predictor(model, split_wide_crops=False)(crops)] == expected and calls
    model.from_pretrained(micro_folder, refine_iters=1)
    assert model.config.decode.refine_iters == 1
    other = clip4str_doctr.clip4str_vn_tiny(pretrained=False, vocab="abc")
    other.from_pretrained(micro_folder)
    assert other.vocab == model.vocab
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "whitelist" in caplog.text
