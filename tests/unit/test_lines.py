"""Lines of rendered words are cut where the words end."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from clip4str_doctr.benchmark.pages import matches
from clip4str_doctr.benchmark.rendered_pages import photographed, render_page
from clip4str_doctr.boxes import enclosing_boxes, in_order
from clip4str_doctr.gaps import word_gap
from clip4str_doctr.ink import strip_of
from clip4str_doctr.lines import words_of_line, words_of_lines
from clip4str_doctr.training.synth.fonts import fonts_installed, load_face, usable_faces
from clip4str_doctr.wide_crops import cut_at_gaps

pytestmark = pytest.mark.skipif(not fonts_installed(), reason="the fonts of clip4str-doctr[train] are not installed")

TEXT = "Cộng hòa xã hội chủ nghĩa Việt Nam"


@dataclass
class Line:
    """A page with one line, the line's quad, and the ink boxes (N, 4) of its words."""

    page: npt.NDArray[np.uint8]
    quad: npt.NDArray[np.float64]
    words: npt.NDArray[np.float64]


def line(
    text: str,
    *,
    family: str = "manrope",
    size: int = 30,
    ink: tuple[int, int, int] = (20, 20, 20),
    paper: tuple[int, int, int] = (245, 245, 245),
    spaced: float = 0,
    margin: int = 3,
    split: Literal["train", "val"] = "val",
) -> Line:
    """text on a page; spaced: extra pixels after every letter; margin: of the line's box around its ink."""
    face = next(face for face in usable_faces(split)[family] if face.weight >= 400 and not face.italic)
    font = load_face(face, size)
    x, baseline, boxes = 3.0 * size, 2 * size, []
    width = int(font.getlength(text) + spaced * (len(text) + 4) + 6 * size)
    canvas = np.zeros((4 * size, width), np.uint8)
    for word in text.split(" "):
        layer = Image.new("L", (width, 4 * size))
        for letter in word if spaced else [word]:
            ImageDraw.Draw(layer).text((x, baseline), letter, fill=255, font=font, anchor="ls")
            x += font.getlength(letter) + spaced
        x += font.getlength(" ") + 2 * spaced
        pixels = np.asarray(layer)
        rows, columns = np.nonzero(pixels > 64)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        canvas = np.maximum(canvas, pixels)
    share = canvas[..., None] / np.float32(255)
    page = (np.array(paper) * (1 - share) + np.array(ink) * share).astype(np.uint8)
    words = np.array(boxes, np.float64)
    left, top = words[:, :2].min(axis=0) - margin
    right, bottom = words[:, 2:].max(axis=0) + margin
    return Line(page, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), words)


def overlap(found: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> float:
    """The smallest IoU of boxes that belong together; 0 if their numbers differ."""
    if len(found) != len(truth):
        return 0.0
    sides = np.clip(np.minimum(found, truth)[:, 2:] - np.maximum(found, truth)[:, :2], 0, None)
    common = sides.prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (found, truth)]
    return float((common / (areas[0] + areas[1] - common)).min())


def cut(made: Line) -> npt.NDArray[np.float64]:
    return enclosing_boxes(words_of_line(made.page, made.quad))


@pytest.mark.parametrize("size", [14, 22, 40, 120])
@pytest.mark.parametrize("family", ["manrope", "lora", "spectral", "oswald"])
def test_running_text(family: str, size: int) -> None:
    made = line(TEXT, family=family, size=size)
    assert overlap(cut(made), made.words) > 0.5


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((250, 250, 250), (10, 10, 10)),
        ((200, 30, 30), (40, 120, 40)),  # red on green, of nearly the same brightness
        ((240, 200, 0), (250, 250, 250)),  # yellow on white: only blue tells
        ((130, 130, 130), (170, 170, 170)),
    ],
)
def test_any_colours(ink: tuple[int, int, int], paper: tuple[int, int, int]) -> None:
    made = line(TEXT, ink=ink, paper=paper)
    assert overlap(cut(made), made.words) > 0.5


