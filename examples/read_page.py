from doctr.io import DocumentFile
from doctr.models import recognition_predictor
from doctr.models.predictor import OCRPredictor

from clip4str_doctr.detection import detector

# Online, docTR's own detector is one line: ocr_predictor(reco_arch="clip4str_vn_tiny", pretrained=True).
read = OCRPredictor(
    detector("rapidocr"), recognition_predictor("clip4str_vn_tiny", pretrained=True), resolve_blocks=True
)
document = read(DocumentFile.from_images("examples/page.png"))
print(document.render())
