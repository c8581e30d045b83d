"""Contact sheet: python -m clip4str_doctr.training.synth --style photo --split train --count 60 -o sheet.png"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from clip4str_doctr.atomic import written
from clip4str_doctr.training.synth.fonts import load_face, usable_faces
from clip4str_doctr.training.synth.render import STYLES, Renderer

_CELL, _CROP, _COLUMNS = (220, 120), (210, 96), 6


def contact_sheet(renderer: Renderer, first: int, count: int) -> Image.Image:
    """Samples first .. first + count - 1 in rows of six, each with its label underneath."""
    rows = -(-count // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _CELL[0], rows * _CELL[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = load_face(next(iter(usable_faces("train").values()))[0], 16)
    for number in range(count):
        crop, label = renderer.sample(first + number)
        picture = Image.fromarray(crop)
        scale = min(_CROP[0] / picture.width, _CROP[1] / picture.height)
        picture = picture.resize((max(int(picture.width * scale), 1), max(int(picture.height * scale), 1)))
        x, y = (number % _COLUMNS) * _CELL[0], (number // _COLUMNS) * _CELL[1]
        sheet.paste(picture, (x + 4, y + 2))
        draw.text((x + 4, y + 99), f"{label}  {crop.shape[1]}x{crop.shape[0]}", fill="black", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clip4str_doctr.training.synth", description=__doc__)
    parser.add_argument("--style", choices=STYLES, default="mixed")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first sample")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    renderer = Renderer(arguments.style, arguments.split, arguments.seed)
    sheet = contact_sheet(renderer, arguments.first, arguments.count)
    with written(arguments.output) as part:
        sheet.save(part, format=(arguments.output.suffix[1:] or "png").upper().replace("JPG", "JPEG"))
    print(f"{arguments.output}: {arguments.count} crops, {arguments.style}, {arguments.split}")


if __name__ == "__main__":
    main()
