"""How letters are made: painted, outlined, cut from foam, lit from behind, worn by the weather."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import Colour, distinct, tile
from clip4str_doctr.training.synth.geometry import Mask

__all__ = ["Layer", "Letters", "dressed", "glow_of"]


@dataclass(frozen=True)
class Layer:
    """mask: (H, W) 0..255, where; colour: (3,) what."""

    mask: Mask
    colour: Colour


@dataclass(frozen=True)
class Letters:
    """The ink itself, the layers to paint under it, lowest first, and those over it."""

    ink: Mask
    under: list[Layer] = field(default_factory=list)
    over: list[Layer] = field(default_factory=list)


def dressed(
    rng: np.random.Generator,
    ink: Mask,
    size: int,
    paper: Colour,
    colour: Colour,
    *,
    thin: bool,
    needs_edge: bool,
    frozen: bool,
) -> Letters:
    """size: pixels per em. thin: strokes would break when worn. needs_edge: the ground is of no one colour, letters
    need an outline. frozen: as the suites have it, where light around letters is as bright as they are."""
    step = max(size / 26, 0.8)
    ink = _shaped(rng, ink, size, thin)
    other = _contrast_to(rng, colour)
    draw = rng.random()
    reach = max(int(round(step * (0.8 + 1.8 * rng.random()))), 1)
    if needs_edge or draw < 0.17:
        return _outlined(rng, ink, reach, other, paper, colour)
    if draw < 0.27:  # soft or hard shadow
        shade = _shifted(rng, ink, step * 1.8)
        if rng.random() < 0.7:
            shade = np.asarray(cv2.GaussianBlur(shade, (0, 0), 0.4 + step * rng.random()), np.uint8)
        return Letters(ink, [Layer(shade, paper * np.float32(0.15 + 0.45 * rng.random()))])
    if draw < 0.36:  # solid letters
        side = colour * np.float32(0.15 + 0.4 * rng.random())
        side = side if distinct(side, colour) else other
        under = [Layer(_extruded(rng, ink, reach + int(step)), side)]
        if rng.random() < 0.3:
            under.insert(0, Layer(_grown(under[0].mask, 1 + int(step * rng.random())), _contrast_to(rng, side)))
        return Letters(ink, under)
    if draw < 0.395:
        return _lit(rng, ink, step, paper, colour, frozen)
    if draw < 0.44:
        return _bevelled(rng, ink, step, colour)
    if draw < 0.455 and size >= 40:  # hollow
        hollow = cv2.subtract(_grown(ink, max(int(step * 0.8), 1)), cv2.erode(ink, _disc(1)))
        return Letters(np.asarray(hollow, np.uint8))
    if draw < 0.467 and size >= 40:
        return Letters(_dotted(rng, ink, size))
    return Letters(ink)


def _shaped(rng: np.random.Generator, ink: Mask, size: int, thin: bool) -> Mask:
    """Bolder, thinner, rough-edged or peeled."""
    draw = rng.random()
    if draw < 0.09 and size >= 28:
        return _grown(ink, max(int(round(size / 45)), 1))
    if thin:
        return _grown(ink, 1) if draw < 0.25 and size >= 33 else ink
    if draw < 0.12 and size >= 40:
        return np.asarray(cv2.erode(ink, np.ones((2, 2), np.uint8)), np.uint8)
    height, width = ink.shape
    if draw < 0.20 and height < 512 and width < 512:  # edges of paint, embroidery, cut foil
        rough = cv2.GaussianBlur(ink, (0, 0), size / 50 + 0.5).astype(np.float32)
        rough += tile(rng, "grain" if rng.random() < 0.4 else "paper", height, width) * (25 + 45 * rng.random())
        return np.asarray(np.clip((rough - 127) * 3 + 127, 0, 255) * (rough > 60), np.uint8)
    if draw < 0.225 and height < 512 and width < 512:  # paint that came off
        hold = tile(rng, "leaves" if rng.random() < 0.5 else "wood", height, width) < 0.75 + 0.35 * rng.random()
        return np.asarray(ink * hold, np.uint8)
    return ink


def _outlined(rng: np.random.Generator, ink: Mask, reach: int, other: Colour, paper: Colour, colour: Colour) -> Letters:
    """One outline, or two, or one with a shadow."""
    edge = _grown(ink, reach)
    under = [Layer(edge, other)]
    draw = rng.random()
    if draw < 0.25:
        under.insert(0, Layer(_grown(edge, reach), _contrast_to(rng, other)))
    elif draw < 0.45:
        under.insert(0, Layer(_shifted(rng, edge, reach * 1.5), paper * np.float32(0.2 + 0.4 * rng.random())))
    elif draw < 0.55:
        under.insert(0, Layer(_extruded(rng, edge, reach + 1), other * np.float32(0.3 + 0.3 * rng.random())))
    return Letters(ink, under)


def _lit(rng: np.random.Generator, ink: Mask, step: float, paper: Colour, colour: Colour, frozen: bool) -> Letters:
    """Neon tubes and letters with lamps behind them."""
    glow = cv2.GaussianBlur(ink, (0, 0), step * (1.5 + 2.5 * rng.random()))
    if frozen:
        halo = np.asarray(np.minimum(glow.astype(np.uint16) * 2, 255), np.uint8)
        light = np.asarray(100 + colour * 0.6, np.float32) if float(paper.mean()) < 150 else colour * 0.8
    else:
        halo, light = glow_of(rng, np.asarray(glow, np.uint8), paper, colour)
    under = [Layer(halo, light)]
    if rng.random() < 0.4:
        core = np.asarray(cv2.erode(ink, _disc(max(int(step * 0.5), 1))), np.uint8)
        return Letters(ink, under, [Layer(core, np.asarray(190 + 0.25 * colour, np.float32))])
    return Letters(ink, under)


def glow_of(rng: np.random.Generator, blurred: Mask, paper: Colour, colour: Colour) -> tuple[Mask, Colour]:
    """Ink out of focus -> the light around it and its colour: between the letters' and the ground's, so that gaps
    between a letter and its marks stay."""
    halo = np.asarray(np.minimum(blurred.astype(np.float32) * 1.1, 200), np.uint8)
    return halo, np.asarray(paper + (0.3 + 0.25 * rng.random()) * (colour - paper), np.float32)


def _bevelled(rng: np.random.Generator, ink: Mask, step: float, colour: Colour) -> Letters:
    """Light on one side of each stroke, shade on the other: cast or cut letters."""
    reach = max(int(round(step * 0.8)), 1)
    dx, dy = (reach if rng.random() < 0.7 else -reach), reach
    light, shade = cv2.subtract(ink, _moved(ink, dx, dy)), cv2.subtract(ink, _moved(ink, -dx, -dy))
    return Letters(
        ink,
        [Layer(_moved(ink, dx, dy), np.full(3, 30, np.float32))] if rng.random() < 0.3 else [],
        [
            Layer(np.asarray(shade, np.uint8), colour * np.float32(0.45 + 0.2 * rng.random())),
            Layer(np.asarray(light, np.uint8), np.asarray(colour + (255 - colour) * 0.6, np.float32)),
        ],
    )


def _dotted(rng: np.random.Generator, ink: Mask, size: int) -> Mask:
    """A row of lamps: dots on a grid."""
    pitch = max(int(size / (11 + 5 * rng.random())), 3)
    dot = np.zeros((pitch, pitch), np.uint8)
    cv2.circle(dot, (pitch // 2, pitch // 2), max(int(pitch * 0.42), 1), 255, -1)
    rows, columns = -(-ink.shape[0] // pitch), -(-ink.shape[1] // pitch)
    grid = np.tile(dot, (rows, columns))[: ink.shape[0], : ink.shape[1]]
    return np.asarray(cv2.min(_grown(ink, 1), grid), np.uint8)


def _contrast_to(rng: np.random.Generator, colour: Colour) -> Colour:
    """White on dark, dark on light, or any colour that is seen."""
    if rng.random() < 0.35:
        drawn = rng.random(3, dtype=np.float32) * 255
        if distinct(drawn, colour):
            return drawn
    return np.full(3, 250 - 40 * rng.random() if float(colour.mean()) < 128 else 45 * rng.random(), np.float32)


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _grown(ink: Mask, reach: int) -> Mask:
    return np.asarray(cv2.dilate(ink, _disc(reach)), np.uint8)


def _moved(ink: Mask, dx: float, dy: float) -> Mask:
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return np.asarray(cv2.warpAffine(ink, move, (ink.shape[1], ink.shape[0]), flags=cv2.INTER_NEAREST), np.uint8)


def _shifted(rng: np.random.Generator, ink: Mask, reach: float) -> Mask:
    return _moved(ink, *(int(round((2 * rng.random() - 1) * 2 * reach)) for _ in range(2)))


def _extruded(rng: np.random.Generator, ink: Mask, reach: int) -> Mask:
    """The ink swept along a short line: the side of solid letters."""
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    end = [int(round(reach + (reach if rng.random() < 0.5 else -reach) * (0.3 + 0.7 * rng.random()))) for _ in range(2)]
    cv2.line(kernel, (reach, reach), (end[0], end[1]), 1)
    return np.asarray(cv2.dilate(ink, kernel), np.uint8)
