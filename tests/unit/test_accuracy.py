"""`bench accuracy`: figures with their protocol, as a table and JSON, and the pictures that explain them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clip4str_doctr import load_model
from clip4str_doctr.benchmark import accuracy
from clip4str_doctr.benchmark.accuracy import markdown_row, measure, protocol, suite_words
from clip4str_doctr.benchmark.adaptive import adaptive_figures
from clip4str_doctr.benchmark.confusion import LOST, count_confusion, split_letter
from clip4str_doctr.benchmark.gallery import Failure, draw_gallery
from clip4str_doctr.benchmark.labelled import labelled_words
from clip4str_doctr.benchmark.word_sets import data_words
from clip4str_doctr.cli import main
from clip4str_doctr.training.suites import labels_of
from clip4str_doctr.training.synth import WordSource, fonts_installed
from clip4str_doctr.training.synth.words import is_unsaid
from clip4str_doctr.training.validate import read_words, unsaid_scores
from clip4str_doctr.weight_card import read_card

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three labelled pictures as docTR has them."""
    folder = tmp_path / "chợ"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(1)
    labels = {"b.png": "PHỞ", "a.png": "bò", "c.jpg": "30K"}
    for name in labels:
        Image.fromarray(random.integers(0, 256, (30, 90, 3), np.uint8)).save(folder / "images" / name)
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    return folder


@needs_fonts
def test_figures_come_with_their_protocol(micro_folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "folder"
    suites = ["--suite", "clean", "--suite", "tiny", "--words", "5", "--cross-modal", "auto"]
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *suites, "-o", str(out)]) == 0
    table = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in table.splitlines()] == ["suite", "---", "clean", "tiny"]
    assert (out / "accuracy.md").read_text(encoding="utf-8") == table
    report = json.loads((out / "accuracy.json").read_text(encoding="utf-8"))
    assert set(report["suites"]) == {"clean", "tiny"}
    row = report["suites"]["clean"]
    assert row["unsaid"]["n"] == sum(map(is_unsaid, labels_of("clean")[:5])) > 0
    assert row["n"] == 5 and 0 <= row["cased"] <= row["uncased"] <= 1
    assert len(row["labels_crc"]) == len(row["pixels_crc"]) == 8
    assert len(row["failures"]) == round(5 * (1 - row["cased"])) and sum(one["n"] for one in row["bins"]) == 5
    assert report["protocol"]["weights_sha256"] == read_card(micro_folder).sha256["model.safetensors"]
    assert report["protocol"]["cross_modal"] == "auto" and 0 <= row["left"] <= 1
    assert report["protocol"]["dropped"] == 0 and report["protocol"]["device"]
    pictures = {"confusion.png", "reliability.png", "failures-clean.png", "failures-tiny.png"}
    assert {path.name for path in out.iterdir()} == {"accuracy.json", "accuracy.md", *pictures}
    for name in pictures:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 100
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *suites, "-o", str(out)]) == 2
    assert "accuracy.json is there already; give another folder" in capsys.readouterr().err


@needs_fonts
def test_what_was_read_before_a_failure_is_kept(
    micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(accuracy, "measure", lambda model, one: measure(model, one) if one.name == "clean" else 1 / 0)
    suites = ["--suite", "clean", "--suite", "tiny", "--words", "3", "-o", str(tmp_path / "out")]
    with pytest.raises(ZeroDivisionError):
        main(["bench", "accuracy", "--weights", str(micro_folder), *suites])
    (left,) = (tmp_path / "out").iterdir()
    assert left.name == "accuracy.json.unfinished" and set(json.loads(left.read_text())["suites"]) == {"clean"}
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *suites]) == 2
    assert "holds what a run read that did not come to its end" in capsys.readouterr().err


