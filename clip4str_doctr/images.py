"""Image files -> crops, as a user expects to see them: upright, on white, 8 bits a channel.

The model's preprocessing does none of this: its reference ignores EXIF orientation and drops transparency.
"""

import re
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from clip4str_doctr.file_types import IMAGE_SUFFIXES

__all__ = [
    "IMAGE_SUFFIXES",
    "UnreadableImageError",
    "find_images",
    "frames_of",
    "natural_key",
    "open_image",
    "orientation_of",
]

# Of these Pillow scales whole grey levels of more than 8 bits to 16, also where it calls the mode "I".
_WHITE_IS_65535 = frozenset({"PNG", "PPM"})

# TIFF's NewSubfileType, and its bit of a picture that is a smaller one of another, as pyramids have.
_SUBFILE_TYPE, _REDUCED = 254, 1

# EXIF orientation -> how the stored picture must be turned to stand upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """A file that is no image, is damaged, or is too large; the message says which."""


def find_images(paths: Iterable[Path], suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Files as given; of a folder, those with one of the suffixes in natural order: "2.jpg" before "10.jpg".

    Subfolders and hidden files of a folder are left out; links to what is not there are not, so that opening them
    tells. Raises FileNotFoundError for a path that does not exist.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            members = (member for member in path.iterdir() if not member.name.startswith("."))
            images = [member for member in members if member.suffix.lower() in suffixes and not member.is_dir()]
            found += sorted(images, key=natural_key)
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"no such file or folder: {path}")
    return found


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key in which runs of digits count as numbers."""
    parts = re.split(r"([0-9]+)", path.stem.casefold())
    # re.split with a group alternates text and digits, so equal positions hold equal kinds; the name breaks ties.
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)] + [(0, path.name)]


def open_image(path: Path | BinaryIO, frame: int = 0) -> npt.NDArray[np.uint8]:
    """path, or the file opened for reading bytes -> (H, W, 3) uint8 RGB, contiguous.

    EXIF orientation is applied, faxes get square pixels (`stretch_of`), transparency is put on white, 16-bit values are
    scaled to 8 bits, one of several frames is taken, colour profiles are ignored. Grey levels of a TIFF in signed or
    32-bit integers or in floats declare no white: it is taken to be the first of 1, 255 and 65535 that none exceeds.
    Pillow's limit for decompression bombs, twice `PIL.Image.MAX_IMAGE_PIXELS` (179 million pixels), is the limit here
    too; everything below is read, from half of it on with Pillow's DecompressionBombWarning.
    Raises UnreadableImageError.
    """
    with _readable(path), _opened(path) as image:
        if frame:
            image.seek(frame)
        whites = (65535,) if image.mode == "I" and image.format in _WHITE_IS_65535 else (1, 255, 65535)
        stretch = stretch_of(image)
        upright = _to_rgb(_upright(image), whites)
        if stretch != (1.0, 1.0):
            width, height = (round(side * factor) for side, factor in zip(upright.size, stretch, strict=True))
            upright = upright.resize((width, height), Image.Resampling.BICUBIC)
        return np.array(upright)


@contextmanager
def _opened(path: Path | BinaryIO) -> Iterator[Image.Image]:
    """Opened by name, Pillow (13.0) maps the pixels of a plain TIFF, of one that lies on its side as if it stood
    upright: what comes is no picture."""
    if isinstance(path, Path):
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    else:
        with Image.open(path) as image:
            yield image


def stretch_of(image: Image.Image) -> tuple[float, float]:
    """What the width and height of a TIFF are multiplied by where its resolutions differ by a tenth or more: faxes have
    204 dots an inch across and 98 down. (1.0, 1.0) of all other images. image: as opened, before it is loaded."""
    across, down = (float(value) for value in image.info.get("dpi", (0, 0)))
    # Dots an inch are of the rows and columns that are stored, which five to eight exchange.
    # The tag itself: Pillow turns no TIFF that was asked for its EXIF before it is loaded.
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
        across, down = down, across
    if image.format != "TIFF" or min(across, down) <= 0 or not 1.1 <= max(across, down) / min(across, down) <= 4:
        return 1.0, 1.0
    return max(down / across, 1.0), max(across / down, 1.0)


def frames_of(path: Path) -> list[int]:
    """Which frames of a TIFF are pages, and not smaller pictures of one; 0 of other images, whose further frames are
    motion or previews.

    Raises UnreadableImageError.
    """
    with _readable(path), Image.open(path) as image:
        if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.format != "TIFF":
            return [0]
        frames = []
        for frame in range(image.n_frames):
            image.seek(frame)
            if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED:
                frames.append(frame)
        return frames or [0]


@contextmanager
def _readable(path: Path | BinaryIO) -> Iterator[None]:
    """Whatever goes wrong while an image is read becomes UnreadableImageError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"not a readable image: {_unknown(path)}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"too large, scale it down first: {error}") from error
    except MemoryError as error:
        raise UnreadableImageError("too large for this machine's memory, scale it down first") from error
    except Exception as error:
        # Pillow's decoders answer damaged files with nearly every exception there is (OSError, SyntaxError,
        # struct.error, IndexError, zlib.error, ...); all mean the same to whoever reads a folder of files.
        raise UnreadableImageError(f"not a readable image: {error or type(error).__name__}") from error


def _unknown(path: Path | BinaryIO) -> str:
    """What a file is that Pillow does not know. Pillow's own message shows a Python object."""
    head = b""
    if isinstance(path, Path):
        with suppress(OSError), path.open("rb") as file:
            head = file.read(1024)
    if b"%PDF-" in head:
        return "it is a PDF; clip4str-doctr page reads these"
    return "its type is not known, or its first bytes are damaged; convert it to PNG or JPEG"


def _upright(image: Image.Image) -> Image.Image:
    # TIFF is turned by Pillow when it is loaded, and its tag is then gone.
    image.load()
    # Not ImageOps.exif_transpose: it also writes all EXIF data anew, and so fails where any other tag is damaged.
    turn = _TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none, or EXIF that cannot be read: the pixels are whole."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, TypeError, ValueError, struct.error):
        # Pillow reads damaged EXIF of a JPEG mostly as none, that of a PNG or WebP not at all.
        return 1


def _to_rgb(image: Image.Image, whites: tuple[int, ...]) -> Image.Image:
    """whites: what may be white where the mode does not say, in ascending order."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        # "L" would clip at 255. Rounded, so that 257 * v gives v, the way 8 bits are widened to 16.
        values = np.asarray(image, dtype=np.uint32)
        scaled = ((values + 128) // 257).astype(np.uint8)
        image = Image.fromarray(scaled if key is None else np.where(values == key, np.uint8(255), scaled))
    elif isinstance(key, tuple) and max(key) > 255:
        # A PNG of 16 bits a channel: Pillow keeps the high bytes of its pixels, but the whole key.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif image.mode in {"I", "F"}:
        image = Image.fromarray(_scaled(np.asarray(image, dtype=np.float64), whites))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scaled(values: npt.NDArray[np.float64], whites: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Grey levels -> uint8, white being the first of `whites` that none exceeds."""
    low, high = float(values.min()), float(values.max())
    white = next((white for white in whites if high <= white), None)
    if white is None or not low >= 0:
        raise ValueError(f"grey levels {low:g}..{high:g} do not lie in 0..{whites[-1]}")
    return np.rint(values * (255 / white)).astype(np.uint8)
