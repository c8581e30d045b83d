"""`clip4str-doctr page` on files and pages that cannot be read: the others are, and nothing passes for whole."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import cv2
import pypdfium2 as pdfium
import pytest
from fake_pages import drawn_page, find_patches, places, spoil_pdf_page, spoil_tiff_page
from page_command import FORMATS, HW, Page, outputs, words_by_page
from PIL import Image

from clip4str_doctr.detection import any_detector
from clip4str_doctr.images import UnreadableImageError
from clip4str_doctr.pages import reading


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


@pytest.mark.parametrize(("kind", "suffix"), FORMATS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_ends_the_run(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, kind: str, suffix: str, code: int
) -> None:
    """The other files could not be written either."""
    out, replace = tmp_path / "out", os.replace

    def full(part: Path, path: Path) -> None:
        if path.name == f"trang 1.{suffix}":
            raise OSError(code, os.strerror(code))
        replace(part, path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert page(folder, "-o", out, "--format", kind) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"clip4str-doctr: error: {out / 'trang 1'}.{suffix} cannot be written: ")
    assert os.strerror(code) in told and told.endswith("the same command goes on from there")
    assert outputs(out) == [f"quét.{suffix}"]
    assert page(folder, "-o", out, "--format", kind) == 0
    assert "1 of 4 files skipped" in capsys.readouterr().err and len(outputs(out)) == 4


def test_a_drawing_that_the_disk_does_not_take_ends_the_run(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "out"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", full)
        assert page(folder, "-o", out, "--draw") == 2
    assert "quét.boxes.png cannot be written: " in capsys.readouterr().err and outputs(out) == []
    assert page(folder, "-o", out, "--draw") == 0


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


def test_a_page_that_was_typed_by_hand_stays(page: Page, tmp_path: Path, capfd: Any) -> None:
    source, out = tmp_path / "ba.tif", tmp_path / "out"
    scans = [drawn_page(places([[word]]), HW) for word in ("mười", "mốt", "hai")]
    scans[0].save(source, save_all=True, append_images=scans[1:], compression="tiff_adobe_deflate")
    spoil_tiff_page(source, 1)
    assert page(source, "-o", out) == 1
    # It lacks a page, so it is read again, but not over what somebody put there.
    assert page(source, "-o", out) == 1 and "stays" not in capfd.readouterr().err
    text = (out / "ba.txt").read_text(encoding="utf-8")
    (out / "ba.txt").write_text(text + "mốt", encoding="utf-8")
    assert page(source, "-o", out) == 1
    assert (out / "ba.txt").read_text(encoding="utf-8") == text + "mốt"
    told = capfd.readouterr().err
    assert (
        "ba.txt was changed since it was written, and stays, though it lacks pages; --overwrite reads it anew" in told
    )


def test_a_run_that_is_killed_before_it_replaces_an_output_leaves_it_known(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out, source, replace = tmp_path / "out", folder / "quét.pdf", os.replace
    failing_on(monkeypatch, {MỐT})
    assert page(source, "-o", out) == 1

    def before(part: Path, path: Path) -> None:
        raise KeyboardInterrupt

    def after(part: Path, path: Path) -> None:
        replace(part, path)
        raise KeyboardInterrupt

    for widths, killed in (({MỐT}, before), ({MƯỜI}, after), ({MỐT}, before), (set(), before)):
        failing_on(monkeypatch, widths)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", killed)
            assert page(source, "-o", out) == 130
    failing_on(monkeypatch, set())
    assert page(source, "-o", out) == 0 and "was changed since" not in capsys.readouterr().err


def test_a_drawing_that_failed_is_made_the_next_time(
    page: Page, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "ba.tif", tmp_path / "out"
    scans = [drawn_page(places([[word]]), HW) for word in ("mười", "mốt", "hai")]
    scans[0].save(source, save_all=True, append_images=scans[1:])
    assert page(source, "-o", out) == 0
    read = reading.read_upright

    def all_but_one(predictor: Any, pixels: Any, number: int) -> Any:
        if number == 1:
            raise UnreadableImageError("too large for this machine's memory")
        return read(predictor, pixels, number)

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_upright", all_but_one)
        assert page(source, "-o", out, "--draw") == 1
    assert "ba.p2.boxes.png" not in outputs(out) and "ba.p3.boxes.png" in outputs(out)
    assert page(source, "-o", out, "--draw") == 0
    assert {"ba.boxes.png", "ba.p2.boxes.png", "ba.p3.boxes.png"} < set(outputs(out))
    capfd.readouterr()
    assert page(source, "-o", out, "--draw") == 0
    assert "1 of 1 files skipped" in capfd.readouterr().err


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
