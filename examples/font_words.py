"""Words in one font as a data set in docTR's format, standing for a user's own pictures in docs/fine-tuning.md.

python examples/font_words.py dancing-script words/train --split train --count 1500
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clip4str_doctr.training.synth.backgrounds import contrasting_colours
from clip4str_doctr.training.synth.effects import clean_effects, to_uint8_jpeg
from clip4str_doctr.training.synth.fonts import Face, usable_faces
from clip4str_doctr.training.synth.geometry import place
from clip4str_doctr.training.synth.words import WordSource
from clip4str_doctr.training.synth.writing import write


def draw_word(rng: np.random.Generator, words: WordSource, faces: tuple[Face, ...]) -> tuple[np.ndarray, str]:
    """-> a crop as from a scanned page, 20 to 60 pixels high, and its label."""
    label = words.draw(rng)
    face = faces[int(rng.integers(len(faces)))]
    height = 20 * 3 ** rng.random()
    canvas, box = write(rng, label, face, height, True, lambda: words.frequent(rng))
    placement = place(rng, box, height, True)
    ink = cv2.warpPerspective(canvas, placement.homography, (placement.width, placement.height))
    paper, colour = contrasting_colours(rng, True)
    crop = paper + (colour - paper) * (ink[..., None].astype(np.float32) / 255)
    return to_uint8_jpeg(rng, clean_effects(rng, crop), 0.4, 45, frozen=True), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", help="one of the fonts that clip4str-doctr[train] brings")
    parser.add_argument("folder", type=Path, help="data set to write")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="lists that the words come from")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    families = {**usable_faces("train"), **usable_faces("val")}
    if arguments.family not in families:
        parser.error(f"no font {arguments.family}; there are {', '.join(sorted(families))}")
    words = WordSource(arguments.split, arguments.seed)
    (arguments.folder / "images").mkdir(parents=True)
    labels = {}
    for number in range(arguments.count):
        rng = np.random.default_rng([arguments.seed, arguments.split == "val", number])
        crop, labels[f"{number:05d}.png"] = draw_word(rng, words, families[arguments.family])
        Image.fromarray(crop).save(arguments.folder / "images" / f"{number:05d}.png")
    (arguments.folder / "labels.json").write_text(json.dumps(labels, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"{arguments.folder}: {arguments.count} words in {arguments.family}")


if __name__ == "__main__":
    main()
