"""From where a sign is seen: turned and tilted planes, stretched and bent words, and how the box was drawn."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Pixels
from clip4str_doctr.training.synth.geometry import Box, Mask, Placement

__all__ = [
    "LOOSE", "MAX_TILT", "RECTIFIED", "arch", "loose_room", "margins_of_crop", "rectified", "resampled", "view",
]  # fmt: skip

MAX_TILT = 35.0  # degrees
# Share of training's crops with much empty ground beside the word: else readers fill it with symbols, dots mostly.
LOOSE = 0.05
# Share of training's signs that are cut out by four corners and made level, as detectors of quadrilaterals have it.
RECTIFIED = 0.25
_WIDEST, _HIGHEST = 480, 200  # pixels
Points = npt.NDArray[np.float64]


def view(rng: np.random.Generator, box: Box, target_height: float, margins: Points) -> Placement:
    """box: the word's ink in the canvas; target_height: of the crop, in pixels; margins: of `margins_of_crop`."""
    left, top, right, bottom = box
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    corners = corners @ _shape(rng, width / height).T
    if rng.random() < 0.5:
        corners = _tilted(rng, corners)
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = margins * float(high[1] - low[1])
    low, high = low - margin[:2], high + margin[2:]
    size = np.maximum(high - low, 1.0)
    # A label of 25 symbols must not become a huge picture, nor a dot a sliver.
    scale = min(target_height / size[1], _WIDEST / size[0])
    out_width, out_height = max(int(round(size[0] * scale)), 8), max(int(round(size[1] * scale)), 8)
    out_height = min(out_height, _HIGHEST)
    target = (corners - low) * (np.array([out_width, out_height]) / size)
    source = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    homography = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    (left, top), (right, bottom) = target.min(axis=0).tolist(), target.max(axis=0).tolist()
    return Placement(np.asarray(homography), out_height, out_width, (left, top, right, bottom))


def rectified(rng: np.random.Generator, box: Box, target_height: float, margins: Points) -> Placement:
    """As `view`, by corners that are not quite the word's: it leans and narrows a little, and is drawn out."""
    left, top, right, bottom = box
    tall = max(bottom - top, 1.0)
    (x1, y1), (x2, y2) = (left, top) - margins[:2] * tall, (right, bottom) + margins[2:] * tall
    quad = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    quad += 0.04 * tall * np.clip(rng.standard_normal((4, 2)), -2, 2)
    wide, high = max(x2 - x1, 1.0) * math.exp(0.25 * rng.standard_normal()), max(y2 - y1, 1.0)
    scale = min(target_height / high, _WIDEST / wide)
    out_width, out_height = max(round(wide * scale), 8), min(max(round(high * scale), 8), _HIGHEST)
    target = np.array([[0, 0], [out_width, 0], [out_width, out_height], [0, out_height]], np.float32)
    homography = cv2.getPerspectiveTransform(quad.astype(np.float32), target)
    corners = np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]], np.float32)
    word = cv2.perspectiveTransform(corners, homography)[0]
    (left, top), (right, bottom) = word.min(axis=0).tolist(), word.max(axis=0).tolist()
    return Placement(np.asarray(homography), out_height, out_width, (left, top, right, bottom))


def resampled(rng: np.random.Generator, crop: Pixels, stroke: float) -> Pixels:
    """Fewer pixels along one axis and as many again: what a plane seen from the side has when it is made level.

    stroke: how thick the word's strokes are, pixels; a pixel of them is left.
    """
    height, width = crop.shape[:2]
    share = max(0.4 + 0.5 * rng.random(), min(1.3 / max(stroke, 0.1), 1.0))
    upright = rng.random() < 0.3
    fewer = (width, max(int(height * share), 8)) if upright else (max(int(width * share), 8), height)
    small = cv2.resize(crop, fewer, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _shape(rng: np.random.Generator, aspect: float) -> Points:
    """Stretch, slant and turn as one 2 x 2 matrix. Wide words lean less: their boards hang straight."""
    draw, chance, side = rng.random(), rng.random(3), rng.standard_normal(3)
    angle = min(max((9.0 if draw < 0.12 else 2.8) * side[0], -25.0), 25.0)
    if draw > 0.985 and aspect < 4:
        angle = (25 + 20 * chance[0]) * (1 if side[0] < 0 else -1)
    slant = min(max(0.16 * side[1], -0.4), 0.4) if chance[1] < 0.35 else 0.0
    # Letters drawn out to fill the board: tall ones mostly.
    stretch = math.exp(0.34 * side[2] - 0.18 if chance[2] < 0.45 else 0.10 * side[2])
    stretch = min(max(stretch, 0.38), 2.2)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos * stretch, -cos * slant - sin], [sin * stretch, -sin * slant + cos]])


