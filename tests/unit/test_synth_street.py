"""The styles sign and page: drawn marks, boards, views, pages, and what they say."""

import math
import pickle
import re
import unicodedata
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.training.synth import Renderer, Selection, WordSource, fonts_installed, is_held_out
from clip4str_doctr.training.synth.engine import Engine
from clip4str_doctr.training.synth.families import FONTS_VARIABLE, street_families
from clip4str_doctr.training.synth.legibility import separation
from clip4str_doctr.training.synth.lettering import choose_hand, letter_line
from clip4str_doctr.training.synth.marks import MarkStyle, draw_marks, mark_style, plain_letters
from clip4str_doctr.training.synth.page_conditions import leaning, thermal
from clip4str_doctr.training.synth.typography import as_set
from clip4str_doctr.training.synth.viewing import rectified, resampled
from clip4str_doctr.training.synth.vocabularies import LONG, _paper_number, document_mixture, street_mixture
from clip4str_doctr.training.synth.words import _bare, _everyday, token_counts, valid_label

pytestmark = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[train]"
)


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FONTS_VARIABLE, raising=False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# Marks


def test_plain_letters_and_their_marks_make_the_word_again() -> None:
    bars = {"d\u0335": "đ", "D\u0335": "Đ"}
    for symbol in VIETNAMESE_SYMBOLS:
        plain, marks = plain_letters(symbol)
        assert len(plain) == len(marks) == 1 and plain.isascii() or plain == "ı"
        again = plain.replace("ı", "i") + marks[0]
        assert bars.get(again, unicodedata.normalize("NFC", again)) == symbol
    assert plain_letters("Điện,") == (
        "Điên,".replace("Đ", "D").replace("ê", "e"),
        ["\u0335", "", "\u0323\u0302", "", ""],
    )


