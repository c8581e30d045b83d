"""`clip4str-doctr page` in this process, with a random recogniser behind a detector that finds dark patches."""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pypdfium2 as pdfium
import pytest
from fake_pages import drawn_page, find_patches, places, spoil_pdf_page, spoil_tiff_page
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


def words_by_page(output: Path) -> list[list[str]]:
    """The words that an output of any format holds."""
    if output.suffix == ".pdf":
        with pdfium.PdfDocument(output) as pdf:
            return [pdf[number].get_textpage().get_text_range().split() for number in range(len(pdf))]
    text = output.read_text(encoding="utf-8")
    if output.suffix == ".json":
        pages = json.loads(text)["pages"]
        lines = [[line for block in page["blocks"] for line in block["lines"]] for page in pages]
        return [[word["value"] for line in page for word in line["words"]] for page in lines]
    if output.suffix == ".hocr":
        pages = [div for div in ElementTree.fromstring(text).iter() if div.get("class") == "ocr_page"]
        return [[str(word.text) for word in page.iter() if word.get("class") == "ocrx_word"] for page in pages]
    if output.suffix == ".md":
        text = text.replace("\\\n", "\n")
        return [re.sub(r"\\([^\w\s])", r"\1", page).split() for page in text.split("\n\n---\n\n")]
    return [page.split() for page in text.split("\n\n\n\n")]


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


FORMATS = [("text", "txt"), ("json", "json"), ("hocr", "hocr"), ("md", "md"), ("pdf", "pdf")]


@pytest.mark.parametrize(("kind", "suffix"), FORMATS)
def test_every_format_into_a_folder(
    page: Page, folder: Path, tmp_path: Path, text_of: Any, kind: str, suffix: str
) -> None:
    out = tmp_path / "kết quả" / "mới"
    assert page(folder, "--format", kind, "-o", out) == 0
    names = [*PAGES, "quét.pdf"]
    assert sorted(outputs(out)) == sorted(f"{Path(name).stem}.{suffix}" for name in names)
    for name in names:
        expected = [words.split() for words in text_of(folder / name).split("\n\n\n\n")]
        assert words_by_page(out / f"{Path(name).stem}.{suffix}") == expected


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


def failing_on(monkeypatch: pytest.MonkeyPatch, widths: set[int], error: type[Exception] = RuntimeError) -> None:
    """A detector that fails on pages whose only word is so many pixels wide."""

    def find(pixels: Any) -> Any:
        boxes = find_patches(pixels)
        if len(boxes) == 1 and round(boxes[0, 2] - boxes[0, 0]) in widths:
            raise error("failed with status 1")
        return boxes

    monkeypatch.setattr("clip4str_doctr.detection.detector", lambda name, **_: any_detector(find))


MƯỜI, MỐT = 4 * 12 * 200 // 150, 3 * 12 * 200 // 150  # widths of the scan's words, at 200 dpi


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError, cv2.error])
def test_a_detector_that_fails_on_one_page(
    page: Page, folder: Path, tmp_path: Path, text_of: Any, monkeypatch: Any, capsys: Any, error: type[Exception]
) -> None:
    whole = text_of(folder / "quét.pdf").split()
    failing_on(monkeypatch, {MỐT}, error)
    out = tmp_path / "out"
    assert page(folder, "-o", out) == 1
    assert capsys.readouterr().err == f"{folder / 'quét.pdf'}, page 2: failed with status 1\n"
    assert words_by_page(out / "quét.txt") == [whole[:1], []] and len(outputs(out)) == 4
    # Nor does what an earlier run drew of it stand beside the empty page.
    failing_on(monkeypatch, set())
    assert page(folder / "quét.pdf", "-o", tmp_path / "drawn", "--draw") == 0
    failing_on(monkeypatch, {MỐT}, error)
    assert page(folder / "quét.pdf", "-o", tmp_path / "drawn", "--draw", "--overwrite") == 1
    assert sorted(outputs(tmp_path / "drawn")) == ["quét.boxes.png", "quét.txt"]
    capsys.readouterr()
    # What was read is not lost on stdout either.
    assert page(folder, "--format", "json") == 1
    read = json.loads(capsys.readouterr().out)
    assert [len(document["pages"]) for document in read] == [2, 1, 1, 1] and read[0]["pages"][1]["blocks"] == []
    # The file with a hole is read again, and only it, without being told to; once it is whole it is done.
    assert page(folder, "-o", out) == 1
    assert "3 of 4 files skipped" in capsys.readouterr().err
    failing_on(monkeypatch, set())
    assert page(folder, "-o", out) == 0
    assert words_by_page(out / "quét.txt") == [whole[:1], whole[1:]]
    capsys.readouterr()
    assert page(folder, "-o", out) == 0
    assert "4 of 4 files skipped" in capsys.readouterr().err


