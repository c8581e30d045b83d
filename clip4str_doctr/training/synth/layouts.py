"""What else is on the board: lines above and below, bands, frames, panels, icons, swashes. All as masks."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clip4str_doctr.training.synth.fonts import FONT_SIZES, load_face
from clip4str_doctr.training.synth.geometry import Box, Mask
from clip4str_doctr.training.synth.lettering import Hand, Line, pixels_of, without_marks

__all__ = ["board_part", "icon", "other_lines", "panel"]


def other_lines(
    rng: np.random.Generator, line: Line, hand: Hand, text: Callable[[], str], margins: npt.NDArray[np.float64]
) -> Mask | None:
    """Lines above and below the word's, where the crop's margins (left, top, right, bottom) let a piece be seen."""
    height, width = line.ink.shape
    left, top, right, bottom = line.box
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    frozen = hand.face.held_out
    drawn = False
    for above, margin in ((True, margins[1]), (False, margins[3])):
        gap = 0.01 + 0.2 * rng.random() ** 1.5
        # A word that lies askew has other lines in the corners of its box, whatever its margins.
        reached = gap <= margin + 0.03 or (not frozen and rng.random() < 0.35)
        if not reached or rng.random() < 0.25:
            continue
        font = hand.font if frozen else _font_of_line(rng, hand)
        anchor = ("l", "m", "r")[int(rng.random() * 3)] + ("b" if above else "t")
        x = left + (right - left) * (1.6 * rng.random() - 0.3)
        words = f"{text()} {text()}"[: int(2.4 * (right - left) / hand.size) + 5]
        if not frozen:
            words = without_marks(words, hand)
        gap *= bottom - top
        draw.text((x, top - gap if above else bottom + gap), words, fill=255, font=font, anchor=anchor)
        drawn = True
    if not drawn:
        return None
    mask = pixels_of(image)
    mask[max(int(top), 0) : max(int(bottom), 0)] = 0  # tall letters would reach into the word
    return mask


def _font_of_line(rng: np.random.Generator, hand: Hand) -> ImageFont.FreeTypeFont:
    """Lines of a sign are of the word's size, or larger or smaller."""
    draw = rng.random()
    if draw < 0.5:
        return hand.font
    size = hand.size * (0.6 if draw < 0.8 else 1.5)
    return load_face(hand.face, min(FONT_SIZES, key=lambda one: abs(one - size)))


def board_part(rng: np.random.Generator, line: Line) -> Mask:
    """A stripe, a frame, a rule, an end of the board: something of another colour beside the word, not under it."""
    mask = np.zeros_like(line.ink)
    height, width = mask.shape
    left, top, right, bottom = (int(round(value)) for value in line.box)
    em = max(bottom - top, 4)
    near = 1 + int(em * 0.25 * rng.random() ** 1.5)
    kind = rng.random()
    if kind < 0.22:  # a rule under or over the word
        thick = 1 + int(em * 0.08 * rng.random())
        y = bottom + near if rng.random() < 0.7 else top - near - thick
        mask[max(y, 0) : max(y + thick, 0)] = 255
    elif kind < 0.42:  # a frame
        thick = 1 + int(em * 0.07 * rng.random())
        gap = near + thick
        wide = int(em * rng.random() ** 2)
        cv2.rectangle(mask, (left - gap - wide, top - gap), (right + gap + wide, bottom + gap), 255, thick)
    elif kind < 0.68:  # a band above or below, to the board's end
        if rng.random() < 0.5:
            mask[: max(top - near, 0)] = 255
        else:
            mask[max(bottom + near, 0) :] = 255
    elif kind < 0.86:  # the board ends beside the word
        if rng.random() < 0.5:
            mask[:, : max(left - near, 0)] = 255
        else:
            mask[:, max(right + near, 0) :] = 255
    else:  # a swash under it
        x = np.linspace(left - 0.1 * em, right + 0.1 * em, 12)
        bow = (x - x[0]) / max(x[-1] - x[0], 1)
        y = bottom + near + em * 0.14 * np.sin(np.pi * bow * (1 if rng.random() < 0.6 else 2))
        points = np.round(np.stack([x, y], axis=1) * 16).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, 1 + int(em * 0.07 * rng.random()), cv2.LINE_AA, 4)
    return mask


