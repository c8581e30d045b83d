"""Where reports of the benchmark go."""

from pathlib import Path

import pytest

from clip4str_doctr.benchmark.targets import check_file, check_folder, keep_unfinished, unfinished


def test_folders_are_made_before_hours_of_reading(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "results", "words")
    check_file(tmp_path / "other" / "pages.json")
    assert (tmp_path / "new" / "results").is_dir() and (tmp_path / "other").is_dir()
    with pytest.raises(ValueError, match="is a folder; name the JSON file to write"):
        check_file(tmp_path / "other")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        check_folder(tmp_path / "file", "words")


def test_a_report_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("{}", encoding="utf-8")
    check_folder(tmp_path, "other")
    with pytest.raises(ValueError, match=r"words\.json is there already; give another folder or --title"):
        check_folder(tmp_path, "words")
    # A file is named by the user, who means it.
    check_file(tmp_path / "words.json")


def test_what_an_ended_run_read_is_kept(tmp_path: Path) -> None:
    keep_unfinished({"answers": ["một"]}, None, "words")
    assert not any(tmp_path.iterdir())
    keep_unfinished({"answers": ["một"]}, tmp_path, "words")
    assert "một" in unfinished(tmp_path, "words").read_text(encoding="utf-8")
    for check in (lambda: check_folder(tmp_path, "words"), lambda: check_file(tmp_path / "words.json")):
        with pytest.raises(ValueError, match=r"words\.json\.unfinished holds what a run read .* move it away"):
            check()
