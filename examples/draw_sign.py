"""Draws pho.png, the picture the README reads: a word on a painted sign. Needs pip install 'clip4str-doctr[train]'."""

from importlib.metadata import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Oswald: a family that the embedded model's training never sees.
oswald = next(file for file in files("fontpkg-oswald") or [] if file.name.endswith(".ttf"))
font = ImageFont.truetype(str(oswald.locate()), 120)
font.set_variation_by_axes([600])

sign = Image.new("RGB", (340, 210), (146, 28, 30))
draw = ImageDraw.Draw(sign)
draw.text((174, 113), "PHỞ", font=font, anchor="mm", fill=(70, 10, 14))
draw.text((170, 108), "PHỞ", font=font, anchor="mm", fill=(250, 222, 120))

# Seen from the side, a little out of focus, by a small camera.
sign = sign.transform((270, 180), Image.Transform.QUAD, (42, 22, 52, 190, 296, 178, 290, 8), Image.Resampling.BICUBIC)
sign = sign.filter(ImageFilter.GaussianBlur(1.2)).resize((135, 90), Image.Resampling.BICUBIC)
noise = np.random.default_rng(0).normal(0, 6, (90, 135, 3))
pixels = np.clip(np.asarray(sign) + noise, 0, 255).astype(np.uint8)
Image.fromarray(pixels).save(Path(__file__).with_name("pho.png"))
