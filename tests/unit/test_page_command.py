"""`clip4str-doctr page` in this process, with a random recogniser behind a detector that finds dark patches."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_pages import drawn_page, find_patches, places
from PIL import Image

from clip4str_doctr import cli, load_model
from clip4str_doctr.detection import any_detector
from clip4str_doctr.pages import drawing
from clip4str_doctr.pages.files import open_pages
from clip4str_doctr.pages.origins import RECORD, Origins
from clip4str_doctr.pages.outputs import as_text
from clip4str_doctr.pages.reading import document_of, page_predictor, read_page

HW = (400, 600)
PAGES = {
    "trang 1.png": [["một", "hai"], ["ba"]],
    "trang 2.jpg": [["bốn", "năm", "sáu"]],
    "trang 10.png": [["bảy"], ["tám", "chín"]],
}
Page = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hồ sơ"
    folder.mkdir()
    for name, lines in PAGES.items():
        drawn_page(places(lines), HW).save(folder / name, quality=95)
    scans = [drawn_page(places([[word]]), HW) for word in ("mười", "mốt")]
    scans[0].save(folder / "quét.pdf", save_all=True, append_images=scans[1:], resolution=150)
    return folder


@pytest.fixture
def page(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.setenv("CLIP4STR_DOCTR_HOME", str(micro_folder.parent))
    asked: list[str] = []

    def detector(name: str, **_: Any) -> Any:
        asked.append(name)
        if name != "rapidocr":
            raise RuntimeError("not installed; type pip install it")
        return any_detector(find_patches)

    monkeypatch.setattr("clip4str_doctr.detection.detector", detector)
    return lambda *args: cli.main(["page", "--device", "cpu", *map(str, args)])


@pytest.fixture(scope="module")
def text_of(micro_folder: Path) -> Callable[[Path], str]:
    """What the same model reads, without the command."""
    predictor = page_predictor(load_model(micro_folder), any_detector(find_patches))

    def read(path: Path) -> str:
        return as_text(
            document_of([read_page(predictor, pixels, n) for n, pixels in enumerate(open_pages(path, dpi=200))])
        )

    return read


def outputs(out: Path) -> list[str]:
    """What a user sees of a folder."""
    return [name for name in os.listdir(out) if not name.startswith(".")]


def test_text_of_one_file(page: Page, folder: Path, text_of: Any, capsys: Any) -> None:
    assert page(folder / "trang 1.png") == 0
    out, err = capsys.readouterr()
    assert out == text_of(folder / "trang 1.png") and len(out.split()) == 3
    assert err == ""


def test_text_of_a_folder_in_natural_order(page: Page, folder: Path, text_of: Any, capsys: Any) -> None:
    assert page(folder) == 0
    names = ["quét.pdf", "trang 1.png", "trang 2.jpg", "trang 10.png"]
    expected = "".join(f"==> {folder / name} <==\n{text_of(folder / name)}\n" for name in names)
    assert capsys.readouterr().out == expected


def test_json_on_stdout_is_one_array(page: Page, folder: Path, capsys: Any) -> None:
    assert page(folder / "quét.pdf", folder / "trang 1.png", "--format", "json") == 0
    documents = json.loads(capsys.readouterr().out)
    assert [document["path"] for document in documents] == [str(folder / "quét.pdf"), str(folder / "trang 1.png")]
    assert [page["page_idx"] for page in documents[0]["pages"]] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "suffix"), [("text", "txt"), ("json", "json"), ("hocr", "hocr"), ("md", "md"), ("pdf", "pdf")]
)
def test_every_format_into_a_folder(page: Page, folder: Path, tmp_path: Path, kind: str, suffix: str) -> None:
    out = tmp_path / "kết quả" / "mới"
    assert page(folder, "--format", kind, "-o", out) == 0
    assert sorted(outputs(out)) == sorted(f"{Path(name).stem}.{suffix}" for name in [*PAGES, "quét.pdf"])
    assert all((out / name).stat().st_size > 10 or kind in ("text", "md") for name in outputs(out))


def test_what_is_done_is_skipped(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert page(folder, "-o", out) == 0
    first = {path.name: path.stat().st_mtime_ns for path in map(out.joinpath, outputs(out))}
    # One input is newer than its output, another has none: these are read, the others are not.
    os.utime(folder / "trang 2.jpg", ns=(first["trang 2.txt"] + 10**9,) * 2)
    (out / "trang 10.txt").unlink()
    os.utime(out / "trang 1.txt", ns=(first["trang 1.txt"] + 5,) * 2)
    capsys.readouterr()
    assert page(folder, "-o", out) == 0
    second = {path.name: path.stat().st_mtime_ns for path in map(out.joinpath, outputs(out))}
    assert second["trang 1.txt"] == first["trang 1.txt"] + 5 and second["quét.txt"] == first["quét.txt"]
    assert second["trang 2.txt"] > first["trang 2.txt"] and "trang 10.txt" in second
    assert "2 of 4 files skipped" in capsys.readouterr().err
    os.utime(folder / "trang 2.jpg", ns=(first["trang 1.txt"] - 10**9,) * 2)
    # With nothing left to do not even the model is loaded.
    assert page(folder, "-o", out, "--weights", "nowhere.ckpt") == 0
    assert "4 of 4 files skipped" in capsys.readouterr().err
    assert page(folder, "-o", out, "--overwrite") == 0
    assert (out / "trang 1.txt").stat().st_mtime_ns != second["trang 1.txt"]


def test_nothing_is_written_over_the_output_of_another_file(
    page: Page, folder: Path, tmp_path: Path, text_of: Any, capsys: Any
) -> None:
    out, other = tmp_path / "out", tmp_path / "khác"
    other.mkdir()
    drawn_page(places([["x", "y"]]), HW).save(other / "trang 10.png")
    os.utime(other / "trang 10.png", ns=(0, 0))
    assert page(folder / "trang 10.png", "-o", out, "--draw") == 0
    before = (out / "trang 10.txt").read_text(encoding="utf-8")
    capsys.readouterr()
    # Older than the output, it would be taken for done; newer, its text would be written over the other's.
    for _ in range(2):
        assert page(other, "-o", out) == 2
        err = capsys.readouterr().err
        assert "made from ../hồ sơ/trang 10.png" in err and "another -o, or replace it with --overwrite" in err
        os.utime(other / "trang 10.png")
    assert (out / "trang 10.txt").read_text(encoding="utf-8") == before
    # The text of another format would be new, but not the drawing.
    assert page(other, "-o", out, "--format", "json", "--draw") == 2
    assert page(other, "-o", out, "--format", "json") == 0
    assert page(other, "-o", out, "--overwrite") == 0
    assert (out / "trang 10.txt").read_text(encoding="utf-8") == text_of(other / "trang 10.png") != before
    assert page(folder / "trang 10.png", "-o", out) == 2
    assert "made from ../khác/trang 10.png" in capsys.readouterr().err
    # Moved together with what it was made from, a folder is still known.
    (tmp_path / "cả").mkdir()
    for path in (out, other):
        path.rename(tmp_path / "cả" / path.name)
    assert page(tmp_path / "cả" / "khác", "-o", tmp_path / "cả" / "out") == 0
    assert "1 of 1 files skipped" in capsys.readouterr().err


def test_files_of_others_in_the_folder_are_left_alone(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "trang 1.txt").write_text("mine")
    assert page(folder, "-o", out) == 2
    assert "trang 1.txt is there already, not written by this command" in capsys.readouterr().err
    assert outputs(out) == ["trang 1.txt"] and (out / "trang 1.txt").read_text() == "mine"
    # A record that was torn off says nothing, and what is added to it is read again.
    (out / RECORD).write_text('{"trang 1.txt": ')
    assert page(folder, "-o", out) == 2
    (out / "trang 1.txt").unlink()
    assert page(folder, "-o", out) == 0 and page(folder, "-o", out) == 0
    assert "4 of 4 files skipped" in capsys.readouterr().err


def test_runs_beside_each_other_lose_no_record(tmp_path: Path) -> None:
    sources = [tmp_path / f"{number}.png" for number in range(3)]
    runs = [Origins(tmp_path) for _ in sources]
    for run, source in zip(runs, sources, strict=True):
        run.add([(source.with_suffix(".txt"), source)])
    read = Origins(tmp_path)
    assert all(read.is_from(source.with_suffix(".txt"), source) for source in sources)
    # Any name that a file system gives.
    for name in (os.fsdecode(b"qu\xe9t.png"), "a\u2028b.png"):
        runs[0].add([(tmp_path / f"{name}.txt", tmp_path / name)])
        assert Origins(tmp_path).is_from(tmp_path / f"{name}.txt", tmp_path / name)
    # The last line counts.
    runs[0].add([(tmp_path / "1.txt", sources[0])])
    assert Origins(tmp_path).source_of(tmp_path / "1.txt") == "0.png"


def test_drawings_of_later_pages_are_not_written_over_others(
    page: Page, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    (folder / "trang 1.png").rename(folder / "quét.p2.png")
    assert page(folder, "-o", out, "--draw") == 1
    assert "quét.p2.boxes.png is there already, made from ../hồ sơ/quét.p" in capsys.readouterr().err


def test_a_stopped_run_goes_on(page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    out, whole = tmp_path / "out", Origins.add
    # As if killed after the first file: nothing is recorded any more.
    monkeypatch.setattr(Origins, "add", lambda self, made: whole(self, made) if not outputs(out) else stop())

    def stop() -> None:
        raise KeyboardInterrupt

    assert page(folder, "-o", out) == 130
    assert outputs(out) == ["quét.txt"]
    monkeypatch.setattr(Origins, "add", whole)
    capsys.readouterr()
    assert page(folder, "-o", out) == 0
    assert "1 of 4 files skipped" in capsys.readouterr().err and len(outputs(out)) == 4


def test_drawings(page: Page, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert page(folder / "quét.pdf", folder / "trang 1.png", "-o", out, "--draw") == 0
    drawings = {"quét.boxes.png", "quét.p2.boxes.png", "trang 1.boxes.png"}
    assert set(outputs(out)) == {"quét.txt", "trang 1.txt", *drawings}
    before = (out / "trang 1.txt").stat().st_mtime_ns
    (out / "trang 1.boxes.png").unlink()
    assert page(folder / "trang 1.png", "-o", out) == 0
    assert (out / "trang 1.txt").stat().st_mtime_ns == before
    assert page(folder / "trang 1.png", "-o", out, "--draw") == 0
    assert (out / "trang 1.boxes.png").exists() and (out / "trang 1.txt").stat().st_mtime_ns > before


def test_corrupt_files_are_reported_and_the_others_read(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    (folder / "hỏng.pdf").write_bytes((folder / "quét.pdf").read_bytes()[:300])
    (folder / "hỏng.png").write_bytes((folder / "trang 1.png").read_bytes()[:200])
    (folder / "rỗng.tif").write_bytes(b"")
    out = tmp_path / "out"
    assert page(folder, "-o", out, "--draw") == 1
    assert {path.name for path in out.glob("*.txt")} == {"quét.txt", "trang 1.txt", "trang 2.txt", "trang 10.txt"}
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{folder / 'hỏng.pdf'}: not a readable PDF: ")
    assert lines[1].startswith(f"{folder / 'hỏng.png'}: not a readable image: ")
    assert lines[2].startswith(f"{folder / 'rỗng.tif'}: not a readable image: ")


@pytest.mark.parametrize("error", [RuntimeError, ValueError, cv2.error])
def test_a_detector_that_fails_on_one_page(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, error: type[Exception]
) -> None:
    def find(pixels: Any) -> Any:
        # The second scan's word begins as the first's, and is shorter.
        boxes = find_patches(pixels)
        if len(boxes) == 1 and boxes[0, 2] - boxes[0, 0] < 50 * 200 / 150:
            raise error("failed with status 1")
        return boxes

    monkeypatch.setattr("clip4str_doctr.detection.detector", lambda name, **_: any_detector(find))
    assert page(folder, "-o", tmp_path / "out") == 1
    assert set(outputs(tmp_path / "out")) == {"trang 1.txt", "trang 2.txt", "trang 10.txt"}
    assert capsys.readouterr().err == f"{folder / 'quét.pdf'}: failed with status 1\n"
    # What was read is not lost.
    assert page(folder, "--format", "json") == 1
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_pages_without_words(page: Page, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (300, 200), "white").save(tmp_path / "trắng.png")
    assert page(tmp_path / "trắng.png") == 0
    assert capsys.readouterr().out.strip() == ""
    for kind in ("json", "hocr", "md", "pdf"):
        assert page(tmp_path / "trắng.png", "--format", kind, "-o", tmp_path / "out", "--draw") == 0
    assert len(outputs(tmp_path / "out")) == 5


def test_names_that_stand_twice(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    (folder / "trang 2.jpg").rename(folder / "trang 1.jpg")
    assert page(folder, "-o", tmp_path / "out") == 0
    assert set(outputs(tmp_path / "out")) == {
        "quét.txt",
        "trang 1.jpg.txt",
        "trang 1.png.txt",
        "trang 10.txt",
    }
    other = tmp_path / "other"
    other.mkdir()
    drawn_page(places([["x"]]), HW).save(other / "trang 10.png")
    assert page(folder, other, "-o", tmp_path / "out") == 2
    assert "2 files would be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "no such file or folder: nowhere.png"),
        (["EMPTY"], "no image or PDF in"),
        (["PAGE", "--format", "pdf"], "--format pdf writes files; say where with -o DIR"),
        (["PAGE", "--format", "hocr"], "--format hocr writes files"),
        (["PAGE", "--draw"], "--draw writes files"),
        (["PAGE", "-o", "PAGE"], "cannot be made a folder"),
        (["SCAN", "-o", "FOLDER", "--format", "pdf"], "would be overwritten"),
        (["FOLDER", "-o", "FOLDER", "--format", "pdf"], "would be read there next time"),
        (["FOLDER", "-o", "FOLDER", "--draw"], "would be read there next time"),
        (["PAGE", "--detector", "tesseract"], "--detector tesseract: not installed; type pip install it"),
        (["PAGE", "--arch", "clip5str"], "unknown --arch clip5str"),
        (["PAGE", "--device", "cpx"], "cannot use --device cpx"),
    ],
)
def test_what_cannot_be_done_is_said(
    page: Page, folder: Path, tmp_path: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    names = {
        "EMPTY": tmp_path / "empty",
        "PAGE": folder / "trang 1.png",
        "SCAN": folder / "quét.pdf",
        "FOLDER": folder,
    }
    before = (folder / "quét.pdf").read_bytes()
    assert page(*[names.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.search(re.escape(message), err), err
    assert (folder / "quét.pdf").read_bytes() == before


def test_without_fonttools_nothing_is_read(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "fontTools.fontBuilder", None)
    assert page(folder, "--format", "pdf", "-o", tmp_path / "out") == 2
    assert "pip install 'clip4str-doctr[pdf]'" in capsys.readouterr().err


def test_a_missing_path_leaves_the_others_to_be_read(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert page(tmp_path / "nowhere.pdf", folder / "trang 1.png") == 1
    out, err = capsys.readouterr()
    assert len(out.split()) == 3 and "nowhere.pdf: no such file or folder" in err


@pytest.mark.parametrize("arguments", [["page"], ["page", "a.png", "--dpi", "5"], ["page", "a.png", "--format", "doc"]])
def test_usage(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and "usage: clip4str-doctr page" in capsys.readouterr().err


def test_drawing_shows_page_boxes_and_words(page: Page, folder: Path, tmp_path: Path) -> None:
    assert page(folder / "trang 1.png", "-o", tmp_path, "--draw") == 0
    picture = np.asarray(Image.open(tmp_path / "trang 1.boxes.png").convert("RGB")).astype(int)
    height, width = HW
    assert picture.shape[0] > height and picture.shape[1] == 2 * width
    colours = [colour for _, colour in drawing.CONFIDENCE_BANDS]
    marked = sum((abs(picture - colour).sum(2) < 30) for colour in colours) > 0
    for _, (x0, y0, x1, _y1) in places(PAGES["trang 1.png"]):
        assert marked[y0 - 1 : y0 + 2, x0:x1].any(0).mean() > 0.9
    if drawing.vietnamese_font() is not None:
        (_, (x0, y0, x1, y1)) = places(PAGES["trang 1.png"])[0]
        assert marked[y0:y1, width + x0 : width + x1].any()


def test_drawing_without_a_font(page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(drawing, "_font_files", lambda: iter(["nowhere.ttf"]))
    drawing.vietnamese_font.cache_clear()
    try:
        assert page(folder / "quét.pdf", "-o", tmp_path, "--draw") == 0
    finally:
        drawing.vietnamese_font.cache_clear()
    with Image.open(tmp_path / "quét.p2.boxes.png") as picture:
        assert picture.width < 1.5 * HW[1] * 200 / 150
    assert caplog.text.count("no font with Vietnamese letters") == 1


def test_colours_tell_confidences_apart() -> None:
    assert drawing.colour_of(0.95) != drawing.colour_of(0.7) != drawing.colour_of(0.1)
