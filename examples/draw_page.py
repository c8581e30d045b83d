"""Draws page.png, the page that the other examples read. Needs pip install 'clip4str-doctr[train]'."""

from pathlib import Path

from PIL import Image, ImageDraw
from work_sans import font

TEXT = """
Nhà trường trân trọng thông báo lễ khai giảng năm học
2026 - 2027 được tổ chức vào lúc 7 giờ 30 phút ngày 5
tháng 9, tại sân trường số 12 đường Lê Quý Đôn.

Đề nghị các em học sinh mặc đồng phục và có mặt trước
7 giờ. Phụ huynh vui lòng gửi xe ở cổng phía sau.
"""


page = Image.new("L", (1000, 640), 255)
draw = ImageDraw.Draw(page)
draw.text((500, 90), "THÔNG BÁO", font=font(48, 700), anchor="mm", fill=20)
draw.text((500, 150), "Về việc khai giảng năm học mới", font=font(30, 500), anchor="mm", fill=20)
for row, line in enumerate(TEXT.strip().splitlines()):
    draw.text((90, 220 + 48 * row), line, font=font(30, 400), fill=20)
draw.text((760, 550), "Hiệu trưởng", font=font(30, 600), anchor="mm", fill=20)
draw.text((760, 600), "Nguyễn Hồng Ánh", font=font(30, 400), anchor="mm", fill=20)
page.save(Path(__file__).with_name("page.png"), optimize=True, dpi=(120, 120))
