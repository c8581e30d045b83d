"""Wide crops: read whole, cut as docTR cuts them, or cut at the gaps between words.

`python -m clip4str_doctr.benchmark.wide_crops -o wide_crops.json` renders words and phrases of 1 to 25 symbols (and
phrases of up to 40, which no single pass can read) at aspect ratios of 1 to 20, in fonts held out from training,
reads each in every way and tabulates by aspect ratio and by length. A phrase is what a detector hands
over that overlooked a space: its right answer is its symbols without the spaces, for the alphabet has none.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from clip4str_doctr.benchmark.report import package_commit, tell
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.training.metrics import similarity
from clip4str_doctr.training.synth.backgrounds import background, contrasting_colours
from clip4str_doctr.training.synth.effects import clean_effects, photo_effects, to_uint8_jpeg
from clip4str_doctr.training.synth.fonts import FONT_SIZES, Face, load_face, usable_faces
from clip4str_doctr.training.synth.render import Renderer
from clip4str_doctr.training.synth.words import MAX_SYMBOLS, WordSource

__all__ = ["KINDS", "Sample", "lost_symbols", "measure", "samples"]

Crop = npt.NDArray[np.uint8]
Reader = Callable[[Sequence[Crop]], list[tuple[str, float]]]

# "ordinary": the renderer's own crops of one word, wide ones only, with neighbours cut by their edges.
KINDS = ("word", "phrase", "ordinary")
_LONGEST = 40
_ASPECTS = (1, 2, 3, 4, 5, 6, 8, 12, 20)
_LENGTHS = (1, 4, 7, 11, 16, 21, 26, 41)
_WIDEST = 480  # pixels; the renderer's textures are hardly wider


@dataclass(frozen=True)
class Sample:
    """crop: (H, W, 3) uint8; label: its symbols without spaces; words: how many it holds."""

    crop: Crop
    label: str
    words: int
    kind: str

    @property
    def aspect(self) -> float:
        height, width = self.crop.shape[:2]
        return float(width / height)


def samples(kind: str, count: int, seed: int) -> Iterator[Sample]:
    """`count` samples of one kind, the same for the same seed. Lengths come in turn, from 1 to 25 (phrases: 2 to 40).

    The aspect ratio is drawn between 0.7 and 2.5 times that of tightly set type, within 1 and 20; half of it (by
    ratio) comes from wider or narrower letters, half from space between them, as on signs and in headings.
    """
    if kind == "ordinary":
        yield from _ordinary(count, seed)
        return
    lengths = range(1, MAX_SYMBOLS + 1) if kind == "word" else range(2, _LONGEST + 1)
    source = WordSource("val", seed)
    families = list(usable_faces("val").values())
    for number, length in enumerate(itertools.islice(itertools.cycle(lengths), count)):
        rng = np.random.default_rng([seed, KINDS.index(kind), number])
        words = _phrase(rng, source, length) if kind == "phrase" else [_word(rng, source, length)]
        faces = families[int(rng.random() * len(families))]
        face = faces[int(rng.random() * len(faces))]
        yield Sample(_render(rng, " ".join(words), face, clean=number % 2 == 0), "".join(words), len(words), kind)


def _ordinary(count: int, seed: int) -> Iterator[Sample]:
    renderers = [Renderer(style, "val", seed) for style in ("clean", "photo")]
    drawn = (renderer.sample(index) for index in itertools.count() for renderer in renderers)
    wide = (Sample(crop, label, 1, "ordinary") for crop, label in drawn if crop.shape[1] > 3 * crop.shape[0])
    yield from itertools.islice(wide, count)


def _word(rng: np.random.Generator, source: WordSource, length: int) -> str:
    """A word of exactly this length: drawn, or where few are that long, run together from several."""
    for _ in range(200):
        label = source.draw(rng)
        if len(label) == length:
            return label
    text = ""
    while len(text) < length:
        text += source.uniform(rng, "syllables")
    return source.cased(rng, text[:length])[:length]


def _phrase(rng: np.random.Generator, source: WordSource, length: int) -> list[str]:
    """Two words or more, `length` symbols together; where none drawn fits into the rest, a number stands."""
    style = (str.upper, str.lower, str.title)[int(rng.random() * 3)]
    lists = ("syllables", "names", "places", "signs")
    words: list[str] = []
    while room := length - sum(map(len, words)):
        most = room if words else length - 1  # the first one leaves room for another
        drawn = (source.uniform(rng, lists[int(rng.random() * len(lists))]) for _ in range(20))
        number = "".join("0123456789"[int(rng.random() * 10)] for _ in range(min(most, 4)))
        words.append(style(next((word for word in drawn if len(word) <= most), number)))
    return words


def _render(rng: np.random.Generator, text: str, face: Face, clean: bool) -> Crop:
    """text -> a crop of the drawn aspect ratio, 14 to 60 pixels high, at most 480 wide."""
    height = float(14 * (60 / 14) ** rng.random())
    size = next((size for size in FONT_SIZES if size >= height * 0.75), FONT_SIZES[-1])
    natural = _ink(text, face, size, 0)
    tight = natural.shape[1] / natural.shape[0]
    low, high = max(1.0, 0.7 * tight), min(20.0, 2.5 * tight)
    wanted = low * (max(high, low) / low) ** rng.random()
    spacing = max(natural.shape[0] * tight * ((wanted / tight) ** 0.5 - 1) / max(len(text) - 1, 1), 0)
    ink = _ink(text, face, size, spacing)
    margin = (0.02 + 0.16 * rng.random(4)) * ink.shape[0]
    ink = np.pad(ink, ((int(margin[0]), int(margin[1])), (int(margin[2]), int(margin[3]))))
    height = min(height, _WIDEST / wanted)
    rows, columns = round(height), max(round(height * wanted), 8)
    shrinking = cv2.INTER_AREA if rows < ink.shape[0] else cv2.INTER_LINEAR
    share = cv2.resize(ink, (columns, rows), interpolation=shrinking)[..., None].astype(np.float32) / np.float32(255)
    paper, colour = contrasting_colours(rng, clean)
    crop = background(rng, rows, columns, paper, clean)
    crop = np.asarray(crop + share * (colour - crop), np.float32)
    crop = clean_effects(rng, crop) if clean else photo_effects(rng, crop, float(np.abs(paper - colour).mean()))
    return to_uint8_jpeg(rng, crop, *((0.4, 45) if clean else (0.6, 22)), frozen=True)


def _ink(text: str, face: Face, size: int, spacing: float) -> npt.NDArray[np.uint8]:
    """The text's ink, cut tightly: (H, W) uint8, `spacing` pixels between letters beyond the font's own."""
    font = load_face(face, size)
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    width = int(right - left + spacing * (len(text) - 1)) + 2
    image = Image.new("L", (width + size, int(bottom - top) + 2))
    draw = ImageDraw.Draw(image)
    for number, symbol in enumerate(text):
        x = 1 - left + font.getlength(text[: number + 1]) - font.getlength(symbol) + spacing * number
        draw.text((x, 1 - top), symbol, fill=255, font=font, anchor="ls")
    ink = np.asarray(image)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return np.asarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)


def lost_symbols(answer: str, label: str) -> int:
    """Symbols of the label that the answer does not hold in their order: its length less the longest common part."""
    row = [0] * (len(answer) + 1)
    for symbol in label:
        above = row[:]
        for place, other in enumerate(answer, start=1):
            row[place] = above[place - 1] + 1 if symbol == other else max(above[place], row[place - 1])
    return len(label) - row[-1]


def readers(model: CLIP4STR) -> dict[str, Reader]:
    """whole: no cutting. doctr: its own, from 8:1 on. gaps: ours, at any aspect ratio; tables try several limits."""
    from clip4str_doctr.plugin import CropPreProcessor, recognition_predictor_of
    from clip4str_doctr.predictor import WideCropPredictor

    size = model.config.image_tower.image_size
    return {
        "whole": recognition_predictor_of(model, batch_size=64, split_wide_crops=False),
        "doctr": recognition_predictor_of(model, batch_size=64, split_wide_crops=True),
        "gaps": WideCropPredictor(
            CropPreProcessor(size, model.config.preprocess, 64), model, cut_at_gaps=True, wide_from=0.0
        ),
    }


def measure(model: CLIP4STR, count: int, seed: int, wide_from: Sequence[float] = (2, 3, 4, 5, 6, 8)) -> dict[str, Any]:
    """count samples of every kind -> figures by kind, by aspect ratio and by length, for each way of reading.

    "gaps>A" reads whole what is not wider than A heights. right: share of crops read without a fault, cased. lost:
    share of all symbols that the answers lack. ned: mean of 1 - edit distance / length of the longer string.
    """
    drawn = [sample for kind in KINDS for sample in samples(kind, count, seed)]
    crops = [sample.crop for sample in drawn]
    answers = {name: [text for text, _ in read(crops)] for name, read in readers(model).items()}
    for limit in wide_from:
        pairs = zip(drawn, answers["whole"], answers["gaps"], strict=True)
        answers[f"gaps>{limit:g}"] = [gaps if sample.aspect > limit else whole for sample, whole, gaps in pairs]
    tables: dict[str, Any] = {}
    for kind in KINDS:
        of_kind = [number for number, sample in enumerate(drawn) if sample.kind == kind]
        groups = {"all": of_kind}
        for low, high in itertools.pairwise(_ASPECTS):
            groups[f"aspect {low}-{high}"] = [number for number in of_kind if low <= drawn[number].aspect < high]
        for low, high in itertools.pairwise(_LENGTHS):
            groups[f"length {low}-{high - 1}"] = [n for n in of_kind if low <= len(drawn[n].label) < high]
        tables[kind] = {name: _figures(drawn, answers, group) for name, group in groups.items() if group}
    return tables


def _figures(drawn: Sequence[Sample], answers: dict[str, list[str]], group: Sequence[int]) -> dict[str, Any]:
    symbols = sum(len(drawn[number].label) for number in group)
    figures: dict[str, Any] = {"crops": len(group), "symbols": symbols}
    for name, read in answers.items():
        pairs = [(read[number], drawn[number].label) for number in group]
        figures[name] = {
            "right": round(sum(answer == label for answer, label in pairs) / len(group), 4),
            "lost": round(sum(lost_symbols(answer, label) for answer, label in pairs) / symbols, 4),
            "ned": round(float(np.mean([similarity(answer, label) for answer, label in pairs])), 4),
        }
    return figures


def main() -> None:
    """Print or write one JSON object: the tables, and the protocol that makes them figures."""
    from clip4str_doctr.weights import find_weights, load_model, read_card

    parser = argparse.ArgumentParser(
        prog="python -m clip4str_doctr.benchmark.wide_crops", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("weights", nargs="?", help="weights (default: the embedded model)")
    parser.add_argument("--count", type=int, default=400, help="crops of each kind (default: 400)")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    folder = arguments.weights or find_weights("clip4str_vn_tiny")
    model = load_model(folder)
    card = read_card(folder)
    protocol = {
        "crops_per_kind": arguments.count,
        "seed": arguments.seed,
        "data": "rendered; font families held out from training; none dropped",
        "score": "cased, NFC, without spaces",
        "arch": model.config.arch,
        "weights_sha256": card.sha256["model.safetensors"],
        "weights_commit": card.commit,
        "commit": package_commit(),
        "device": str(next(model.parameters()).device),
        "torch": torch.__version__,
    }
    tell({"protocol": protocol, **measure(model, arguments.count, arguments.seed)}, arguments.output)


if __name__ == "__main__":
    main()
