"""A word of a printed page, scanned or born digital: small, among its neighbours, with what pages have beside words."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.training.synth.backgrounds import Colour, Pixels, tile
from clip4str_doctr.training.synth.effects import through_jpeg
from clip4str_doctr.training.synth.fonts import Face, load_face
from clip4str_doctr.training.synth.geometry import Box
from clip4str_doctr.training.synth.legibility import most_legible
from clip4str_doctr.training.synth.lettering import pixels_of
from clip4str_doctr.training.synth.marks import draw_marks, mark_style, plain_letters, stem
from clip4str_doctr.training.synth.page_conditions import leaning, photographed, thermal
from clip4str_doctr.training.synth.viewing import LOOSE, loose_room

__all__ = ["PAGE_HEIGHTS", "render_page"]

PAGE_HEIGHTS = (8.0, 40.0)
_WIDEST = 480  # pixels
_OPENED = (7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 23, 26, 29, 32)  # pixels per em


@dataclass(frozen=True)
class _Setting:
    """How the page was set: pixels per em at the final size, oversampling (1: hinted at its size), subpixel colour."""

    face: Face
    size: float
    times: int
    subpixel: bool
    font: ImageFont.FreeTypeFont


def render_page(
    rng: np.random.Generator, label: str, face: Face, height: float, neighbour: Callable[[], str]
) -> npt.NDArray[np.uint8]:
    """-> crop (H, W, 3) uint8 RGB of `label` on a page, 8..64 pixels high for heights of 8..40.

    height: about that of the line's box, pixels. neighbour(): a word for the rest of the text.
    """
    # Boxes that hold pieces of the lines above and below, as those of small print mostly do.
    crowded = not face.held_out and rng.random() < 0.2
    if crowded and rng.random() < 0.5:
        height = 10 + 5 * rng.random()
    setting = _setting(rng, face, height)
    coverage, box = _typeset(rng, setting, label, neighbour, crowded)
    if face.held_out:  # the frozen suites stay as they are
        by_camera, from_till = None, False
    else:
        if not crowded and rng.random() < LOOSE:
            coverage, box = _loosened(rng, coverage, box)
        # Neither a camera nor a till's printer leaves anything of smaller print.
        large = height >= 12
        by_camera = large and rng.random() < 0.15
        from_till = large and rng.random() < (0.4 if face.fixed_pitch else 0.03)
    if by_camera:
        coverage, box = leaning(rng, coverage, box)
    if from_till:
        coverage = thermal(rng, coverage)
    crop = _cut(rng, coverage, box, setting.size, "" if face.held_out else label, crowded)

    def shot() -> npt.NDArray[np.uint8]:
        return _as_copied(rng, crop, by_camera, from_till)

    return shot() if face.held_out else most_legible(shot, crop[..., 1])


def _as_copied(
    rng: np.random.Generator, crop: npt.NDArray[np.float32], by_camera: bool | None, from_till: bool
) -> npt.NDArray[np.uint8]:
    """Share of ink (H, W, 3) -> the print of it, scanned, photographed or neither. by_camera: None as suites are."""
    pixels = _printed(rng, crop, *_colours(rng))
    draw = rng.random()
    if by_camera is None and draw < 0.6:
        pixels = _scanned(rng, pixels, frozen=True) if draw < 0.5 else photographed(rng, pixels, outdoors=False)
    elif by_camera:
        pixels = photographed(rng, pixels, outdoors=True)
    elif draw < 0.55 and not from_till:
        pixels = _scanned(rng, pixels, frozen=False)
    if rng.random() < 0.55:
        pixels = pixels + tile(rng, "grain", *pixels.shape[:2])[..., None] * np.float32(6 * rng.random() ** 2)
    return _file(rng, np.clip(pixels, 0, 255).astype(np.uint8), frozen=by_camera is None)


def _loosened(
    rng: np.random.Generator, coverage: npt.NDArray[np.float32], box: Box
) -> tuple[npt.NDArray[np.float32], Box]:
    """The word alone, in a box with empty paper beside it, as a cell of a table or a field of a form is."""
    left, top, right, bottom = box
    alone = np.zeros_like(coverage)
    inside = np.s_[max(int(top) - 1, 0) : int(bottom) + 2, max(int(left) - 1, 0) : int(right) + 2]
    alone[inside] = coverage[inside]
    before, after = (int((right - left) * room) for room in loose_room(rng))
    padded = np.pad(alone, ((0, 0), (before, after), (0, 0)))
    return padded, (left, top, right + before + after, bottom)


def _setting(rng: np.random.Generator, face: Face, height: float) -> _Setting:
    size = max(height / 1.25, 7.0)
    draw = rng.random()
    times, subpixel = (1, False) if draw < 0.35 else (3, True) if draw < 0.45 else (4, False)
    # A font is opened once for each size: few sizes, so that they stay open.
    opened = min(_OPENED, key=lambda one: abs(one * times - size * times)) * times
    return _Setting(face, opened / times, times, subpixel, load_face(face, opened))


def _typeset(
    rng: np.random.Generator, setting: _Setting, label: str, neighbour: Callable[[], str], crowded: bool
) -> tuple[npt.NDArray[np.float32], Box]:
    """-> the piece of page (H, W, 3), share of ink 0..1 for each colour, and the label's box in it, final pixels.

    crowded: other lines are near, and nearly always there.
    """
    font, times = setting.font, setting.times
    em = font.size
    spacing = em * 0.12 * rng.random() if rng.random() < 0.04 else 0.0
    text, marks = plain_letters(label) if setting.face.drawn_marks else (label, [])
    side, leading = int(1.2 * em), em * (1.05 + (0.15 if crowded else 0.45) * rng.random())
    height = int(2 * leading + 1.6 * em)
    x, y = side + rng.random() * times, height / 2 + 0.35 * em + rng.random() * times
    image = Image.new("L", (int((1.1 * em + spacing) * len(text)) + 3 * side, height))
    draw = ImageDraw.Draw(image)
    if spacing:
        _spaced(draw, (x, y), text, font, spacing)
    elif not marks and label.isupper() and len(label) > 2 and rng.random() < 0.05:
        _small_capitals(draw, (x, y), text, setting)
    else:
        draw.text((x, y), text, fill=255, font=font, anchor="ls")
    if any(marks):
        image = _with_marks(rng, image, (x, y), text, marks, setting, spacing)
        draw = ImageDraw.Draw(image)
    left, top, right, bottom = image.getbbox() or (x, y - em, x + em, y)
    box = (left / times, top / times, right / times, bottom / times)
    _other_text(rng, draw, setting, neighbour, (left, y, right), leading, crowded)
    _rules(rng, draw, setting, (left, y, right))
    return _at_final_size(pixels_of(image)[:, : int(right) + side], setting), box


def _spaced(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, font: ImageFont.FreeTypeFont, spacing: float
) -> None:
    for count, symbol in enumerate(text):
        x = at[0] + font.getlength(text[:count]) + spacing * count
        draw.text((x, at[1]), symbol, fill=255, font=font, anchor="ls")


def _small_capitals(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, setting: _Setting) -> None:
    """A large first letter, the others capitals of about the height of small letters."""
    small = load_face(setting.face, max(int(setting.font.size * 0.8), 6))
    draw.text(at, text[0], fill=255, font=setting.font, anchor="ls")
    draw.text((at[0] + setting.font.getlength(text[0]), at[1]), text[1:], fill=255, font=small, anchor="ls")


def _with_marks(
    rng: np.random.Generator,
    image: Image.Image,
    at: tuple[float, float],
    text: str,
    marks: list[str],
    setting: _Setting,
    spacing: float,
) -> Image.Image:
    font, ink = setting.font, pixels_of(image)
    style = mark_style(rng, stem(font), frozen=setting.face.held_out)
    for count, (symbol, on) in enumerate(zip(text, marks, strict=True)):
        if on:
            x = at[0] + font.getlength(text[:count]) + spacing * count
            left, top, right, bottom = font.getbbox(symbol, anchor="ls")
            draw_marks(ink, (left + x, top + at[1], right + x, bottom + at[1]), on, symbol, style, font.size)
    return Image.fromarray(ink)


def _other_text(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    setting: _Setting,
    neighbour: Callable[[], str],
    line: tuple[float, float, float],
    leading: float,
    crowded: bool,
) -> None:
    """Words left and right at a space's distance, and the lines above and below."""
    left, baseline, right = line
    font = setting.font
    space = font.size * (0.22 + 0.12 * rng.random())
    where = rng.random(4)

    def word() -> str:
        return plain_letters(neighbour())[0] if setting.face.drawn_marks else neighbour()

    if where[0] < 0.75:
        draw.text((left - space, baseline), word()[-4:], fill=255, font=font, anchor="rs")
    if where[1] < 0.75:
        draw.text((right + space, baseline), word()[:4], fill=255, font=font, anchor="ls")
    for direction, chance in ((-1, where[2]), (1, where[3])):
        # Where lines stand far apart, a crop hardly ever reaches the next one.
        if chance < (0.95 if crowded else 0.8) and leading < font.size * (1.25 + 0.5 * rng.random()):
            at = (left - font.size * 1.5 * rng.random(), baseline + direction * leading)
            text = f"{word()} {word()}"[: int(2.3 * (right - left) / font.size) + 6]
            draw.text(at, text, fill=255, font=font, anchor="ls")


