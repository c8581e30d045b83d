"""What boards and letters are made of: paint, gradients, cloth, metal, photographs."""

import numpy as np

from clip4str_doctr.training.synth.backgrounds import Colour, Pixels, background, distinct, smooth_field, tile
from clip4str_doctr.training.synth.photos import photo_cut, photo_relief

__all__ = ["board_surface", "letter_surface", "rainbow"]


def board_surface(rng: np.random.Generator, height: int, width: int, paper: Colour, over_photo: bool) -> Pixels:
    """(H, W, 3) float32 around the colour `paper`; over_photo: a photograph that is only tinted with it."""
    if over_photo:
        share = np.float32(0.35 * rng.random())
        return photo_cut(rng, height, width) * (1 - share) + share * paper
    draw = rng.random()
    if draw < 0.30:
        ground = np.empty((height, width, 3), np.float32)
        ground[:] = paper
        if draw < 0.10:
            ground += (_ramp(rng, height, width) - 0.5)[..., None] * (25 + 70 * rng.random())
        return ground
    if draw < 0.44:  # the grain of a real wall, lawn, face: only its light and dark
        relief = photo_relief(rng, height, width)
        return np.asarray(paper + (relief * (8 + 34 * rng.random()))[..., None], np.float32)
    if draw < 0.53:  # a picture printed faintly under the words
        share = np.float32(0.62 + 0.3 * rng.random())
        return photo_cut(rng, height, width) * (1 - share) + share * paper
    if draw < 0.62:
        return np.asarray(paper + (_folds(rng, height, width) * (12 + 40 * rng.random()))[..., None], np.float32)
    if draw < 0.70:  # two shades that meet along a line
        split = np.clip((_ramp(rng, height, width) - 0.5) * height / 2 + 0.5, 0, 1)
        return np.asarray(paper + (split * (60 * rng.random() - 30))[..., None], np.float32)
    return background(rng, height, width, paper, False)


def letter_surface(rng: np.random.Generator, paper: Colour, colour: Colour, height: int, width: int) -> Pixels:
    """Paint mostly, or a gradient, or a material; (3,) or (H, W, 3)."""
    draw = rng.random()
    if draw < 0.55:
        return colour
    if draw < 0.65:  # from one colour to another, top to bottom
        other = rng.random(3, dtype=np.float32) * 255
        if not distinct(other, paper):
            other = colour * np.float32(0.55)
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        return np.asarray(colour + ramp * (other - colour) if draw < 0.60 else other + ramp * (colour - other))
    if draw < 0.80:
        return colour + (smooth_field(rng, height, width, 3 if draw < 0.70 else 1, 2) - 0.5) * (35 + 60 * rng.random())
    if draw < 0.88:
        return np.asarray(colour + (photo_relief(rng, height, width) * (8 + 30 * rng.random()))[..., None], np.float32)
    if draw < 0.93:
        return np.asarray(colour + (_folds(rng, height, width) * (10 + 30 * rng.random()))[..., None], np.float32)
    names = ("marble", "wood", "brushed", "clouds", "blobs", "leaves", "paper", "slats")
    pattern = tile(rng, names[int(rng.random() * len(names))], height, width)
    return colour + (pattern * (8 + 32 * rng.random()))[..., None]


def rainbow(rng: np.random.Generator, paper: Colour, colour: Colour, width: int, letters: int) -> Pixels:
    """A colour for each letter, about; (1, W, 3)."""
    colours = [colour]
    for _ in range(letters - 1):
        drawn = rng.random(3, dtype=np.float32) * 255
        colours.append(drawn if distinct(drawn, paper) else colour)
    steps = np.minimum((np.arange(width) * letters / width).astype(int), letters - 1)
    return np.asarray(np.stack(colours)[steps][None], np.float32)


def _ramp(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """0..1 along any direction, (H, W)."""
    angle = 2 * np.pi * rng.random()
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(np.cos(angle))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return np.asarray(np.clip(x + y + 0.5 + 0.3 * (rng.random() - 0.5), 0, 1), np.float32)


def _folds(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Creases of a tarpaulin: a few bright or dark lines along one direction, (H, W), about -1..1."""
    angle = np.pi * rng.random()
    x = np.arange(width, dtype=np.float32) * np.float32(np.cos(angle) / height)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle) / height)
    along = x + y
    ground = np.zeros((height, width), np.float32)
    low, high = float(along.min()), float(along.max())
    for _ in range(1 + int(rng.random() * 3)):
        middle, broad = low + (high - low) * rng.random(), 0.04 + 0.25 * rng.random()
        distance = (along - np.float32(middle)) / np.float32(broad)
        ground += np.float32(1 if rng.random() < 0.5 else -1) * distance * np.exp(np.float32(0.5) - distance * distance)
    return ground
