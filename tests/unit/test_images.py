"""Image files as users have them: every mode, orientation and kind of damage."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from clip4str_doctr.file_types import IMAGE_SUFFIXES, PAGE_SUFFIXES, listed, overlooked
from clip4str_doctr.images import UnreadableImageError, find_images, frames_of, natural_key, open_image

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_rgb_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for suffix in ("png", "bmp", "tiff"):
        opened = open_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels)))
        assert np.array_equal(opened, pixels) and opened.flags.c_contiguous and opened.flags.writeable


def test_gray_and_bilevel(tmp_path: Path) -> None:
    assert np.array_equal(open_image(saved(tmp_path / "l.png", Image.fromarray(RAMP))), np.dstack([RAMP] * 3))
    bilevel = open_image(saved(tmp_path / "1.png", Image.fromarray(RAMP > 100)))
    assert np.array_equal(bilevel[..., 0], np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_put_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 3), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    opened = open_image(saved(tmp_path / "a.png", image.convert(mode)))
    assert opened[0, 0].tolist() == [255] * 3 and opened[0, 2].tolist() == [0] * 3
    assert opened[0, 1] == pytest.approx(127, abs=1)


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    plain = open_image(saved(tmp_path / "plain.png", image))
    assert plain.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    clear = open_image(saved(tmp_path / "clear.png", image, transparency=0))
    assert clear.tolist() == [[[255, 255, 255], [200, 100, 50]]]


def _png(kind: int, values: Any, extra: bytes) -> io.BytesIO:
    """A row of pixels of 16 bits, which Pillow cannot write with what is in `extra`."""
    pixels = np.asarray([values], dtype=">u2")
    header = struct.pack(">IIBBBBB", pixels.shape[1], 1, 16, kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), extra, _chunk(b"IDAT", zlib.compress(b"\0" + pixels.tobytes())), _chunk(b"IEND")]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_key_of_16_bits_stands_for_transparent() -> None:
    grey = open_image(_png(0, [0, 65535, 300], _chunk(b"tRNS", struct.pack(">H", 0))))
    assert grey[0, :, 0].tolist() == [255, 255, 1]
    colour = open_image(_png(2, [[0x1234] * 3, [0] * 3], _chunk(b"tRNS", struct.pack(">HHH", *[0x1234] * 3))))
    assert colour[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("exif", [b"garbagegarbage", b"MM\0*\0\0\0", b""])
def test_png_with_damaged_exif_is_read(exif: bytes) -> None:
    assert open_image(_png(0, [0, 65535], _chunk(b"eXIf", exif)))[0, :, 0].tolist() == [0, 255]


def test_colour_that_stands_for_transparent(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (1, 2, 3))
    opened = open_image(saved(tmp_path / "trns.png", image, transparency=(10, 20, 30)))
    assert opened.tolist() == [[[255, 255, 255], [1, 2, 3]]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    wide = RAMP.astype(np.uint16) * 257
    opened = open_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(wide)))
    assert np.array_equal(opened[..., 0], RAMP)


@pytest.mark.parametrize(
    ("white", "dtype"),
    [(65535, np.int32), (255, np.int32), (255, np.int16), (1, np.int32), (1, np.float32), (255, np.float32)],
)
def test_wide_gray_levels(tmp_path: Path, white: int, dtype: Any) -> None:
    shares = np.array([[0, 51, 255]]) if white > 1 else np.array([[0, 255, 255]])
    levels = (shares / 255 * white).astype(dtype)
    opened = open_image(saved(tmp_path / "a.tiff", Image.fromarray(levels)))
    assert opened[0, :, 0].tolist() == shares[0].tolist()


def test_gray_levels_of_floats_in_pfm(tmp_path: Path) -> None:
    (tmp_path / "a.pfm").write_bytes(b"Pf\n3 1\n-1.0\n" + np.array([0, 0.2, 1], "<f4").tobytes())
    assert open_image(tmp_path / "a.pfm")[0, :, 0].tolist() == [0, 51, 255]


def test_a_dark_picture_whose_white_is_declared_stays_dark(tmp_path: Path) -> None:
    levels = np.array([[0, 100, 255]], np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + levels.astype(">u2").tobytes())
    for path in (tmp_path / "a.pgm", saved(tmp_path / "a.png", Image.fromarray(levels))):
        assert open_image(path).max() <= 1


def test_gray_levels_without_any_known_range_are_refused(tmp_path: Path) -> None:
    for values in ([[0, 70000]], [[-1, 5]], [[float("nan"), 0]]):
        path = saved(tmp_path / "a.tiff", Image.fromarray(np.array(values, np.float32)))
        with pytest.raises(UnreadableImageError, match="grey levels"):
            open_image(path)


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    opened = open_image(saved(tmp_path / "a.jpg", image, quality=100))
    assert opened[8, 8] == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 255
    exif = Image.Exif()
    exif[274] = orientation
    for mode in ("RGB", "L"):
        path = saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels).convert(mode), exif=exif)
        # Not by its name: see `images._opened`.
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert np.array_equal(open_image(path), expected)
    if orientation == 6:  # stored lying on its left side: the bright corner goes from top left to top right
        assert expected.shape == (32, 16, 3) and expected[4, 12].min() > 200 and expected[4, 4].max() < 50


def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    # A valid orientation (6) before a tag whose type and value disagree.
    exif = bytes.fromhex(
        "457869660000 4d4d002a00000008 0003 010e000200000006 00000032 0112000300000001 00060012"
        "0121000500000001 00000038 00000000 68656c6c6f00 00000048 00000001"
    )
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (20, 10)), exif=exif)
    assert open_image(path).shape == (20, 10, 3)


def test_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    path = saved(tmp_path / "a.tiff", frames[0], save_all=True, append_images=frames[1:])
    assert open_image(path)[0, 0].tolist() == [255, 0, 0]


def test_smaller_pictures_of_a_page_are_no_pages(tmp_path: Path) -> None:
    """As pyramids and slides have them behind, and cameras before the page."""
    path = tmp_path / "a.tiff"
    for types, expected in (((0, 1, 2, 1), [0, 2]), ((1, 0), [1]), ((1, 1), [0]), ((0,), [0])):
        with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as file:
            for kind in types:
                tags = TiffImagePlugin.ImageFileDirectory_v2()
                tags[254] = kind
                Image.new("L", (8, 8) if kind % 2 else (16, 16), 200).save(file, format="TIFF", tiffinfo=tags)
                file.newFrame()
        assert frames_of(path) == expected
    assert frames_of(saved(tmp_path / "a.gif", Image.new("L", (4, 4)), save_all=True)) == [0]


def test_what_a_file_is_that_is_no_image(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "scan.png", format="PDF")
    (tmp_path / "a.txt").write_text("no image")
    with pytest.raises(UnreadableImageError, match="^not a readable image: it is a PDF; clip4str-doctr page reads"):
        open_image(tmp_path / "scan.png")
    for opened in (open_image, frames_of):
        with pytest.raises(UnreadableImageError, match="its type is not known, .* convert it to PNG or JPEG$"):
            opened(tmp_path / "a.txt")
    with pytest.raises(UnreadableImageError, match="its type is not known"):
        open_image(io.BytesIO(b"no image"))


def test_one_pixel(tmp_path: Path) -> None:
    assert open_image(saved(tmp_path / "a.png", Image.new("L", (1, 1), 7))).tolist() == [[[7, 7, 7]]]


def test_large_is_read_with_a_warning_and_huge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (30, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        assert open_image(path).shape == (50, 30, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(UnreadableImageError, match="too large, scale it down"):
        open_image(path)


def damage(data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"this is no image",
        "cut short": data[: len(data) // 2],
        "header only": data[:30],
        "overwritten": data[:60] + b"\xff" * (len(data) - 60),
    }


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_damaged_files_are_unreadable_not_a_crash(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    whole = saved(tmp_path / f"whole.{suffix}", Image.fromarray(pixels)).read_bytes()
    for kind, data in damage(whole).items():
        if kind == "overwritten" and suffix in {"bmp", "tiff", "jpg"}:
            continue  # raw or tolerant formats: white pixels are an image too
        path = tmp_path / f"{kind}.{suffix}"
        path.write_bytes(data)
        with pytest.raises(UnreadableImageError, match="not a readable image"):
            open_image(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        open_image(tmp_path / "none.png")


def test_find_images(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.JPG", "1.jpeg", "b.webp", "a.tif", "c.txt", ".hidden.png", "0.bmp", "x2.png", "x10.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "within.png").touch()
    names = [path.name for path in find_images([tmp_path])]
    assert names == ["0.bmp", "1.jpeg", "2.JPG", "10.jpg", "a.tif", "b.webp", "x2.png", "x10.png"]
    # A file that is named is read whatever it is called.
    assert find_images([tmp_path / "c.txt", tmp_path / "c.txt"]) == [tmp_path / "c.txt"] * 2
    assert find_images([tmp_path / "folder.png"]) == [tmp_path / "folder.png" / "within.png"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_images([tmp_path / "nowhere"])


def test_what_a_folder_holds_besides_is_told(tmp_path: Path) -> None:
    for name in ("1.HEIC", "2.heic", "3.avif", "4.pdf", "5.png", "6.txt", ".7.heic", "8"):
        (tmp_path / name).touch()
    (tmp_path / "9.avif").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "9.heic").touch()
    assert overlooked([tmp_path, tmp_path / "1.HEIC"], IMAGE_SUFFIXES) == [
        f"{tmp_path}: not read (1 avif, 2 heic, 1 pdf); convert them to one of {listed(IMAGE_SUFFIXES)}"
    ]
    (told,) = overlooked([tmp_path], PAGE_SUFFIXES)
    assert "(1 avif, 2 heic)" in told
    assert overlooked([tmp_path / "9.avif"], PAGE_SUFFIXES) == []


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_type_that_is_read(tmp_path: Path, suffix: str) -> None:
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    path = saved(tmp_path / f"a{suffix}", Image.new(mode, (6, 4), "white"))
    assert find_images([tmp_path]) == [path] and open_image(path).min() == 255


def test_natural_order_of_like_names() -> None:
    names = ["a1b2.png", "a01b2.png", "A1b10.png", "a.png", "1.png", "a1b1.png"]
    ordered = sorted(map(Path, names), key=natural_key)
    assert [path.name for path in ordered] == ["1.png", "a.png", "a1b1.png", "a01b2.png", "a1b2.png", "A1b10.png"]
