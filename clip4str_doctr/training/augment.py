"""Light changes to a word that somebody has photographed or scanned already."""

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.effects import clean_effects, to_uint8_jpeg

__all__ = ["augment"]


def augment(crop: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """crop: (H, W, 3) uint8 RGB -> the same shape: turned and sheared by up to 2 degrees, other margins, and what a
    scanner or screen does (`clean_effects`, JPEG).
    """
    height, width = crop.shape[:2]
    turn, shear = np.radians(4 * rng.random(2) - 2)
    # Scaled by up to 4 % around the middle, moved by up to 4 % of the height: a box drawn by another hand.
    scale = 1 + 0.08 * (rng.random(2) - 0.5)
    linear = np.array([[scale[0] * np.cos(turn), np.sin(turn + shear)], [-np.sin(turn), scale[1] * np.cos(turn)]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = middle - linear @ middle + 0.08 * height * (rng.random(2) - 0.5)
    moved = cv2.warpAffine(
        crop.astype(np.float32), np.column_stack([linear, shift]), (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    return to_uint8_jpeg(rng, clean_effects(rng, np.asarray(moved, np.float32)), 0.3, 50)
