"""Draws the two pictures of the README, from the top of the repository: what `clip4str-doctr page --draw` writes,
for a rendered page of print (its upper half) and for examples/page.png, as if photographed.
"""

from pathlib import Path

from PIL import Image

from clip4str_doctr import clip4str_vn_tiny
from clip4str_doctr.benchmark.rendered_pages import RenderedPage, photographed, render_page
from clip4str_doctr.detection import detector
from clip4str_doctr.images import open_image
from clip4str_doctr.pages.drawing import draw_page
from clip4str_doctr.pages.reading import page_predictor, read_page

predictor = page_predictor(clip4str_vn_tiny(pretrained=True), detector("rapidocr"))
columns = render_page(3, "columns", dpi=150).image[:800]
notice = photographed(RenderedPage(open_image(Path("examples/page.png")), ()), seed=8).image
for name, pixels in (("page-print.jpg", columns), ("page-photo.jpg", notice)):
    picture = draw_page(pixels, read_page(predictor, pixels))
    picture.thumbnail((1500, 1500), Image.Resampling.LANCZOS)
    picture.save(Path("docs/images") / name, optimize=True, quality=85)