def test_where_no_page_can_be_read_nothing_is_written(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    failing_on(monkeypatch, set())
    assert page(folder / "quét.pdf", "-o", tmp_path / "before", "--draw") == 0
    before = outputs(tmp_path / "before")
    drawn_page(places([["mốt"]]), HW).save(folder / "một.png")
    failing_on(monkeypatch, {MƯỜI, MỐT, 36})
    assert page(folder / "quét.pdf", folder / "một.png", "-o", tmp_path / "out") == 1
    assert outputs(tmp_path / "out") == []
    told = capsys.readouterr().err
    assert page(folder / "quét.pdf", "-o", tmp_path / "before", "--draw", "--overwrite") == 1
    assert outputs(tmp_path / "before") == before
    scan = folder / "quét.pdf"
    assert told.splitlines() == [
        f"{scan}, page 1: failed with status 1",
        f"{scan}, page 2: failed with status 1",
        f"{scan}: none of its 2 pages could be read; nothing is written",
        f"{folder / 'một.png'}: failed with status 1",
    ]


@pytest.mark.parametrize(("kind", "suffix"), FORMATS)
@pytest.mark.parametrize("name", ["ba.pdf", "ba.tif"])
def test_a_page_that_cannot_be_drawn(
    page: Page, tmp_path: Path, text_of: Any, capfd: Any, kind: str, suffix: str, name: str
) -> None:
    source, out = tmp_path / name, tmp_path / "out"
    scans = [drawn_page(places([[word]]), HW) for word in ("mười", "mốt", "hai")]
    options = {"resolution": 150} if name.endswith("pdf") else {"compression": "tiff_adobe_deflate"}
    scans[0].save(source, save_all=True, append_images=scans[1:], **options)
    first, _, last = [words.split() for words in text_of(source).split("\n\n\n\n")]
    (spoil_pdf_page if name.endswith("pdf") else spoil_tiff_page)(source, 1)
    assert page(source, "--format", kind, "-o", out, "--draw") == 1
    assert re.search(rf"{re.escape(str(source))}, page 2: .*(cannot be drawn|not a readable)", capfd.readouterr().err)
    assert sorted(outputs(out)) == sorted([f"ba.{suffix}", "ba.boxes.png", "ba.p3.boxes.png"])
    if (kind, name) == ("pdf", "ba.pdf"):
        # The page stays as it was: nobody can open it.
        with pdfium.PdfDocument(out / "ba.pdf") as pdf:
            assert len(pdf) == 3
            assert [pdf[number].get_textpage().get_text_range().split() for number in (0, 2)] == [first, last]
    else:
        assert words_by_page(out / f"ba.{suffix}") == [first, [], last]


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


def test_names_that_only_some_file_systems_tell_apart(page: Page, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "vào"
    folder.mkdir()
    names = [
        "HoaDon.png",
        "hoadon.jpg",
        unicodedata.normalize("NFC", "Quét.png"),
        unicodedata.normalize("NFD", "quét.bmp"),
    ]
    for name in names:
        drawn_page(places([[name]]), HW).save(folder / name)
    assert page(folder, "-o", tmp_path / "out") == 0
    assert sorted(outputs(tmp_path / "out")) == sorted(f"{name}.txt" for name in names)
    (folder / "hoadon.png").write_bytes((folder / "HoaDon.png").read_bytes())
    if len(os.listdir(folder)) > len(names):
        assert page(folder, "-o", tmp_path / "new") == 0
        new = [*(f"{name}.txt" for name in names), "hoadon.png-2.txt"]
        assert sorted(outputs(tmp_path / "new")) == sorted(new)


def test_an_original_under_another_name_is_not_written_over(
    page: Page, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    """As quét.PDF is, where file systems mind no case."""
    (folder / "quét.pdf").rename(folder / "quét.PDF")
    os.link(folder / "quét.PDF", folder / "quét.pdf.new")
    (folder / "quét.pdf.new").rename(tmp_path / "quét.pdf")
    assert page(folder / "quét.PDF", "-o", tmp_path, "--format", "pdf", "--overwrite") == 2
    assert "quét.pdf is among the files to read and would be overwritten" in capsys.readouterr().err


def test_what_the_command_wrote_into_a_folder_is_not_read_as_its_pages(
    page: Page, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    pictures = [folder / name for name in PAGES]
    assert page(*pictures, "-o", folder, "--format", "pdf", "--draw") == 0
    capsys.readouterr()
    assert page(folder, "-o", tmp_path / "out") == 0
    assert capsys.readouterr().err == f"{folder}: 6 files left out that this command wrote; name them to read them\n"
    assert sorted(outputs(tmp_path / "out")) == sorted(f"{Path(name).stem}.txt" for name in [*PAGES, "quét.pdf"])
    assert page(folder / "trang 1.pdf") == 0
    # The scan is a file of its own, and written by nobody: with it the folder's PDFs cannot go where it is.
    (folder / "quét.pdf").unlink()
    capsys.readouterr()
    assert page(folder, "-o", folder, "--format", "pdf", "--draw") == 0
    assert "3 of 3 files skipped" in capsys.readouterr().err


def test_files_of_types_that_are_not_read_are_told(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    for name in ("ảnh.HEIC", "ảnh.avif", "ghi chú.txt"):
        (folder / name).touch()
    assert page(folder, "-o", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert err.startswith(f"{folder}: not read (1 avif, 1 heic); convert them to one of bmp, gif, ") and "pdf" in err
    assert err.count("\n") == 1


def test_rows_across_the_page(page: Page, tmp_path: Path, text_of: Any) -> None:
    left, right = [["cà", "phê"], ["trà"], ["bánh", "mì"], ["cộng"]], [["25"], ["9"], ["30"], ["64"]]
    receipt, out = tmp_path / "hóa đơn.png", tmp_path / "out"
    drawn_page(places(left) + places(right, x=500), HW).save(receipt)
    parted = text_of(receipt)
    words = parted.split()
    rows = [words[:3], words[3:5], words[5:8], words[8:]]
    for kind, suffix in FORMATS:
        assert page(receipt, "--layout", "rows", "--format", kind, "-o", out) == 0
        assert words_by_page(out / f"hóa đơn.{suffix}") == [words]
    text = (out / "hóa đơn.txt").read_text(encoding="utf-8")
    assert text == "\n".join(map(" ".join, rows)) + "\n" != parted
    # Markdown would fill one paragraph with the rows.
    assert (out / "hóa đơn.md").read_text(encoding="utf-8").count("\\\n") == len(rows) - 1


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
        (["FOLDER", "-o", "FOLDER", "--format", "pdf"], "would be overwritten"),
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
