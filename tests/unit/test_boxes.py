"""Boxes in any form -> quads in pixels."""

import numpy as np
import pytest

from clip4str_doctr.boxes import as_quads, check_page, enclosing_boxes, in_order

PAGE = (100, 200)
QUAD = [[20, 10], [60, 10], [60, 30], [20, 30]]


@pytest.mark.parametrize(
    "found",
    [
        np.array([[20, 10, 60, 30]]),
        np.array([[20.0, 10, 60, 30]], np.float32),
        [(20, 10, 60, 30)],
        np.array([[0.1, 0.1, 0.3, 0.3]]),
        np.array([QUAD]),
        [np.array(QUAD) / (200, 100)],
        [[[60, 30], [20, 30], [20, 10], [60, 10]]],  # from another corner
        [[[20, 10], [20, 30], [60, 30], [60, 10]]],  # counterclockwise
        [[[20, 10], [40, 10], [60, 10], [60, 30], [40, 30], [20, 30]]],
        ([(20, 10, 60, 30)], [0.5]),
        (np.array([[20, 10, 60, 30]]), np.array([0.5])),
    ],
)
def test_every_form_means_the_same(found: object) -> None:
    quads, scores = as_quads(found, PAGE)
    np.testing.assert_allclose(quads, [QUAD], atol=1e-3)
    assert scores.tolist() == ([0.5] if isinstance(found, tuple) else [1.0])


def test_forms_may_be_mixed() -> None:
    quads, scores = as_quads([(1, 2, 30, 40), QUAD, [[0, 0], [50, 0], [25, 50]]], PAGE)
    assert quads.shape == (3, 4, 2) and scores.shape == (3,)


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 4)), np.zeros((0, 4, 2)), ([], [])])
def test_nothing_found(nothing: object) -> None:
    quads, scores = as_quads(nothing, PAGE)
    assert quads.shape == (0, 4, 2) and scores.shape == (0,)


def test_what_lies_outside_is_clipped_or_left_out() -> None:
    found = [(-10, -5, 30, 40), (250, 10, 300, 50), (5, 5, 5, 9), (0, 0, 200, 100)]
    quads, scores = as_quads((found, [0.1, 0.2, 0.3, 0.4]), PAGE)
    assert enclosing_boxes(quads).tolist() == [[0, 0, 30, 40], [0, 0, 200, 100]]
    assert scores.tolist() == [0.1, 0.4]


def test_one_pixel_boxes_of_integers_are_not_relative() -> None:
    quads, _ = as_quads(np.array([[0, 0, 1, 1]]), PAGE)
    assert enclosing_boxes(quads).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("found", "error", "says"),
    [
        (None, TypeError, "must return straight boxes"),
        ("boxes", TypeError, "got str"),
        (((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)), TypeError, "tuple of 3"),
        ([(1, 2, np.nan, 4)], ValueError, "box 0 has coordinates that are not finite"),
        ([(1, 2, 30, 4), (50, 60, 10, 12)], ValueError, r"box 1 is .*x \+ width"),
        ([(1, 2, 3)], ValueError, r"box 0 has shape \(3,\)"),
        ([(1, 2, 3, 4, 0.5)], ValueError, "give scores as boxes, scores"),
        ([[[1, 2], [3, 4]]], ValueError, r"shape \(2, 2\)"),
        ([[["a", "b"]]], TypeError, "no array of numbers"),
        (([(1, 2, 3, 4)], [0.5, 0.5]), ValueError, r"must be \(1,\)"),
        (([(1, 2, 3, 4)], [np.nan]), ValueError, "0..1"),
        (([(1, 2, 3, 4)], [90]), ValueError, "0..1"),
    ],
)
def test_other_answers_are_refused(found: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        as_quads(found, PAGE)


@pytest.mark.parametrize("angle", range(-40, 45, 5))
def test_order_of_corners_is_found_again(angle: int) -> None:
    turn = np.deg2rad(angle)
    quad = np.array([[-50, -10], [50, -10], [50, 10], [-50, 10]]) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    for mixed in (quad[::-1], np.roll(quad, 1, axis=0), quad[[2, 0, 3, 1]]):
        np.testing.assert_allclose(in_order(mixed), quad)


@pytest.mark.parametrize(
    ("page", "error"),
    [([1], TypeError), (np.zeros((5, 5)), ValueError), (np.zeros((5, 5, 3)), ValueError),
     (np.zeros((5, 5, 4), np.uint8), ValueError), (np.zeros((0, 5, 3), np.uint8), ValueError)],
)  # fmt: skip
def test_pages_are_checked(page: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\(H, W, 3\) uint8"):
        check_page(page)
