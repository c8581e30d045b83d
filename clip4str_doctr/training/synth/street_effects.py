"""What stands between a sign and the file: things in front, light, lens, sensor, camera software, compression."""

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Pixels, smooth_field, tile
from clip4str_doctr.training.synth.effects import (
    cast_shadow,
    glare,
    low_resolution,
    motion_blur,
    sensor_noise,
    through_jpeg,
)
from clip4str_doctr.training.synth.geometry import Box
from clip4str_doctr.training.synth.photos import photo_cut

__all__ = ["street_effects"]

_LEAST_SPAN = 40.0  # of brightness within a crop, 0..255, before noise
_FAINT, _FAINT_SPAN = 0.10, 16.0  # share of words that hardly differ from their ground, and what is left of them


def street_effects(
    rng: np.random.Generator, crop: Pixels, contrast: float, word: Box, stroke: float, *, frozen: bool
) -> npt.NDArray[np.uint8]:
    """crop: (H, W, 3) float32, 0..255 -> (H, W, 3) uint8.

    contrast: of ink and paper, 0..255; little is left as it is. word: its box. stroke: how thick its strokes are,
    pixels: thin ones are blurred less, for nobody labels what nobody can read. frozen: as the suites have it, noisier
    than photographs are, less often sharpened, never faint, and one in 250 upside down, where 59 is not told from 65.
    """
    draw = rng.random(8)
    faint = not frozen and rng.random() < _FAINT
    if draw[0] < 0.12:
        crop = _in_front(rng, crop, word, frozen)
    crop = _light(rng, crop)
    if draw[1] < 0.6 or faint:
        gain, brightness = 0.5 + 0.65 * rng.random(), 22 * rng.standard_normal()
        gain = max(gain, min(50 / max(contrast, 1), 1.0))
        if faint:  # letters cut into stone, haze, a worn board
            gain = min((24 + 18 * rng.random()) / max(contrast, 1), 1.0)
        contrast *= gain
        crop = (crop - 127) * np.float32(gain) + np.float32(127 + brightness)
    if draw[2] < 0.3:
        crop = crop * (1 + 0.09 * rng.standard_normal(3)).astype(np.float32)
    crop = _exposed(_lens(rng, crop, stroke, frozen), _FAINT_SPAN if faint else _LEAST_SPAN)
    if draw[3] < (0.65 if frozen else 0.5):
        crop = _noise(rng, crop, min(15.0, 0.16 * contrast) if frozen else min(10.0, 0.09 * contrast))
    if draw[4] < (0.22 if frozen else 0.32):  # sharpened by the camera
        amount = np.float32(0.4 + 1.4 * rng.random())
        soft = np.asarray(cv2.GaussianBlur(crop, (0, 0), 0.8 + 0.8 * rng.random()), np.float32)
        crop = crop + amount * (crop - soft)
    if draw[5] < 0.05:
        crop = _smeared(rng, crop, stroke, frozen)
    if frozen and draw[6] < 0.004:
        crop = crop[::-1, ::-1]
    pixels = np.clip(crop, 0, 255).astype(np.uint8)
    if draw[7] < 0.75:
        pixels = _compressed(rng, pixels, 55 if faint else 20, frozen=frozen)
    return np.ascontiguousarray(pixels)


def _light(rng: np.random.Generator, crop: Pixels) -> Pixels:
    height, width = crop.shape[:2]
    draw = rng.random()
    if draw < 0.35:
        crop = crop * (1 + (smooth_field(rng, height, width, 1, 2) - 0.6) * (0.15 + 0.45 * rng.random()))
    elif draw < 0.50:
        crop = cast_shadow(rng, crop)
    elif draw < 0.56:
        crop = glare(rng, crop)
    elif draw < 0.58:  # a pane in front that mirrors the street
        share = np.float32(0.08 + 0.17 * rng.random())
        crop = crop * (1 - share) + share * photo_cut(rng, height, width)
    elif draw < 0.61:  # dirt that the rain took down
        streaks = np.maximum(tile(rng, "brushed", width, height).T, 0) * np.float32(15 + 45 * rng.random())
        crop = np.asarray(crop - streaks[..., None], np.float32)
    return np.asarray(crop, np.float32)


def _exposed(crop: Pixels, least: float) -> Pixels:
    """A camera exposes so that something is seen: crops whose light and dark both lie at one end come back.

    least: span of brightness, 0..255, that they get.
    """
    levels = np.sort(crop[::2, ::2].reshape(-1, 3), axis=0)
    darkest, lightest = levels[len(levels) // 20], levels[-1 - len(levels) // 20]
    spans = np.minimum(lightest, 255) - np.maximum(darkest, 0)
    if spans.max() >= least:
        return crop
    best = int(np.argmax(lightest - darkest))
    dark, light = float(darkest[best]), float(lightest[best])
    gain = min(least / max(light - dark, 8.0), 4.0)
    middle = min(max((dark + light) / 2, 60.0), 195.0)
    return np.asarray((crop - np.float32((dark + light) / 2)) * np.float32(gain) + np.float32(middle), np.float32)


def _lens(rng: np.random.Generator, crop: Pixels, stroke: float, frozen: bool) -> Pixels:
    """Out of focus, shaken, far away, or sharp."""
    height = crop.shape[0]
    draw = rng.random()
    if draw < 0.42:
        sigma = 0.3 + min(max(height - 10, 3) * 0.028, 0.75 * stroke) * rng.random() ** 1.7
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.float32)
    elif draw < 0.50 and height > 20 and stroke > 2:
        crop = motion_blur(rng, crop)
    if rng.random() < 0.16 and height > 18 and stroke > 1.5:
        # Strokes of a pixel and more are left.
        crop = low_resolution(rng, crop, 0 if frozen else 1.3 * height / stroke)
    return crop


