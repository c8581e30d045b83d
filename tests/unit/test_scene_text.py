"""Words cut out of whole pictures: VinText's folders, ICDAR's zips."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_vintext import FakeVinText, fake_vintext
from PIL import Image

from clip4str_doctr.benchmark.labelled import labelled_words, open_labelled
from clip4str_doctr.benchmark.scene_text import SceneText, is_scene_text, splits_of
from clip4str_doctr.cli import main
from clip4str_doctr.training.datasets import DatasetError, open_word_set
from clip4str_doctr.training.synth import fonts_installed

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> FakeVinText:
    return fake_vintext(tmp_path_factory.mktemp("vintext"))


def picture(shade: int = 0, size: tuple[int, int] = (40, 90)) -> bytes:
    """A PNG whose columns and rows can be told apart."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([rows, columns, np.full(size, shade)], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@needs_fonts
def test_vintext_is_read_where_it_lies(tree: FakeVinText) -> None:
    base = tree.root / "vietnamese"
    assert [split.name for split in splits_of(tree.root)] == ["test_image", "train_images", "unseen_test_images"]
    with pytest.raises(DatasetError, match="several sets of pictures; give one of .*test_image"):
        SceneText(base)
    for split, expected in tree.words.items():
        words = open_labelled(base / split)
        assert isinstance(words, SceneText)
        crops, labels = labelled_words(words)
        assert labels == [label for label, _ in expected]
        pictures = len(expected) // 3
        counts = {"pictures_with_words": pictures, "words": len(expected), "illegible": pictures, "empty": pictures}
        assert words.counts() == {**counts, "crops": "straight", "labels_crc": words.counts()["labels_crc"]}
        # The first word of a picture lies straight in it.
        for crop, (_, drawn) in list(zip(crops, expected, strict=True))[::3]:
            assert crop.shape == drawn.shape
            assert np.abs(crop.astype(int) - drawn).mean() < 4
    assert "1,5" in labelled_words(base / "test_image")[1] + labelled_words(base / "train_images")[1]


@needs_fonts
def test_rectified_crops_are_the_words_as_they_were_put_in(tree: FakeVinText) -> None:
    split = tree.root / "vietnamese" / "test_image"
    straight, rectified = (labelled_words(SceneText(split, shape))[0] for shape in ("straight", "rectified"))
    for number, (_, drawn) in enumerate(tree.words["test_image"]):
        height, width = rectified[number].shape[:2]
        assert abs(height - drawn.shape[0]) <= 3 and abs(width - drawn.shape[1]) <= 6
        resized = np.asarray(Image.fromarray(rectified[number]).resize(drawn.shape[1::-1]), np.float64)
        assert np.abs(resized - drawn).mean() < 20
        if number % 3 == 1:
            assert straight[number].shape[0] > 1.15 * height