def _tilted(rng: np.random.Generator, corners: Points) -> Points:
    """The plane turned about its upright and its level axis by at most MAX_TILT, seen from a finite distance.

    The word need not hang before the camera: off to one side or high above, its lines lean.
    """
    pan, tilt = (math.radians(min(max(14 * one, -MAX_TILT), MAX_TILT)) for one in rng.standard_normal(2))
    size = float((corners.max(axis=0) - corners.min(axis=0)).max())
    distance = size * (1.1 + 3 * rng.random())
    aside = [size * min(max(0.5 * one, -1.0), 1.0) for one in rng.standard_normal(2)]
    # About the level axis first, then about the upright one.
    across = np.array([[math.cos(pan), math.sin(pan) * math.sin(tilt)], [0.0, math.cos(tilt)]])
    away = np.array([-math.sin(pan), math.cos(pan) * math.sin(tilt)])
    flat = corners + aside
    depth = np.maximum(1 + flat @ away / distance, 0.35)
    return np.asarray(flat @ across.T / depth[:, None])


def margins_of_crop(rng: np.random.Generator) -> Points:
    """left, top, right, bottom distance of the crop's edge from the word, in heights of it; negative cuts."""
    draw, jitter = rng.random(), rng.random(4)
    if draw < 0.10:
        margin = 0.10 * jitter - 0.07  # cut, sometimes through a mark
    elif draw < 0.45:
        margin = 0.07 * jitter - 0.005
    elif draw < 0.88:
        margin = 0.01 + 0.15 * jitter
    else:
        margin = 0.03 + 0.36 * jitter
    if rng.random() < 0.06:  # one side is off by much
        margin[int(rng.random() * 4)] += 0.35 * rng.random()
    return np.asarray(margin)


def loose_room(rng: np.random.Generator) -> tuple[float, float]:
    """Empty ground left and right of a word in a loose box, in widths of the word; mostly on one side, mostly right."""
    side, room = rng.random(), 1.2 * rng.random(2) ** 1.5
    return (0.0, room[1]) if side < 0.55 else (room[0], 0.0) if side < 0.8 else (room[0] / 2, room[1] / 2)


def arch(rng: np.random.Generator, canvas: Mask, box: Box) -> tuple[Mask, Box]:
    """Set a straight line of letters along a circle, feet on it -> the canvas (padded) and the word's new box."""
    left, top, right, bottom = box
    height, width = canvas.shape[:2]
    turn = np.deg2rad(25 + 75 * rng.random())  # that the word spans
    radius = (right - left) / turn
    upward = rng.random() < 0.7
    middle = (left + right) / 2
    base = bottom if upward else top
    sag = radius * (1 - np.cos(min(turn / 2, 1.2)))
    pad = int(sag) + 2
    y, x = np.mgrid[0 : height + 2 * pad, 0:width].astype(np.float32)
    x -= np.float32(middle)
    # The circle's centre lies under the word's foot, or over its head.
    rise = base + pad + radius - y if upward else y - (base + pad - radius)
    angle = np.arctan2(x, rise)
    distance = np.sqrt(x * x + rise * rise)
    map_x = (angle * np.float32(radius) + np.float32(middle)).astype(np.float32)
    map_y = (base - (distance - radius) if upward else base + (distance - radius)).astype(np.float32)
    bent = cv2.remap(canvas, map_x, map_y, cv2.INTER_LINEAR, borderValue=0)
    half = (radius + (bottom - top)) * np.sin(turn / 2)
    high = top + pad if upward else top + pad - sag
    low = bottom + pad + sag if upward else bottom + pad
    return np.asarray(bent, np.uint8), (middle - half, high, middle + half, low)
