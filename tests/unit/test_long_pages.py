"""Long pages in stretches: every line once, whole, where it stands, whatever the cuts run through."""

from typing import Any

import numpy as np
import pytest

from clip4str_doctr.long_pages import find_in_stretches, stretches

WIDTH, LONGEST = 900, 2000


def rows(page: Any) -> Any:
    """Quads of the dark rows of a page, as a detector finds them: of a row cut by the page's edge what is left."""
    dark = np.concatenate([[False], page[:, 0, 0] < 128, [False]])
    edges = np.flatnonzero(dark[1:] != dark[:-1]).reshape(-1, 2)
    return np.array([[(0, y0), (WIDTH, y0), (WIDTH, y1), (0, y1)] for y0, y1 in edges]).reshape(-1, 4, 2)


def page_with(lines: list[tuple[int, int]], height: int) -> Any:
    page = np.full((height, WIDTH, 3), 255, np.uint8)
    for y0, y1 in lines:
        page[y0:y1] = 0
    return page


@pytest.mark.parametrize("height", [7999, 8001, 9000, 20_003])
def test_stretches_cover_a_page(height: int) -> None:
    parts = stretches(height, WIDTH, LONGEST)
    assert parts[0][0] == 0 and parts[-1][1] == height
    assert len({bottom - top for top, bottom in parts}) == 1
    for (_, before), (top, _) in zip(parts, parts[1:], strict=False):
        assert before - top >= 126  # a tenth of 1.4 widths
    assert (len(parts) > 1) == (height > 8000)


@pytest.mark.parametrize(("height", "width"), [(1500, 100), (2400, 1600), (500, 9000), (9000, 3600), (8000, 1000)])
def test_other_pages_are_seen_whole(height: int, width: int) -> None:
    assert stretches(height, width, LONGEST) == [(0, height)]


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_every_line_is_found_once_and_whole(shift: int) -> None:
    lines = [(y, y + 31) for y in range(shift, 9000 - 31, 60)]
    seen = []

    def find(page: Any) -> Any:
        seen.append(len(page))
        # Detectors are not exact to the pixel, and differ from view to view.
        return rows(page) + (len(seen) % 3 - 1) * 2.0

    found = find_in_stretches(find, page_with(lines, 9000), LONGEST)
    assert len(seen) > 5 and max(seen) == 1260
    assert len(found) == len(lines)
    np.testing.assert_allclose(sorted(found[:, 0, 1]), [y0 for y0, _ in lines], atol=2.1)
    np.testing.assert_allclose(found[:, 2, 1] - found[:, 0, 1], 31)


def test_a_line_that_two_views_part_differently_is_taken_once() -> None:
    tops = []

    def find(page: Any) -> Any:
        whole = rows(page)
        tops.append(len(whole))
        if len(tops) % 2:
            return whole
        left, right = whole.copy(), whole.copy()
        left[:, 1:3, 0], right[:, [0, 3], 0] = 400, 420
        return np.concatenate([left, right]) + 1.0

    lines = [(y, y + 20) for y in range(5, 9000, 40)]
    found = find_in_stretches(find, page_with(lines, 9025), LONGEST)
    for y0, _ in lines:
        here = found[abs(found[:, 0, 1] - y0) < 10]
        assert len(here) == 1 or sorted(here[:, 0, 0]) == [1, 421]


def test_lines_that_slant_are_all_kept() -> None:
    """The straight boxes of neighbours overlap, which says nothing within one view."""
    starts = np.arange(200, 8700, 36)
    page = np.repeat(np.arange(9000)[:, None, None], WIDTH, axis=1).repeat(3, axis=2)  # every row tells its number

    def find(view: Any) -> Any:
        top, bottom = int(view[0, 0, 0]), int(view[-1, 0, 0]) + 1
        lines = np.array([[(0, y), (WIDTH, y + 95), (WIDTH, y + 117), (0, y + 22)] for y in starts])
        inside = (lines[..., 1].min(1) >= top) & (lines[..., 1].max(1) <= bottom)
        return lines[inside] - (0.0, top)

    found = find_in_stretches(find, page, LONGEST)
    assert sorted(found[:, 0, 1]) == starts.tolist()


def test_pages_without_lines() -> None:
    assert find_in_stretches(rows, page_with([], 9000), LONGEST).shape == (0, 4, 2)
    found = find_in_stretches(rows, page_with([(8000, 8030)], 9000), LONGEST)
    assert found[0, [0, 2]].tolist() == [[0, 8000], [WIDTH, 8030]] and len(found) == 1
