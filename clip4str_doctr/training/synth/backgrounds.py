"""What lies behind a word: plates, gradients, textures, clutter; and the pool of noise they are made of."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Colour", "Pixels", "background", "contrasting_colours", "distinct", "smooth_field", "tile"]

Colour = npt.NDArray[np.float32]  # (3,) RGB, 0..255
Pixels = npt.NDArray[np.float32]  # (H, W, 3) or (H, W), 0..255

_TILE = 512
_TEXTURES = (
    "clouds", "blobs", "wood", "brushed", "stripes", "diagonal", "checks", "bricks", "slats", "marble", "paper",
    "leaves",
)  # fmt: skip
_RED_GREEN_BLUE = np.array([0.299, 0.587, 0.114], np.float32)
# Sign makers' colours: red, orange, yellow, green, cyan, blue, dark blue, purple, pink, brown as (hue, sat, value).
_SIGN_HSV = (
    (0, 0.85, 0.80), (8, 0.85, 0.85), (24, 0.85, 0.95), (48, 0.85, 0.95), (55, 0.6, 0.95), (80, 0.75, 0.7),
    (130, 0.7, 0.5), (150, 0.8, 0.4), (190, 0.7, 0.8), (210, 0.8, 0.75), (225, 0.85, 0.55), (235, 0.8, 0.35),
    (280, 0.6, 0.5), (330, 0.7, 0.8), (20, 0.6, 0.4), (35, 0.35, 0.85),
)  # fmt: skip


@lru_cache(maxsize=1)
def _pool() -> dict[str, npt.NDArray[np.float32]]:
    """Ready-made single-channel tiles (T, T), mean 0 and about -1..1; made once a process, always the same."""
    rng = np.random.default_rng(2305)
    pool: dict[str, npt.NDArray[np.float32]] = {}

    def field(cells_y: int, cells_x: int) -> npt.NDArray[np.float32]:
        coarse = rng.standard_normal((cells_y, cells_x)).astype(np.float32)
        fine = cv2.resize(coarse, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
        return np.asarray(fine / (2 * fine.std()), np.float32)

    pool["grain"] = rng.standard_normal((_TILE, _TILE)).astype(np.float32)
    pool["grain3"] = rng.standard_normal((_TILE, _TILE, 3)).astype(np.float32)
    pool["soft3"] = np.stack([field(170, 170) * 2 for _ in range(3)], axis=-1)
    pool["paper"] = 0.5 * field(256, 256) + 0.5 * field(100, 100)
    pool["clouds"] = 0.5 * field(16, 16) + 0.3 * field(40, 40) + 0.2 * field(110, 110)
    pool["blobs"] = np.tanh(3 * field(24, 24))
    pool["leaves"] = np.tanh(4 * (0.6 * field(32, 32) + 0.4 * field(80, 80)))
    pool["wood"] = 0.6 * field(120, 6) + 0.4 * field(300, 20)
    pool["brushed"] = 0.5 * field(40, 400) + 0.5 * field(8, 200)
    rows = np.arange(_TILE)
    y, x = np.meshgrid(rows, rows, indexing="ij")
    pool["stripes"] = np.where((x // 9) % 2 == 0, 0.5, -0.5).astype(np.float32)
    pool["diagonal"] = np.where(((x + y) // 12) % 2 == 0, 0.5, -0.5).astype(np.float32)
    pool["checks"] = np.where((x // 14 + y // 14) % 2 == 0, 0.5, -0.5).astype(np.float32)
    joints = (y % 20 < 2) | ((x + 24 * ((y // 20) % 2)) % 48 < 2)
    pool["bricks"] = np.where(joints, 0.9, -0.1).astype(np.float32) + 0.3 * field(60, 60)
    slats = 0.8 * np.sin(2 * np.pi * y / 26).astype(np.float32)
    pool["slats"] = slats + 0.1 * field(200, 10)
    marble = np.sin(6 * pool["clouds"] + 2 * field(10, 10))
    pool["marble"] = np.where(np.abs(marble) < 0.12, -1.0, 0.15).astype(np.float32)
    return pool


def tile(rng: np.random.Generator, name: str, height: int, width: int) -> npt.NDArray[np.float32]:
    """A random cut of a pool tile (H, W) or (H, W, 3), mean 0, about -1..1. Raises ValueError beyond 512 x 512."""
    if max(height, width) > _TILE:
        raise ValueError(f"tiles are {_TILE} pixels wide and high, asked for {width} x {height}")
    pool = _pool()[name]
    top, left = int(rng.random() * (_TILE - height)), int(rng.random() * (_TILE - width))
    return pool[top : top + height, left : left + width]


def smooth_field(rng: np.random.Generator, height: int, width: int, channels: int, cells: int) -> Pixels:
    """Random values 0..1 that change slowly, (H, W, channels)."""
    coarse = rng.random((cells, cells + 1, channels), dtype=np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, np.float32).reshape(height, width, channels)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    sector = (hue % 360) / 60
    rise = 1 - abs(sector % 2 - 1)
    red, green, blue = ((1, rise, 0), (rise, 1, 0), (0, 1, rise), (0, rise, 1), (rise, 0, 1), (1, 0, rise))[int(sector)]
    pure = np.array([red, green, blue], np.float32)
    return np.asarray(255 * value * (1 - saturation * (1 - pure)), np.float32)


def _sign_colour(rng: np.random.Generator) -> Colour:
    kind = rng.random()
    jitter = rng.standard_normal(3)
    if kind < 0.55:
        hue, saturation, value = _SIGN_HSV[int(rng.random() * len(_SIGN_HSV))]
        saturation = min(max(saturation * (1 - 0.25 * abs(jitter[1])), 0.0), 1.0)
        return _hsv(hue + 8 * jitter[0], saturation, min(max(value + 0.12 * jitter[2], 0.1), 1.0))
    if kind < 0.75:
        return np.asarray(np.clip(236 + 14 * jitter[0] + 6 * jitter, 150, 255), np.float32)
    if kind < 0.90:
        return np.asarray(np.clip(34 + 18 * jitter[0] + 6 * jitter, 0, 110), np.float32)
    return np.asarray(rng.random(3, dtype=np.float32) * 255, np.float32)


def distinct(one: Colour, two: Colour) -> bool:
    """Whether a human reads one on two at a glance: brightness differs, or colour differs a lot."""
    brightness = abs(float(_RED_GREEN_BLUE @ (one - two)))
    return brightness > 55 or (brightness > 28 and float(np.abs(one - two).max()) > 140)


def _usual_pair(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """(paper, ink) as sign makers mostly choose: white, yellow, black with one strong colour, either way round."""
    jitter = rng.standard_normal(4)
    hue = (0, 2, 10, 28, 120, 145, 205, 220, 235, 330)[int(rng.random() * 10)]
    strong = _hsv(hue + 5 * jitter[0], 0.75 + 0.25 * rng.random(), min(max(0.62 + 0.16 * jitter[1], 0.3), 0.95))
    draw = rng.random()
    if draw < 0.5:
        light = np.asarray(np.clip(240 + 10 * jitter[2] + 4 * jitter[1:], 190, 255), np.float32)
    else:
        light = _hsv(52 + 5 * jitter[2], 0.35 + 0.6 * rng.random(), min(0.95 + 0.04 * jitter[3], 1.0))
    if rng.random() < 0.25:
        strong = np.asarray(np.clip(24 + 14 * jitter[0] + 4 * jitter[1:], 0, 70), np.float32)
    return (light, strong) if rng.random() < 0.5 else (strong, light)


def contrasting_colours(rng: np.random.Generator, clean: bool, usual: float = 0.4) -> tuple[Colour, Colour]:
    """(paper, ink) with a contrast floor, both polarities. usual: share of the pairs of sign makers, unless clean."""
    if clean:
        paper = np.asarray(np.clip(255 - 22 * np.abs(rng.standard_normal(3)), 190, 255), np.float32)
        ink = np.asarray(np.clip(60 * rng.random() + 14 * rng.standard_normal(3), 0, 120), np.float32)
        if rng.random() < 0.25:  # coloured ink: stamps, headings, links
            hue, saturation, _ = _SIGN_HSV[int(rng.random() * len(_SIGN_HSV))]
            ink = _hsv(hue, saturation, 0.45)
        if rng.random() < 0.2:
            paper = paper - 90 * rng.random(dtype=np.float32)
            if not distinct(paper, ink):
                ink = ink * 0.2
        return (ink, paper) if rng.random() < 0.15 else (paper, ink)
    if rng.random() < usual:
        paper, ink = _usual_pair(rng)
        if distinct(paper, ink):
            return paper, ink
    paper = _sign_colour(rng)
    for _ in range(8):
        ink = _sign_colour(rng)
        if distinct(paper, ink):
            return paper, ink
    light = float(_RED_GREEN_BLUE @ paper) > 127
    return paper, np.full(3, 15 if light else 245, np.float32)


def background(rng: np.random.Generator, height: int, width: int, paper: Colour, clean: bool) -> Pixels:
    """(H, W, 3) float32 around the colour `paper`, so that the ink's contrast holds."""
    ground = np.empty((height, width, 3), np.float32)
    ground[:] = paper
    kind = rng.random()
    if clean:
        if kind < 0.3:
            ground += (tile(rng, "paper", height, width) * (3 + 9 * rng.random()))[..., None]
        elif kind < 0.4:
            ground += (smooth_field(rng, height, width, 1, 2) - 0.5) * (60 * rng.random())
        return ground
    if kind < 0.22:
        return ground
    if kind < 0.45:
        ground += (smooth_field(rng, height, width, 1, 2) - 0.5) * (30 + 70 * rng.random())
    elif kind < 0.62:
        ground += (smooth_field(rng, height, width, 3, 2 + int(rng.random() * 4)) - 0.5) * (30 + 60 * rng.random())
    elif kind < 0.86:
        name = _TEXTURES[int(rng.random() * len(_TEXTURES))]
        pattern = tile(rng, name, height, width)
        if rng.random() < 0.3:
            pattern = tile(rng, name, width, height).T
        ground += (pattern * (8 + 34 * rng.random()))[..., None]
    else:
        ground = _clutter(rng, ground)
    return ground


def _clutter(rng: np.random.Generator, ground: Pixels) -> Pixels:
    """Shapes of other colours, faint enough to read over: windows, cables, pictures behind the letters."""
    height, width = ground.shape[:2]
    shapes = ground.copy()
    for _ in range(2 + int(rng.random() * 5)):
        colour = tuple(float(value) for value in rng.random(3) * 255)
        one = (int(rng.random() * width), int(rng.random() * height))
        two = (int(rng.random() * width), int(rng.random() * height))
        kind = rng.random()
        if kind < 0.4:
            cv2.rectangle(shapes, one, two, colour, -1)
        elif kind < 0.8:
            cv2.line(shapes, one, two, colour, 1 + int(rng.random() * height / 8))
        else:
            cv2.circle(shapes, one, 2 + int(rng.random() * height / 2), colour, -1)
    strength = np.float32(0.1 + 0.25 * rng.random())
    return ground + strength * (cv2.blur(shapes, (3, 3)) - ground)
