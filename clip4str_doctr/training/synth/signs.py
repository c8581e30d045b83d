"""A word on a sign: board, letters, and everything between them, as a stack of masks and what they are made of."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Colour, Pixels, contrasting_colours, distinct
from clip4str_doctr.training.synth.dressing import Layer, dressed
from clip4str_doctr.training.synth.fonts import Face
from clip4str_doctr.training.synth.geometry import Box, Mask, Placement, bend
from clip4str_doctr.training.synth.layouts import board_part, clear_of, icon, other_lines, panel
from clip4str_doctr.training.synth.legibility import most_legible
from clip4str_doctr.training.synth.lettering import Hand, Line, choose_hand, letter_line
from clip4str_doctr.training.synth.marks import stem
from clip4str_doctr.training.synth.street_effects import street_effects
from clip4str_doctr.training.synth.surfaces import board_surface, letter_surface, rainbow
from clip4str_doctr.training.synth.viewing import (
    LOOSE,
    RECTIFIED,
    arch,
    loose_room,
    margins_of_crop,
    rectified,
    resampled,
    view,
)
from clip4str_doctr.training.synth.writing import stretch_marks

__all__ = ["SIGN_HEIGHTS", "render_sign"]

SIGN_HEIGHTS = (8.0, 200.0)
_SIZES = (16, 26, 40, 60, 92)  # pixels per em
_THIN = 0.085  # em; thinner strokes break when worn
_CHANNELS = 4  # that OpenCV warps at once


def render_sign(
    rng: np.random.Generator, label: str, face: Face, height: float, neighbour: Callable[[], str]
) -> npt.NDArray[np.uint8]:
    """-> crop (H, W, 3) uint8 RGB of `label` on a photographed sign, about `height` pixels high.

    neighbour(): a word for what else the sign says.
    """
    frozen = face.held_out  # as the suites' pictures were drawn
    size = next((size for size in _SIZES if size >= height * 0.72), _SIZES[-1])
    hand = choose_hand(rng, face, size)
    margins = margins_of_crop(rng)
    if not frozen:
        margins = _with_stops(margins, label)
    loose = not frozen and rng.random() < LOOSE
    before, after = ("", "") if loose else _neighbours(rng, neighbour, margins)
    line = _written(rng, hand, (before, label, after))
    paper, colour = contrasting_colours(rng, False, usual=0.4 if frozen else 0.65)
    layers: list[Layer] = []
    if loose:
        left, top, right, bottom = line.box
        margins[[0, 2]] += np.array(loose_room(rng)) * (right - left) / max(bottom - top, 1)
    else:
        layers = _surroundings(rng, line, paper, colour, lambda: _other_lines(rng, line, hand, neighbour, margins))
    over_photo = rng.random() < 0.06
    thick = stem(hand.font)
    letters = dressed(rng, line.ink, size, paper, colour, thin=thick < _THIN, needs_edge=over_photo, frozen=frozen)
    layers += letters.under
    masks = [layer.mask for layer in layers] + [letters.ink] + [layer.mask for layer in letters.over]
    if not frozen:
        masks.append(_marks_of(letters.ink, line, label))
    masks, box = _bent(rng, masks, line.box, len(label))
    by_corners = not frozen and rng.random() < RECTIFIED
    placement = (rectified if by_corners else view)(rng, box, height, margins)
    shares = _warped(masks, placement)
    crop = board_surface(rng, placement.height, placement.width, paper, over_photo)
    for layer, share in zip(layers, shares, strict=False):
        crop += share * (layer.colour - crop)
    ink = shares[len(layers)]
    if rng.random() < 0.05:
        ink = ink * np.float32(0.7 + 0.25 * rng.random())  # worn or translucent
    crop += ink * (_ink_surface(rng, paper, colour, placement, len(label)) - crop)
    for layer, share in zip(letters.over, shares[len(layers) + 1 :], strict=False):
        crop += share * (layer.colour - crop)
    top, bottom = placement.word[1], placement.word[3]
    stroke = thick * size * (bottom - top) / max(box[3] - box[1], 1)
    contrast = float(np.abs(paper - colour).mean())
    if frozen:
        return street_effects(rng, crop, contrast, placement.word, stroke, frozen=True)
    if by_corners and rng.random() < 0.5:
        crop = resampled(rng, crop, stroke)

    def shot() -> npt.NDArray[np.uint8]:
        return street_effects(rng, crop, contrast, placement.word, stroke, frozen=False)

    return most_legible(shot, ink[..., 0], shares[-1][..., 0])


def _written(rng: np.random.Generator, hand: Hand, words: tuple[str, str, str]) -> Line:
    """The label, second of the words, and what stands before and after it, with its own marks."""
    frozen, size = hand.face.held_out, hand.size
    # With room enough that a crop seldom reaches beyond the canvas.
    x, y = (0.75, 0.5) if frozen else (1.1, 0.95)
    line = letter_line(rng, hand, *words, (int(x * size) + 2, int(y * size) + 2))
    line = _own_marks(rng, line, words[1], frozen)
    if not frozen:
        _ended(line.ink)
    return line


def _other_lines(
    rng: np.random.Generator, line: Line, hand: Hand, neighbour: Callable[[], str], margins: npt.NDArray[np.float64]
) -> Mask | None:
    mask = other_lines(rng, line, hand, neighbour, margins)
    if mask is not None and not hand.face.held_out:
        _ended(mask)
    return mask


def _neighbours(
    rng: np.random.Generator, neighbour: Callable[[], str], margins: npt.NDArray[np.float64]
) -> tuple[str, str]:
    """What stands on the same line at both sides of the word; mostly nothing where the crop ends before it anyway."""
    left, right = (rng.random() < (0.75 if margins[side] > 0.13 else 0.08) for side in (0, 2))
    return neighbour() if left else "", neighbour() if right else ""


def _with_stops(margins: npt.NDArray[np.float64], label: str) -> npt.NDArray[np.float64]:
    """A stop is gone with a pixel or two where a letter is still read: its side of the crop is not cut."""
    for side, end in ((0, label[0]), (2, label[-1])):
        if not end.isalnum():
            margins[side] = max(margins[side], 0.01)
    return margins


def _ended(mask: Mask) -> None:
    """Nothing at the canvas' edges: what stands there goes on and on beyond them, as boards do, but no letters."""
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0


