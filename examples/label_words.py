"""Words cut out of pages, with what was read in them as labels to be corrected: a data set for docs/fine-tuning.md.

python examples/label_words.py words/train scan1.png scan2.jpg    # needs pip install 'clip4str-doctr[detect]'

Writes words/train/images/ and words/train/labels.json, the least certain words first. Correct labels.json by hand; take
out words that are cut badly or that nobody can read.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip4str_doctr import clip4str_vn_tiny
from clip4str_doctr.boxes import word_boxes
from clip4str_doctr.detection import detector
from clip4str_doctr.pages.files import page_drawers
from clip4str_doctr.pages.reading import READ_ERRORS, page_predictor, read_upright, words_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data set to write")
    parser.add_argument("pages", type=Path, nargs="+")
    arguments = parser.parse_args()

    predictor = page_predictor(clip4str_vn_tiny(pretrained=True), detector("rapidocr"))
    try:
        (arguments.folder / "images").mkdir(parents=True)
    except FileExistsError:
        parser.error(f"{arguments.folder} is there already; give a new folder")
    found = []
    for path in arguments.pages:
        try:
            for number, draw in enumerate(page_drawers(path), start=1):
                try:
                    found += words_in(predictor, draw())
                except READ_ERRORS as error:  # its other pages may be read
                    print(f"{path}, page {number}: {error}", file=sys.stderr)
        except READ_ERRORS as error:
            print(f"{path}: {error}", file=sys.stderr)
    found.sort(key=lambda one: one[0])
    labels = {f"{number:05d}.png": text for number, (_, text, _) in enumerate(found)}
    for name, (_, _, crop) in zip(labels, found, strict=True):
        Image.fromarray(crop).save(arguments.folder / "images" / name)
    (arguments.folder / "labels.json").write_text(json.dumps(labels, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"{arguments.folder}: {len(labels)} words")


def words_in(predictor: Any, pixels: Any) -> list[tuple[float, str, Any]]:
    """The words of a page: (confidence, text, crop)."""
    page, pixels = read_upright(predictor, pixels)
    words, found = words_of(page), []
    # docTR's words know their corners as shares of the page.
    for word, box in zip(words, word_boxes(words, page.dimensions), strict=True):
        left, top, right, bottom = np.rint(box).astype(int)
        # A copy: a view would keep the whole page in memory.
        found.append((word.confidence, word.value, pixels[top : bottom + 1, left : right + 1].copy()))
    return found


if __name__ == "__main__":
    main()