def test_labelled_pictures(micro_folder: Path, data: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crops, labels = labelled_words(data)
    assert labels == ["PHỞ", "bò", "30K"] and [crop.shape for crop in crops] == 3 * [(30, 90, 3)]
    assert main(["bench", "accuracy", "--weights", str(micro_folder), "--data", str(data)]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| chợ | 3 | 0.0 %")
    # White space at the ends of labels is none of theirs.
    before = measure(load_model(micro_folder), data_words(data)).figures
    text = (data / "labels.json").read_text(encoding="utf-8")
    (data / "labels.json").write_text(text.replace("30K", "30K \\r"), encoding="utf-8")
    assert data_words(data).labels[2] == "30K \r"
    assert measure(load_model(micro_folder), data_words(data)).figures == before
    (data / "labels.json").write_text(text, encoding="utf-8")
    # Nor is that which a model with a space in its alphabet answers.
    with monkeypatch.context() as patched:
        answers = read_words(load_model(micro_folder), crops)
        spaced = replace(answers, texts=["PH Ở", "bò ", "30K"], visual=["PHỞ", "b ò", "30K"])
        patched.setattr("clip4str_doctr.benchmark.accuracy.read_words", lambda *_: spaced)
        figures = measure(load_model(micro_folder), data_words(data)).figures
    assert (figures["cased"], figures["visual"], figures["cer"], figures["failures"]) == (1.0, 1.0, 0.0, [])
    (data / "labels.json").write_text(text.replace("30K", "\u00a0 "), encoding="utf-8")
    with pytest.raises(ValueError, match="every word needs a label"):
        data_words(data)
    (data / "labels.json").write_text(text, encoding="utf-8")
    out = ["--data", str(data.rename(data.with_name("tiny"))), "--suite", "tiny"]
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *out]) == 2
    assert "bears the name of a suite" in capsys.readouterr().err
    data = data.with_name("tiny")
    # Pictures beside the labels.
    for path in (data / "images").iterdir():
        path.rename(data / path.name)
    (data / "images").rmdir()
    assert labelled_words(data)[1] == labels


def test_nothing_of_a_folder_is_dropped(micro_folder: Path, data: Path, capsys: Any) -> None:
    (data / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.png: not a readable image"):
        labelled_words(data)
    (data / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 pictures cannot be read: a\.png: .*No such file"):
        labelled_words(data)
    for content, message in (
        ("{}", "holds no words"),
        ('{"a": 3}', "the label of 'a' must be a string"),
        ('{"a": ""}', "those of a are empty"),
        ("[1]", "got a list"),
        ("[", "must be JSON"),
    ):
        (data / "labels.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            labelled_words(data)
    (data / "labels.json").unlink()
    assert main(["bench", "accuracy", "--weights", str(micro_folder), "--data", str(data)]) == 2
    assert "a data set is a folder with images/ and labels.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "dirty"], "no suite 'dirty'; there are clean, photo"),
        (["--words", "1001"], "has 1000 words, cannot give 1001"),
    ],
)
def test_what_cannot_be_measured_is_said(micro_folder: Path, arguments: list[str], message: str, capsys: Any) -> None:
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *arguments]) == 2
    assert message in capsys.readouterr().err


@needs_fonts
def test_failures_are_the_words_that_are_wrong(micro_folder: Path) -> None:
    words = suite_words("rare_syllables", 8)
    measured = measure(load_model(micro_folder), words)
    assert [one.label for one in measured.failures] == words.labels and measured.figures["cased"] == 0
    assert sum(measured.confusion.tones.values()) == sum(map(len, words.labels))


def test_the_protocol_names_the_weights(micro_folder: Path, tmp_path: Path) -> None:
    model, digest = load_model(micro_folder), read_card(micro_folder).sha256["model.safetensors"]
    for place in (micro_folder, micro_folder / "model.safetensors"):
        told = protocol(model, place)
        assert (told["weights"], told["weights_sha256"]) == ("clip4str_vn_tiny", digest)
    (tmp_path / "clip4str").mkdir()
    (tmp_path / "clip4str" / "large.ckpt").write_bytes(b"")
    told = protocol(model, tmp_path)
    assert (told["weights"], told["weights_sha256"]) == ("large.ckpt", hashlib.sha256(b"").hexdigest())
    assert protocol(model, "hf://owner/repo")["weights"] == "hf://owner/repo"


