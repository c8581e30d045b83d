"""Pages that lie on their side or stand on their head: noticed, turned, told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from doctr.io.elements import Page as DoctrPage
from fake_pages import Box, built_page, drawn_page, places
from page_command import Page, outputs
from PIL import Image

from clip4str_doctr.pages.reading import read_upright, turn_of

HW = (600, 800)
PLACED = places([["Cộng", "HÒA", "xã"], ["HỘI", "chủ", "nghĩa,"], ["Ặẵ", "(50%)", "đường"]])
UPRIGHT = np.asarray(drawn_page(PLACED, HW))


def quarters_of(pixels: npt.NDArray[np.uint8]) -> int:
    """By how many quarters the drawn page was turned counter-clockwise, seen by where it begins."""
    return next(quarters for quarters in range(4) if np.array_equal(pixels, np.rot90(UPRIGHT, quarters)))


class Reads:
    """In the place of a predictor: is certain of words that stand upright. Counts how often it was asked."""

    def __init__(
        self, upright: float = 0.95, otherwise: float = 0.3, words: int = 9, otherwise_words: int | None = None
    ) -> None:
        self.certainty, self.words, self.asked = (upright, otherwise), words, 0
        self.otherwise_words = words if otherwise_words is None else otherwise_words

    def __call__(self, pages: list[npt.NDArray[np.uint8]]) -> Any:
        self.asked += 1
        quarters = quarters_of(pages[0])
        height, width = pages[0].shape[:2]
        placed: list[tuple[str, Box]] = PLACED
        if quarters % 2:  # on their side, lines are as high as they were wide
            placed = [(word, (y0, x0, y1, x1)) for word, (x0, y0, x1, y1) in PLACED]
        count = self.otherwise_words if quarters else self.words
        return SimpleNamespace(pages=[built_page(placed[:count], (height, width), self.certainty[quarters > 0])])


def values(page: DoctrPage) -> list[str]:
    return [word.value for block in page.blocks for line in block.lines for word in line.words]


@pytest.mark.parametrize(("quarters", "asked"), [(0, 1), (1, 3), (2, 2), (3, 3)])
def test_pages_are_turned_until_they_can_be_read(quarters: int, asked: int) -> None:
    reads = Reads()
    page, pixels = read_upright(reads, np.rot90(UPRIGHT, quarters), 5)
    np.testing.assert_array_equal(pixels, UPRIGHT)
    assert page.page_idx == 5 and page.dimensions == HW and values(page) == [word for word, _ in PLACED]
    assert (turn_of(page), reads.asked) == (-90 * quarters % 360, asked)


@pytest.mark.parametrize(("kind", "upright", "otherwise"), [("mean", 0.98, 0.75), ("min", 0.95, 0.7)])
def test_confidences_of_other_kinds(kind: str, upright: float, otherwise: float) -> None:
    """Means and minima are higher than products: a page on its head has what would pass for certain words."""
    reads: Any = Reads(upright, otherwise)
    for model in (
        SimpleNamespace(postprocessor=SimpleNamespace(confidence=kind)),
        # As docTR's own, which says nothing.
        SimpleNamespace(postprocessor=object()),
    ):
        reads.reco_predictor = SimpleNamespace(model=model)
        page, pixels = read_upright(reads, np.rot90(UPRIGHT, 2))
        np.testing.assert_array_equal(pixels, UPRIGHT)
        assert turn_of(page) == 180
        page, _ = read_upright(reads, UPRIGHT)
        assert turn_of(page) == 0
    # Of products they say that the page is read.
    reads.reco_predictor.model.postprocessor = SimpleNamespace(confidence="product")
    assert turn_of(read_upright(reads, np.rot90(UPRIGHT, 2))[0]) == 0


def test_what_no_turn_makes_certain_stays_as_it_is() -> None:
    reads = Reads(upright=0.5, otherwise=0.4)
    lying = np.rot90(UPRIGHT, 2)
    page, pixels = read_upright(reads, lying)
    assert pixels is lying and turn_of(page) == 0 and reads.asked == 2


@pytest.mark.parametrize("words", [0, 4])
def test_a_turn_that_loses_words_is_none(words: int) -> None:
    """However certain the few are that remain."""
    reads = Reads(upright=0.5, otherwise=0.99, otherwise_words=words)
    page, _ = read_upright(reads, UPRIGHT)
    assert turn_of(page) == 0 and len(values(page)) == 9 and reads.asked == 2


def test_a_turned_reading_that_fails_leaves_the_first(caplog: pytest.LogCaptureFixture) -> None:
    reads = Reads(upright=0.5)

    def once(pages: Any) -> Any:
        if reads.asked:
            raise RuntimeError("Tesseract has not finished")
        return reads(pages)

    page, _ = read_upright(once, UPRIGHT)
    assert len(values(page)) == 9 and "page 1 could not be tried otherwise: Tesseract has not" in caplog.text


def test_what_doctr_says_of_a_page_turns_nothing() -> None:
    page = built_page(PLACED, HW)
    page.orientation = {"value": 180, "confidence": None}
    assert turn_of(page) == 0


def test_few_words_tell_nothing() -> None:
    reads = Reads(words=4)
    page, _ = read_upright(reads, np.rot90(UPRIGHT, 2))
    assert turn_of(page) == 0 and reads.asked == 1


def test_the_command_turns_them_and_says_so(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = Reads()
    monkeypatch.setattr("clip4str_doctr.pages.command._predictor", lambda *_: reads)
    source = tmp_path / "scan.png"
    Image.fromarray(np.rot90(UPRIGHT, 2).copy()).save(source)
    assert page(source, "-o", tmp_path / "out", "--draw") == 0
    assert f"{source}: turned by 180 degrees counter-clockwise\n" in capsys.readouterr().err
    text = (tmp_path / "out" / "scan.txt").read_text(encoding="utf-8")
    assert text.split() == [word for word, _ in PLACED]
    # The drawing shows the page as it was read.
    drawn = np.asarray(Image.open(tmp_path / "out" / "scan.boxes.png"))
    assert drawn[70, 65].max() < 128 <= drawn[-70, 65].max()
    reads.asked = 0
    assert page(source, "-o", tmp_path / "other", "--no-turn") == 0
    assert reads.asked == 1 and "turned" not in capsys.readouterr().err
    assert outputs(tmp_path / "other") == ["scan.txt"]
