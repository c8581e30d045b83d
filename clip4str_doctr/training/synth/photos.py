"""Photographic surfaces: cuts of pictures that their makers gave away, shipped in scikit-image's package.

All are CC0 or in the public domain by the docstrings of `skimage.data`: astronaut and rocket (NASA, SpaceX), brick,
grass and gravel (CC0 textures), camera, chelsea and coffee (their photographers, CC0). The files are read, scikit-image
itself is not imported.
"""

from functools import lru_cache
from importlib import metadata

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Pixels
from clip4str_doctr.training.synth.fonts import MissingFontsError

__all__ = ["photo_cut", "photo_relief"]

_PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "rocket.jpg",
)  # fmt: skip
_HELP = "pip install clip4str-doctr[train]"


@lru_cache(maxsize=1)
def _pictures() -> list[npt.NDArray[np.uint8]]:
    """Each (H, W, 3) RGB uint8. Raises RuntimeError if the package is missing or lacks one."""
    try:
        files = {file.name: file for file in metadata.distribution("scikit-image").files or [] if "data" in file.parts}
    except metadata.PackageNotFoundError:
        raise MissingFontsError(f"street pictures need the photographs in scikit-image; type: {_HELP}") from None
    pictures = []
    for name in _PICTURES:
        picture = cv2.imread(str(files[name].locate()), cv2.IMREAD_COLOR) if name in files else None
        if picture is None:
            raise MissingFontsError(f"scikit-image's package lacks {name}, which is needed; type: {_HELP} --upgrade")
        pictures.append(np.ascontiguousarray(picture[..., ::-1], np.uint8))
    return pictures


def photo_cut(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A random cut of a random picture at a random scale and brightness -> (H, W, 3) float32, 0..255."""
    pictures = _pictures()
    picture = pictures[int(rng.random() * len(pictures))]
    full_height, full_width = picture.shape[:2]
    scale = min((0.25 + 2.75 * rng.random()), full_height / height, full_width / width)
    cut_height, cut_width = max(int(height * scale), 1), max(int(width * scale), 1)
    top = int(rng.random() * (full_height - cut_height + 1))
    left = int(rng.random() * (full_width - cut_width + 1))
    cut = picture[top : top + cut_height, left : left + cut_width]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    resized = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    if rng.random() < 0.5:
        resized *= np.float32(0.5 + 0.9 * rng.random())
    return np.asarray(resized, np.float32)


def photo_relief(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """The light and dark of a cut, (H, W), mean 0 and at most about -1..1: a surface to tint."""
    grey = cv2.cvtColor(photo_cut(rng, height, width), cv2.COLOR_RGB2GRAY)
    grey = grey - np.float32(grey.mean())
    return np.asarray(grey / np.float32(max(2 * float(grey.std()), 20.0)), np.float32)
