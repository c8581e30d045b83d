"""The rendered pages, and how they are scored."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doctr.models import recognition_predictor
from fake_vintext import fake_vintext
from PIL import Image

from clip4str_doctr.benchmark.pages import PageReading, Reader, _Reads, matches, measure, scene_pages, score_pages
from clip4str_doctr.benchmark.rendered_pages import LAYOUTS, PageWord, RenderedPage, photographed, render_page
from clip4str_doctr.benchmark.results import page_of_results, read_report
from clip4str_doctr.benchmark.scene_text import SceneText
from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.cli import main
from clip4str_doctr.detection import any_detector
from clip4str_doctr.training.synth.fonts import fonts_installed

pytestmark = pytest.mark.skipif(not fonts_installed(), reason="the fonts of clip4str-doctr[train] are not installed")


@pytest.fixture(scope="module")
def page() -> RenderedPage:
    return render_page(0, "text", 100)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_have_their_words_where_they_say(layout: str) -> None:
    page = render_page(1, layout, 100)
    assert 190 <= len(page.words) <= 260
    assert page.image.dtype == np.uint8 and page.image.shape[2] == 3
    height, width = page.image.shape[:2]
    for left, top, right, bottom in enclosing_boxes(np.stack([word.quad for word in page.words])).astype(int):
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert page.image[top:bottom, left:right].min() < 200
    assert [word.line for word in page.words] == sorted(word.line for word in page.words)
    assert page.text.split() == [word.text for word in page.words]


def test_pages_are_the_same_for_the_same_seed(page: RenderedPage) -> None:
    again = render_page(0, "text", 100)
    np.testing.assert_array_equal(again.image, page.image)
    assert again.text == page.text != render_page(1, "text", 100).text
    np.testing.assert_array_equal(photographed(page, 3).image, photographed(page, 3).image)


def test_receipts_are_of_fixed_pitch_and_add_up() -> None:
    receipt = render_page(1, "receipt", 200)
    assert len(receipt.illegible) == 5  # two dashed rules, and dots before three sums
    lines = [line.split() for line in receipt.text.splitlines()]
    bought = [line for line in lines if line[1:2] == ["x"]]
    for pieces, _, price, sum_ in bought:
        assert int(pieces) * int(price.replace(".", "")) == int(sum_.replace(".", ""))
    total = next(line[-1] for line in lines if line[:2] == ["Tổng", "cộng"])
    assert sum(int(line[-1].replace(".", "")) for line in bought) == int(total.replace(".", ""))
    moved = photographed(receipt, 0)
    assert len(moved.illegible) == 5 and not np.array_equal(moved.illegible[0], receipt.illegible[0])


def test_a_photograph_moves_the_words(page: RenderedPage) -> None:
    photo = photographed(page, 0)
    assert photo.text == page.text and photo.image.shape == page.image.shape
    boxes = enclosing_boxes(np.stack([word.quad for word in photo.words])).astype(int)
    grey = photo.image.mean(axis=2)
    inside = [grey[top:bottom, left:right].min() for left, top, right, bottom in boxes]
    around = [np.median(grey[max(top - 3, 0) : bottom + 3, left:right]) for left, top, right, bottom in boxes]
    assert np.mean(np.array(inside) < np.array(around) - 25) > 0.97


@pytest.mark.parametrize(("layout", "dpi"), [("poster", 150), ("text", 20)])
def test_other_pages_are_refused(layout: str, dpi: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        render_page(0, layout, dpi)


def test_scores(page: RenderedPage) -> None:
    boxes = enclosing_boxes(np.stack([word.quad for word in page.words]))
    words = [word.text for word in page.words]
    perfect = score_pages(zip([page], [PageReading(boxes, words, {"all": 1.5})], strict=True))
    shares = ("recall", "precision", "word_accuracy", "cer", "cer_rows", "hmean")
    assert [perfect[key] for key in shares] == [1, 1, 1, 0, 0, 1]
    # Read from the end: what its own order costs, rows put right.
    reversed_page = PageReading(boxes[::-1], words[::-1], {"all": 1.0})
    scored = score_pages(zip([page], [reversed_page], strict=True))
    assert scored["cer"] > 0.5 and scored["cer_rows"] == 0
    assert perfect["seconds_per_page"] == {"all": 1.5}
    half = PageReading(boxes[::2], [word.upper() for word in words[::2]], {"all": 1.0})
    scored = score_pages(zip([page], [half], strict=True))
    assert scored["recall"] == pytest.approx(0.5, abs=0.01) and scored["precision"] == 1 and 0.5 < scored["cer"] < 1
    assert scored["hmean_uncased"] == pytest.approx(2 / 3, abs=0.01) and scored["hmean"] < 0.3
    assert scored["word_accuracy"] == pytest.approx(
        np.mean([w.isupper() or w.upper() == w for w in words[::2]]) / 2, abs=0.01
    )
    nothing = score_pages(zip([page], [PageReading(np.zeros((0, 4)), [], {"all": 1.0})], strict=True))
    assert nothing["cer"] == 1
    assert nothing["recall"] == nothing["precision"] == nothing["word_accuracy"] == nothing["hmean"] == 0


def test_every_box_matches_once() -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float64)
    assert matches(truth, np.array([[0.0, 0, 10, 10]])) == [(0, 0)]
    assert matches(truth, np.array([[20.0, 0, 30, 10]])) == []


def test_words_that_are_illegible_are_neither_right_nor_wrong() -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float64)
    page = RenderedPage(np.zeros((90, 90, 3), np.uint8), (PageWord("a", square, 0),), (square + 40,), ordered=False)
    boxes = np.array([[0, 0, 10, 10], [42, 42, 48, 48], [45, 45, 75, 75]], np.float64)
    scored = score_pages(zip([page], [PageReading(boxes, ["a", "b", "c"], {"all": 1.0})], strict=True))
    # The second box lies on the illegible word, the third for the most part beside it.
    assert (scored["recall"], scored["precision"], scored["hmean"], scored["cer"]) == (1, 0.5, 0.6667, None)
    assert scored["cer_rows"] is None
    # What is read of it is no part of the text either: leaders, as one reader leaves out and another spells.
    page = replace(page, ordered=True)
    leaders = [PageReading(boxes[:count], ["a", "....."][:count], {"all": 1.0}) for count in (1, 2)]
    for reading in leaders:
        scored = score_pages([(page, reading)])
        assert (scored["precision"], scored["cer"], scored["cer_rows"]) == (1, 0, 0)
    beside = score_pages([(page, PageReading(boxes, ["a", "....", "b"], {"all": 1.0}))])
    assert beside["cer"] == beside["cer_rows"] == 2  # " b" after the one symbol that there is


def test_white_space_in_a_label_or_an_answer_is_none() -> None:
    """As in `bench accuracy`: a word's box may be labelled "TP. HCM"."""
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float64)
    page = RenderedPage(np.zeros((9, 9, 3), np.uint8), (PageWord("TP. HCM", square, 0),), ordered=False)
    assert score_pages([(page, PageReading(np.array([[0.0, 0, 10, 10]]), ["TP.HCM"], {"all": 1.0}))])["hmean"] == 1


