"""Any detector in front of docTR's recognition, in docTR's own predictors."""

import copy
import pickle
import shutil
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from doctr.models import recognition_predictor
from doctr.models.kie_predictor import KIEPredictor
from doctr.models.predictor import OCRPredictor
from PIL import Image, ImageDraw

from clip4str_doctr.detection import any_detector, detector
from clip4str_doctr.finders import RapidOCRLines, TesseractWords
from clip4str_doctr.training.synth.fonts import fonts_installed, load_face, usable_faces

needs_fonts = pytest.mark.skipif(not fonts_installed(), reason="the fonts of clip4str-doctr[train] are not installed")
needs_rapidocr = pytest.mark.skipif(
    find_spec("rapidocr") is None or find_spec("onnxruntime") is None, reason="clip4str-doctr[detect] is not installed"
)
needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")

LINES = ("Cộng hòa xã hội", "chủ nghĩa Việt Nam")
# Lines of the page below, with room around them.
BOXES = [(40, 35, 420, 85), (40, 115, 460, 165)]


class Find:
    """A detector that always finds the same; a class, so that it can be pickled."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def __call__(self, page: Any) -> Any:
        assert page.shape[2] == 3 and page.dtype == np.uint8
        return self.found


def page() -> np.ndarray:
    face = next(face for face in usable_faces("val")["manrope"] if face.weight == 400)
    image = Image.new("RGB", (520, 200), "white")
    for number, text in enumerate(LINES):
        at = (55, 72 + 80 * number)
        ImageDraw.Draw(image).text(at, text, fill="black", font=load_face(face, 38), anchor="ls")
    return np.asarray(image)


def reader() -> Any:
    return recognition_predictor("clip4str_vn_tiny", pretrained=True)


def words(document: Any) -> list[str]:
    return [word.value for block in document.pages[0].blocks for line in block.lines for word in line.words]


@needs_fonts
@pytest.mark.parametrize("relative", [False, True])
def test_lines_become_a_document(relative: bool) -> None:
    boxes = np.array(BOXES) / (520, 200, 520, 200) if relative else np.array(BOXES)
    document = OCRPredictor(any_detector(Find((boxes, [0.9, 0.8])), kind="lines"), reader())([page()])
    assert words(document) == " ".join(LINES).split()
    first = document.pages[0].blocks[0].lines[0].words[0]
    assert first.objectness_score == pytest.approx(0.9)
    (left, top), (right, bottom) = first.geometry
    assert 50 / 520 < left < 58 / 520 and 110 / 520 < right < 160 / 520 and 30 / 200 < top < bottom < 85 / 200


@needs_fonts
def test_quads_for_pages_that_are_not_straight() -> None:
    found = any_detector(Find(BOXES), kind="lines", assume_straight_pages=False)
    (answer,) = found([page()])
    assert answer["words"].shape == (8, 5, 2) and answer["words"].dtype == np.float32
    # docTR's own orientation models would have to be downloaded.
    predictor = OCRPredictor(
        found,
        reader(),
        assume_straight_pages=False,
        disable_page_orientation=True,
        disable_crop_orientation=True,
    )
    document = predictor([page()])
    assert sorted(words(document)) == sorted(" ".join(LINES).split())
    assert np.shape(document.pages[0].blocks[0].lines[0].words[0].geometry) == (4, 2)


@needs_fonts
@pytest.mark.parametrize("quarters", [1, 3])
def test_lines_of_a_sideways_page_become_words(quarters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    upright = np.array([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in BOXES])
    found = upright[..., ::-1] * (1, -1) + (0, 520) if quarters == 1 else upright[..., ::-1] * (-1, 1) + (200, 0)
    predictor = OCRPredictor(
        any_detector(Find(found), kind="lines", assume_straight_pages=False),
        reader(),
        assume_straight_pages=False,
        disable_page_orientation=True,
        disable_crop_orientation=True,
    )
    # What docTR's model, which would have to be downloaded, says of crops that lie like this page.
    turned = predictor.crop_orientation_predictor
    monkeypatch.setattr(turned, "forward", lambda crops: [[quarters] * len(crops)] * 2 + [[1.0] * len(crops)])
    document = predictor([np.ascontiguousarray(np.rot90(page(), quarters))])
    assert sorted(words(document)) == sorted(" ".join(LINES).split())


@needs_fonts
def test_kie_and_pages_without_words() -> None:
    found = any_detector(lambda image: BOXES if image.shape[1] == 520 else [], kind="lines")
    document = KIEPredictor(found, reader())([page(), np.full((50, 60, 3), 255, np.uint8)])
    assert [word.value for word in document.pages[0].predictions["words"]] and "words" in document.pages[0].predictions
    assert not document.pages[1].predictions["words"]
    document = OCRPredictor(found, reader())([np.full((50, 60, 3), 255, np.uint8)])
    assert words(document) == []


def test_words_keep_their_boxes_or_grow() -> None:
    blank = np.full((100, 200, 3), 255, np.uint8)
    (kept,) = any_detector(Find([(20, 30, 60, 50)]))([blank])
    np.testing.assert_allclose(kept["words"], [[0.1, 0.3, 0.3, 0.5, 1.0]], atol=1e-6)
    (grown,) = any_detector(Find([(20, 30, 60, 50)]), margin=0.5)([blank])
    np.testing.assert_allclose(grown["words"], [[0.05, 0.2, 0.35, 0.6, 1.0]], atol=1e-6)


def test_text_maps_for_docTRs_orientation() -> None:
    blank = np.full((2000, 1000, 3), 255, np.uint8)
    found = any_detector(Find([(100, 1000, 500, 1200)]))
    _, (text_map,) = found([blank], return_maps=True)
    assert text_map.shape == (1024, 512, 1) and text_map.dtype == np.float32
    assert text_map[560, 150] == 1 and text_map[100, 100] == 0
    assert 0 < found.model.postprocessor.bin_thresh < 1


@needs_fonts
def test_predictors_can_be_copied_pickled_and_moved() -> None:
    predictor = OCRPredictor(any_detector(Find(BOXES), kind="lines"), reader())
    expected = words(predictor([page()]))
    for other in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor)), predictor.to("cpu").half().float()):
        assert words(other([page()])) == expected


def test_bad_arguments_and_answers() -> None:
    blank = np.full((100, 200, 3), 255, np.uint8)
    with pytest.raises(ValueError, match='"words" or "lines"'):
        any_detector(Find([]), kind="blocks")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        any_detector([(1, 2, 3, 4)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="margin"):
        any_detector(Find([]), margin=-1)
    with pytest.raises(ValueError, match="not finite"):
        any_detector(Find([(np.nan, 0, 1, 1)]))([blank])
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        any_detector(Find([]))([blank.astype(np.float32)])
    with pytest.raises(ValueError, match="rapidocr, tesseract, doctr:<arch>"):
        detector("easyocr")
    with pytest.raises(ValueError, match="db_resnet50"):
        detector("doctr:db_resnet5")


@needs_fonts
@needs_rapidocr
def test_rapidocr_reads_a_page_silently(capfd: pytest.CaptureFixture[str]) -> None:
    predictor = pickle.loads(pickle.dumps(OCRPredictor(detector("rapidocr"), reader())))
    assert words(predictor([page()])) == " ".join(LINES).split()
    assert words(predictor([np.full((300, 300, 3), 255, np.uint8)])) == []
    assert words(copy.deepcopy(predictor)([page()])) == " ".join(LINES).split()
    assert capfd.readouterr() == ("", "")


@needs_fonts
@needs_rapidocr
def test_rapidocr_reads_long_pages() -> None:
    # Shrunk to 2000 pixels, letters would be 3 high.
    high = np.full((20_000, 1040, 3), 255, np.uint8)
    high[::400, :520], high[2:202, 520:] = 250, page()
    high[-250:-50, :520] = page()
    assert words(OCRPredictor(detector("rapidocr"), reader())([high])) == " ".join(LINES).split() * 2


@needs_rapidocr
def test_what_rapidocr_fails_on_is_told() -> None:
    class ResizeImgError(Exception):
        """RapidOCR's own for strips as narrow as these."""

    def engine(*_: Any, **__: Any) -> None:
        raise ResizeImgError("resize_w or resize_h is less than or equal to 0")

    find = RapidOCRLines()
    find._engine = engine
    with pytest.raises(RuntimeError, match="RapidOCR failed on 6000 x 45 pixels: resize_w"):
        find(np.full((45, 6000, 3), 255, np.uint8))