def test_uneven_light_noise_and_blur() -> None:
    made = line(TEXT)
    light = np.linspace(0.3, 1, made.page.shape[1])[None, :, None]
    noise = np.random.default_rng(0).normal(0, 9, made.page.shape)
    blurred = cv2.GaussianBlur(made.page.astype(np.float32), (0, 0), 1.2)
    made.page = np.clip(blurred * light + noise, 0, 255).astype(np.uint8)
    assert overlap(cut(made), made.words) > 0.5


@pytest.mark.parametrize("degrees", [-6, -2, 2, 6])
def test_slant(degrees: float) -> None:
    """By the line's own quad and by a straight box around the slanted line alike."""
    made = line(TEXT)
    height, width = made.page.shape[:2]
    page = cv2.copyMakeBorder(made.page, 100, 100, 0, 0, cv2.BORDER_REPLICATE)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2 + 100), -degrees, 1.0)
    page = np.asarray(cv2.warpAffine(page, turn, (width, height + 200), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def turned(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((points + (0, 100)) @ turn[:, :2].T + turn[:, 2])

    corners = np.stack([made.words[:, [0, 2, 2, 0]], made.words[:, [1, 1, 3, 3]]], axis=2)
    truth = enclosing_boxes(turned(corners))
    quad = turned(made.quad)
    left, top, right, bottom = enclosing_boxes(quad[None])[0]
    straight = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    for given in (quad, straight):
        assert overlap(enclosing_boxes(words_of_line(page, given)), truth) > 0.5


@pytest.mark.parametrize("text", ["nghiêng", "25.000đ", "12/3/2024", "HẠNH", "Sài-Gòn,", "1", "I", "318.100đ"])
def test_one_word_stays_whole(text: str) -> None:
    made = line(text)
    assert len(cut(made)) == 1


def test_punctuation_stays_with_its_word() -> None:
    made = line('Giá: 25.000đ, (ngày 12/3/2024) "xin chào!"')
    assert overlap(cut(made), made.words) > 0.5


def test_letter_spaced_title() -> None:
    made = line("THÔNG BÁO", spaced=12)
    assert overlap(cut(made), made.words) > 0.5


@pytest.mark.parametrize("size", [14, 24, 50])
@pytest.mark.parametrize("text", ["73.000", "SL: 2 73.000 146.000", "Trà đá 1 x 12.000đ, giảm 5,3%", "I.1.1 12:30:11"])
def test_fixed_pitch(text: str, size: int) -> None:
    """As wide as a space is the air around its full stops; where a step is left out, words part."""
    made = line(text, family="space-mono", size=size)
    assert overlap(cut(made), made.words) > 0.5


@pytest.mark.parametrize("family", ["space-mono", "manrope", "lora"])
@pytest.mark.parametrize(
    ("text", "leaders"),
    [
        ("Trà đá ............ 12.000đ", 1),  # all in one box
        ("Trà đá . . . . . . . . . 12.000đ", 9),
        ("Trà đá .", 1),  # as far as the detector sees the line
        ("Trà đá . .", 2),
        (".. 12.000đ", 1),
    ],
)
def test_leading_dots_are_no_words(text: str, leaders: int, family: str) -> None:
    made = line(text, family=family, size=24)
    words = made.words[[bool(word.strip(".")) for word in text.split(" ")]]
    assert len(words) == len(made.words) - leaders
    assert overlap(cut(made), words) > 0.5


@pytest.mark.parametrize("family", ["space-mono", "manrope"])
def test_low_words_are_as_high_as_their_line(family: str) -> None:
    """Between numbers "x" is known from "X" by the air above it."""
    made = line("2 x 36.500 - 73.000", family=family, size=40)
    found = cut(made)
    assert len(found) == 5
    digits = made.words[2]
    for low in (1, 3):
        assert found[low, 1] <= digits[1] + 1 and found[low, 3] >= digits[3] - 1
    assert overlap(found[:3], made.words[:3]) > 0.5


def test_where_all_ink_is_dots_there_are_no_words() -> None:
    page = np.full((60, 400, 3), 250, np.uint8)
    for left in range(100, 300, 8):
        page[40:43, left : left + 3] = 20
    quad = np.array([[90, 20], [310, 20], [310, 55], [90, 55]], np.float64)
    assert words_of_line(page, quad).shape == (0, 4, 2)
    assert len(cut_at_gaps(page[20:55, 90:310])) == 1


def test_a_single_speck_is_a_word_at_most() -> None:
    page = np.full((100, 200, 3), 255, np.uint8)
    page[60:63, 100:103] = 0
    quad = np.array([[50, 30], [150, 30], [150, 70], [50, 70]], np.float64)
    assert len(words_of_line(page, quad)) <= 1


@pytest.mark.parametrize("family", ["fira-sans", "noto-serif", "roboto"])
def test_figures_of_one_width_are_no_fixed_pitch(family: str) -> None:
    made = line("0901234567 - 0912345678", family=family, size=32, split="train")
    assert len(cut(made)) > 1


def on_one_page(lines: list[Line]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Lines one below the other -> the page, and their quads."""
    width, below, quads = max(one.page.shape[1] for one in lines), 0, []
    page = np.full((sum(one.page.shape[0] for one in lines), width, 3), 245, np.uint8)
    for one in lines:
        height, wide = one.page.shape[:2]
        page[below : below + height, :wide] = one.page
        quads.append(one.quad + (0, below))
        below += height
    return page, np.stack(quads)


def test_short_lines_are_cut_as_the_long_ones_around_them() -> None:
    """In a font of narrow spaces, photographed, "205 kg" by itself looks like one word."""
    page = photographed(render_page(42, "table", 150), 42)
    lines: dict[int, list[npt.NDArray[np.float64]]] = {}
    for word in page.words:
        lines.setdefault(word.line, []).append(word.quad)
    boxes = np.array([enclosing_boxes(np.concatenate(words)[None])[0] for words in lines.values()])
    left, top, right, bottom = (boxes + (-4, -4, 4, 4)).T
    quads = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2)
    truth = enclosing_boxes(np.stack([word.quad for word in page.words]))

    def found(words: list[npt.NDArray[np.float64]]) -> int:
        return len(matches(truth, enclosing_boxes(np.concatenate(words))))

    alone = [words_of_line(page.image, quad) for quad in quads]
    assert found(words_of_lines(page.image, quads)) >= found(alone) + 5


def test_a_letter_spaced_title_is_no_line_of_words_among_others() -> None:
    long = [line(TEXT, size=24), line("độc lập tự do hạnh phúc muôn năm", size=24)]
    page, quads = on_one_page([line("THÔNG BÁO", size=24, spaced=14), *long])
    assert [len(words) for words in words_of_lines(page, quads)] == [2, 8, 8]


def test_three_dots_belong_to_their_word() -> None:
    made = line("Chờ... một chút.", size=24)
    found = cut(made)
    assert overlap(found, made.words) > 0.5
    assert (found[:, 2] >= made.words[:, 2] - 1).all()


def test_wide_gaps_always_separate() -> None:
    assert word_gap(np.array([3.0]), np.array([1.0, 1.0])) < 3
    assert word_gap(np.zeros(0), np.array([1.0])) > 0


def test_marks_over_capitals_outside_of_a_tight_box_are_kept() -> None:
    made = line("MỄ ĐẮK ẤP ỨNG")
    capitals = line("MED DAK AP UNG")
    made.quad[:2, 1] = capitals.words[:, 1].min()  # a box as tight as that of bare capitals
    found = cut(made)
    assert overlap(found, made.words) > 0.5
    assert (found[:, 1] <= made.words[:, 1] + 2).all()


def test_boxes_hold_the_ink_and_a_margin() -> None:
    made = line(TEXT)
    tight = enclosing_boxes(words_of_line(made.page, made.quad, 0.0))
    grown = enclosing_boxes(words_of_line(made.page, made.quad, 0.3))
    assert np.abs(tight - made.words).max() <= 2
    assert (grown[:, :2] < tight[:, :2] - 3).all() and (grown[:, 2:] > tight[:, 2:] + 3).all()


def test_rules_of_a_table_are_no_ink() -> None:
    made = line("348 kg")
    left, top, right, bottom = (int(value) for value in enclosing_boxes(made.quad[None])[0])
    for x in (left - 6, right + 6):
        cv2.line(made.page, (x, 0), (x, 200), (0, 0, 0), 2)
    for y in (top - 6, bottom + 6):
        cv2.line(made.page, (0, y), (900, y), (0, 0, 0), 2)
    made.quad += np.array([[-6, -6], [6, -6], [6, 6], [-6, 6]])
    assert overlap(cut(made), made.words) > 0.5


def test_a_line_without_ink_is_one_word() -> None:
    page = np.full((60, 300, 3), 200, np.uint8)
    quad = np.array([[10, 10], [200, 10], [200, 40], [10, 40]], np.float64)
    np.testing.assert_allclose(words_of_line(page, quad), quad[None])


def test_a_line_far_down_a_long_page_is_seen_as_any_other() -> None:
    """OpenCV 4 warps no picture with a side of 32767 pixels or more."""
    made = line(TEXT)
    height, width = made.page.shape[:2]
    below = np.full((40_000, width, 3), 245, np.uint8)
    below[39_000 : 39_000 + height] = made.page
    down = np.array([0, 39_000])
    near, far = strip_of(made.page, made.quad), strip_of(below, made.quad + down)
    assert near is not None and far is not None
    # But for float32's rounding of the homography.
    assert np.abs(near.pixels.astype(int) - far.pixels).max() <= 1
    points = np.array([[3.0, 4.0], [50.0, 20.0]])
    np.testing.assert_allclose(near.on_page(points) + down, far.on_page(points), atol=0.01)
    np.testing.assert_allclose(
        words_of_line(below, made.quad + down), words_of_line(made.page, made.quad) + down, atol=0.05
    )


def test_a_line_too_long_for_opencv_4_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    warp = cv2.warpPerspective

    def limited(pixels: npt.NDArray[np.uint8], matrix: object, size: tuple[int, int], **kwargs: object) -> object:
        if max(*pixels.shape, *size) > 32_766:
            raise cv2.error("(-215:Assertion failed) dst.cols < SHRT_MAX && src.cols < SHRT_MAX in function 'remap'")
        return warp(pixels, matrix, size, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(cv2, "warpPerspective", limited)
    made = line(TEXT, size=220)
    page = np.concatenate([made.page] * 7, axis=1)
    width = page.shape[1]
    starts = range(0, width, made.page.shape[1])
    truth = np.concatenate([made.words + (start, 0, start, 0) for start in starts])
    left, right = truth[0, 0] - 10, truth[-1, 2] + 10
    for page_of, most in ((page, width), (page[:, :32_700], 32_700)):  # beyond it, and beyond it with its margins
        right = min(right, most)
        quad = made.quad.copy()
        quad[:, 0] = left, right, right, left
        whole = truth[truth[:, 2] < right]
        found = enclosing_boxes(words_of_line(page_of, quad))
        assert overlap(found[: len(whole)], whole) > 0.5 and len(found) - len(whole) < 2


def test_an_upright_line_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = line(TEXT)
    page = np.ascontiguousarray(np.rot90(made.page))
    quad = np.array([[10, 10], [40, 10], [40, 300], [10, 300]], np.float64)
    # Its strip would be as wide as the box is high, and 30 times as high.
    monkeypatch.setattr("clip4str_doctr.lines.strip_of", None)
    np.testing.assert_allclose(words_of_line(page, quad), quad[None])
    np.testing.assert_allclose(words_of_lines(page, quad[None])[0], quad[None])


def rotated(
    made: Line, degrees: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A page turned counterclockwise -> it, the quad of its line and those (N, 4, 2) of its words, in docTR's order."""
    height, width = made.page.shape[:2]
    side = int(np.hypot(height, width)) + 2
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    page = cv2.warpAffine(made.page, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    corners = np.stack([made.words[:, [0, 2, 2, 0]], made.words[:, [1, 1, 3, 3]]], axis=2)
    quads = np.concatenate([made.quad[None], corners]) @ turn[:, :2].T + turn[:, 2]
    # Every quad begins at the same corner of the text: where the line's does.
    first = next(number for number in range(4) if np.allclose(np.roll(quads[0], -number, 0), in_order(quads[0])))
    ordered = np.asarray(np.roll(quads, -first, axis=1), np.float64)
    return np.asarray(page, np.uint8), ordered[0], ordered[1:]


@pytest.mark.parametrize("degrees", [-90, -80, -60, -50, 50, 60, 80, 90])
def test_lines_on_their_side_are_cut_along_them(degrees: float) -> None:
    page, quad, truth = rotated(line(TEXT), degrees)
    (words,) = words_of_lines(page, quad[None], sideways=True)
    if degrees > 0:  # which end is the beginning cannot be seen
        words = words[::-1]
    # Corner by corner: docTR turns crops by their quads' first side.
    assert np.abs(words - truth).max() < 9


def test_short_boxes_stand_like_the_long_lines_around() -> None:
    long, short = line(TEXT), line("25 kg", size=30)
    pages = [np.ascontiguousarray(np.rot90(made.page)) for made in (long, short)]
    height, width = pages[0].shape[:2]
    pages[1] = np.pad(pages[1], ((0, height - len(pages[1])), (0, 0), (0, 0)), "edge")
    page = np.concatenate(pages, axis=1)

    def standing(made: Line, x: int) -> npt.NDArray[np.float64]:
        left, top, right, bottom = enclosing_boxes(made.quad[None])[0]
        corners = np.array([[top, right], [bottom, right], [bottom, left], [top, left]])
        corners[:, 1] = made.page.shape[1] - corners[:, 1]
        return in_order(corners + (x, 0))

    quads = np.stack([standing(long, 0), standing(short, width)])
    assert [len(words) for words in words_of_lines(page, quads, sideways=True)] == [8, 2]
    alone = words_of_lines(page, quads[1:], sideways=True)[0]
    np.testing.assert_allclose(alone, quads[1:])  # as "I" and "!" are, whose boxes have this shape


@pytest.mark.parametrize("text", ["I", "1", "!", "l"])
def test_a_letter_stands_on_pages_that_are_not_straight(text: str) -> None:
    made = line(text)
    (words,) = words_of_lines(made.page, made.quad[None], sideways=True)
    np.testing.assert_allclose(words, made.quad[None])


def test_short_lines_take_the_angle_of_long_ones() -> None:
    long, short = line(TEXT), line("25 kg")
    width = max(long.page.shape[1], short.page.shape[1])
    pages = [np.pad(made.page, ((0, 0), (0, width - made.page.shape[1]), (0, 0)), "edge") for made in (long, short)]
    below = short.quad + (0, len(long.page))
    middle = below.mean(axis=0)
    turn = np.deg2rad(5)
    askew = (below - middle) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + middle
    words = words_of_lines(np.concatenate(pages), np.stack([long.quad, askew]))
    assert [len(line) for line in words] == [8, 2]
    assert abs(words[1][0][1, 1] - words[1][0][0, 1]) < 0.6
    assert overlap(enclosing_boxes(words[1]), short.words + (0, len(long.page), 0, len(long.page))) > 0.5


def test_lines_without_ink_stay_on_the_page() -> None:
    blank = np.full((100, 200, 3), 255, np.uint8)
    beyond = np.array([[-6, 3], [60, -5], [62, 15], [-4, 23]], np.float64)
    (only,) = words_of_line(blank, beyond)
    assert only.min() >= 0 and (only <= (200, 100)).all() and enclosing_boxes(only[None])[0].tolist() == [0, 0, 62, 23]
