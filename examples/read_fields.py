"""Key information extraction: docTR's KIEPredictor reads the words of each class that a detector finds.

A form whose fields stand in known places needs no trained detector: any detector finds the words, their place says
which field they belong to.

Needs pip install 'clip4str-doctr[detect]'; run it from the repository's root: python examples/read_fields.py
"""

from doctr.io import DocumentFile
from doctr.models import recognition_predictor
from doctr.models.kie_predictor.pytorch import KIEPredictor
from torch import nn

from clip4str_doctr.detection import detector

# Field -> its area on the page: left, top, right, bottom, relative.
FIELDS = {"title": (0.2, 0.0, 0.8, 0.18), "subject": (0.2, 0.18, 0.8, 0.3), "signed by": (0.5, 0.89, 1.0, 1.0)}


class FieldDetector(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.words = words

    def forward(self, pages, **options):
        return [self.sorted(found["words"]) for found in self.words(pages)]

    def sorted(self, boxes):
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        return {
            field: boxes[(left < x) & (x < right) & (top < y) & (y < bottom)]
            for field, (left, top, right, bottom) in FIELDS.items()
        }


words = detector("rapidocr")
read = KIEPredictor(FieldDetector(words), recognition_predictor("clip4str_vn_tiny", pretrained=True))
(page,) = read(DocumentFile.from_images("examples/page.png")).pages
for field, predictions in page.predictions.items():
    # A field is one line here, and docTR leaves its words in no order.
    print(f"{field}:", *(word.value for word in sorted(predictions, key=lambda word: word.geometry[0])))