def test_boxes_on_pictures_without_words_count(tmp_path: Path) -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float64)
    empty = RenderedPage(np.zeros((90, 90, 3), np.uint8), (), (square + 40,), ordered=False)
    page = RenderedPage(empty.image, (PageWord("a", square, 0),), ordered=False)
    one = PageReading(np.array([[0, 0, 10, 10]], np.float64), ["a"], {"all": 1.0})
    two = PageReading(np.array([[0, 0, 10, 10], [42, 42, 48, 48]], np.float64), ["a", "b"], {"all": 1.0})
    assert score_pages(zip([page, empty], [one, two], strict=True))["precision"] == 0.5
    with pytest.raises(ValueError, match="no legible word on 1 pages"):
        score_pages(zip([empty], [two], strict=True))
    Image.fromarray(empty.image).save(tmp_path / "img_1.png")
    Image.fromarray(empty.image).save(tmp_path / "img_2.png")
    (tmp_path / "gt_img_1.txt").write_text("1,1,9,9,a\n")
    (tmp_path / "gt_img_2.txt").write_text("1,1,9,9,###\n")
    assert [(len(one.words), len(one.illegible)) for one in scene_pages(SceneText(tmp_path))] == [(1, 0), (0, 1)]


def test_weights_are_read_as_docTR_reads_them(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
    monkeypatch.setattr("clip4str_doctr.benchmark.pages.detector", lambda name, **_: any_detector(lambda image: ()))
    ours, visual = (Reader("all", f"{micro_folder}{option}") for option in ("", "#visual"))
    # Which may cut wide crops.
    assert type(ours._predictor.reco_predictor) is type(recognition_predictor("clip4str_vn_tiny", pretrained=True))
    assert type(visual._predictor.reco_predictor) is _Reads
    with pytest.raises(ValueError, match="kinds of pages are clean 150 dpi, .* got 'clean'"):
        measure(["all"], [0], ["clean"])


def test_the_device_that_was_asked_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = np.array([[1, 1, 9, 9]], np.float64)
    monkeypatch.setattr(
        "clip4str_doctr.benchmark.pages.detector", lambda name, **_: any_detector(lambda image: box, kind="words")
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"card at {device}")
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "img_1.png")
    (tmp_path / "gt_img_1.txt").write_text("1,1,9,9,a\n")
    (tmp_path / "reader_of_a.py").write_text("def read(crops):\n    return ['a'] * len(crops)\n")
    monkeypatch.chdir(tmp_path)
    options = {"recognisers": ["reader_of_a:read"], "device": "cuda:1", "data": SceneText(tmp_path)}
    report = measure(["all"], [0], **options)
    assert report["made"]["device"].startswith("card at cuda:1, cuda:1 (")


