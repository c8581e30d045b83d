"""A receipt row by row, names with their prices, and whether these add up to the total.

Needs pip install 'clip4str-doctr[detect]'; run it from the repository's root: python examples/read_receipt.py
"""

import re

from doctr.io import DocumentFile

import clip4str_doctr
from clip4str_doctr.detection import detector
from clip4str_doctr.pages.reading import page_predictor

read = page_predictor(clip4str_doctr.clip4str_vn_tiny(pretrained=True), detector("rapidocr"))
(page,) = read(DocumentFile.from_images("examples/receipt.jpg")).pages

prices = []
for line in (line for block in page.blocks for line in block.lines):
    words = [word.value for word in line.words]
    print(*words)
    if re.fullmatch(r"\d{1,3}(\.\d{3})+", words[-1]):
        prices.append(int(words[-1].replace(".", "")))

*items, total = prices
print("adds up" if sum(items) == total else f"{sum(items)} is not {total}")
