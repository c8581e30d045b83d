"""A scanned PDF -> one whose words can be searched and copied. In a shell:
clip4str-doctr page scan.pdf --no-turn --format pdf -o searchable

Needs pip install 'clip4str-doctr[detect,pdf]'; run it from the repository's root: python examples/searchable_pdf.py
"""

import sys
from pathlib import Path

from clip4str_doctr import clip4str_vn_tiny
from clip4str_doctr.detection import detector
from clip4str_doctr.pages.files import open_pages
from clip4str_doctr.pages.reading import page_predictor, read_page
from clip4str_doctr.pages.searchable_pdf import searchable_pdf

scan = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/page.png")
predictor = page_predictor(clip4str_vn_tiny(pretrained=True), detector("rapidocr"))
pages = [read_page(predictor, pixels, number) for number, pixels in enumerate(open_pages(scan))]
searchable_pdf(scan, pages, Path(f"{scan.stem}.searchable.pdf"))
