"""Where the letters go: bending, stretching, slanting, turning, perspective, and how tightly the crop is cut."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Box", "Placement", "bend", "place"]

Box = tuple[float, float, float, float]  # left, top, right, bottom
Mask = npt.NDArray[np.uint8]  # (H, W) or (H, W, C)


@dataclass(frozen=True)
class Placement:
    """How a canvas becomes a crop: homography canvas -> crop, the crop's size, the word's box in the crop."""

    homography: npt.NDArray[np.float64]
    height: int
    width: int
    word: Box


def bend(rng: np.random.Generator, canvas: Mask, box: Box) -> tuple[Mask, Box]:
    """Shift columns along a parabola or a wave -> the bent canvas (padded) and the word's new box."""
    left, top, right, bottom = box
    height, width = canvas.shape[:2]
    reach = (bottom - top) * (0.12 + 0.38 * rng.random()) * (1 if rng.random() < 0.6 else -1)
    x = (np.arange(width, dtype=np.float32) - (left + right) / 2) / max((right - left) / 2, 1)
    shift = reach * x * x if rng.random() < 0.75 else reach * 0.5 * np.sin(np.pi * x)
    shift = np.clip(shift, -abs(reach), abs(reach)).astype(np.float32)
    pad = int(abs(reach)) + 1
    rows = np.arange(height + 2 * pad, dtype=np.float32)[:, None] - pad
    map_x = np.broadcast_to(np.arange(width, dtype=np.float32), (height + 2 * pad, width))
    bent = cv2.remap(canvas, np.ascontiguousarray(map_x), rows - shift, cv2.INTER_LINEAR, borderValue=0)
    inside = shift[max(int(left), 0) : max(int(right), 1)]
    low, high = float(inside.min()), float(inside.max())
    return np.asarray(bent, np.uint8), (left, top + pad + low, right, bottom + pad + high)


def place(rng: np.random.Generator, box: Box, target_height: float, clean: bool) -> Placement:
    """box: the word's ink in the canvas; target_height: of the crop, in pixels."""
    left, top, right, bottom = box
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    corners = corners @ _shape(rng, clean).T
    if not clean and rng.random() < 0.45:
        corners = _perspective(rng, corners)
    margin = _margins(rng, float(np.ptp(corners[:, 1])), clean)
    low, high = corners.min(axis=0) - margin[:2], corners.max(axis=0) + margin[2:]
    size = np.maximum(high - low, 1.0)
    # Bounded on both sides: a label of 25 symbols must not become a huge picture, nor a dot a sliver.
    scale = min(target_height / size[1], 360 / size[0])
    out_width, out_height = (max(int(round(value * scale)), 8) for value in size)
    out_height = min(out_height, 160)
    target = (corners - low) * (np.array([out_width, out_height]) / size)
    source = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    homography = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    word = (target[:, 0].min(), target[:, 1].min(), target[:, 0].max(), target[:, 1].max())
    return Placement(np.asarray(homography), out_height, out_width, tuple(float(value) for value in word))  # type: ignore[arg-type]


def _shape(rng: np.random.Generator, clean: bool) -> npt.NDArray[np.float64]:
    """Stretch, slant and rotation as one 2 x 2 matrix."""
    draw = rng.random()
    if clean:
        angle, slant = 0.8 * rng.standard_normal(), 0.0
        stretch = np.exp(0.10 * rng.standard_normal())
    else:
        angle = (9.0 if draw < 0.12 else 3.0) * rng.standard_normal()
        slant = 0.14 * rng.standard_normal() if rng.random() < 0.4 else 0.0
        stretch = np.exp((0.34 if rng.random() < 0.4 else 0.12) * rng.standard_normal() - 0.08)
    angle = np.deg2rad(np.clip(angle, -25, 25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(turn @ np.array([[np.clip(stretch, 0.4, 2.0), -slant], [0.0, 1.0]]))


def _perspective(rng: np.random.Generator, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A plane seen from the side or from below: one edge longer, the far side shortened."""
    height, width = np.ptp(corners[:, 1]), np.ptp(corners[:, 0])
    tilt = np.clip(0.13 * rng.standard_normal(2), -0.3, 0.3)
    corners = corners * np.array([1 - abs(tilt[0]), 1 - 0.5 * abs(tilt[1])])
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    moved = corners.copy()
    moved[:, 1] += signs[:, 0] * signs[:, 1] * tilt[0] * height / 2
    moved[:, 0] += signs[:, 0] * signs[:, 1] * tilt[1] * min(width, 2 * height) / 2
    # A vanishing point above or beside the middle also leans the whole word.
    moved[:, 1] += signs[:, 0] * 0.05 * rng.standard_normal() * height
    return np.asarray(moved + 0.015 * height * rng.standard_normal((4, 2)))


def _margins(rng: np.random.Generator, height: float, clean: bool) -> npt.NDArray[np.float64]:
    """left, top, right, bottom distance of the crop's edge from the word, in canvas pixels; negative cuts."""
    draw = rng.random()
    jitter = rng.random(4)
    if draw < 0.06:
        return height * (0.06 * jitter - 0.05)  # slightly cut, sometimes through a mark
    if draw < 0.35:
        return height * 0.06 * jitter
    if draw < 0.85:
        return height * (0.02 + 0.16 * jitter)
    return height * (0.05 + (0.25 if clean else 0.38) * jitter)
