"""Wide crops: whole, docTR's way, or cut at the gaps between words; nothing is lost between the pieces."""

import copy
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from doctr.models import ocr_predictor, recognition_predictor
from doctr.models.predictor import OCRPredictor
from doctr.utils.geometry import extract_crops
from doctr_pages import eager_detector, values
from golden_weights import CHECKPOINT, M_CLIP
from PIL import Image

import clip4str_doctr
from clip4str_doctr import cli
from clip4str_doctr.benchmark.wide_crops import KINDS, lost_symbols, measure, samples
from clip4str_doctr.detection import any_detector
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.wide_crops import WIDE_FROM, confidence_kind, cut_at_gaps


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    clip4str_doctr.register()


@pytest.fixture(scope="module")
def model() -> CLIP4STR:
    return clip4str_doctr.clip4str_vn_tiny(pretrained=True)


@pytest.fixture(scope="module")
def phrases() -> list[Any]:
    """Rendered phrases that are wide and hold more symbols than one pass can read."""
    drawn = [sample for sample in samples("phrase", 156, 31) if len(sample.label) > 25 and sample.aspect > WIDE_FROM]
    return drawn[:12]


def bars(words: tuple[int, ...], gap: int) -> npt.NDArray[np.uint8]:
    """A line of words of so many upright bars, `gap` columns between words, dark on light."""
    word_gap = np.full((30, gap, 3), 230, np.uint8)
    stroke = np.full((30, 5, 3), 230, np.uint8)
    stroke[5:25] = 20
    between = np.full((30, 4, 3), 230, np.uint8)
    parts = [word_gap]
    for count in words:
        parts += [stroke, between] * count + [word_gap]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("as_float", [False, True])
def test_cut_at_gaps_keeps_every_column(as_float: bool) -> None:
    crop: npt.NDArray[Any] = bars((4, 6, 3), 24)
    if as_float:
        crop = (crop / 255).astype(np.float32)
    pieces = cut_at_gaps(crop)
    assert len(pieces) == 3
    assert np.array_equal(np.concatenate(pieces, axis=1), crop)
    for piece, count in zip(pieces, (4, 6, 3), strict=True):
        dark = piece[15, :, 0] < piece.max() / 2
        assert np.count_nonzero(np.diff(dark.astype(int)) == 1) == count


def test_ink_may_touch_the_edges() -> None:
    """As in crops cut tightly: what touches an edge is no rule that goes on beyond it."""
    loose = bars((4, 6, 3), 24)
    expected = [piece.shape[1] for piece in cut_at_gaps(loose)]
    for tight in (loose[5:], loose[:25], loose[5:25]):
        assert [piece.shape[1] for piece in cut_at_gaps(tight)] == expected


def test_what_is_one_word_or_not_wide_stays_whole() -> None:
    for crop in (bars((14,), 10), bars((3, 2), 20)[:, :80], np.full((20, 300, 3), 255, np.uint8)):
        assert [piece.shape for piece in cut_at_gaps(crop)] == [crop.shape]
    assert len(cut_at_gaps(bars((4, 6, 3), 24), wide_from=50)) == 1


def test_the_switch(model: CLIP4STR) -> None:
    published = clip4str_doctr.load_model(CHECKPOINT, tokenizer=M_CLIP)
    for one, gaps in ((model, True), (published, False)):
        predictor = recognition_predictor(one)
        assert (predictor.split_wide_crops, predictor.cut_at_gaps) == (False, gaps)
    for switch, expected in ((False, (False, False)), (True, (True, False)), ("gaps", (False, True))):
        predictor = recognition_predictor(model, split_wide_crops=switch)
        assert (predictor.split_wide_crops, predictor.cut_at_gaps) == expected
        again = pickle.loads(pickle.dumps(copy.deepcopy(predictor)))
        assert (again.split_wide_crops, again.cut_at_gaps) == expected
    with pytest.raises(ValueError, match="split_wide_crops must be True, False, .gaps. or None, got .words."):
        recognition_predictor(model, split_wide_crops="words")
    with pytest.raises(ValueError, match="split_wide_crops must be True, False, .gaps. or None, got 1"):
        recognition_predictor(model, split_wide_crops=1)


@pytest.mark.parametrize("vocab", ["abc ", "abc\u05d0", "abc\u0627"])
def test_words_are_not_joined_where_spaces_or_directions_are_lost(vocab: str) -> None:
    assert not recognition_predictor(clip4str_doctr.clip4str_vn_tiny(vocab=vocab)).cut_at_gaps
    assert recognition_predictor(clip4str_doctr.clip4str_vn_tiny(vocab="abc")).cut_at_gaps


