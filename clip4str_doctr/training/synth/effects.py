"""What light, lens, sensor and file do to a finished crop. All take and return (H, W, 3) float32, 0..255."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Pixels, smooth_field, tile

__all__ = [
    "cast_shadow", "clean_effects", "glare", "low_resolution", "motion_blur", "photo_effects", "sensor_noise",
    "through_jpeg", "to_uint8_jpeg",
]  # fmt: skip


def photo_effects(rng: np.random.Generator, crop: Pixels, contrast: float) -> Pixels:
    """Light, lens and sensor of a street photograph. contrast: of ink and paper, 0..255; little is left as it is."""
    height, width = crop.shape[:2]
    if rng.random() < 0.35:
        crop = crop * (1 + (smooth_field(rng, height, width, 1, 2) - 0.6) * (0.15 + 0.45 * rng.random()))
    if rng.random() < 0.10:
        crop = cast_shadow(rng, crop)
    if rng.random() < 0.05:
        crop = glare(rng, crop)
    if rng.random() < 0.03:
        crop = _wire(rng, crop)
    if rng.random() < 0.55:
        gain, brightness = 0.5 + 0.6 * rng.random(), 22 * rng.standard_normal()
        gain = max(gain, min(50 / max(contrast, 1), 1.0))
        contrast *= gain
        crop = (crop - 127) * np.float32(gain) + np.float32(127 + brightness)
    if rng.random() < 0.25:
        crop = crop * (1 + 0.08 * rng.standard_normal(3)).astype(np.float32)
    blur = rng.random()
    if blur < 0.40:
        sigma = 0.3 + max(height - 10, 3) * 0.03 * rng.random() ** 1.5
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.float32)
    elif blur < 0.48 and height > 20:
        crop = motion_blur(rng, crop)
    if rng.random() < 0.15 and height > 18:
        crop = low_resolution(rng, crop)
    if rng.random() < 0.6:
        crop = sensor_noise(rng, crop, min(14.0, 0.16 * contrast))
    if rng.random() < 0.06:
        crop = crop + 1.2 * (crop - cv2.GaussianBlur(crop, (0, 0), 1.2))  # sharpening by the camera
    return crop


def clean_effects(rng: np.random.Generator, crop: Pixels) -> Pixels:
    """Scanner or screen: slight blur, faint noise."""
    height = crop.shape[0]
    draw = rng.random()
    if draw < 0.35:
        sigma = 0.3 + min(0.025 * height, 0.9) * rng.random()
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.float32)
    elif draw < 0.42 and height > 22:
        crop = low_resolution(rng, crop)
    if rng.random() < 0.3:
        crop = (crop - 127) * np.float32(0.6 + 0.5 * rng.random()) + np.float32(127 + 18 * rng.standard_normal())
    if rng.random() < 0.4:
        crop = sensor_noise(rng, crop, 7)
    if rng.random() < 0.04:
        level = np.float32((crop.min() + crop.max()) / 2)
        crop = np.asarray(np.clip((crop - level) * 3 + level, 0, 255), np.float32)  # photocopy
    return crop


def through_jpeg(
    rng: np.random.Generator, pixels: npt.NDArray[np.uint8], quality: int, *, frozen: bool
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 as JPEG gives it back. The crop is cut out of a larger picture, whose blocks of 8 or 16 pixels
    begin anywhere; frozen: as the suites have it, at the crop's corner."""
    above, left = (0, 0) if frozen else (int(16 * rng.random()) for _ in range(2))
    height, width = pixels.shape[:2]
    if above or left:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, above, 0, left, 0, cv2.BORDER_REPLICATE), np.uint8)
    done, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert done
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return decoded[above : above + height, left : left + width]