def test_any_pair_of_detector_and_recogniser_reads_pages(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench page` on the pictures of a data set, with a detector that finds all of them and one more box."""
    split = fake_vintext(tmp_path).root / "vietnamese" / "unseen_test_images"
    (page,) = scene_pages(SceneText(split))
    boxes = enclosing_boxes(np.stack([*(word.quad for word in page.words), np.array([[400, 300], [450, 320]] * 2)]))
    monkeypatch.setattr(
        "clip4str_doctr.benchmark.pages.detector", lambda name, **_: any_detector(lambda image: boxes, kind="words")
    )
    (tmp_path / "first_word.py").write_text(f"def read(crops):\n    return [{page.words[0].text!r}] * len(crops)\n")
    monkeypatch.chdir(tmp_path)
    command = ["bench", "page", "--data", str(split), "--detectors", "all", "--models", "first_word:read"]
    assert main([*command, "--kinds", "table 150 dpi"]) == 2
    assert "--kinds are of rendered pages" in capsys.readouterr().err
    assert main([*command, "-o", str(split)]) == 2
    assert "is a folder; name the JSON file to write" in capsys.readouterr().err
    assert main([*command, "--device", "cpu", "-o", "pages.json"]) == 0
    report = read_report(Path("pages.json"))
    (row,) = report["rows"]
    assert (row["kind"], row["reader"]) == ("unseen_test_images", "all + first_word:read")
    assert (row["recall"], row["precision"], row["word_accuracy"], row["cer"]) == (1, 0.75, 0.3333, None)
    assert row["hmean"] == pytest.approx(2 / 7, abs=1e-4)
    line = "| all + first_word:read | 100.0 | 75.0 | 33.3 | 25.0 | 28.6 | 28.6 |  |"
    assert line in capsys.readouterr().out and line in page_of_results({"pages": report}, "benchmarks")
    assert report["protocol"]["match"].endswith("ground truth: the word's corners as labelled")
    assert not Path("pages.json.unfinished").exists()
    assert main([*command, "first_word:read"]) == 2
    assert "two readers are called all + first_word:read; rename" in capsys.readouterr().err


def test_rows_are_kept_where_a_later_reader_fails(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    box = np.array([[1, 1, 9, 9]], np.float64)
    monkeypatch.setattr("clip4str_doctr.benchmark.pages.detector", lambda name, **_: any_detector(lambda image: box))
    picture = np.arange(90 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(90, 90, 3)
    Image.fromarray(picture).save(tmp_path / "img_1.png")
    (tmp_path / "gt_img_1.txt").write_text("1,1,9,9,a\n")
    (tmp_path / "readers.py").write_text(
        "seen = []\n\ndef one(crops):\n    seen.append(crops[0].tolist())\n    return ['a'] * len(crops)\n"
        "def two(crops):\n    raise RuntimeError(f'no more, {seen[0] != seen[1]}')\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["bench", "page", "--data", ".", "--detectors", "all", "--models", "readers:one", "readers:two"]
    assert main([*command, "--device", "cpu", "-o", "pages.json"]) == 2
    # The page that is timed is not the one that it was warmed up with, whose words may be kept.
    assert "no more, True" in capsys.readouterr().err
    kept = json.loads(Path("pages.json.unfinished").read_text(encoding="utf-8"))
    assert [row["reader"] for row in kept["rows"]] == ["all + readers:one"] and not Path("pages.json").exists()
    (tmp_path / "img_2.png").write_bytes(b"none")
    (tmp_path / "gt_img_2.txt").write_text("1,1,9,9,a\n")
    assert main([*command, "--device", "cpu"]) == 2
    assert "img_2.png: not a readable image" in capsys.readouterr().err  # before anything is read
