"""`clip4str-doctr page` in this process, with a random recogniser behind a detector that finds dark patches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_pages import drawn_page, find_patches, places
from page_command import HW, PAGES, Page

from clip4str_doctr import cli, load_model
from clip4str_doctr.detection import any_detector
from clip4str_doctr.pages.files import open_pages
from clip4str_doctr.pages.outputs import as_text
from clip4str_doctr.pages.reading import document_of, page_predictor, read_page


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