def to_uint8_jpeg(
    rng: np.random.Generator, crop: Pixels, share: float, lowest: int, *, frozen: bool
) -> npt.NDArray[np.uint8]:
    """-> (H, W, 3) uint8, with probability `share` through JPEG of quality lowest..95. frozen: as `through_jpeg`."""
    pixels = np.clip(crop, 0, 255).astype(np.uint8)
    if rng.random() < share:
        pixels = through_jpeg(rng, pixels, int(lowest + (96 - lowest) * rng.random()), frozen=frozen)
    return np.ascontiguousarray(pixels)


def cast_shadow(rng: np.random.Generator, crop: Pixels) -> Pixels:
    """Shade of leaves or of an edge."""
    height, width = crop.shape[:2]
    depth = 0.15 + 0.35 * rng.random()
    if rng.random() < 0.5:
        shade = tile(rng, "leaves", height, width) * 0.5 + 0.5
    else:
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        slope = rng.standard_normal(2)
        line = (x - width * rng.random()) * slope[0] + (y - height * rng.random()) * slope[1]
        shade = np.clip(line * 0.5 + 0.5, 0, 1)
    return np.asarray(crop * (1 - depth * shade[..., None]), np.float32)


def glare(rng: np.random.Generator, crop: Pixels) -> Pixels:
    height, width = crop.shape[:2]
    x = (np.arange(width, dtype=np.float32) - width * rng.random()) / (height * (0.4 + rng.random()))
    y = (np.arange(height, dtype=np.float32)[:, None] - height * rng.random()) / (height * (0.2 + 0.6 * rng.random()))
    return np.asarray(crop + ((60 + 70 * rng.random()) * np.exp(-(x * x + y * y)))[..., None], np.float32)


def _wire(rng: np.random.Generator, crop: Pixels) -> Pixels:
    """A cable or pole in front of the sign."""
    height, width = crop.shape[:2]
    crop = np.ascontiguousarray(crop, np.float32)
    colour = (float(rng.random() * 120),) * 3
    thickness = 1 + int(height / 24 * rng.random())
    if rng.random() < 0.6:
        ends = (-1, int(height * rng.random())), (width, int(height * rng.random()))
    else:
        left = int(width * rng.random())
        ends = (left, -1), (left + int(height / 4 * rng.standard_normal()), height)
    cv2.line(crop, *ends, colour, thickness, cv2.LINE_AA)
    return crop


def motion_blur(rng: np.random.Generator, crop: Pixels) -> Pixels:
    length = 3 + 2 * int(rng.random() * max(crop.shape[0] / 26, 1))
    kernel = np.zeros((length, length), np.float32)
    angle = np.pi * rng.random()
    middle, reach = length // 2, length / 2
    dx, dy = int(round(reach * np.cos(angle))), int(round(reach * np.sin(angle)))
    cv2.line(kernel, (middle - dx, middle - dy), (middle + dx, middle + dy), 1.0)
    return np.asarray(cv2.filter2D(crop, -1, kernel / kernel.sum()), np.float32)


def low_resolution(rng: np.random.Generator, crop: Pixels, least: float = 0.0) -> Pixels:
    """Down to 14..30 px high, but no lower than `least`, and up again, as after digital zoom."""
    height, width = crop.shape[:2]
    low = min(max(int(14 + 16 * rng.random()), math.ceil(least)), height)
    scale = low / height
    down = cv2.INTER_AREA if rng.random() < 0.7 else cv2.INTER_LINEAR
    small = cv2.resize(crop, (max(int(width * scale), 4), low), interpolation=down)
    ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(small, (width, height), interpolation=ways[int(rng.random() * 3)]), np.float32)


def sensor_noise(rng: np.random.Generator, crop: Pixels, strongest: float) -> Pixels:
    height, width = crop.shape[:2]
    amount = np.float32(1 + strongest * rng.random() ** 2)
    kind = rng.random()
    if kind < 0.4:
        return crop + tile(rng, "grain", height, width)[..., None] * amount
    return crop + tile(rng, "grain3" if kind < 0.7 else "soft3", height, width) * amount