@needs_fonts
def test_crops_are_written_in_doctrs_format(tree: FakeVinText, tmp_path: Path, capsys: Any) -> None:
    split, out = tree.root / "vietnamese" / "test_image", tmp_path / "words"
    for _ in range(2):  # again into the same folder
        assert main(["bench", "crops", str(split), "-o", str(out), "--crops", "rectified"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "2 pictures with words, 6 words, 2 illegible, 2 empty"
    assert "not to be passed on" in told.err
    words = open_word_set(out)
    assert [label for _, label in words.entries()] == [label for label, _ in tree.words["test_image"]]
    expected = labelled_words(SceneText(split, "rectified"))[0]
    for (name, _), crop in zip(words.entries(), expected, strict=True):
        np.testing.assert_array_equal(words.crop(name), crop)
    about = json.loads((out / "about.json").read_text(encoding="utf-8"))
    assert about["words"] == 6 and "research or education only" in about["notice"]
    assert main(["bench", "crops", str(split), "-o", str(split)]) == 2
    assert "give a folder that is new" in capsys.readouterr().err
    # A data set of the user's own looks alike, but is none of ours.
    (out / "about.json").write_text("{}")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["bench", "crops", str(split), "-o", str(out)]) == 2
    assert "holds about.json, images, labels.json; give a folder" in capsys.readouterr().err
    (out / "about.json").unlink()
    assert main(["bench", "crops", str(split), "-o", str(out)]) == 2
    del before[out / "about.json"]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_icdars_zips(tmp_path: Path) -> None:
    quads = '5,10,25,10,25,20,5,20,"Joint"\n1,1,9,1,9,8,1,8,###\n-9,-9,3,-9,3,4,-9,4,edge\n'
    files: dict[str, bytes | str] = {"img_1.png": picture(), "gt_img_1.txt": quads, "__MACOSX/x.png": b""}
    files |= {"voc_img_1.txt": "edge\n", "voc_img_2.txt": "", "LICENSE-2.txt": "as is"}
    words = SceneText(write_zip(tmp_path / "localisation.zip", files))
    assert words.entries() == [("img_1.png#1", '"Joint"'), ("img_1.png#3", "edge")]
    assert words.counts()["illegible"] == 1
    crop = words.crop("img_1.png#1")
    assert crop.shape == (10, 20, 3) and crop[0, 0].tolist() == [10, 5, 0]
    assert words.crop("img_1.png#3").shape == (4, 3, 3)
    # Pictures and words in archives of their own, as they are downloaded; straight boxes.
    folder = tmp_path / "downloads"
    folder.mkdir()
    write_zip(folder / "images.zip", {"img_2.png": picture(7), "img_10.png": picture(8)})
    write_zip(folder / "words.zip", {"gt_img_10.txt": '0 0 9 9 "a \\"b\\""\n', "gt_img_2.txt": "3,4,13,24,1,2\n"})
    words = SceneText(folder)
    assert words.entries() == [("img_2.png#1", "1,2"), ("img_10.png#1", 'a "b"')]
    assert words.crop("img_2.png#1").shape == (20, 10, 3) and words.crop("img_10.png#1")[0, 0, 2] == 8
    # Pictures of single words with one list.
    listed = {
        "word_1.png": picture(1),
        "word_2.png": picture(2),
        "gt.txt": '\ufeffword_1.png, "HÀ, NỘI"\nword_2.png, ###\n',
        # Where the words were cut out of pictures that the archive does not hold.
        "coords.txt": "word_1.png,1,1,9,1,9,8,1,8\nword_2.png,1,1,9,1,9,8,1,8\n",
    }
    words = SceneText(write_zip(tmp_path / "words.zip", listed))
    assert words.entries() == [("word_1.png", "HÀ, NỘI")] and words.crop("word_1.png").shape == (40, 90, 3)


def test_the_script_of_multi_lingual_sets_is_no_part_of_the_word(tmp_path: Path) -> None:
    place = "1,1,9,1,9,8,1,8"
    lines = f"{place},Latin,Hello, you\n{place},Latin,###\n{place},None,12\n"
    words = SceneText(write_zip(tmp_path / "mlt.zip", {"img_1.png": picture(), "gt_img_1.txt": lines}))
    assert [label for _, label in words.entries()] == ["Hello, you", "12"] and words.counts()["illegible"] == 1
    # A word of another set may be one: only where all lines have such a field is it one.
    lines = f"{place},Latin,quarter\n{place},Phở\n"
    words = SceneText(write_zip(tmp_path / "ours.zip", {"img_1.png": picture(), "gt_img_1.txt": lines}))
    assert [label for _, label in words.entries()] == ["Latin,quarter", "Phở"]


@pytest.mark.parametrize("damaged", ["img_1.png", "gt_img_1.txt"])
def test_a_damaged_archive_names_what_cannot_be_read(damaged: str, tmp_path: Path) -> None:
    content = {"img_1.png": picture(), "gt_img_1.txt": "1,1,9,9,a\n" * 40}
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        start = archive.getinfo(damaged).header_offset + 30 + len(damaged)
    whole = bytearray(path.read_bytes())
    whole[start + 2 : start + 12] = b"\xff" * 10
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=damaged):
        labelled_words(path)