def _own_marks(rng: np.random.Generator, line: Line, label: str, frozen: bool) -> Line:
    """Marks of capitals larger, smaller or farther off than the font has them."""
    if not label.isupper() or rng.random() > 0.35:
        return line
    ink, box, first = stretch_marks(rng, line.ink, line.box, int(line.capital), int(line.baseline))
    # The suites' icons stand where both paddings would have grown alike.
    drop = (len(ink) - len(line.ink)) / 2 if frozen else first - int(line.capital)
    return Line(ink, box, line.capital + drop, line.baseline + drop)


def _marks_of(ink: Mask, line: Line, label: str) -> Mask:
    """What of a word's ink stands over and under its capitals; nothing of other words, whose letters reach as high."""
    left, _, right, _ = (int(round(value)) for value in line.box)
    marks = np.zeros_like(ink)
    if label.isupper():
        marks[:, left:right] = ink[:, left:right]
        marks[max(int(line.capital) - 1, 0) : int(line.baseline) + 2] = 0
    return marks


def _surroundings(
    rng: np.random.Generator, line: Line, paper: Colour, colour: Colour, lines: Callable[[], Mask | None]
) -> list[Layer]:
    """Layers under the letters: panel, bands and frames, other lines, an icon."""
    layers: list[Layer] = []
    draw = rng.random(4)
    if draw[0] < 0.09:
        # The word's own paper becomes a panel: what lies around it has any colour.
        beyond = Layer(255 - panel(rng, line), _other_colour(rng, paper))
        layers.append(beyond)
    elif draw[0] < 0.27:
        layers.append(Layer(clear_of(board_part(rng, line), line.box), _other_colour(rng, paper, colour)))
    if draw[1] < 0.62:
        mask = lines()
        if mask is not None:
            layers.append(Layer(mask, colour if rng.random() < 0.6 else _other_colour(rng, paper)))
    if draw[2] < 0.08:
        layers.append(
            Layer(clear_of(icon(rng, line), line.box), colour if draw[3] < 0.6 else _other_colour(rng, paper))
        )
    return layers


def _other_colour(rng: np.random.Generator, paper: Colour, usual: Colour | None = None) -> Colour:
    """A colour that is seen on paper: the usual one, white, black, or any."""
    if usual is not None and rng.random() < 0.4:
        return usual
    for _ in range(4):
        draw = rng.random(4, dtype=np.float32)
        level = draw[3] * 3
        drawn = draw[:3] * 255 if level < 2 else np.full(3, 245 if level < 2.6 else 20, np.float32)
        if distinct(drawn, paper):
            return np.asarray(drawn, np.float32)
    return np.asarray(255 - paper, np.float32)


def _bent(rng: np.random.Generator, masks: list[Mask], box: Box, letters: int) -> tuple[list[Mask], Box]:
    """All masks along the same arch or wave, if any."""
    draw = rng.random()
    if draw > 0.10 or letters < 3:
        return masks, box
    state = rng.bit_generator.state
    bent: list[Mask] = []
    after = box
    for mask in masks:
        rng.bit_generator.state = state  # one and the same bend for all
        one, after = (bend if draw < 0.065 else arch)(rng, mask, box)
        bent.append(one)
    return bent, after


def _warped(masks: list[Mask], placement: Placement) -> list[Pixels]:
    """Masks in the crop's plane, each (h, w, 1) float32, 0..1."""
    size = (placement.width, placement.height)
    shares: list[Pixels] = []
    for first in range(0, len(masks), _CHANNELS):
        stack = cv2.merge(masks[first : first + _CHANNELS])
        warped = cv2.warpPerspective(
            stack, placement.homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        scaled = warped.reshape(placement.height, placement.width, -1).astype(np.float32) * np.float32(1 / 255)
        shares += [scaled[..., channel, None] for channel in range(scaled.shape[2])]
    return shares


def _ink_surface(rng: np.random.Generator, paper: Colour, colour: Colour, placement: Placement, letters: int) -> Pixels:
    if letters > 2 and rng.random() < 0.02:
        return rainbow(rng, paper, colour, placement.width, letters)
    return letter_surface(rng, paper, colour, placement.height, placement.width)