def _noise(rng: np.random.Generator, crop: Pixels, strongest: float) -> Pixels:
    """Of the sensor; or of its colours only, coarse, as phones leave it by night."""
    if rng.random() < 0.2 and min(crop.shape[:2]) > 8:
        height, width = crop.shape[:2]
        blotches = tile(rng, "soft3", height, width)
        amount = np.float32(2 + 1.2 * strongest * rng.random())
        return np.asarray(crop + (blotches - blotches.mean(axis=2, keepdims=True)) * amount, np.float32)
    return sensor_noise(rng, crop, strongest)


def _smeared(rng: np.random.Generator, crop: Pixels, stroke: float, frozen: bool) -> Pixels:
    """Noise reduction that took the small things with it."""
    pixels = np.clip(crop, 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        # Dots of two pixels would be gone, and with them what the word says.
        return np.asarray(cv2.medianBlur(pixels, 3), np.float32) if frozen or stroke > 2.5 else crop
    return _steps(pixels)


def _steps(pixels: npt.NDArray[np.uint8]) -> Pixels:
    """Few levels of brightness left."""
    return (pixels // 24).astype(np.float32) * 24 + 12


def _compressed(
    rng: np.random.Generator, pixels: npt.NDArray[np.uint8], lowest: int, *, frozen: bool
) -> npt.NDArray[np.uint8]:
    """JPEG of quality lowest..95, once or, as pictures that travelled, twice."""
    for _ in range(2 if rng.random() < 0.12 else 1):
        pixels = through_jpeg(rng, pixels, int(lowest + (96 - lowest) * rng.random() ** 0.7), frozen=frozen)
    return pixels


def _in_front(rng: np.random.Generator, crop: Pixels, word: Box, frozen: bool) -> Pixels:
    """Wires, a pole, leaves, a blot; thin enough, or few enough, that the word is still read."""
    crop = np.array(crop, np.float32, order="C")  # a sign may be photographed again, without them
    draw = rng.random()
    if draw < 0.5:
        _wires(rng, crop)
    elif draw < 0.62:
        _pole(rng, crop)
    else:
        _leaves(rng, crop, word, green=draw < 0.9, frozen=frozen)
    return crop


def _wires(rng: np.random.Generator, crop: Pixels) -> None:
    height, width = crop.shape[:2]
    for _ in range(1 + int(rng.random() * 2.5)):
        level = float(rng.random() * (110 if rng.random() < 0.8 else 230))
        colour = tuple(float(value) for value in level + 12 * rng.standard_normal(3))
        thick = 1 + int(height / 22 * rng.random())
        along = np.linspace(-0.02, 1.02, 8)
        bow = 0.3 * rng.standard_normal() * (2 * along - 1) ** 2
        across = rng.random() + (rng.random() - 0.5) * along + bow
        points = np.stack([along, across] if rng.random() < 0.75 else [across, along], axis=1) * (width, height)
        cv2.polylines(crop, [np.round(points * 16).astype(np.int32)], False, colour, thick, cv2.LINE_AA, 4)


def _pole(rng: np.random.Generator, crop: Pixels) -> None:
    """Upright, not wider than a part of a letter, lit from one side."""
    height, width = crop.shape[:2]
    thick = max(int(height * (0.04 + 0.10 * rng.random())), 1)
    left = int(width * rng.random())
    part = crop[:, left : left + thick]
    shade = np.linspace(1.15, 0.7, thick, dtype=np.float32)[None, : part.shape[1], None]
    part[:] = (40 + 140 * rng.random()) * shade + 10 * rng.standard_normal(3)


def _leaves(rng: np.random.Generator, crop: Pixels, word: Box, green: bool, frozen: bool) -> None:
    """Leaves before the word's ends and edges, or blots of bird and paint anywhere; but for the suites', lower than
    marks are, which they would hide whole."""
    left, top, right, bottom = word
    colour = np.array([40, 90, 30] if green else [200, 200, 195], np.float32) * np.float32(0.5 + 0.9 * rng.random())
    for _ in range(2 + int(rng.random() * (6 if green else 3))):
        x, y = rng.random(2)
        y = y**2 if x < 0.5 else 1 - y**2  # more of them high on the left, low on the right: a twig
        y = y if frozen else 0.35 + 0.5 * y
        reach = crop.shape[0] * (0.04 + 0.10 * rng.random())
        axes = max(int(reach), 1), max(int(reach * (0.3 + 0.5 * rng.random())), 1)
        tint = tuple(float(value) for value in colour * (0.7 + 0.6 * rng.random()))
        at = (int(left + (right - left) * x), int(top + (bottom - top) * y))
        cv2.ellipse(crop, at, axes, 360 * rng.random(), 0, 360, tint, -1, cv2.LINE_AA)
