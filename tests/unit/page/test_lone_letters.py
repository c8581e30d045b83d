"""A letter by itself is small or a capital by its height beside the other words of its line."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fake_pages import built_page

from clip4str_doctr.pages.lone_letters import settle_cases

HW = (120, 600)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def drawn(texts: list[str], *, dark: bool = False, margin: int = 4) -> tuple[npt.NDArray[np.uint8], list[Any]]:
    """A line of words, and their boxes; words as docTR has them."""
    pixels = np.full((*HW, 3), 20 if dark else 235, np.uint8)
    words, x = [], 20
    for text in texts:
        (width, height), below = cv2.getTextSize(text, FONT, 1.2, 2)
        cv2.putText(pixels, text, (x, 80), FONT, 1.2, (235,) * 3 if dark else (20,) * 3, 2, cv2.LINE_AA)
        box = np.array([[x - margin, 80 - height - margin], [x + width + margin, 80 + below + margin]]) / HW[::-1]
        words.append(SimpleNamespace(value=text, geometry=box))
        x += width + 25
    return pixels, words


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    ("drawn_as", "read_as"),
    [("x", "X"), ("x", "x"), ("X", "x"), ("X", "X"), ("o", "O"), ("0", "0"), ("O", "o"), ("v", "V")],
)
def test_beside_digits(drawn_as: str, read_as: str, dark: bool) -> None:
    pixels, words = drawn(["2", drawn_as, "40.000"], dark=dark)
    words[1].value = read_as
    settle_cases(pixels, [words])
    assert [word.value for word in words] == ["2", drawn_as, "40.000"]


def test_a_low_zero_is_a_letter_only_where_there_are_no_figures() -> None:
    """In fonts whose figures are as low as letters, "0" is drawn like "o"."""
    for texts, settled in ((["Con", "o", "2019"], "0"), (["Con", "o", "day"], "o")):
        pixels, words = drawn(texts)
        words[1].value = "0"
        settle_cases(pixels, [words])
        assert words[1].value == settled


def test_polygons_and_words_beside() -> None:
    pixels, words = drawn(["Pho", "x", "hai"])
    for word in words:
        (x0, y0), (x1, y1) = word.geometry
        word.geometry = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    words[1].value = "X"
    settle_cases(pixels, [words])
    assert words[1].value == "x"


def test_what_is_left_as_it_was_read() -> None:
    """Alone in its line, beside low words, longer than a letter, of another shape in capitals, or not to be seen."""
    for texts, read in ((["x"], "X"), (["x", "nam"], "X"), (["2", "xa"], "XA"), (["2", "a"], "A")):
        pixels, words = drawn(texts)
        number = texts.index(read.lower())
        words[number].value = read
        settle_cases(pixels, [words])
        assert words[number].value == read
    pixels, words = drawn(["2", "x"])
    words[1].value = "X"
    settle_cases(np.full_like(pixels, 255), [words])
    settle_cases(pixels / np.float32(255), [words])  # type: ignore[arg-type]
    words[1].geometry = np.zeros((2, 2))
    settle_cases(pixels, [words])
    assert words[1].value == "X"


def test_pages_are_built_so() -> None:
    pixels, words = drawn(["2", "x", "40.000"])
    texts = ["2", "X", "40.000"]
    placed: Any = [(text, tuple((word.geometry * HW[::-1]).ravel())) for text, word in zip(texts, words, strict=True)]
    assert built_page(placed, HW, pixels=pixels).render() == "2 x 40.000"
    assert built_page(placed, HW).render() == "2 X 40.000"
