"""`clip4str-doctr page`: formats, drawings, and what it refuses."""

import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctr.io.elements import Block, Line, Word
from doctr.io.elements import Page as DoctrPage
from fake_pages import drawn_page, pdf_form, places
from page_command import FORMATS, HW, PAGES, Page, outputs, words_by_page
from PIL import Image

from clip4str_doctr import cli
from clip4str_doctr.pages import drawing, reading
from clip4str_doctr.pages.files import open_pages


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


def test_json_of_what_was_read_is_not_lost(page: Page, folder: Path, capsys: Any, monkeypatch: Any) -> None:
    read, errors = reading.read_upright, [KeyboardInterrupt(), BrokenPipeError()]

    def stop_at_the_second(predictor: Any, pixels: Any, number: int) -> Any:
        if pixels.shape[:2] == HW:
            raise errors.pop(0)
        return read(predictor, pixels, number)

    monkeypatch.setattr(reading, "read_upright", stop_at_the_second)
    arguments = (folder / "quét.pdf", folder / "trang 1.png", "--format", "json")
    assert page(*arguments) == 130
    (document,) = json.loads(capsys.readouterr().out)
    assert document["path"] == str(folder / "quét.pdf") and len(document["pages"]) == 2
    # But there is nobody to tell it to where the reader of our output has left.
    monkeypatch.setattr(cli, "_close_output", lambda: None)
    assert page(*arguments) == 1 and capsys.readouterr().out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_full_disk_under_standard_output_is_no_fault_of_the_file(
    page: Page, folder: Path, capsys: Any, monkeypatch: Any, kind: str
) -> None:
    monkeypatch.setattr(cli, "_close_output", lambda: None)
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert page(folder, "--format", kind) == 2
        with suppress(OSError):
            full.close()
    assert capsys.readouterr().err == (
        "clip4str-doctr: error: standard output cannot be written: No space left on device\n"
    )


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


def test_pages_without_words(page: Page, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (300, 200), "white").save(tmp_path / "trắng.png")
    assert page(tmp_path / "trắng.png") == 0
    assert capsys.readouterr().out.strip() == ""
    for kind in ("json", "hocr", "md", "pdf"):
        assert page(tmp_path / "trắng.png", "--format", kind, "-o", tmp_path / "out", "--draw") == 0
    assert len(outputs(tmp_path / "out")) == 5


def test_what_is_filled_into_a_form_is_seen(tmp_path: Path) -> None:
    for value in ("MMMM", ""):
        pdf_form(tmp_path / "form.pdf", value)
        (pixels,) = open_pages(tmp_path / "form.pdf")
        assert (pixels < 100).any() == bool(value)


def test_rows_across_the_page(page: Page, tmp_path: Path, text_of: Any, capsys: Any) -> None:
    left, right = (
        [["cà", "phê"], ["trà", "đá"], ["bánh", "mì"], ["cộng"]],
        [["25.000"], ["9.000"], ["30.000"], ["64.000"]],
    )
    receipt, out = tmp_path / "hóa đơn.png", tmp_path / "out"
    drawn_page(places(left) + places(right, x=500), HW).save(receipt)
    assert page(receipt, "--layout", "rows") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [len(row) for row in rows] == [3, 3, 3, 2]
    words = [word for row in rows for word in row]
    assert sorted(words) == sorted(text_of(receipt).split())
    for kind, suffix in FORMATS:
        assert page(receipt, "--layout", "rows", "--format", kind, "-o", out) == 0
        assert words_by_page(out / f"hóa đơn.{suffix}") == [words]
    # Markdown would fill one paragraph with the rows.
    assert (out / "hóa đơn.md").read_text(encoding="utf-8").count("\\\n") == len(rows) - 1


def test_files_of_types_that_are_not_read_are_told(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    for name in ("ảnh.HEIC", "ảnh.avif", "ghi chú.txt"):
        (folder / name).touch()
    assert page(folder, "-o", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert err.startswith(f"{folder}: not read (1 avif, 1 heic); convert them to one of bmp, gif, ") and "pdf" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: no such file or folder"),
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
    assert (out / "trang 1.boxes.png").exists() and (out / "trang 1.txt").stat().st_mtime_ns == before


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
    assert [drawing.colour_of(one) for one in (0.95, 0.7, 0.1)] == [colour for _, colour in drawing.CONFIDENCE_BANDS]
    assert len({colour for _, colour in drawing.CONFIDENCE_BANDS}) == 3
    words = [
        Word("x", confidence, ((0.1, top), (0.9, top + 0.1)), 0.9, {"value": 0, "confidence": None})
        for confidence, top in ((0.95, 0.1), (0.7, 0.4), (0.1, 0.7))
    ]
    page = DoctrPage(np.full((*HW, 3), 255, np.uint8), [Block([Line(words)])], 0, HW)
    picture = np.asarray(drawing.draw_page(page.page, page).convert("RGB"))
    for (_, colour), top in zip(drawing.CONFIDENCE_BANDS, (0.1, 0.4, 0.7), strict=True):
        row = picture[round(top * HW[0]), HW[1] // 2]
        assert tuple(row) == colour


def test_resolution_and_batches_are_what_was_asked_for(
    page: Page, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[tuple[int, ...], int]] = []
    read_page = reading.read_page

    def watched(predictor: Any, pixels: Any, number: int) -> Any:
        seen.append((pixels.shape[:2], predictor.reco_predictor.pre_processor.batch_size))
        return read_page(predictor, pixels, number)

    monkeypatch.setattr(reading, "read_page", watched)
    for options in (("--dpi", 100, "--batch-size", 3), ("--dpi", 200)):
        assert page(folder / "quét.pdf", *options) == 0
    (small, three), _, (large, usual), _ = seen
    assert [2 * side for side in small] == pytest.approx(large, abs=2)
    assert three == 3 != usual
