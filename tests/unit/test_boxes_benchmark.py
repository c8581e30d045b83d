"""Crops whose edges are moved, and what is read of them."""

from pathlib import Path

import numpy as np
import pytest

from clip4str_doctr import load_model
from clip4str_doctr.benchmark.boxes import BOXES, Box, boxes_figures, with_edges_moved
from clip4str_doctr.training.synth import fonts_installed

CROP = np.zeros((20, 60, 3), np.uint8)
CROP[:, :2] = (10, 20, 30)  # the left rim: a thirtieth of 60 columns
CROP[:, 2:] = 200


def test_edges_stay_where_they_are() -> None:
    assert np.array_equal(with_edges_moved(CROP, Box()), CROP)


def test_edges_move_inwards_by_heights() -> None:
    assert np.array_equal(with_edges_moved(CROP, Box(margin=-0.1)), CROP[2:-2, 2:-2])


@pytest.mark.parametrize("shape", [(5, 60, 3), (60, 5, 3), (3, 3, 3)])
def test_something_is_always_left(shape: tuple[int, int, int]) -> None:
    left = with_edges_moved(np.zeros(shape, np.uint8), Box(margin=-2.0))
    assert left.shape[2] == 3
    for size, now in zip(shape[:2], left.shape[:2], strict=True):
        assert min(size, 4) <= now <= size


def test_new_ground_has_the_colour_of_its_edge() -> None:
    moved = with_edges_moved(CROP, Box(margin=0.1))
    assert moved.shape == (24, 64, 3) and moved.flags.c_contiguous
    assert (moved[:, :2] == (10, 20, 30)).all() and (moved[:, -2:] == 200).all()
    assert np.array_equal(moved[2:-2, 2:-2], CROP)
    # Above and below, of the row beside it: mostly the paper's.
    assert (moved[0, 2:] == 200).all()


def test_the_right_edge_moves_by_widths() -> None:
    moved = with_edges_moved(CROP, Box(right=0.5))
    assert moved.shape == (20, 90, 3) and np.array_equal(moved[:, :60], CROP) and (moved[:, 60:] == 200).all()


@pytest.mark.skipif(not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]")
def test_boxes_are_read_apart(micro_folder: Path) -> None:
    figures = boxes_figures(load_model(micro_folder), 3, ("clean",), ("as drawn", "margin -0.1 heights"))
    assert list(figures["clean"]) == ["as drawn", "margin -0.1 heights"] and set(figures["clean"]) <= set(BOXES)
    assert all(told["n"] == 3 and 0 <= told["cased"] <= 1 for told in figures["clean"].values())