def test_phrases_lose_less_when_cut(model: CLIP4STR, phrases: list[Any]) -> None:
    crops = [sample.crop for sample in phrases]
    lost = {}
    for switch in (False, "gaps"):
        read = recognition_predictor(model, split_wide_crops=switch)(crops)
        assert len(read) == len(crops) and all(0 <= confidence <= 1 for _, confidence in read)
        lost[switch] = sum(lost_symbols(text, sample.label) for (text, _), sample in zip(read, phrases, strict=True))
        longest = max(len(text) for text, _ in read)
        assert longest <= 25 if switch is False else longest > 25
    symbols = sum(len(sample.label) for sample in phrases)
    print(f"lost of {symbols} symbols: {lost}")
    assert lost["gaps"] < 0.5 * lost[False]


@pytest.mark.parametrize("kind", ["product", "min", "mean"])
def test_the_more_certain_answer_counts(kind: Any, model: CLIP4STR, phrases: list[Any]) -> None:
    one = copy.deepcopy(model)
    one.postprocessor.confidence = kind
    predictor = recognition_predictor(one, split_wide_crops="gaps", batch_size=3)
    crops = [sample.crop for sample in phrases[:4]]
    whole = recognition_predictor(one, split_wide_crops=False, batch_size=3)
    chosen = set()
    for crop, (text, confidence) in zip(crops, predictor(crops), strict=True):
        pieces = whole(cut_at_gaps(crop))
        sizes, parts = [len(word) for word, _ in pieces], [part for _, part in pieces]
        joined = {"product": np.prod(parts), "min": min(parts), "mean": np.average(parts, weights=sizes)}[kind]
        (alone,) = whole([crop])
        together = "".join(word for word, _ in pieces)
        certain, certain_alone = joined, alone[1]
        if kind == "product":
            certain = joined ** (1 / (len(together) + len(pieces)))
            certain_alone = alone[1] ** (1 / (len(alone[0]) + 1))
        expected = (together, joined) if certain > certain_alone else alone
        assert len(pieces) > 1 and text == expected[0] and confidence == pytest.approx(expected[1], abs=1e-4)
        chosen.add(text == together)
    assert True in chosen


def test_confidences_of_other_packages_are_means_unless_they_say_a_kind_of_ours() -> None:
    kinds = {"min": "min", "median": "mean", 0.5: "mean"}
    for confidence, kind in kinds.items():
        assert confidence_kind(SimpleNamespace(postprocessor=SimpleNamespace(confidence=confidence))) == kind
    assert confidence_kind(SimpleNamespace(postprocessor=None)) == "mean"


def test_pages_take_the_switch_from_their_recogniser(model: CLIP4STR, phrases: list[Any]) -> None:
    """`ocr_predictor` has no such argument: unknown ones go to its builder, which refuses them."""
    with pytest.raises(TypeError, match="split_wide_crops"):
        ocr_predictor(eager_detector(), model, pretrained=False, split_wide_crops="gaps")
    height, width = phrases[0].crop.shape[:2]
    page = np.full((height + 40, width + 60, 3), 255, np.uint8)
    page[20:-20, 30:-30] = phrases[0].crop
    box = np.array([[30 / (width + 60), 20 / (height + 40), 1 - 30 / (width + 60), 1 - 20 / (height + 40)]], np.float32)
    # Releases of docTR crop a pixel more or less.
    (crop,) = extract_crops(page, box)
    predictor = OCRPredictor(any_detector(lambda _: box), recognition_predictor(model))
    answers = {}
    for switch in (False, "gaps"):
        predictor.reco_predictor.cut_at_gaps = switch == "gaps"
        ((alone, _),) = recognition_predictor(model, split_wide_crops=switch)([crop])
        answers[switch] = values(predictor([page]).pages[0])
        assert answers[switch] == [alone]
    assert answers[False] != answers["gaps"]


def test_bad_crops_are_named_as_without_cutting(model: CLIP4STR) -> None:
    predictor = recognition_predictor(model, split_wide_crops="gaps")
    assert predictor([]) == []
    with pytest.raises(ValueError, match="multi-channel"):
        predictor([np.zeros((9, 90), np.uint8)])
    with pytest.raises(ValueError, match="uint8"):
        predictor([np.zeros((9, 90, 3), np.int64)])
    with pytest.raises(ValueError, match="0..1"):
        predictor([np.full((9, 90, 3), np.nan, np.float32)])


# The measurement


def test_samples_are_what_they_say() -> None:
    for kind in KINDS:
        drawn = list(samples(kind, 12, 5))
        again = list(samples(kind, 12, 5))
        assert all(np.array_equal(a.crop, b.crop) and a.label == b.label for a, b in zip(drawn, again, strict=True))
        for number, sample in enumerate(drawn):
            assert " " not in sample.label and sample.crop.dtype == np.uint8
            assert (sample.words > 1) == (kind == "phrase")
            if kind != "ordinary":
                assert len(sample.label) == number + (2 if kind == "phrase" else 1) and sample.aspect <= 21


