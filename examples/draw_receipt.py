"""Draws receipt.jpg, which read_receipt.py reads, as a camera sees it. Needs pip install 'clip4str-doctr[train]'."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from work_sans import font

WIDTH, HEIGHT = 620, 900
ROWS = [
    ("Bún bò Huế", "2", "110.000"),
    ("Phở gà", "1", "55.000"),
    ("Chả giò rế", "1", "40.000"),
    ("Trà đá", "3", "15.000"),
    ("Cà phê sữa đá", "2", "58.000"),
]


paper = Image.new("L", (WIDTH, HEIGHT), 244)
draw = ImageDraw.Draw(paper)
draw.text((310, 70), "QUÁN ĂN BẾN NGỰ", font=font(40, 700), anchor="mm", fill=30)
draw.text((310, 120), "18 Phan Bội Châu, Huế", font=font(25, 400), anchor="mm", fill=40)
draw.text((310, 180), "HÓA ĐƠN", font=font(32, 600), anchor="mm", fill=30)
draw.text((40, 225), "Bàn: 07", font=font(25, 400), fill=40)
draw.text((580, 225), "Ngày: 12/09/2026", font=font(25, 400), anchor="ra", fill=40)
draw.line((40, 278, 580, 278), fill=60, width=2)
for place, row in enumerate([("Món", "SL", "Tiền"), *ROWS]):
    y, face = 295 + 62 * place, font(27, 400 if place else 600)
    draw.text((40, y), row[0], font=face, fill=35)
    draw.text((400, y), row[1], font=face, anchor="ra", fill=35)
    draw.text((580, y), row[2], font=face, anchor="ra", fill=35)
draw.line((40, 672, 580, 672), fill=60, width=2)
draw.text((40, 695), "Tổng cộng", font=font(32, 700), fill=25)
draw.text((580, 695), "278.000", font=font(32, 700), anchor="ra", fill=25)
draw.text((310, 820), "Cảm ơn quý khách!", font=font(27, 500), anchor="mm", fill=40)

# On a table, before a camera that is held a little to the side.
corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float32)
seen = np.array([[84, 62], [676, 30], [716, 905], [62, 944]], np.float32)
shot = np.full((980, 780), 96, np.uint8)
turn = cv2.getPerspectiveTransform(corners, seen)
cv2.warpPerspective(np.asarray(paper), turn, (780, 980), dst=shot, borderMode=cv2.BORDER_TRANSPARENT)
light = np.linspace(1.0, 0.78, 780)[None] * np.linspace(0.96, 1.0, 980)[:, None]
photo = cv2.GaussianBlur(shot * light, (0, 0), 0.7) + np.random.default_rng(0).normal(0, 1.5, shot.shape)
Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(Path(__file__).with_name("receipt.jpg"), quality=80)
