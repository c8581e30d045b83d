"""Everything once, from a word to a searchable PDF, on pho.png and page.png.

Needs pip install 'clip4str-doctr[detect,pdf]'; run it from the repository's root: python examples/quick_tour.py
"""

from pathlib import Path

from clip4str_doctr import clip4str_vn_tiny
from clip4str_doctr.detection import detector
from clip4str_doctr.images import open_image
from clip4str_doctr.pages.drawing import draw_page
from clip4str_doctr.pages.outputs import as_markdown
from clip4str_doctr.pages.reading import document_of, page_predictor, read_page, words_of
from clip4str_doctr.pages.searchable_pdf import searchable_pdf
from clip4str_doctr.plugin import recognition_predictor_of

model = clip4str_vn_tiny(pretrained=True)

# A word. Pictures are opened upright, and transparent ones on white; docTR's own loader drops transparency, so that the
# colours under it are seen.
(text, confidence), *_ = recognition_predictor_of(model)([open_image(Path("examples/pho.png"))])
print(f"{text} ({confidence:.0%})")

# A page: a detector finds the words, which are read and put in order: columns, paragraphs, lines.
picture = open_image(Path("examples/page.png"))
page = read_page(page_predictor(model, detector("rapidocr")), picture)
print(as_markdown(document_of([page])))

# The word to look at again.
word = min(words_of(page), key=lambda word: word.confidence)
print(f"least certain: {word.value} ({word.confidence:.0%})")

# The same page to look at, and to search in.
draw_page(picture, page).save("page.boxes.png")
searchable_pdf(Path("examples/page.png"), [page], Path("page.pdf"))