@needs_fonts
@needs_tesseract
def test_tesseract_reads_a_page() -> None:
    predictor = copy.deepcopy(OCRPredictor(detector("tesseract"), reader()))
    assert words(predictor([page()])) == " ".join(LINES).split()
    assert words(predictor([np.full((300, 300, 3), 255, np.uint8)])) == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    with pytest.raises(RuntimeError, match=r"pip install 'clip4str-doctr\[detect\]'"):
        RapidOCRLines()
    with pytest.raises(RuntimeError, match="apt install tesseract-ocr"):
        TesseractWords(program="no-such-program")


@pytest.mark.parametrize(
    ("listed", "language"),
    [
        ("List of available languages (3):\r\neng\r\nosd\r\nvie\r\n", "vie"),
        ("List of available languages (3):\nequ\nfra\nosd\n", "fra"),
        ("List of available languages (1):\r\nosd\r\n", None),
    ],
)
def test_tesseract_takes_a_language_that_is_one(
    monkeypatch: pytest.MonkeyPatch, listed: str, language: str | None
) -> None:
    monkeypatch.setattr(TesseractWords, "run", lambda *_: listed)
    if language is None:
        with pytest.raises(RuntimeError, match="no language data"):
            TesseractWords(program=sys.executable)
    else:
        assert TesseractWords(program=sys.executable).language == language