def _rules(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, setting: _Setting, line: tuple[float, float, float]
) -> None:
    """Underlines, rules of tables, rows of dots to write on."""
    kind = rng.random()
    if kind > 0.17:
        return
    left, baseline, right = line
    em, thick = setting.font.size, max(int(setting.times * (0.6 + rng.random())), 1)
    if kind < 0.05:
        y = baseline + em * (0.1 + 0.12 * rng.random())
        draw.line((left - 2 * em * rng.random(), y, right + 2 * em * rng.random(), y), 255, thick)
    elif kind < 0.13:
        if rng.random() < 0.6:
            x = (
                left - em * (0.15 + 0.4 * rng.random())
                if rng.random() < 0.5
                else right + em * (0.15 + 0.4 * rng.random())
            )
            draw.line((x, 0, x, baseline + 4 * em), 255, thick)
        if rng.random() < 0.7:
            y = (
                baseline - em * (0.98 + 0.3 * rng.random())
                if rng.random() < 0.5
                else baseline + em * (0.25 + 0.3 * rng.random())
            )
            draw.line((-1, y, right + 4 * em, y), 255, thick)
    else:
        draw.text((right + 0.1 * em, baseline), "." * 12, fill=255, font=setting.font, anchor="ls")


def _at_final_size(drawn: npt.NDArray[np.uint8], setting: _Setting) -> npt.NDArray[np.float32]:
    """Oversampled ink to pixels: by area, or, as screens do, each colour's third of a pixel by itself."""
    times = setting.times
    share = drawn.astype(np.float32) * np.float32(1 / 255)
    if times == 1:
        return np.repeat(share[..., None], 3, axis=2)
    height, width = drawn.shape[0] // times, drawn.shape[1] // times
    share = share[: height * times, : width * times]
    if not setting.subpixel:
        small = cv2.resize(share, (width, height), interpolation=cv2.INTER_AREA)
        return np.repeat(small[..., None], 3, axis=2)
    rows = cv2.resize(share, (width * 3, height), interpolation=cv2.INTER_AREA)
    # FreeType's filter over five thirds of a pixel.
    smooth = cv2.sepFilter2D(rows, -1, np.array([0.03, 0.30, 0.34, 0.30, 0.03], np.float32), np.ones(1, np.float32))
    return np.asarray(smooth.reshape(height, width, 3), np.float32)


