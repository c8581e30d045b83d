"""What becomes of a page when it is printed by a till, or taken with a telephone instead of a scanner."""

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Pixels, smooth_field
from clip4str_doctr.training.synth.effects import cast_shadow, motion_blur
from clip4str_doctr.training.synth.geometry import Box

__all__ = ["leaning", "photographed", "thermal"]

Ink = npt.NDArray[np.float32]  # (H, W, 3), share of ink 0..1


def leaning(rng: np.random.Generator, ink: Ink, box: Box) -> tuple[Ink, Box]:
    """A page that does not lie straight before the camera -> it, turned and sheared, and the straight box around the
    word."""
    height, width = ink.shape[:2]
    turn = np.radians(np.clip(2.2 * rng.standard_normal(), -6, 6))
    shear, squeeze = np.clip(0.06 * rng.standard_normal(2), -0.15, 0.15)
    cos, sin = np.cos(turn), np.sin(turn)
    linear = np.array([[cos * (1 + squeeze), shear - sin], [sin, cos]])
    middle = np.array([width, height]) / 2
    matrix = np.column_stack([linear, middle - linear @ middle])
    turned = np.asarray(cv2.warpAffine(ink, matrix, (width, height), flags=cv2.INTER_LINEAR), np.float32)
    left, top, right, bottom = box
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    around = corners @ linear.T + matrix[:, 2]
    # The ink seldom reaches the corners of its box: a box around the turned ink is a little smaller.
    slack = 0.35 * abs(sin) * (bottom - top)
    (low_x, low_y), (high_x, high_y) = around.min(axis=0), around.max(axis=0)
    return turned, (
        float(np.clip(low_x + slack, 0, width - 1)),
        float(np.clip(low_y, 0, height - 1)),
        float(np.clip(high_x - slack, 1, width)),
        float(np.clip(high_y, 1, height)),
    )


def photographed(rng: np.random.Generator, pixels: Pixels, *, outdoors: bool) -> Pixels:
    """Uneven light, a tint, a little out of focus; outdoors: shadows and a shaking hand, too."""
    height, width = pixels.shape[:2]
    light = 0.55 + 0.4 * rng.random() + (smooth_field(rng, height, width, 1, 2) - 0.5) * (0.5 * rng.random())
    tint = (1 + 0.06 * rng.standard_normal(3)).astype(np.float32)
    pixels = pixels * light * tint + np.float32(20 * rng.random())
    if outdoors and rng.random() < 0.3:
        pixels = cast_shadow(rng, pixels)
    pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.35 + min(0.03 * height, 0.8) * rng.random()), np.float32)
    return motion_blur(rng, pixels) if outdoors and height > 18 and rng.random() < 0.12 else pixels


def thermal(rng: np.random.Generator, ink: Ink) -> Ink:
    """A till's printer: dots or none, rows of uneven warmth, places where the head is dead, paper that has faded."""
    height, width = ink.shape[:2]
    grey = ink.mean(axis=2)
    dots = (grey > 0.22 + 0.2 * rng.random()).astype(np.float32)
    if dots.sum() < 0.8 * grey.sum():
        dots = grey  # hairlines, of which dots would leave nothing
    dots = np.asarray(cv2.GaussianBlur(dots, (0, 0), 0.35 + 0.35 * rng.random()), np.float32)
    rows = 1 - (0.45 * rng.random() ** 2) * rng.random((height, 1), dtype=np.float32)
    if rng.random() < 0.2:
        x = int(rng.random() * width)
        dots[:, x : x + 1 + int(rng.random() * 2)] *= 0.15
    faded = 1 - 0.5 * rng.random() ** 2
    return np.repeat((dots * rows * np.float32(faded))[..., None], 3, axis=2)
