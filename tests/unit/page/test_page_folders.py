"""`clip4str-doctr page` into folders: what is done already, and that nothing is written over what is another's."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from fake_pages import drawn_page, places
from page_command import FORMATS, HW, PAGES, Page, outputs, words_by_page

from clip4str_doctr.pages import reading
from clip4str_doctr.pages.origins import RECORD, Origins


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


@pytest.mark.parametrize(("kind", "suffix"), FORMATS)
@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, kind: str, suffix: str, older: bool
) -> None:
    """Its output is newer than it then, but of what it was."""
    source, out, read = folder / "trang 1.png", tmp_path / "out", reading.read_upright

    def meanwhile(*args: Any) -> Any:
        page = read(*args)
        drawn_page(places([["khác"]]), HW).save(source)
        if older:  # as by a copy that keeps times
            os.utime(source, ns=(10**18, 10**18))
        return page

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_upright", meanwhile)
        assert page(source, "-o", out, "--format", kind, "--draw") == 1
    assert capsys.readouterr().err == f"{source} was changed while it was read; the same command reads it again\n"
    assert sum(map(len, words_by_page(out / f"trang 1.{suffix}"))) == 3
    assert page(source, "-o", out, "--format", kind, "--draw") == 0
    assert sum(map(len, words_by_page(out / f"trang 1.{suffix}"))) == 1
    assert page(source, "-o", out, "--format", kind, "--draw") == 0
    assert "1 of 1 files skipped" in capsys.readouterr().err


def test_outputs_of_other_options_are_kept_and_told(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert page(folder / "trang 1.png", "-o", out, "--layout", "rows") == 0
    assert page(folder / "trang 1.png", folder / "trang 10.png", "-o", out, "--draw") == 0
    (out / "trang 10.txt").write_text("corrected by hand", encoding="utf-8")
    capsys.readouterr()
    assert page(folder, "-o", out, "--layout", "rows") == 0
    assert capsys.readouterr().err == (
        f"2 of 4 files skipped, their outputs in {out} are newer, but 1 were read with other options "
        "(as --detector rapidocr --layout blocks --dpi 200.0); --overwrite reads them\n"
    )
    assert (out / "trang 10.txt").read_text(encoding="utf-8") == "corrected by hand"
    assert page(folder / "trang 1.png", "-o", out, "--layout", "rows", "--overwrite") == 0
    capsys.readouterr()
    assert page(folder / "trang 1.png", "-o", out, "--layout", "rows") == 0
    assert capsys.readouterr().err.endswith(f"their outputs in {out} are newer; --overwrite reads them\n")
    # A record of before options were kept says nothing of them.
    (out / RECORD).write_text('{"trang 1.txt": "../hồ sơ/trang 1.png"}', encoding="utf-8")
    assert page(folder / "trang 1.png", "-o", out) == 0
    assert "are newer; --overwrite" in capsys.readouterr().err


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


def test_a_missing_drawing_is_made_and_the_text_stays(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    out, source = tmp_path / "out", folder / "trang 1.png"
    assert page(source, "-o", out) == 0
    (out / "trang 1.txt").write_text("corrected by hand", encoding="utf-8")
    for _ in range(2):
        assert page(source, "-o", out, "--draw") == 0
        assert (out / "trang 1.boxes.png").exists()
        assert (out / "trang 1.txt").read_text(encoding="utf-8") == "corrected by hand"
        capsys.readouterr()
        assert page(source, "-o", out, "--draw") == 0
        assert "1 of 1 files skipped" in capsys.readouterr().err
        (out / "trang 1.boxes.png").unlink()
    # Of a source that has changed since, or only its time has, nobody but the user knows which of them counts.
    newer = (out / "trang 1.txt").stat().st_mtime_ns + 5
    os.utime(source, ns=(newer, newer))
    assert page(source, "-o", out, "--draw") == 1
    assert (out / "trang 1.txt").read_text(encoding="utf-8") == "corrected by hand"
    assert "stays, though its source is newer; --overwrite reads it anew" in capsys.readouterr().err
    assert page(source, "-o", out, "--draw", "--overwrite") == 0
    assert "corrected" not in (out / "trang 1.txt").read_text(encoding="utf-8")
    # What nobody touched is read anew without asking.
    newer = (out / "trang 1.txt").stat().st_mtime_ns + 5
    os.utime(source, ns=(newer, newer))
    assert page(source, "-o", out, "--draw") == 0 and "skipped" not in capsys.readouterr().err


def test_drawings_are_of_the_same_reading_as_the_text(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    out, source = tmp_path / "out", folder / "trang 1.png"
    drawing = out / "trang 1.boxes.png"
    assert page(source, "-o", out, "--draw") == 0
    # One folder for two formats: each run finds what the other has drawn.
    assert page(source, "-o", out, "--draw", "--format", "json") == 0
    before = drawing.stat().st_mtime_ns
    for kind in ("text", "json"):
        capsys.readouterr()
        assert page(source, "-o", out, "--draw", "--format", kind) == 0
        assert "1 of 1 files skipped" in capsys.readouterr().err
    # Read otherwise, and without a drawing: the old one is of another reading.
    assert page(source, "-o", out, "--overwrite", "--layout", "rows") == 0
    assert drawing.stat().st_mtime_ns == before
    assert page(source, "-o", out, "--draw", "--layout", "rows") == 0
    assert drawing.stat().st_mtime_ns > before


def test_outputs_keep_their_names_whatever_comes_beside_their_sources(page: Page, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert page(folder, "-o", out) == 0
    (out / "trang 1.txt").write_text("corrected by hand", encoding="utf-8")
    drawn_page(places([["x"]]), HW).save(folder / "trang 1.jpg")
    assert page(folder, "-o", out) == 0
    assert (out / "trang 1.txt").read_text(encoding="utf-8") == "corrected by hand"
    assert {"trang 1.txt", "trang 1.jpg.txt"} <= set(outputs(out)) and "trang 1.png.txt" not in outputs(out)
    # Nor does it matter which of them are read together.
    assert page(folder / "trang 1.jpg", "-o", out) == 0
    assert (out / "trang 1.txt").read_text(encoding="utf-8") == "corrected by hand"


def test_a_stopped_run_claims_no_names(page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """What somebody puts there before the next run is his own."""
    out = tmp_path / "out"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("clip4str_doctr.pages.command._write", stop)
        assert page(folder, "-o", out) == 130
    assert outputs(out) == []
    (out / "trang 10.txt").write_text("mine", encoding="utf-8")
    assert page(folder, "-o", out) == 2
    assert "trang 10.txt is there already, not written by this command" in capsys.readouterr().err
    # And so is what he puts there while they are read.
    (out / "trang 10.txt").unlink()
    whole = Origins.make

    def meanwhile(origins: Origins) -> None:
        whole(origins)
        (out / "trang 10.txt").write_text("mine", encoding="utf-8")

    monkeypatch.setattr(Origins, "make", meanwhile)
    assert page(folder, "-o", out) == 1
    assert "trang 10.png: " in (err := capsys.readouterr().err) and "is there already, not written by" in err
    assert (out / "trang 10.txt").read_text(encoding="utf-8") == "mine" and len(outputs(out)) == 4


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
    err = capsys.readouterr().err
    assert "is not drawn: " in err and "quét.p2.boxes.png is there already, made from ../hồ sơ/quét.p" in err
    # What was read of it is there all the same.
    assert "quét.txt" in outputs(out) and "quét.p2.txt" in outputs(out)


def test_a_stopped_run_goes_on(page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    out, whole = tmp_path / "out", Origins.add
    # As if killed after the first file: nothing is recorded any more.
    monkeypatch.setattr(Origins, "add", lambda *args, **how: whole(*args, **how) if not outputs(out) else stop())

    def stop() -> None:
        raise KeyboardInterrupt

    assert page(folder, "-o", out) == 130
    assert outputs(out) == ["quét.txt"]
    monkeypatch.setattr(Origins, "add", whole)
    capsys.readouterr()
    assert page(folder, "-o", out) == 0
    assert "1 of 4 files skipped" in capsys.readouterr().err and len(outputs(out)) == 4


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("suffix", ["txt", "pdf"])
def test_what_a_killed_run_wrote_is_not_taken_for_corrected(
    page: Page, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, suffix: str, corrected: bool
) -> None:
    out, source, whole = tmp_path / "out", folder / "trang 1.png", Origins.add
    kind = {"txt": "text"}.get(suffix, suffix)
    assert page(source, "-o", out, "--format", kind) == 0
    before = (out / f"trang 1.{suffix}").read_bytes()

    def killed(self: Origins, *args: Any, **options: Any) -> None:
        if options.get("whole"):
            raise KeyboardInterrupt
        whole(self, *args, **options)

    def newer() -> None:
        later = (out / f"trang 1.{suffix}").stat().st_mtime_ns + 10**9
        os.utime(source, ns=(later, later))

    drawn_page(places([["khác"]]), HW).save(source)
    newer()
    with monkeypatch.context() as patched:
        patched.setattr(Origins, "add", killed)
        assert page(source, "-o", out, "--format", kind) == 130
    assert (out / f"trang 1.{suffix}").read_bytes() != before
    if corrected:
        (out / f"trang 1.{suffix}").write_bytes(b"corrected")
    newer()
    assert page(source, "-o", out, "--format", kind) == int(corrected)
    assert ("was changed since it was written, and stays" in capsys.readouterr().err) == corrected
    assert ((out / f"trang 1.{suffix}").read_bytes() == b"corrected") == corrected
    newer()
    assert page(source, "-o", out, "--format", kind, "--overwrite") == 0


def test_what_killed_runs_left_is_removed(page: Page, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    old, young, other = (out / f".{name}.part" for name in ("0123456789abcdef", "f" * 16, "mine"))
    for path in (old, young, other):
        path.touch()
        if path != young:
            os.utime(path, (0, 0))
    assert page(folder / "trang 1.png", "-o", out) == 0
    assert [path.exists() for path in (old, young, other)] == [False, True, True]


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
    assert page(folder, other, "-o", tmp_path / "new") == 2
    assert "2 files would be written to" in capsys.readouterr().err
    # Beside what is there, there is a name for it.
    assert page(folder, other, "-o", tmp_path / "out") == 0
    assert "trang 10.png.txt" in outputs(tmp_path / "out") and "4 of 5 files skipped" in capsys.readouterr().err


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


def test_names_that_leave_no_room_for_an_ending(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    (folder / "trang 1.png").rename(folder / ("ô" * 125 + ".png"))
    assert page(folder, "-o", tmp_path / "out", "--draw") == 2
    assert "its output cannot be named so" in capsys.readouterr().err
    assert page("x" * 300 + ".png") == 2
    assert "too long" in capsys.readouterr().err


def test_links_to_what_has_gone_are_told(page: Page, folder: Path, tmp_path: Path, capsys: Any) -> None:
    (folder / "trang 3.png").symlink_to(tmp_path / "gone.png")
    assert page(folder, "-o", tmp_path / "out") == 1
    assert "trang 3.png: " in capsys.readouterr().err and len(outputs(tmp_path / "out")) == 4


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