def test_a_word_outside_of_its_picture_is_not_dropped(tmp_path: Path) -> None:
    lines = "200,200,220,200,220,210,200,210,far\n5,5,5,5,5,5,5,5,point\n"
    path = write_zip(tmp_path / "a.zip", {"1.png": picture(), "gt_1.txt": lines})
    for shape in ("straight", "rectified"):
        crops, labels = labelled_words(SceneText(path, shape))
        assert labels == ["far", "point"] and all(0 not in crop.shape for crop in crops)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.png": picture()}, "1 pictures and 0 lists of words; both"),
        ({"1.png": picture(), "2.png": picture(), "gt_1.txt": "", "gt_3.txt": ""}, r"2\.png has 0 lists of words"),
        ({"1.png": picture(), "gt_1.txt": "1,2,3,word"}, r"the words of 1\.png, line 1: expected x1"),
        (
            {"1.png": picture(), "gt_1.txt": "1,1,9,1,9,8,1,8,a\n1,1,9,1,9,8,1,b\n2,1,9,1,9,8,1,8,c\n"},
            r"the words of 1\.png, line 2: expected x1.*the same in all lines, got '1,1,9,1,9,8,1,b'",
        ),
        (
            {"im1.png": picture(), "im01.png": picture(), "gt_1.txt": "1,1,9,9,a"},
            r"gt_1\.txt could be of .*im01\.png and of .*im1\.png; leave one",
        ),
        ({"1.png": picture(), "im2.png": picture(), "gt_1.txt": "", "gt_2.txt": ""}, r"im2\.png has 0 lists of words"),
        (
            {"1.png": picture(), "gt_1.txt": "1,1,9,9,a", "gt_2.txt": "1,1,9,9,b"},
            r"lacks the pictures of 1 .*gt_2\.txt",
        ),
        ({"a/1.png": picture(), "b/1.png": picture(), "gt_1.txt": ""}, r"could be of .*a/1\.png and of .*b/1\.png"),
        ({"a/1.png": picture(), "b/1.png": picture(), "gt.txt": '1.png, "a"'}, r"bear one name"),
        ({"1.png": picture(), "gt.txt": '1.png, "a"\n1.png, "b"'}, r"holds 1\.png twice"),
        ({"1.png": picture(), "gt_1.txt": b"1,2,3,4,\xff"}, "must be UTF-8"),
        ({"1.png": picture(), "2.png": picture(), "gt.txt": '1.png, "a"'}, r"lacks the words of 2\.png"),
        ({"1.png": picture(), "gt.txt": '1.png, "a"\n3.png, "b"'}, r'line 2: expected PICTURE, "WORD"'),
        ({"a/1.png": picture(), "b/1.txt": "", "a/1.txt": "", "c/1.png": picture()}, r"c/1\.png has 0 lists"),
    ],
)
def test_what_is_wrong_is_said(files: dict[str, bytes | str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        SceneText(write_zip(tmp_path / "a.zip", files))


def test_one_picture_in_two_places_is_told(tmp_path: Path) -> None:
    write_zip(tmp_path / "images.zip", {"img_1.png": picture()})
    (tmp_path / "gt_img_1.txt").write_text("1,1,9,9,a\n")
    assert len(SceneText(tmp_path).entries()) == 1
    (tmp_path / "img_1.png").write_bytes(picture())
    with pytest.raises(DatasetError, match=r"gt_img_1\.txt could be of .*images\.zip.* and of .*img_1\.png"):
        SceneText(tmp_path)


def test_a_picture_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": b"none", "gt_1.txt": "0,0,9,9,a"})
    with pytest.raises(ValueError, match=r"1 of 1 pictures cannot be read: 1\.png#1: not a readable image"):
        labelled_words(path)
    with pytest.raises(ValueError, match="shape must be one of straight, rectified"):
        SceneText(path, "round")  # type: ignore[arg-type]
    path.write_bytes(b"PK")
    assert not is_scene_text(path) and not is_scene_text(tmp_path / "nothing")