def test_words_that_training_never_says_are_scored_apart() -> None:
    said, source = WordSource("train", 0), WordSource("val", 0)
    rng = np.random.default_rng(0)
    rare = [word for word in (source.uniform(rng, "syllables") for _ in range(60)) if is_unsaid(word)][:4]
    assert len(rare) == 4 and not any(is_unsaid(said.sample(index)) for index in range(300))
    # Case and punctuation make no other word of it; của is held out but everyday, and numbers are in no list.
    labels = [rare[0].upper(), f"({rare[1]})", rare[2], rare[3], "của", "25.000đ"]
    assert unsaid_scores([labels[0], "x", rare[2], rare[3], "x", "x"], labels) == {"unsaid": {"cased": 0.75, "n": 4}}
    assert unsaid_scores(["của"], ["của"]) == {}


def test_table() -> None:
    row = {"cased": 0.5, "uncased": 0.75, "tone": 0.5, "cer": 0.125, "ned": 0.8751, "visual": 0.0, "n": 4, "ece": 0.06}
    assert markdown_row("clean", row) == "| clean | 4 | 50.0 % | 75.0 % | 50.0 % | 12.5 % | 87.5 % | 0.0 % | 6.0 % |"


@pytest.mark.parametrize(
    ("letter", "parts"),
    [
        ("Ệ", ("E", "â ê ô", "nặng")),
        ("ằ", ("a", "ă", "huyền")),
        ("ử", ("u", "ơ ư", "hỏi")),
        ("Đ", ("D", "đ", "level")),
        ("ỹ", ("y", "plain", "ngã")),
        ("7", ("7", "plain", "level")),
    ],
)
def test_letters_are_split(letter: str, parts: tuple[str, str, str]) -> None:
    assert split_letter(letter) == parts


def test_marks_are_counted_where_bases_agree() -> None:
    counted = count_confusion(["nguyen", "Đá!", "BO"], ["nguyễn", "đã", "BÒN"])
    assert (
        counted.tones["ngã", "level"] == 1 and counted.tones["ngã", "sắc"] == 1 and counted.tones["huyền", "level"] == 1
    )
    assert counted.qualities["â ê ô", "plain"] == 1 and counted.qualities["đ", "đ"] == 1
    # The lost N, and the sign that was added, which is no letter of a label.
    assert counted.tones["level", LOST] == 1
    assert dict(counted.bases) == {("N", ""): 1, ("", "!"): 1}
    assert dict(counted.case) == {("d", "D"): 1}
    assert sum(counted.tones.values()) == len("nguyễnđãBÒN")
    assert counted.to_dict()["tones"]["ngã"]["sắc"] == 1


def test_the_surest_failures_come_first() -> None:
    crops = {colour: np.full((20, 40, 3), colour, np.uint8) for colour in (10, 200)}
    failures = [Failure(crops[10], "a", "b", "b", 0.2), Failure(crops[200], "a", "b", "c", 0.9)]
    gallery = np.asarray(draw_gallery(failures, "clean"))
    assert gallery[40, 20].tolist() == [200, 200, 200] and gallery[40, 280].tolist() == [10, 10, 10]
    assert np.array_equal(np.asarray(draw_gallery(failures, "clean", most=1))[40, 280], [255, 255, 255])


@needs_fonts
def test_what_auto_leaves_and_loses(micro_folder: Path) -> None:
    model = load_model(micro_folder)
    model.certain_from = 1.0
    config = model.config
    figures = adaptive_figures(model, 4, ("clean", "sign"))
    assert model.config == config and figures.keys() == {"clean", "sign", "all"}
    # Random weights are never certain, so all is read by both branches either way.
    assert figures["all"]["left"] == 0 and figures["all"]["right_auto"] == figures["all"]["right_always"]
    with torch.no_grad():  # certain that there is nothing
        model.visual_decoder.head.bias[model.charset.eos] += 100
    model.certain_from = 0.5
    figures = adaptive_figures(model, 4, ("clean", "sign"))
    assert figures["all"] == {"n": 8, "right_always": figures["all"]["right_always"], "right_auto": 0, "left": 8}
