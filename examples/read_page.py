from doctr.io import DocumentFile
from doctr.models import recognition_predictor
from doctr.models.predictor import OCRPredictor

from clip4str_doctr.detection import detector
from clip4str_doctr.pages.columns import ColumnBuilder

read = OCRPredictor(detector("rapidocr"), recognition_predictor("clip4str_vn_tiny", pretrained=True))
read.doc_builder = ColumnBuilder()  # the order of `clip4str-doctr page`
document = read(DocumentFile.from_images("examples/page.png"))
print(document.render())
