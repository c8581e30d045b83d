"""`bench vintext` from end to end: a tree as VinText's, a checkpoint as the published one."""

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_vintext import FakeVinText, fake_vintext
from golden_weights import CHECKPOINT, M_CLIP

from clip4str_doctr import load_model
from clip4str_doctr.benchmark.comparison import compare
from clip4str_doctr.benchmark.labelled import labelled_words
from clip4str_doctr.benchmark.recognisers import Crops, Recogniser
from clip4str_doctr.benchmark.scene_text import SceneText
from clip4str_doctr.benchmark.vintext import right_normalisation, run_vintext, vintext_sets
from clip4str_doctr.benchmark.word_sets import WordSet
from clip4str_doctr.cli import main
from clip4str_doctr.training.synth import fonts_installed
from clip4str_doctr.training.validate import read_words

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> FakeVinText:
    return fake_vintext(tmp_path_factory.mktemp("vintext"))


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """The published files, small, in the published layout."""
    folder = tmp_path / "pretrained"
    (folder / "clip4str").mkdir(parents=True)
    (folder / "clip4str" / CHECKPOINT.name).symlink_to(CHECKPOINT)
    (folder / "M_clip").symlink_to(M_CLIP)
    return folder


@needs_fonts
def test_the_published_comparison_in_one_command(
    tree: FakeVinText, pretrained: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [label for split in ("test_image", "unseen_test_images") for label, _ in tree.words[split]]
    (tmp_path / "oracle_reader.py").write_text(
        f"answers = iter({[label.upper() for label in labels]!r})\n"
        "def read(crops):\n    return [next(answers) for _ in crops]\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    command = ["bench", "vintext", "--root", str(tree.root), "--weights", str(pretrained), "--device", "cpu"]
    assert main([*command, "--models", "oracle_reader:read", "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert "not to be passed on" in told.err
    assert "| oracle_reader:read |  | 100.00 / 100.00 | 100.00 / 100.00 | 100.00 / 100.00 |" in told.out
    assert "| CLIP4STR-VN | 90.16 / 94.48 |  |  |  |" in told.out
    # The golden weights are random: they read nothing, so nothing can be told of their normalisation.
    assert "normalisation: these words do not tell which is right" in told.out
    report = json.loads((out / "vintext.json").read_text(encoding="utf-8"))
    assert list(report["models"]) == ["CLIP4STR-VN, half", "CLIP4STR-VN, clip", "oracle_reader:read"]
    assert {name: one["n"] for name, one in report["sets"].items()} == {"test_image": 6, "unseen_test_images": 3}
    assert report["models"]["CLIP4STR-VN, clip"]["settings"]["mean"][0] == pytest.approx(0.48145466)
    assert report["models"]["CLIP4STR-VN, half"]["weights"] == CHECKPOINT.name
    assert report["vintext"]["normalisation"]["right"] is None
    assert not list(out.glob("*.unfinished"))
    # Neither labels nor answers leave the machine with the report.
    assert not any("labels" in one or "answers" in one for one in report["sets"].values())


@needs_fonts
def test_both_normalisations_are_read(tree: FakeVinText, pretrained: Path) -> None:
    report, _ = run_vintext(tree.root, pretrained, words=6, shape="rectified")
    crops = labelled_words(SceneText(tree.root / "vietnamese" / "test_image", "rectified"))[0]
    for name in ("half", "clip"):
        expected = read_words(load_model(pretrained, normalization=name), crops).texts
        assert report["sets"]["test_image"]["answers"][f"CLIP4STR-VN, {name}"] == ["".join(t.split()) for t in expected]
    half, clip = (report["sets"]["test_image"]["answers"][f"CLIP4STR-VN, {name}"] for name in ("half", "clip"))
    assert half != clip
    assert "--crops rectified --words 6" in report["command"]


@needs_fonts
def test_what_is_told_is_of_the_words_that_were_read(tree: FakeVinText) -> None:
    part, whole = vintext_sets(tree.root, words=4)
    labels = [label for label, _ in tree.words["test_image"]][:4]
    assert part.labels == labels and len(part.crops) == 4
    assert part.about == "VinText, the first 4 of 6 legible words, 1 illegible ones left out, straight crops"
    # The illegible word of the second picture stands behind the fourth that is read.
    crc = f"{zlib.crc32(chr(10).join(labels).encode()):08x}"
    counts = {"pictures_with_words": 2, "words": 4, "illegible": 1, "empty": 1, "crops": "straight"}
    assert part.checks == {**counts, "labels_crc": crc}
    assert whole.about == "VinText, 3 legible words, 1 illegible ones left out, straight crops"


@needs_fonts
def test_a_picture_that_cannot_be_opened_is_known_before_anything_is_read(
    pretrained: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fake_vintext(tmp_path / "own").root
    (root / "vietnamese" / "unseen_test_images" / "im1501.jpg").write_bytes(b"no picture")
    (tmp_path / "noting_reader.py").write_text(
        "def read(crops):\n    open('was_called', 'w').close()\n    return [''] * len(crops)\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["bench", "vintext", "--root", str(root), "--weights", str(pretrained), "--device", "cpu"]
    assert main([*command, "--models", "noting_reader:read"]) == 2
    assert "3 of 3 pictures cannot be read: im1501.jpg#1" in capsys.readouterr().err
    assert not Path("was_called").exists()


@needs_fonts
def test_what_was_read_is_kept(
    tree: FakeVinText, pretrained: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiring_reader.py").write_text(
        "def read(crops):\n    if len(crops) == 3:\n        raise RuntimeError('too tired')\n    return ['a'] * 6\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["bench", "vintext", "--root", str(tree.root), "--weights", str(pretrained), "--device", "cpu"]
    assert main([*command, "--models", "tiring_reader:read", "-o", "out"]) == 2
    assert "too tired" in capsys.readouterr().err
    (file,) = Path("out").iterdir()
    assert file.name == "vintext.json.unfinished"
    kept = json.loads(file.read_text(encoding="utf-8"))["sets"]
    assert list(kept) == ["test_image"] and "tiring_reader:read" in kept["test_image"]["figures"]
    assert not {"labels", "answers"} & set(kept["test_image"])


@pytest.mark.parametrize(("wrong", "right"), [(0, None), (3, None), (12, "half")])
def test_a_normalisation_is_right_if_the_words_tell(wrong: int, right: str | None) -> None:
    labels = [f"từ{number}" for number in range(40)]
    words = WordSet("test_image", "", [np.zeros((8, 8, 3), np.uint8)] * 40, labels, {})
    answers = {"half": [label.upper() for label in labels], "clip": [*(["x"] * wrong), *labels[wrong:]]}

    def says(texts: list[str]) -> Callable[[Crops], list[str]]:
        given: Iterator[str] = iter(texts)
        return lambda crops: [next(given) for _ in crops]

    report = compare(
        [Recogniser(f"CLIP4STR-VN, {name}", says(texts)) for name, texts in answers.items()], [words], title=""
    )
    told = right_normalisation(report, ["CLIP4STR-VN, half", "CLIP4STR-VN, clip"])
    assert told["right"] == right
    assert told["uncased"] == {"CLIP4STR-VN, half": 1.0, "CLIP4STR-VN, clip": 1 - wrong / 40}


def test_a_folder_that_is_not_vintext(tmp_path: Path, pretrained: Path, capsys: Any) -> None:
    assert main(["bench", "vintext", "--root", str(tmp_path), "--weights", str(pretrained)]) == 2
    assert "is not VinText: expected labels/gt_*.txt" in capsys.readouterr().err