def panel(rng: np.random.Generator, line: Line) -> Mask:
    """A box, pill or slanted shape that the word stands on, larger than the word."""
    mask = np.zeros_like(line.ink)
    left, top, right, bottom = line.box
    em = max(bottom - top, 4.0)
    x, y = em * (0.06 + 0.4 * rng.random()), em * (0.04 + 0.18 * rng.random())
    one, two = (int(left - x), int(top - y)), (int(right + x), int(bottom + y))
    kind = rng.random()
    if kind < 0.5:
        cv2.rectangle(mask, one, two, 255, -1)
    elif kind < 0.8:
        radius = int(min(two[1] - one[1], two[0] - one[0]) * (0.15 + 0.35 * rng.random()))
        cv2.rectangle(mask, (one[0] + radius, one[1]), (two[0] - radius, two[1]), 255, -1)
        cv2.rectangle(mask, (one[0], one[1] + radius), (two[0], two[1] - radius), 255, -1)
        for centre_x in (one[0] + radius, two[0] - radius):
            for centre_y in (one[1] + radius, two[1] - radius):
                cv2.circle(mask, (centre_x, centre_y), radius, 255, -1, cv2.LINE_AA)
    elif kind < 0.9:
        lean = int(0.3 * em * rng.standard_normal())
        points = np.array(
            [[one[0] + lean, one[1]], [two[0] + lean, one[1]], [two[0] - lean, two[1]], [one[0] - lean, two[1]]]
        )
        cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA)
    else:
        centre = (int((left + right) / 2), int((top + bottom) / 2))
        axes = int((right - left) * 0.75 + x), int(em * (0.8 + 0.3 * rng.random()))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    return mask


def icon(rng: np.random.Generator, line: Line) -> Mask:
    """A telephone, star, arrow, bullet, ring or tick beside the word, at a space's distance."""
    mask = np.zeros_like(line.ink)
    left, _, right, _ = line.box
    size = (line.baseline - line.capital) * (0.7 + 0.5 * rng.random())
    gap = size * (0.2 + 0.35 * rng.random())
    x = left - gap - size / 2 if rng.random() < 0.6 else right + gap + size / 2
    at = np.array([x, (line.baseline + line.capital) / 2])
    kind = int(rng.random() * 7)
    turn = np.linspace(0, 2 * np.pi, 11)[:10] - np.pi / 2
    if kind == 0:  # star
        reach = np.where(np.arange(10) % 2 == 0, 0.5, 0.2)[:, None]
        _fill(mask, at + size * reach * np.stack([np.cos(turn), np.sin(turn)], axis=1))
    elif kind == 1:  # arrow
        shape = np.array([[-0.5, -0.12], [0.1, -0.12], [0.1, -0.35], [0.5, 0], [0.1, 0.35], [0.1, 0.12], [-0.5, 0.12]])
        _fill(mask, at + size * shape * (1 if rng.random() < 0.5 else -1))
    elif kind == 2:  # bullet
        cv2.circle(mask, (int(at[0]), int(at[1])), max(int(size * (0.1 + 0.3 * rng.random())), 1), 255, -1, cv2.LINE_AA)
    elif kind == 3:  # ring
        centre = (int(at[0]), int(at[1]))
        cv2.circle(mask, centre, max(int(size * 0.45), 2), 255, max(int(size * 0.08), 1), cv2.LINE_AA)
    elif kind == 4:  # tick
        shape = np.round((at + size * np.array([[-0.4, 0.0], [-0.1, 0.35], [0.45, -0.4]])) * 16).astype(np.int32)
        cv2.polylines(mask, [shape], False, 255, max(int(size * 0.14), 1), cv2.LINE_AA, 4)
    else:  # a receiver: two blobs and a bow
        bow = np.linspace(0.15 * np.pi, 0.85 * np.pi, 9) + (0.25 * np.pi if kind == 5 else np.pi)
        arc = at + 0.38 * size * np.stack([np.cos(bow), np.sin(bow)], axis=1)
        cv2.polylines(mask, [np.round(arc * 16).astype(np.int32)], False, 255, max(int(size * 0.13), 1), cv2.LINE_AA, 4)
        for end in (arc[0], arc[-1]):
            cv2.circle(mask, (int(end[0]), int(end[1])), max(int(size * 0.15), 1), 255, -1, cv2.LINE_AA)
    return mask


def clear_of(mask: Mask, box: Box) -> Mask:
    """mask with nothing left inside the word's box."""
    left, top, right, bottom = (max(int(round(value)), 0) for value in box)
    mask[top:bottom, left:right] = 0
    return mask


def _fill(mask: Mask, points: npt.NDArray[np.float64]) -> None:
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
