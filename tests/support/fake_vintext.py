"""A tree as VinText's, of rendered words: whoever has the real one has the same files in the same places."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from clip4str_doctr.benchmark.page_stream import page_words, render_words

Crop = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FakeVinText:
    """root: holds `vietnamese/`. words: split -> (label, crop that was put into the picture) of every legible word."""

    root: Path
    words: dict[str, list[tuple[str, Crop]]]


# Folder -> numbers of its pictures, as VinText counts them.
SPLITS = {"train_images": (1,), "test_image": (1201, 1202), "unseen_test_images": (1501,)}
_PER_PICTURE = 3


def fake_vintext(root: Path) -> FakeVinText:
    """Three legible words a picture: straight, turned, and seen at an angle; and one that is ### and one unlabelled."""
    base = root / "vietnamese"
    (base / "labels").mkdir(parents=True)
    count = _PER_PICTURE * sum(len(numbers) for numbers in SPLITS.values())
    labels = page_words(count, seed=4)
    # One word with the separator in it.
    labels[1] = "1,5"
    crops = iter(render_words(labels, seed=4))
    texts, words = iter(labels), {}
    for split, numbers in SPLITS.items():
        (base / split).mkdir()
        words[split] = []
        for number in numbers:
            picture, lines = np.full((400, 500, 3), 90, np.uint8), []
            for place in range(_PER_PICTURE):
                label, crop = next(texts), next(crops)
                quad = _quad(crop, place)
                _put(picture, crop, quad)
                lines.append(",".join(str(round(float(value))) for value in quad.ravel()) + f",{label}")
                words[split].append((label, crop))
            lines += ["10,380,40,380,40,395,10,395,###", "50,380,70,380,70,395,50,395,"]
            # A byte order mark and Windows' line ends, as editors leave them.
            (base / "labels" / f"gt_{number}.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
            # Lossless under VinText's suffix would be no JPEG; the best quality keeps the words comparable.
            Image.fromarray(picture).save(base / split / f"im{number:04d}.jpg", quality=100, subsampling=0)
    return FakeVinText(root, words)


def _quad(crop: Crop, place: int) -> npt.NDArray[np.float64]:
    """Corners in the picture, whole pixels: of the crop as it is, turned by 15 degrees, and at an angle."""
    height, width = crop.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    if place == 1:
        cos, sin = np.cos(np.radians(15)), np.sin(np.radians(15))
        corners = corners @ np.array([[cos, sin], [-sin, cos]])
        corners -= corners.min(axis=0)
    if place == 2:
        corners[1, 1] += 6
        corners[2, 0] += 8
    return np.round(corners + (20, 20 + 110 * place))


def _put(picture: Crop, crop: Crop, quad: npt.NDArray[np.float64]) -> None:
    height, width = crop.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    transform = cv2.getPerspectiveTransform(corners, quad.astype(np.float32))
    size = (picture.shape[1], picture.shape[0])
    warped = cv2.warpPerspective(crop, transform, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.fillConvexPoly(np.zeros(picture.shape[:2], np.uint8), quad.astype(np.int32), 1).astype(bool)
    picture[inside] = warped[inside]