def test_pages_too_large_for_tesseract_are_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TesseractWords, "run", lambda *_: "List of available languages (1):\nvie\n")
    with pytest.raises(RuntimeError, match=r"up to 32767 pixels a side, got 4 x 32768; cut the page, scale it down"):
        TesseractWords(program=sys.executable)(np.full((32_768, 4, 3), 255, np.uint8))


def test_tesseracts_dashes_are_as_high_as_their_line_and_its_leaders_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    header = "level page_num block_num par_num line_num word_num left top width height conf text"
    words = (
        "5 1 1 1 1 1 10 20 80 30 90 Phở",
        "5 1 1 1 1 2 100 36 12 4 90 -",
        "5 1 1 1 1 3 120 22 80 28 90 nạm",
        "5 1 1 1 1 4 210 46 300 4 90 .........",
        "5 1 1 1 1 5 520 21 80 29 90 45.000",
        "5 1 1 1 2 1 10 90 12 4 90 -",  # with nothing beside it
    )
    table = "\n".join(row.replace(" ", "\t") for row in (header, *words))
    monkeypatch.setattr(
        TesseractWords, "run", lambda _, arguments, __: "of (1):\nvie\n" if "--list-langs" in arguments else table
    )
    boxes, scores = TesseractWords(program=sys.executable)(np.full((120, 620, 3), 255, np.uint8))
    expected = [(10, 20, 90, 50), (100, 21, 112, 50), (120, 22, 200, 50), (520, 21, 600, 50), (10, 90, 22, 94)]
    np.testing.assert_array_equal(boxes, np.array(expected, np.float64))
    assert scores.tolist() == [0.9] * 5


@needs_tesseract
def test_tesseract_failing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    find = TesseractWords()
    find.language = "xyz"
    with pytest.raises(RuntimeError, match="failed with status"):
        find(np.full((50, 50, 3), 255, np.uint8))

    def late(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("tesseract", 1)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(RuntimeError, match="has not finished"):
        find(np.full((50, 50, 3), 255, np.uint8))


def test_doctr_without_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error

    import doctr.models

    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(doctr.models, "detection_predictor", offline)
    with pytest.raises(RuntimeError, match="doctr:fast_tiny could not be downloaded"):
        detector("doctr:fast_tiny")


def test_doctrs_own_detector_is_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    import doctr.models

    made = torch.nn.Linear(1, 1)
    asked: dict[str, Any] = {}

    def own(arch: str, **kwargs: Any) -> torch.nn.Module:
        asked.update(kwargs, arch=arch)
        return made

    monkeypatch.setattr(doctr.models, "detection_predictor", own)
    assert detector("doctr:fast_tiny", assume_straight_pages=False, device="meta") is made
    assert made.weight.device.type == "meta"
    assert asked == {"arch": "fast_tiny", "pretrained": True, "assume_straight_pages": False}
