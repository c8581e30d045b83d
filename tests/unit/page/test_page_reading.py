"""What predictors and pages `pages.reading` takes, and refuses."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_pages import built_page, find_patches, places
from torch import nn

from clip4str_doctr.detection import any_detector
from clip4str_doctr.pages.reading import page_predictor, read_page, words_of

HW = (400, 600)


class Reads(SimpleNamespace):
    """In the place of docTR's predictor, with some of its attributes."""

    def __call__(self, pages: Any) -> Any:
        return SimpleNamespace(pages=[built_page(places([["một"]]), HW)])


@pytest.mark.parametrize("options", [{}, {"preserve_original_coords": False}])
def test_pages_that_are_straightened_and_thrown_away_are_refused(options: dict[str, bool]) -> None:
    """Their words would be drawn, and put into PDFs, where nothing is."""
    page = np.zeros((*HW, 3), np.uint8)
    with pytest.raises(ValueError, match="straighten_pages=True.*preserve_original_coords=True"):
        read_page(Reads(straighten_pages=True, **options), page)
    for made in ({"straighten_pages": True, "preserve_original_coords": True}, {"straighten_pages": False, **options}):
        assert len(words_of(read_page(Reads(**made), page))) == 1


def test_detectors_of_polygons_are_refused() -> None:
    with pytest.raises(ValueError, match="assume_straight_pages=False; make it with True"):
        page_predictor(nn.Linear(1, 1), any_detector(find_patches, assume_straight_pages=False))
