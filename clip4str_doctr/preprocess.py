"""Crop -> pixels: the reference's resize (PIL bicubic, no letterbox) and the normalisation of the weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from clip4str_doctr.config import PreprocessConfig

__all__ = ["Preprocess", "normalize", "resize_crop", "to_uint8"]


def resize_crop(crop: npt.NDArray[np.uint8], image_size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """crop: (H, W, 3) uint8 RGB, H, W >= 1 -> (image_size[0], image_size[1], 3) uint8, squashed, not letterboxed.

    PIL's antialiased bicubic on uint8 is the reference; tensor resizes differ from it by bits.
    Raises ValueError for another shape or dtype, or an empty crop.
    """
    if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8:
        raise ValueError(f"crop must be (H, W, 3) uint8, got {crop.shape} {crop.dtype}; convert it to 8-bit RGB first")
    if crop.shape[0] == 0 or crop.shape[1] == 0:
        raise ValueError(f"crop must hold at least one pixel, got {crop.shape}; drop empty boxes first")
    height, width = image_size
    image = Image.fromarray(np.ascontiguousarray(crop)).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


_OVERSHOOT = 0.15  # of bicubic interpolation at an edge from 0 to 1


def to_uint8(crop: Any) -> npt.NDArray[Any]:
    """crop: float16/32 in 0..1, as docTR has them -> bytes: it shall read as its uint8 original; others as they are.

    What a resampling of sharp edges leaves beyond 0 and 1 is cut off. Raises TypeError for what is no array, ValueError
    for a float crop farther outside of 0..1.
    """
    if not isinstance(crop, np.ndarray):
        raise TypeError(f"a crop must be a numpy array, got {type(crop).__name__}")
    if crop.dtype not in (np.float16, np.float32):
        return crop
    if crop.size and not (crop.min() >= -_OVERSHOOT and crop.max() <= 1 + _OVERSHOOT):
        found = f"{crop.min()}..{crop.max()}"
        raise ValueError(f"a float crop must lie in 0..1, got {found}; divide by its white value, or clip it")
    return np.rint(np.clip(crop.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def normalize(pixels: torch.Tensor, config: PreprocessConfig) -> torch.Tensor:
    """pixels: (..., 3, H, W) float in 0..1 -> same shape, (pixels - mean) / std in the pixels' dtype and device."""
    mean = torch.tensor(config.mean, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(config.std, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1)
    return (pixels - mean).div_(std)


class Preprocess:
    """Crops of any size -> (N, 3, H, W) float32 pixels for one model.

    image_size: (H, W) of the model's image tower. config: the mean and std its weights are read with.
    """

    def __init__(self, image_size: tuple[int, int], config: PreprocessConfig) -> None:
        self.image_size = image_size
        self.config = config

    def __call__(self, crops: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
        """crops: N arrays (H, W, 3) uint8 RGB -> (N, 3, *image_size) float32. Raises ValueError as `resize_crop`."""
        if not crops:
            return torch.empty(0, 3, *self.image_size)
        resized = np.stack([resize_crop(crop, self.image_size) for crop in crops])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2).to(torch.float32).div_(255)
        return normalize(pixels, self.config)