@pytest.mark.parametrize(
    ("answer", "label", "lost"), [("", "abc", 3), ("abc", "abc", 0), ("xaxbxc", "abc", 0), ("acb", "abc", 1)]
)
def test_lost_symbols(answer: str, label: str, lost: int) -> None:
    assert lost_symbols(answer, label) == lost


def test_the_tables(model: CLIP4STR) -> None:
    tables = measure(model, 6, 31, wide_from=(4,))
    assert set(tables) == set(KINDS)
    for table in tables.values():
        assert table["all"]["crops"] == 6 and set(table["all"]) >= {"whole", "doctr", "gaps", "gaps>4"}
        for group in ("aspect", "length"):
            assert sum(part["crops"] for name, part in table.items() if name.startswith(group)) <= 6


def test_crops_of_like_widths_are_read_together(model: CLIP4STR, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes as long as its longest word."""
    random = np.random.default_rng(3)
    widths = (90, 20, 60, 30, 55, 44)
    crops = [random.integers(0, 256, (20, width, 3), np.uint8) for width in widths]
    predictor = recognition_predictor(model, batch_size=2)
    together: list[list[int]] = []
    prepare = predictor.pre_processor.forward

    def watched(batch: Any) -> Any:
        together.append([crop.shape[1] for crop in batch])
        return prepare(batch)

    monkeypatch.setattr(predictor.pre_processor, "forward", watched)
    read = predictor(crops)
    assert together == [[20, 30], [44, 55], [60, 90]]
    assert [text for text, _ in read] == [predictor([crop])[0][0] for crop in crops]


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
        MemoryError("Unable to allocate 432. KiB for an array"),  # of numpy
    ],
)
def test_batches_are_halved_where_memory_ends(
    failure: Exception, model: CLIP4STR, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(2)
    crops = [random.integers(0, 256, (20, width, 3), np.uint8) for width in (90, 20, 60, 30, 55, 44, 21, 80, 33)]
    alone = recognition_predictor(model, batch_size=1)
    expected = [alone([crop])[0] for crop in crops]
    predictor = recognition_predictor(model, batch_size=8)
    sizes: list[int] = []
    room = [2]

    def forward(pixels: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > room[0]:
            raise failure
        return CLIP4STR.forward(model, pixels, **options)

    monkeypatch.setattr(model, "forward", forward)
    read = predictor(crops)
    assert [text for text, _ in read] == [text for text, _ in expected]
    assert [one for _, one in read] == pytest.approx([one for _, one in expected], abs=1e-4)
    # From then on no batch is larger, and it is said once.
    assert sizes == [8, 4, 2, 2, 2, 2, 1] and predictor.pre_processor.batch_size == 2
    reason = str(failure) or type(failure).__name__
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"there is no memory for 8 crops at once ({reason}); going on with half as many. Give a smaller batch_size"
    ]
    # A few crops at a bad moment say nothing of how many fit.
    room[0] = 1
    predictor.pre_processor.batch_size = 8
    assert len(predictor(crops[:2])) == 2 and predictor.pre_processor.batch_size == 8
    room[0] = 0
    with pytest.raises(type(failure)):
        predictor(crops[:1])


def test_pixels_are_made_batch_by_batch(model: CLIP4STR, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive's crops as floats would fill the memory."""
    predictor = recognition_predictor(model, batch_size=4)
    events: list[str] = []
    preprocess, forward = predictor.pre_processor.forward, model.forward

    def made(crops: Any) -> Any:
        events.append(f"made {len(crops)}")
        return preprocess(crops)

    def read(pixels: torch.Tensor, **options: Any) -> Any:
        events.append(f"read {len(pixels)}")
        return forward(pixels, **options)

    monkeypatch.setattr(predictor.pre_processor, "forward", made)
    monkeypatch.setattr(model, "forward", read)
    predictor([np.zeros((20, 50, 3), np.uint8)] * 10)
    assert events == ["made 4", "read 4", "made 4", "read 4", "made 2", "read 2"]


def test_the_command_line_reads_wide_pictures_as_the_predictor_does(
    model: CLIP4STR, phrases: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = [phrase.crop for phrase in phrases] + [phrases[0].crop[:, :40]]
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / f"{number}.png")
    assert cli.main(["read", "--device", "cpu", "--batch-size", "5", "--json", str(tmp_path)]) == 0
    read = [(one["text"], one["confidence"]) for one in json.loads(capsys.readouterr().out)]
    expected = recognition_predictor(model)(crops)
    assert [text for text, _ in read] == [text for text, _ in expected]
    assert [score for _, score in read] == pytest.approx([score for _, score in expected], abs=1e-4)
    whole = recognition_predictor(model, split_wide_crops=False)(crops)
    assert [text for text, _ in read] != [text for text, _ in whole]
