"""Words from the user's disk: both formats, labels that cannot be used, what is held back, what is mixed in."""

import csv
import io
import json
import logging
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from clip4str_doctr import cli
from clip4str_doctr.charset import VIETNAMESE_SYMBOLS, Charset
from clip4str_doctr.config import PRESETS
from clip4str_doctr.images import UnreadableImageError
from clip4str_doctr.training.augment import augment, shrunk
from clip4str_doctr.training.datasets import DatasetError, check_words, open_word_set
from clip4str_doctr.training.finetune import (
    OwnAmongRendered,
    OwnWords,
    OwnWordsFactory,
    hold_back,
    own_words,
    tell_how_often,
    write_left_out,
)
from clip4str_doctr.training.recipe import WordsRecipe, load_recipe

CHARSET = Charset(VIETNAMESE_SYMBOLS)
CONFIG = PRESETS["clip4str_vn_tiny"]
LABELS = ["Phở", "bò", "25.000đ", "Quán", "cơm", "tấm", "HÀ", "NỘI", "chợ", "Lớn"]


def picture(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (20 + number, 50, 3), dtype=np.uint8)


def doctr_folder(folder: Path, labels: list[str]) -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(len(labels)):
        Image.fromarray(picture(number)).save(folder / "images" / f"{number}.png")
    named = {f"{number}.png": label for number, label in enumerate(labels)}
    (folder / "labels.json").write_text(json.dumps(named, ensure_ascii=False), encoding="utf-8")
    return folder


def lmdb_folder(folder: Path, labels: list[str]) -> Path:
    entries = {"num-samples": str(len(labels)).encode()}
    for number, label in enumerate(labels):
        file = io.BytesIO()
        Image.fromarray(picture(number)).save(file, "PNG")
        entries[f"image-{number + 1:09d}"], entries[f"label-{number + 1:09d}"] = file.getvalue(), label.encode()
    return raw_lmdb(folder, entries)


def raw_lmdb(folder: Path, entries: dict[str, bytes]) -> Path:
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return folder


@pytest.mark.parametrize("make", [doctr_folder, lmdb_folder])
def test_both_formats_give_the_same_words_also_in_another_process(make: Any, tmp_path: Path) -> None:
    checked = check_words([make(tmp_path / "words", LABELS)], CHARSET, 25)
    assert [word.label for word in checked.words] == LABELS and not checked.left_out
    for number, word in enumerate(checked.words):
        assert np.array_equal(word.crop(), picture(number))
    assert np.array_equal(pickle.loads(pickle.dumps(checked.words[3])).crop(), picture(3))


