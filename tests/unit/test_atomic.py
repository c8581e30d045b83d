"""Files that are whole or not there at all."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clip4str_doctr.atomic import written
from clip4str_doctr.training import loop


def test_names_may_be_as_long_as_the_file_system_takes_them(tmp_path: Path) -> None:
    path = tmp_path / ("ộ" * 80 + "x" * 15)  # 255 bytes, the most there are
    with written(path) as part:
        part.write_text("phở", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "phở"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "text"
    with written(path) as first, written(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written(path) as part:
        part.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text"
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda one: synced.append((os.fstat(one).st_ino, path.exists())))
    with written(path) as part:
        part.write_text("new")
    assert synced[0] == (path.stat().st_ino, False)


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_disks_that_fail_are_told_and_those_that_cannot_sync_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    path = tmp_path / "text"
    path.write_text("old")

    def fail(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    try:
        with written(path) as part:
            part.write_text("new")
    except OSError:
        assert fails
    assert path.read_text() == ("old" if fails else "new")
    assert list(tmp_path.iterdir()) == [path]


def test_parts_of_checkpoints_are_those_that_training_clears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Path] = []

    def save(state: Any, file: Any) -> None:
        found.extend(tmp_path.glob(f".{loop.CHECKPOINT}.*.part"))

    monkeypatch.setattr("torch.save", save)
    run: Any = SimpleNamespace(state_dict=dict, step=1)
    loop.save_checkpoint(run, tmp_path / loop.CHECKPOINT)
    assert len(found) == 1