@pytest.mark.parametrize(
    ("marked", "plain", "where"),
    [
        ("É", "E", "over"),
        ("Ê", "E", "over"),
        ("Ỗ", "O", "over"),
        ("ạ", "a", "under"),
        ("đ", "d", "in"),
        ("ư", "u", "beside"),
    ],
)
def test_drawn_marks_lie_where_they_belong(marked: str, plain: str, where: str, rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.lettering import choose_hand, letter_line

    faces = [face for family in street_families("train").values() for face in family.faces if face.drawn_marks]
    for face in faces[::6]:
        hand = choose_hand(rng, face, 62)
        if hand.spacing or hand.jitter:
            continue
        assert hand.marks is not None
        with_marks, without = (letter_line(rng, hand, "", text, "", (40, 40)) for text in (marked, plain))
        grown = [
            with_marks.baseline - with_marks.box[1] - (without.baseline - without.box[1]),  # over the letter
            with_marks.box[3] - with_marks.baseline - (without.box[3] - without.baseline),  # under
            with_marks.box[2] - with_marks.box[0] - (without.box[2] - without.box[0]),  # wider
        ]
        ink = [float(line.ink.sum()) for line in (with_marks, without)]
        assert ink[0] > ink[1] * 1.01, face.family
        expected = {"over": grown[0] > 5, "under": grown[1] > 3, "beside": grown[2] > 2, "in": grown[0] < 4}
        assert expected[where], (face.family, grown)


@pytest.mark.parametrize("tone", ["ắ", "ằ", "ẳ"])
def test_a_tone_stands_over_a_breve_and_beside_a_hat(tone: str, rng: np.random.Generator) -> None:
    """Beside a breve it would lie on the breve's own end, and be taken for a part of it."""

    def right_of_middle(letter: str, style: MarkStyle) -> tuple[float, float]:
        ink = np.zeros((200, 200), np.uint8)
        _, marks = plain_letters(letter)
        base = [mark for mark in marks[0] if mark in "\u0302\u0306"]
        draw_marks(ink, (80, 100, 120, 160), marks[0], "a", style, 100)
        without = np.zeros_like(ink)
        draw_marks(without, (80, 100, 120, 160), base[0], "a", style, 100)
        rows, columns = np.nonzero((ink > 128) & (without < 128))
        return abs(float(columns.mean()) - 100), float(rows.min())

    style = replace(mark_style(rng, 0.1, frozen=False), beside=True, shift=0.0)
    assert right_of_middle(tone, style)[0] < 8
    hat = {"ắ": "ấ", "ằ": "ầ", "ẳ": "ẩ"}[tone]
    assert right_of_middle(hat, style)[0] > 12
    assert right_of_middle(tone, mark_style(rng, 0.1, frozen=True))[1] < 100


def test_no_hairlines_are_taught() -> None:
    thin = [
        face.family
        for family in street_families("train").values()
        for face in family.faces
        if face.weight < 300 and any(other.weight >= 300 for other in family.faces)
    ]
    assert not thin


# Surfaces and views


def test_a_leaning_page_keeps_its_word(rng: np.random.Generator) -> None:
    ink = np.zeros((120, 300, 3), np.float32)
    ink[50:70, 80:220] = 1
    for _ in range(50):
        turned, (left, top, right, bottom) = leaning(rng, ink, (80.0, 50.0, 220.0, 70.0))
        # A full rectangle reaches its corners, which letters do not.
        inside = turned[int(top) : int(bottom) + 1, int(left) : int(right) + 1].sum() / turned.sum()
        assert turned.shape == ink.shape and 0.97 < inside <= 1.0001
        assert right - left < 160 and bottom - top < 60
    assert {thermal(rng, ink[:60]).shape for _ in range(10)} == {(60, 300, 3)}
    hairline = np.zeros((40, 90, 3), np.float32)
    hairline[20, 10:80] = 0.2
    assert min(float(thermal(rng, hairline).sum()) for _ in range(20)) > 0.15 * hairline.sum()


def test_photographs(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth import photos

    for height, width in ((8, 8), (200, 480), (30, 90)):
        cut, relief = photos.photo_cut(rng, height, width), photos.photo_relief(rng, height, width)
        assert cut.shape == (height, width, 3) and cut.dtype == np.float32 and cut.min() >= 0
        assert relief.shape == (height, width) and abs(float(relief.mean())) < 0.05
    monkeypatch.setattr(photos, "_PICTURES", ("no-such-picture.png",))
    photos._pictures.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"lacks no-such-picture.png.*pip install clip4str-doctr\[train\]"):
            photos.photo_cut(rng, 8, 8)
    finally:
        photos._pictures.cache_clear()


def test_views_keep_the_word_in_the_crop(rng: np.random.Generator) -> None:
    import cv2

    from clip4str_doctr.training.synth.viewing import margins_of_crop, view

    box = (30.0, 20.0, 230.0, 70.0)
    corners = np.array([[[30, 20], [230, 20], [230, 70], [30, 70]]], np.float32)
    cut = 0
    for _ in range(300):
        placement = view(rng, box, 40.0, margins_of_crop(rng))
        assert 8 <= placement.height <= 200 and 8 <= placement.width <= 480
        seen = cv2.perspectiveTransform(corners, placement.homography)[0]
        low, high = seen.min(axis=0), seen.max(axis=0)
        np.testing.assert_allclose([*low, *high], placement.word, atol=0.6)
        # Signed area: never mirrored.
        x, y = seen.T
        assert np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) > 0
        cut += bool(low[1] < -0.5 or high[1] > placement.height + 0.5)
        assert low[1] > -0.12 * placement.height and high[1] < 1.12 * placement.height
    assert 5 < cut < 100  # some crops cut a mark, few


@pytest.mark.parametrize("upward", [True, False])
def test_an_arch_holds_the_ink(upward: bool) -> None:
    from clip4str_doctr.training.synth.viewing import arch

    canvas = np.zeros((80, 300), np.uint8)
    canvas[25:55, 50:250] = 255
    for seed in range(12):
        bent, (left, top, right, bottom) = arch(np.random.default_rng(seed), canvas, (50, 25, 250, 55))
        rows, columns = np.nonzero(bent > 128)
        assert top - 2 <= rows.min() and rows.max() <= bottom + 2
        assert left - 2 <= columns.min() and columns.max() <= right + 2
        assert 0.6 < (bent > 128).sum() / (30 * 200) < 1.6


