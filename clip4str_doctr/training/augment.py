"""Light changes to a word that somebody has photographed or scanned already."""

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.effects import clean_effects, to_uint8_jpeg

__all__ = ["augment", "shrunk"]

_HIGHEST, _WIDEST = 96, 480  # pixels; what the renderer draws is seldom larger
_LARGEST = 512  # of the effects' tiles
# In heights: how far the ends of a word may move, and with them what is lost of its first and last symbol.
_MOST_MOVED = 0.05


def shrunk(crop: npt.NDArray[np.uint8], image_size: tuple[int, int] = (0, 0)) -> npt.NDArray[np.uint8]:
    """crop (H, W, 3) uint8 -> at most 96 high and 480 wide, H : W as it was: noise and blur are made for that size.

    image_size: (height, width) that the model reads, which is left, up to 512, where it is larger.
    """
    height, width = crop.shape[:2]
    highest, widest = (min(max(pair), _LARGEST) for pair in zip((_HIGHEST, _WIDEST), image_size, strict=True))
    scale = min(highest / height, widest / width)
    if scale >= 1:
        return crop
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)


def augment(crop: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """crop: (H, W, 3) uint8 RGB, at most 512 wide and high -> the same shape: turned and sheared by up to 2 degrees,
    other margins, and what a scanner or screen does (`clean_effects`, JPEG). Wide crops turn and grow less, or their
    ends would be lost.
    """
    height, width = crop.shape[:2]
    most = _MOST_MOVED * height / (width / 2)
    turn = min(np.radians(2), most) * (2 * rng.random() - 1)
    shear = np.radians(4 * rng.random() - 2)
    # Scaled by up to 4 % around the middle, moved by up to 4 % of the height: a box drawn by another hand.
    scale = 1 + np.array([min(0.04, most), 0.04]) * (2 * rng.random(2) - 1)
    linear = np.array([[scale[0] * np.cos(turn), np.sin(turn + shear)], [-np.sin(turn), scale[1] * np.cos(turn)]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = middle - linear @ middle + 0.08 * height * (rng.random(2) - 0.5)
    moved = cv2.warpAffine(
        crop.astype(np.float32), np.column_stack([linear, shift]), (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    return to_uint8_jpeg(rng, clean_effects(rng, np.asarray(moved, np.float32)), 0.3, 50, frozen=False)
