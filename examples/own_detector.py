"""A page read with a detector of one's own: any function from a page to boxes.

This one needs nothing but OpenCV: it joins what is dark in a row into one box, a line of text, which is then cut into
words. On a real page, put your own model in its place.
"""

from pathlib import Path

import cv2
import numpy as np
from doctr.io import DocumentFile
from doctr.models import recognition_predictor
from doctr.models.predictor import OCRPredictor

from clip4str_doctr.detection import any_detector


def find_lines(page: np.ndarray) -> list[tuple[int, int, int, int]]:
    """page (H, W, 3) uint8 RGB -> (xmin, ymin, xmax, ymax) of every line, in pixels."""
    grey = cv2.cvtColor(page, cv2.COLOR_RGB2GRAY)
    _, dark = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    joined = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((15, 41), np.uint8))
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = [cv2.boundingRect(contour) for contour in contours]
    return [(x, y, x + width, y + height) for x, y, width, height in boxes if height > 10]


page = DocumentFile.from_images(str(Path(__file__).with_name("notice.png")))
read = OCRPredictor(any_detector(find_lines, kind="lines"), recognition_predictor("clip4str_vn_tiny", pretrained=True))
print(read(page).render())