def test_labels_are_normalised_and_what_cannot_be_used_is_told(tmp_path: Path, caplog: Any) -> None:
    labels = ["Pho\u031b\u0309", "10€", "hai chữ", "", "a" * 26, "a" * 25, "mất", "hỏng"]
    folder = doctr_folder(tmp_path / "words", labels)
    (folder / "images" / "6.png").unlink()
    (folder / "images" / "7.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        checked = check_words([folder], CHARSET, 25)
    assert [word.label for word in checked.words] == ["Phở", "a" * 25]
    assert [one.name for one in checked.left_out] == [f"{number}.png" for number in (1, 2, 3, 4, 6, 7)]
    reasons = " | ".join(one.reason for one in checked.left_out)
    assert "cannot write: '€'" in reasons and "cannot write: ' '" in reasons and "empty label" in reasons
    assert "longer than 25" in reasons and reasons.count("picture: not a readable image") == 2
    assert "2 of 8 words can be used; left out: 2 symbols that the model cannot write, 2 picture" in caplog.text
    write_left_out(checked.left_out, tmp_path)
    with open(tmp_path / "left_out.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert len(rows) == 7 and rows[1][1:3] == ["1.png", "10€"]


def test_names_and_labels_that_are_no_text_are_used_or_listed(tmp_path: Path) -> None:
    folder = doctr_folder(tmp_path / "words", ["Phở", "bò"])
    latin = os.fsdecode(b"caf\xe9.png")
    (folder / "images" / "0.png").rename(folder / "images" / latin)
    (folder / "labels.json").write_text(json.dumps({latin: "Phở", "1.png": "bò\ud83d"}))
    checked = check_words([folder], CHARSET, 25)
    assert [(word.name, word.label) for word in checked.words] == [(latin, "Phở")]
    write_left_out(checked.left_out, tmp_path)
    assert "bò\\ud83d" in (tmp_path / "left_out.tsv").read_text(encoding="utf-8")
    write_left_out([], tmp_path)
    assert not (tmp_path / "left_out.tsv").exists()


def test_an_lmdb_with_damaged_pages(tmp_path: Path) -> None:
    folder = lmdb_folder(tmp_path / "words", LABELS)
    file = folder / "data.mdb"
    content = bytearray(file.read_bytes())
    # All but the first two pages, which say what the others are.
    content[2 * 4096 :] = b"\xff" * (len(content) - 2 * 4096)
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="is damaged .*copy it again"):
        open_word_set(folder).entries()
    with pytest.raises(UnreadableImageError, match="is damaged"):
        open_word_set(folder).crop("000000001")


@pytest.mark.parametrize(
    ("total", "told"), [(40, "is seen 2.0 times"), (18, "only 9 of the 10 words .* to 20 for each")]
)
def test_how_often_own_words_are_seen_is_told(total: int, told: str, tmp_path: Path, caplog: Any) -> None:
    words = check_words([doctr_folder(tmp_path / "words", LABELS)], CHARSET, 25).words
    recipe = load_recipe(Path(__file__).parents[2] / "configs" / "clip4str_vn_tiny_finetune.yaml")
    recipe = replace(
        recipe, schedule=replace(recipe.schedule, total_samples=total), words=replace(recipe.words, share=0.5)
    )
    with caplog.at_level(logging.INFO):
        tell_how_often(OwnWords(words, [], [], ""), recipe)
    assert re.search(told, caplog.text)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{", "must be JSON in UTF-8"),
        ('["a"]', "got a list"),
        ('{"a.png": "Phở", "b.png": "", "a.png": "bò"}', r"'a\.png' stands there more than once, as 'Phở' and 'bò'"),
        ('{"a.png": 5}', r"the label of 'a\.png' must be a string, got 5"),
        ("{}", "no word to use: .*0 of 0"),
    ],
)
def test_broken_label_files(labels: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(labels, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        check_words([tmp_path], CHARSET, 25)


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere is no folder; a data set is a folder with images/"):
        open_word_set(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(DatasetError, match=r"holds a\.txt; a data set is"):
        open_word_set(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "must say its size under num-samples, got None"),
        ({"num-samples": b"many"}, "num-samples, got b'many'"),
        ({"num-samples": b"1"}, "says 1 samples but lacks label-000000001"),
        ({"num-samples": b"1", "label-000000001": b"\xff"}, "label-000000001 must be UTF-8"),
        ({"num-samples": b"1", "label-000000001": b"a"}, "no word to use.*there is no image-000000001"),
    ],
)
def test_broken_lmdbs(entries: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        check_words([raw_lmdb(tmp_path / "words", entries)], CHARSET, 25)


def test_an_lmdb_cut_short_is_told_before_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = lmdb_folder(tmp_path / "words", ["Huế"] * 30)
    assert len(open_word_set(folder).entries()) == 30 and not caplog.records
    with open(folder / "data.mdb", "r+b") as file:
        file.truncate((folder / "data.mdb").stat().st_size // 2)
    script = (
        "import logging; logging.basicConfig(); from clip4str_doctr.training.datasets import open_word_set; "
        f"print(len(open_word_set({str(folder)!r}).entries()))"
    )
    # In a process of its own, which may end with the bus error that it warns of.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "the file was cut short; copy it again" in done.stderr


def test_a_file_that_is_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database at all")
    with pytest.raises(DatasetError, match="cannot be opened as an LMDB"):
        check_words([tmp_path], CHARSET, 25)


def test_the_hash_sees_labels_and_pictures(tmp_path: Path) -> None:
    folder = doctr_folder(tmp_path / "words", LABELS)
    before = check_words([folder], CHARSET, 25).sha256
    assert check_words([folder], CHARSET, 25).sha256 == before
    Image.fromarray(picture(0) ^ 1).save(folder / "images" / "0.png")
    assert check_words([folder], CHARSET, 25).sha256 != before


# Held back, mixed, augmented


def test_words_are_held_back_by_label_whatever_their_order(tmp_path: Path) -> None:
    words = check_words([doctr_folder(tmp_path / "words", LABELS * 3)], CHARSET, 25).words
    train, val = hold_back(words, 0.2, 500)
    assert len(train) + len(val) == 30 and len(val) == 6
    assert not {word.label for word in train} & {word.label for word in val}
    again = hold_back(words[::-1], 0.2, 500)[1]
    assert {word.name for word in again} == {word.name for word in val}
    assert len({word.label for word in hold_back(words, 0.05, 500)[1]}) == 1


def test_few_labels_of_many_words_are_not_all_held_back(tmp_path: Path, caplog: Any) -> None:
    words = check_words([doctr_folder(tmp_path / "words", ["a"] * 8 + ["b"] * 5 + ["c"] * 6 + ["d", "e"])], CHARSET, 25)
    for most in (2, 3, 4):
        assert {word.label for word in hold_back(words.words, 0.5, most)[1]} == {"d", "e"}
    assert len(hold_back(words.words, 0.5, 7)[1]) == 7 and "held back" not in caplog.text
    without = [word for word in words.words if word.label in "abc"]
    with pytest.raises(DatasetError, match=r"none of the 3 labels .* words\.val_words = 2 words.* with --val"):
        hold_back(without, 0.5, 2)
    assert [word.label for word in hold_back(without, 0.1, 5)[1]] == ["b"] * 5
    assert "every label has more than 2 words; all 5 of one are held back" in caplog.text


def test_own_words_are_divided_or_watched_apart(tmp_path: Path) -> None:
    folder, other = doctr_folder(tmp_path / "a", LABELS), lmdb_folder(tmp_path / "b", ["Huế", "10€"])
    assert own_words(WordsRecipe(), CONFIG) is None
    own = own_words(WordsRecipe((str(folder),), val_share=0.3), CONFIG)
    assert own is not None and (len(own.train), len(own.val)) == (7, 3)
    apart = own_words(WordsRecipe((str(folder),), (str(other),)), CONFIG)
    assert apart is not None and len(apart.train) == 10 and [word.label for word in apart.val] == ["Huế"]
    assert apart.sha256 != own.sha256
    with pytest.raises(DatasetError, match=r"1 words cannot be used; the first: .*000000002, '10€'.*--strict-labels"):
        own_words(WordsRecipe((str(folder),), (str(other),)), CONFIG, strict=True)
    with pytest.raises(DatasetError, match="1 words with 1 different labels are too few .* --val"):
        own_words(WordsRecipe((str(doctr_folder(tmp_path / "c", ["Huế"])),)), CONFIG)


class Rendered:
    def __init__(self, style: str = "clean", split: str = "train", seed: int = 0) -> None:
        self.split = split

    def sample(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        return np.zeros((8, 8, 3), np.uint8), "rendered"


@pytest.mark.parametrize("share", [0.25, 0.3, 1.0])
def test_each_epoch_sees_every_own_word_once(share: float, tmp_path: Path) -> None:
    recipe = WordsRecipe(("",), share=share, augment=0.0)
    words = check_words([doctr_folder(tmp_path / "words", LABELS)], CHARSET, 25).words
    samples = OwnAmongRendered(words, recipe, 1, Rendered())
    labels = [samples.sample(index)[1] for index in range(round(20 / share) + 1)]
    own = [label for label in labels if label != "rendered"]
    assert sorted(own[:10]) == sorted(own[10:20]) == sorted(LABELS) and own[:10] != own[10:20]
    fresh = OwnAmongRendered(words, recipe, 1, Rendered())
    assert [fresh.sample(index)[1] for index in (7, 3, 11)] == [labels[index] for index in (7, 3, 11)]


def test_validation_words_stay_as_they_are_rendered(tmp_path: Path) -> None:
    own = own_words(WordsRecipe((str(doctr_folder(tmp_path / "words", LABELS)),)), CONFIG)
    assert own is not None
    factory = pickle.loads(pickle.dumps(OwnWordsFactory(own, WordsRecipe(("",), share=1.0), Rendered)))
    assert isinstance(factory("clean", "val", 2), Rendered)
    assert factory("clean", "train", 2).sample(0)[1] in LABELS


def test_augmentation_is_light_repeatable_and_can_be_switched_off(tmp_path: Path) -> None:
    smooth = np.ascontiguousarray(np.broadcast_to(np.linspace(40, 200, 90, dtype=np.uint8)[:, None], (30, 90, 3)))
    changed = [augment(smooth, np.random.default_rng(seed)) for seed in range(20)]
    assert all(one.shape == smooth.shape and one.dtype == np.uint8 for one in changed)
    assert np.array_equal(changed[4], augment(smooth, np.random.default_rng(4)))
    assert len({one.tobytes() for one in changed}) == 20
    words = check_words([doctr_folder(tmp_path / "words", LABELS)], CHARSET, 25).words
    for share, same in ((0.0, True), (1.0, False)):
        recipe = replace(WordsRecipe(("",), share=1.0), augment=share)
        crop, label = OwnAmongRendered(words, recipe, 1, Rendered()).sample(0)
        assert np.array_equal(crop, picture(LABELS.index(label))) == same


def test_photographs_of_words_are_augmented_at_the_size_of_rendered_ones(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (150, 900, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "words" / "a.png")
    (tmp_path / "words" / "labels.json").write_text('{"a.png": "Huế"}')
    words = check_words([tmp_path / "words"], CHARSET, 25).words
    samples = OwnAmongRendered(words, WordsRecipe(("",), share=1.0, augment=1.0), 1, Rendered())
    assert {samples.sample(index)[0].shape for index in range(40)} == {(80, 480, 3)}
    assert shrunk(pixels[:, :200]).shape == (96, 128, 3) and shrunk(pixels[:40, :480]).shape == (40, 480, 3)
    assert shrunk(pixels[:1, :]).shape == (1, 480, 3)
    # A model that reads more pixels is not trained on fewer.
    assert shrunk(pixels[:, :400], (224, 224)).shape == (150, 400, 3)
    assert OwnAmongRendered(words, WordsRecipe(("",), share=1.0, augment=0.0), 1, Rendered(), (140, 900)).sample(0)[
        0
    ].shape == (85, 512, 3)
    with pytest.raises(ValueError, match="tiles are 512 pixels"):
        for seed in range(40):
            augment(pixels, np.random.default_rng(seed))


def test_augmentation_loses_no_end_of_a_wide_word() -> None:
    # A column of ink as wide as a tenth of the height at both ends.
    wide = np.full((40, 480, 3), 255, np.uint8)
    wide[:, :4] = wide[:, -4:] = 0
    for seed in range(60):
        # Moved by 0.04 heights and another 0.05 at the ends, of 0.1 some is left.
        changed = augment(wide, np.random.default_rng(seed)).mean(axis=(0, 2))
        assert changed[:8].min() < changed[40:440].mean() - 20 and changed[-8:].min() < changed[40:440].mean() - 20


def test_watching_what_is_trained_on_is_told(tmp_path: Path, caplog: Any) -> None:
    folder, other = doctr_folder(tmp_path / "a", LABELS), lmdb_folder(tmp_path / "b", ["Huế"])
    own_words(WordsRecipe((str(folder),), (str(folder),)), CONFIG)
    assert "10 pictures of --val are among those of --data" in caplog.text
    caplog.clear()
    for path in (folder / "images").iterdir():
        pixels = np.asarray(Image.open(path))
        Image.fromarray(255 - pixels).save(path)
    own_words(WordsRecipe((str(folder),), (str(other),)), CONFIG)
    assert "pictures of --val" not in caplog.text


def test_the_command_line_tells_of_data_it_cannot_use(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    doctr_folder(tmp_path / "words", ["Huế", "10€"])
    for arguments, message in (
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--data", "words", "--strict-labels"], "1 words cannot be used"),
        (["--val", "words"], "words.val watches words.train, which is empty; give --data DIR"),
    ):
        assert cli.main(["train", "clip4str_vn_tiny", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