def _cut(
    rng: np.random.Generator, page: npt.NDArray[np.float32], box: Box, size: float, label: str, crowded: bool
) -> npt.NDArray[np.float32]:
    """The word's crop, by its ink or by its line, some pixels off.

    label: what is not cut away at its ends: a stop is gone with a pixel or two, where a letter is still read. crowded:
    as far as the lines above and below.
    """
    left, top, right, bottom = box
    baseline, kind = page.shape[0] / 2 + 0.35 * size, rng.random()
    if kind < 0.45:  # the line's box: as high as the font says, whatever the letters
        top = min(top, baseline - (0.78 + 0.2 * rng.random()) * size)
        bottom = max(bottom, baseline + 0.25 * size)
        off = np.array([-0.1, -0.02, -0.1, -0.02]) + np.array([0.28, 0.2, 0.28, 0.2]) * rng.random(4)
    elif kind < 0.88:
        off = -0.03 + 0.22 * rng.random(4)
    else:
        off = -0.08 + 0.5 * rng.random(4)
    if crowded:
        off[[1, 3]] = 0.1 + 0.4 * rng.random(2)
    for side, end in ((0, label[:1]), (2, label[-1:])):
        if end and not end.isalnum():
            off[side] = max(off[side], 0.0)
    off *= size
    height, width = page.shape[:2]
    one = max(int(round(left - off[0])), 0), max(int(round(top - off[1])), 0)
    two = min(int(round(right + off[2])), width), min(int(round(bottom + off[3])), height)
    # Dots and dashes alone are only a few pixels: a crop has at least eight.
    grow_x, grow_y = max(8 - (two[0] - one[0]), 0), max(8 - (two[1] - one[1]), 0)
    x, y = max(one[0] - grow_x // 2, 0), max(one[1] - grow_y // 2, 0)
    crop = page[y : max(two[1], y + 8), x : max(two[0], x + 8)]
    if crop.shape[1] > _WIDEST:
        shrink = _WIDEST / crop.shape[1]
        size_to = _WIDEST, max(int(crop.shape[0] * shrink), 8)
        crop = np.asarray(cv2.resize(crop, size_to, interpolation=cv2.INTER_AREA), np.float32)
    return crop


def _colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """(paper, ink): black on white mostly; grey, blue, red; white on a dark head of a table."""
    draw = rng.random(3)
    paper = np.full(3, 255, np.float32)
    ink = np.full(3, 70 * draw[1] ** 2, np.float32)
    if draw[0] < 0.3:
        paper -= np.float32(40 * draw[2] ** 2) * rng.random(3, dtype=np.float32)
    elif draw[0] < 0.36:
        paper -= 110 * rng.random(3, dtype=np.float32)
        ink *= np.float32(0.4)
    elif draw[0] < 0.46:
        strong = np.array([[200, 20, 30], [20, 50, 150], [0, 70, 180], [30, 100, 50], [120, 30, 90]], np.float32)
        ink = strong[int(draw[1] * len(strong))] * np.float32(0.6 + 0.4 * draw[2])
    elif draw[0] < 0.50:
        ink = np.full(3, 80 + 70 * draw[1], np.float32)
    elif draw[0] < 0.54:
        dark = np.array([[20, 50, 110], [130, 20, 30], [60, 60, 60], [20, 90, 60]], np.float32)
        return dark[int(draw[1] * len(dark))], paper
    return paper, ink


def _printed(rng: np.random.Generator, share: npt.NDArray[np.float32], paper: Colour, ink: Colour) -> Pixels:
    height, width = share.shape[:2]
    draw = rng.random()
    if draw < 0.25:  # stroke weight of the rasteriser, and of toner
        share = np.clip(share * np.float32(0.75 + 0.6 * rng.random()), 0, 1)
    elif draw < 0.4:
        share = np.asarray(share ** np.float32(0.65 + 0.8 * rng.random()), np.float32)
    ground: Pixels = np.empty((height, width, 3), np.float32)
    ground[:] = paper
    if rng.random() < 0.12:
        ground += (tile(rng, "paper", height, width) * (2 + 8 * rng.random()))[..., None]
    return np.asarray(ground + share * (ink - ground), np.float32)


def _scanned(rng: np.random.Generator, pixels: Pixels, *, frozen: bool) -> Pixels:
    """Glass, lamp and sensor of a scanner; the page's other side; stamps; a photocopier before."""
    height, width = pixels.shape[:2]
    draw = rng.random(6)
    if draw[0] < 0.3:  # askew
        angle = 1.3 * rng.standard_normal()
        if not frozen:  # turned after it was cut, a long word's ends would leave the crop
            angle = float(np.clip(angle, *(np.array([-1, 1]) * min(2.5, math.degrees(0.12 * height / width)))))
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        pixels = _float32(cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))
    if draw[1] < 0.08:  # the other side shines through
        ghost = np.roll(cv2.GaussianBlur(pixels[:, ::-1], (0, 0), 0.6 + rng.random()), int(height * rng.random()), 0)
        pixels = _float32(pixels - (255 - ghost) * (0.05 + 0.13 * rng.random()))
    if draw[2] < 0.05:
        pixels = _stamped(rng, pixels)
    if draw[3] < 0.65:
        pixels = _float32(cv2.GaussianBlur(pixels, (0, 0), 0.25 + min(0.03 * height, 0.75) * rng.random()))
    if draw[4] < 0.35:
        low, high = 45 * rng.random() ** 2, 255 - 50 * rng.random() ** 2
        pixels = _float32(low + pixels * ((high - low) / 255))
    return _worn(rng, pixels) if draw[5] < 0.3 else pixels