def test_parts_of_boards_leave_the_word_alone(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth import layouts
    from clip4str_doctr.training.synth.lettering import Line

    line = Line(np.zeros((90, 260), np.uint8), (40.0, 30.0, 220.0, 65.0), 32.0, 60.0)
    for _ in range(60):
        mask = layouts.clear_of(layouts.board_part(rng, line), line.box)
        assert not mask[30:65, 40:220].any()
        assert layouts.panel(rng, line)[31:64, 60:200].mean() > 200
        assert not layouts.clear_of(layouts.icon(rng, line), line.box)[30:65, 40:220].any()


def test_a_word_stands_out_by_its_contrast_beside_the_noise(rng: np.random.Generator) -> None:
    ink = np.zeros((24, 60), np.float32)
    ink[8:16, 10:50:6] = ink[8:16, 11:50:6] = 1

    def seen(contrast: float, noise: float, mask: Any = ink) -> float:
        crop = 128 + contrast * ink[..., None] + noise * rng.standard_normal((24, 60, 3))
        return separation(np.clip(crop, 0, 255).astype(np.uint8), mask)

    assert seen(100, 5) > seen(40, 5) > 3 > 1 > seen(10, 40)
    # Lighter or darker, in one channel or in all: that is no difference to a reader.
    assert seen(-100, 5) == pytest.approx(seen(100, 5), rel=0.3)
    # Of a tall crop what is left at 32 rows, where this noise averages out.
    tall, mask = (np.kron(one, np.ones((8, 8), np.float32)) for one in (ink, ink))
    crop = np.clip(128 + 30 * tall[..., None] + 40 * rng.standard_normal((192, 480, 3)), 0, 255).astype(np.uint8)
    assert separation(crop, mask) > 2 * seen(30, 40)
    assert seen(100, 5, np.zeros_like(ink)) == np.inf  # no ink, nothing to tell


def test_a_loose_box_has_the_word_and_empty_paper(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.pages import _loosened

    page = np.ones((30, 90, 3), np.float32)  # words all around
    for _ in range(20):
        loose, (left, top, right, bottom) = _loosened(rng, page, (30.0, 10.0, 60.0, 20.0))
        assert loose.shape[0] == 30 and (left, top, bottom) == (30, 10, 20) and 60 <= right <= 60 + 2.4 * 30
        columns = np.flatnonzero(loose[10:20].any(axis=(0, 2)))
        assert left - 2 <= columns[0] and columns[-1] <= right + 2 and 30 <= len(columns) <= 34
        assert loose[:8].sum() == loose[23:].sum() == 0  # nor anything above or below


@pytest.mark.parametrize("style", ["sign", "page"])
def test_some_boxes_are_loose_in_training(style: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    aspects = {}
    for share in (0.0, 1.0):
        for module in ("signs", "pages"):
            monkeypatch.setattr(f"clip4str_doctr.training.synth.{module}.LOOSE", share)
        renderer = Renderer(style, "train", 3, Selection(("Phở",) * 60))
        crops = [renderer.sample(index)[0] for index in range(60)]
        aspects[share] = float(np.mean([crop.shape[1] / crop.shape[0] for crop in crops]))
    assert aspects[1.0] > 1.2 * aspects[0.0]


@pytest.mark.parametrize("style", ["sign", "page", "photo"])
def test_a_picture_in_which_nobody_reads_the_word_is_taken_again(style: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth import legibility

    told: list[list[float]] = []

    def watched(shot: Any, ink: Any, marks: Any = None) -> Any:
        told.append([])

        def seen(crop: Any) -> float:
            of_marks = float("inf") if marks is None else separation(crop, marks, ink)
            return min(separation(crop, ink), legibility._OF_MARKS * of_marks)

        def told_shot() -> Any:
            crop = shot()
            told[-1].append(seen(crop))
            return crop

        kept = legibility.most_legible(told_shot, ink, marks)
        assert seen(kept) == max(told[-1])
        return kept

    module = {"photo": "render"}.get(style, f"{style}s")
    monkeypatch.setattr(f"clip4str_doctr.training.synth.{module}.most_legible", watched)
    renderer = Renderer(style, "train", 5)
    for index in range(120):
        renderer.sample(index)
    again = [one for one in told if len(one) > 1]
    assert len(told) == 120 and 0 < len(again) < 40
    assert all(one[0] < legibility._LEAST_SEPARATION and len(one) <= legibility._TRIES for one in again)
    told.clear()
    Renderer(style, "val", 5).sample(0)
    assert not told  # the frozen suites stay as they are


def test_a_letter_is_no_ground_for_its_mark() -> None:
    crop = np.full((30, 30, 3), 230, np.uint8)
    whole, marks = np.zeros((30, 30), np.float32), np.zeros((30, 30), np.float32)
    whole[12:28, 8:22] = 1  # a letter, and right over it its mark
    whole[8:11, 10:20] = marks[8:11, 10:20] = 1
    crop[whole > 0] = 20
    assert separation(crop, marks, whole) > 2 * separation(crop, marks)
    lost = crop.copy()
    lost[8:11] = 230
    assert separation(lost, marks, whole) < 0.5


def test_words_beside_a_sign_are_in_its_case() -> None:
    engine = Engine("sign", "train", 1, Selection())
    rng = np.random.default_rng(4)
    beside = {drawn: [engine._neighbour(rng, drawn) for _ in range(200)] for drawn in ("CỬA", "cửa", "0903.456")}
    capitals = {drawn: sum(word.isupper() for word in words) / len(words) for drawn, words in beside.items()}
    assert capitals["CỬA"] > 0.8 > 0.6 > capitals["cửa"]  # boards are written in capitals mostly
    assert 0.25 < sum(word.isdigit() for word in beside["0903.456"]) / 200 < 0.6
    frozen = Engine("sign", "val", 1, Selection())
    again = np.random.default_rng(4)
    assert frozen._neighbour(np.random.default_rng(4), "CỬA") == frozen.words.frequent(again)  # as the suites have it


def test_marks_over_and_under_capitals(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.signs import _marks_of, _own_marks

    face = street_families("train")["arimo"].faces[0]
    hand = replace(choose_hand(rng, face, 60), marks=None, spacing=0.0, jitter=0.0)
    for stretched in (False, True):
        line = letter_line(rng, hand, "", "ĐẬU", "", (40, 40))
        while stretched and (other := _own_marks(rng, line, "ĐẬU", False)) is line:
            pass
        line = other if stretched else line
        marks = _marks_of(line.ink, line, "ĐẬU")
        inside = line.ink[int(line.capital) + 2 : int(line.baseline) - 2]
        assert not marks[int(line.capital) : int(line.baseline)].any() and inside.any()
        over, under = marks[: int(line.capital)].any(), marks[int(line.baseline) :].any()
        assert under and (over or not stretched)
    assert not _marks_of(line.ink, line, "đậu").any()


def test_light_around_letters_leaves_gaps(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.dressing import glow_of

    paper, colour = np.full(3, 20, np.float32), np.full(3, 250, np.float32)
    blurred = np.full((8, 8), 255, np.uint8)
    for _ in range(20):
        halo, light = glow_of(rng, blurred, paper, colour)
        shown = paper + halo.max() / 255 * (light - paper)
        assert (colour - shown).min() > 90 and (shown - paper).min() > 30


def test_signs_cut_out_by_their_corners(rng: np.random.Generator) -> None:
    box, margins = (20.0, 10.0, 140.0, 50.0), np.full(4, 0.05)
    placed = [rectified(rng, box, 48.0, margins) for _ in range(60)]
    for one in placed:
        left, top, right, bottom = one.word
        assert 40 <= one.height <= 56 and one.width <= 480
        # The word fills its crop, but for what corners are off by.
        assert (right - left) > 0.7 * one.width and (bottom - top) > 0.7 * one.height
    assert len({one.width for one in placed}) > 20
    crop = rng.integers(0, 256, (40, 90, 3)).astype(np.float32)
    for _ in range(10):
        fewer = resampled(rng, crop, 6.0)
        assert fewer.shape == crop.shape and fewer.var() < crop.var()
    np.testing.assert_allclose(resampled(rng, crop, 0.5), crop, atol=1e-3)  # thin strokes would be lost


def test_long_printed_words_turn_less(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth import pages

    angles: list[float] = []
    turn = pages.cv2.getRotationMatrix2D
    monkeypatch.setattr(
        pages.cv2,
        "getRotationMatrix2D",
        lambda middle, angle, scale: angles.append(angle) or turn(middle, angle, scale),
    )
    worst = {}
    for width in (40, 400):
        angles.clear()
        for _ in range(400):
            pages._scanned(rng, np.full((20, width, 3), 200, np.float32), frozen=False)
        worst[width] = max(map(abs, angles))
    assert worst[400] <= math.degrees(0.06 * 20 / 200) + 1e-9 < worst[40] <= 2.5


def test_what_stands_before_a_sign_is_gone_on_the_next_shot(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.street_effects import _in_front

    crop = np.full((40, 120, 3), 200, np.float32)
    before = crop.copy()
    covered = [_in_front(rng, crop, (10.0, 8.0, 110.0, 32.0), False) for _ in range(8)]
    assert np.array_equal(crop, before) and any((one != before).any() for one in covered)


def test_blocks_of_jpeg_begin_anywhere_but_in_the_suites(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.effects import through_jpeg

    pixels = rng.integers(0, 256, (21, 45, 3), np.uint8)
    frozen = [through_jpeg(rng, pixels, 30, frozen=True) for _ in range(3)]
    assert all(np.array_equal(one, frozen[0]) for one in frozen)
    free = [through_jpeg(rng, pixels, 30, frozen=False) for _ in range(8)]
    assert all(one.shape == pixels.shape for one in free)
    assert len({one.tobytes() for one in free}) > 4
    assert min(np.abs(one.astype(int) - pixels).mean() for one in free) > 0


def test_the_ends_of_a_printed_word_keep_their_stops(rng: np.random.Generator) -> None:
    from clip4str_doctr.training.synth.pages import _cut

    page = np.zeros((60, 120, 3), np.float32)
    page[28:32, 30:90] = 1  # the word; its stop is the last two columns
    page[28:32, 88:90] = 0.5
    kept = [_cut(rng, page, (30, 20, 90, 32), 12.0, label, False) for label in 60 * ["Phở."]]
    assert all((crop == 0.5).any(axis=(0, 2)).sum() == 2 for crop in kept)
    cut = [_cut(rng, page, (30, 20, 90, 32), 12.0, "Phở", False) for _ in range(60)]
    assert any((crop == 0.5).any(axis=(0, 2)).sum() < 2 for crop in cut)


def test_a_fifth_of_small_print_shows_the_lines_above_and_below() -> None:
    """In training; the suites keep theirs as they are."""
    from clip4str_doctr.training.synth.pages import _cut

    page = np.zeros((80, 120, 3), np.float32)
    page[14:24], page[57:67] = 1, 1  # other lines, 1.1 em off
    rng = np.random.default_rng(4)
    box = (30.0, 32.0, 90.0, 48.0)
    shown = {
        crowded: np.mean([_cut(rng, page, box, 20.0, "", crowded)[[0, -1]].any() for _ in range(200)])
        for crowded in (False, True)
    }
    assert shown[True] > 2 * shown[False]


@pytest.mark.parametrize(("paper", "ink"), [(-30.0, 5.0), (250.0, 290.0), (120.0, 130.0), (40.0, 200.0)])
def test_crops_are_exposed_so_that_ink_is_seen(paper: float, ink: float) -> None:
    from clip4str_doctr.training.synth.street_effects import _FAINT_SPAN, _LEAST_SPAN, _exposed

    crop = np.full((30, 60, 3), paper, np.float32)
    crop[8:22, 10:50] = ink
    seen, fainter = (np.clip(_exposed(crop, least), 0, 255) for least in (_LEAST_SPAN, _FAINT_SPAN))
    assert abs(float(seen[15, 30, 1] - seen[2, 2, 1])) >= 39
    assert abs(float(fainter[15, 30, 1] - fainter[2, 2, 1])) >= (9 if ink == 130.0 else 15)
    if ink == 200.0:
        np.testing.assert_array_equal(seen, crop)


# Words


def test_glyphs_that_stand_for_symbols(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth import typography

    face = street_families("train")["noto-sans"].faces[0]
    labels = ('"Phở"', "('a')", "1972-1977", "PHÁP...", "20m2", "25.000đ", "Paul's", "xe")
    seen = {label: {as_set(rng, label, face) for _ in range(60)} for label in labels}
    assert seen == {
        '"Phở"': {'"Phở"', "“Phở”"},
        "('a')": {"('a')", "(‘a’)"},
        "1972-1977": {"1972-1977", "1972–1977"},
        "PHÁP...": {"PHÁP...", "PHÁP…"},
        "20m2": {"20m2", "20m²"},
        "25.000đ": {"25.000đ", "25.000₫"},
        "Paul's": {"Paul's", "Paul’s"},
        "xe": {"xe"},
    }
    # Only what the face has.
    monkeypatch.setattr(typography, "_code_points", lambda path: frozenset())
    assert {as_set(rng, label, face) for label in labels for _ in range(20)} == set(labels)


def test_long_numbers_of_paper(rng: np.random.Generator) -> None:
    numbers = [_paper_number(rng) for _ in range(3000)]
    assert all(set(number) <= set("0123456789.,-:đVND") for number in numbers)
    assert 0.25 < np.mean([number.isdigit() and len(number) > 5 for number in numbers]) < 0.6


@pytest.mark.parametrize("mixture", [street_mixture, document_mixture])
def test_training_says_more_kinds_than_the_frozen_suites(mixture: Any) -> None:
    train, val = (mixture(WordSource(split, 1, mixture)) for split in ("train", "val"))  # type: ignore[arg-type]
    drawn = [sum(share > 0 for share, _ in one) for one in (train, val)]
    assert drawn[0] >= drawn[1] + 4 and len(train) == len(val)
    # Shares of the suites' mixtures, which their pictures depend on.
    assert sum(share for share, _ in val) == pytest.approx({street_mixture: 1.09, document_mixture: 1.2}[mixture])


@pytest.mark.parametrize(
    ("mixture", "kinds"),
    [
        (
            street_mixture,
            (r"(ĐT|Tel|TEL):0[\d.-]+", r"\d{4}\.\d\d\.\d\d\.\d\d", r"P\.\d+-Q\.\d+", r"[A-ZĐÀ-Ỹ]{2,}-[A-ZĐÀ-Ỹ]{2,}"),
        ),
        (street_mixture, (r"TNHH|THPT|UBND", r"0\d{3}", r"\d+ml", r"CỬA|HÀNG|QUÁN", r"\d+h\d\d")),
        (
            document_mixture,
            (r"UBND[,.]?", r"\.{5,}", r"\w*\./\.", r"\d+/TTr-\w+", r"\d\d/[3-9]/\d{4}[,;.)]?", r"Quyết", r"của"),
        ),
    ],
)
def test_what_signs_and_pages_are_full_of_is_said(mixture: Any, kinds: tuple[str, ...]) -> None:
    source = WordSource("train", 4, mixture)
    labels = [source.sample(index) for index in range(8000)]
    assert not {kind for kind in kinds if not any(re.fullmatch(kind, label) for label in labels)}
    # A word of running text that ends in a mark gets no second one.
    doubled = [label for label in labels if re.search(r"[^\W\d_][,;][,.;:]$", label)]
    assert len(doubled) < 8


def test_frequent_words_are_frequent() -> None:
    source = WordSource("train", 4, document_mixture)
    frequent = {_bare(word) for word, _ in token_counts()[:100]}
    said = np.mean([_bare(source.sample(index)) in frequent for index in range(4000)])
    assert 0.1 < said < 0.3


def test_words_of_signs_and_pages() -> None:
    drawn = {}
    for mixture in (street_mixture, document_mixture):
        for split in ("train", "val"):
            source = WordSource(split, 1, mixture)  # type: ignore[arg-type]
            drawn[mixture, split] = [source.sample(index) for index in range(3000)]
    for labels in drawn.values():
        assert all(valid_label(label) and unicodedata.is_normalized("NFC", label) for label in labels)
    words = [label for label in drawn[street_mixture, "train"] if label.isalpha() and len(label) > 1]
    assert 0.6 < sum(word.isupper() for word in words) / len(words) < 0.78
    document = drawn[document_mixture, "train"]
    assert sum("/QĐ-" in label or "/NĐ-" in label for label in document) > 10
    assert sum(label.endswith((",", ".", ";", ":")) for label in document) > 200
    for labels in drawn.values():
        assert 0.06 < sum(len(label) >= LONG for label in labels) / len(labels) < 0.15


def test_written_lists_are_split_like_the_others(rng: np.random.Generator) -> None:
    train, val = WordSource("train", 0), WordSource("val", 0)
    for name in ("street", "document"):
        drawn = [train.uniform(rng, name) for _ in range(300)]
        assert not any(is_held_out(word) and _bare(word) not in _everyday() for word in drawn)
        assert all(is_held_out(val.uniform(rng, name)) for _ in range(200))


# Pictures


@pytest.mark.parametrize("style", ["sign", "page"])
def test_samples_repeat_in_any_order_and_after_pickling(style: str) -> None:
    renderer = Renderer(style, "train", 3)  # type: ignore[arg-type]
    first = [renderer.sample(index) for index in range(15)]
    sent = pickle.loads(pickle.dumps(renderer))
    for index in reversed(range(15)):
        crop, label = sent.sample(index)
        assert label == first[index][1]
        np.testing.assert_array_equal(crop, first[index][0])


@pytest.mark.parametrize("style", ["sign", "page"])
def test_labels_heights_and_families_can_be_selected(style: str) -> None:
    labels = ("Ỷ", ".", "NGHIÊNG", "W" * 25, "www.phở-bò.com.vn", "Ẵ", "đường", "i")
    for heights in ((8.0, 10.0), (30.0, 40.0)):
        selection = Selection(labels, heights, ("lora", "indie-flower"))
        renderer = Renderer(style, "val", 5, selection)  # type: ignore[arg-type]
        for index, wanted in enumerate(labels):
            crop, label = renderer.sample(index)
            assert label.casefold() == wanted.casefold()
            assert crop.dtype == np.uint8 and crop.flags.c_contiguous and min(crop.shape[:2]) >= 8
            assert np.ptp(crop) > 20
    with pytest.raises(RuntimeError, match=rf"no font families \['anton'\].*{FONTS_VARIABLE}"):
        Renderer(style, "val", 5, Selection(families=("anton",))).sample(0)  # type: ignore[arg-type]


def test_sizes_are_those_of_the_street_and_of_print() -> None:
    def heights(style: str) -> list[int]:
        renderer = Renderer(style, "train", 9)  # type: ignore[arg-type]
        return sorted(renderer.sample(index)[0].shape[0] for index in range(250))

    signs, pages = heights("sign"), heights("page")
    assert signs[10] < 20 and 28 < signs[125] < 60 and signs[-5] > 90
    assert pages[10] < 12 and 12 < pages[125] < 24 and pages[-1] <= 64


def test_pages_show_pieces_of_other_words() -> None:
    """Not only the word: its crop's edges often cut ink of neighbours, rules, or the word itself."""
    renderer = Renderer("page", "train", 21)
    edges = 0
    for index in range(150):
        crop = renderer.sample(index)[0].astype(np.float32).mean(axis=2)
        border = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
        edges += bool(np.ptp(border) > 0.5 * np.ptp(crop))
    assert 30 < edges < 135
