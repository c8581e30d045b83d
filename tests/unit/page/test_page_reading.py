"""What predictors and pages `pages.reading` takes, and refuses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_pages import built_page, find_patches, places
from PIL import Image, TiffImagePlugin
from torch import nn

from clip4str_doctr.detection import any_detector
from clip4str_doctr.pages.files import count_pages, open_pages
from clip4str_doctr.pages.reading import page_predictor, read_page, words_of
from clip4str_doctr.pages.searchable_pdf import searchable_pdf

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


def test_smaller_pictures_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    source = tmp_path / "scan.tif"
    with TiffImagePlugin.AppendingTiffWriter(str(source), new=True) as file:
        for grey, reduced in ((100, 0), (100, 1), (200, 0), (200, 1)):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[254] = reduced
            size = (HW[1] // 2, HW[0] // 2) if reduced else HW[::-1]
            Image.new("L", size, grey).save(file, format="TIFF", tiffinfo=tags, dpi=(200, 200))
            file.newFrame()
    assert count_pages(source) == 2
    seen = [(pixels.shape[:2], int(pixels.mean())) for pixels in open_pages(source)]
    assert seen == [(HW, 100), (HW, 200)]
    pages = [built_page([], HW), built_page([], HW)]
    searchable_pdf(source, pages, tmp_path / "a.pdf")
    assert [(pixels.shape[:2], int(pixels.mean())) for pixels in open_pages(tmp_path / "a.pdf", dpi=200)] == seen
    with pytest.raises(ValueError, match="for each of 3 pages, got 2"):
        searchable_pdf(source, [*pages, built_page([], HW)], tmp_path / "b.pdf")