def _worn(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """What a page went through before: photocopied to black and white, dusty, kept at a lower resolution."""
    height, width = pixels.shape[:2]
    kind = rng.random()
    if kind < 0.35:
        level = np.float32(105 + 70 * rng.random())
        return _float32(np.clip((pixels - level) * (2 + 5 * rng.random()) + level, 0, 255))
    if kind < 0.6:
        pixels = pixels.copy()
        for _ in range(1 + int(rng.random() * 4)):
            y, x = int(rng.random() * height), int(rng.random() * width)
            pixels[y : y + 1 + int(rng.random() * 2), x : x + 1 + int(rng.random() * 2)] = 255 * (rng.random() < 0.4)
        return pixels
    scale = (0.7 if height > 14 else 0.88) + 0.1 * rng.random()
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return _float32(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _float32(pixels: npt.ArrayLike) -> Pixels:
    return np.asarray(pixels, np.float32)


def _stamped(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """The round red stamp of an office, or a signature's stroke in blue, over the word."""
    height, width = pixels.shape[:2]
    over = np.ascontiguousarray(pixels, np.float32)
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.6:
        tint = np.array([205, 40, 50], np.float32)
        centre = (int(width * rng.random()), int(height * (3 * rng.random() - 1)))
        radius = int(height * (1 + 2 * rng.random()))
        for ring in (radius, int(radius * 0.93)):
            cv2.circle(mask, centre, max(ring, 2), 255, max(int(height / 18), 1), cv2.LINE_AA)
    else:
        tint = np.array([40, 60, 160], np.float32)
        points = np.array([[width * rng.random(), height * (1.6 * rng.random() - 0.3)] for _ in range(4)])
        cv2.polylines(mask, [np.round(points * 16).astype(np.int32)], False, 255, max(height // 16, 1), cv2.LINE_AA, 4)
    share = (mask.astype(np.float32) * np.float32((0.3 + 0.4 * rng.random()) / 255))[..., None]
    return np.minimum(over, over + share * (tint - over))


def _file(rng: np.random.Generator, pixels: npt.NDArray[np.uint8], *, frozen: bool) -> npt.NDArray[np.uint8]:
    """Grey or in colour, through JPEG of quality 30..95 or not."""
    if rng.random() < 0.25:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    if rng.random() < 0.5:
        pixels = through_jpeg(rng, pixels, int(30 + 66 * rng.random() ** 0.6), frozen=frozen)
    return np.ascontiguousarray(pixels)
