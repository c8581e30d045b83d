"""One rendered word crop from one number."""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.backgrounds import (
    Colour,
    Pixels,
    background,
    contrasting_colours,
    distinct,
    smooth_field,
    tile,
)
from clip4str_doctr.training.synth.dressing import glow_of
from clip4str_doctr.training.synth.effects import clean_effects, photo_effects, to_uint8_jpeg
from clip4str_doctr.training.synth.engine import Engine
from clip4str_doctr.training.synth.fonts import Face, MissingFontsError, not_thin, usable_faces
from clip4str_doctr.training.synth.geometry import Mask, Placement, bend, place
from clip4str_doctr.training.synth.legibility import lacks_marks, most_legible
from clip4str_doctr.training.synth.selection import Selection
from clip4str_doctr.training.synth.typography import as_set
from clip4str_doctr.training.synth.vocabularies import street_mixture
from clip4str_doctr.training.synth.words import WordSource
from clip4str_doctr.training.synth.writing import write

__all__ = ["STYLES", "Renderer", "Selection"]

Style = Literal["clean", "photo", "mixed", "sign", "page"]
Split = Literal["train", "val"]
# A style's place here is part of its random stream: new ones come last.
STYLES: tuple[Style, ...] = ("clean", "photo", "mixed", "sign", "page")

_CLEAN_SHARE = 0.3  # of "mixed"
_STREET_SHARE = 0.5  # of training's photographs, that say what signs say
# All-capital words in these are not written by anybody, and unreadable.
_SCRIPT_FAMILIES = frozenset({"great-vibes", "dancing-script", "pacifico"})
_SIGN_FAMILY_SHARE = {"clean": 0.12, "photo": 0.42}
# Of crops, in pixels: print is small, photographs are of any size.
_HEIGHTS = {"clean": (11.0, 44.0), "photo": (15.0, 100.0)}


_EVERYTHING = Selection()


class Renderer:
    """Vietnamese word crops as pictures, deterministic in (seed, split, style, selection, index).

    style: "clean" (print), "photo" (street signs), "mixed" (30 % clean); "sign" and "page" are the same two worlds by
    the later, richer `Engine` and with more fonts; the older ones stay for the suites. split: "train" or "val", which
    share no font families, and of lexical words everyday ones only. May be pickled; fonts and word lists are loaded
    when first used.
    Raises ValueError for another style or split; at the first sample, MissingFontsError if no fonts are installed, or
    not those selected. IndexError for a sample beyond the selected labels.
    """

    def __init__(self, style: Style, split: Split, seed: int, selection: Selection = _EVERYTHING) -> None:
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
        if split not in ("train", "val"):
            raise ValueError(f'split must be "train" or "val", got {split!r}')
        self.style, self.split, self.seed, self.selection = style, split, seed, selection
        self._engine: Engine | None = None
        self._words: WordSource | None = None
        self._street: WordSource | None = None
        self._families: dict[bool, list[tuple[Face, ...]]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"style": self.style, "split": self.split, "seed": self.seed, "selection": self.selection}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # the arguments above

    def sample(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        """-> crop (H, W, 3) uint8 RGB, C-contiguous, 8..200 px high; label of 1..25 symbols in NFC, no space."""
        rng = np.random.default_rng([self.seed, self.split == "val", STYLES.index(self.style), index])
        if self.style == "sign" or self.style == "page":
            if self._engine is None:
                self._engine = Engine(self.style, self.split, self.seed, self.selection)
            return self._engine.sample(rng, index)
        words = self._load()
        frozen = self.split == "val"  # the suites stay as they are
        clean = self.style == "clean" or (self.style == "mixed" and rng.random() < _CLEAN_SHARE)
        if not frozen and not clean and rng.random() < _STREET_SHARE:
            words = self._street or words
        label = words.draw(rng)
        if self.selection.labels is not None:
            # The drawn one is thrown away, so that the picture's chances do not depend on who chose the label.
            label = self.selection.labels[index]
        face = self._face(rng, clean)
        if not frozen:
            face = self._legible(rng, face, label, clean)
        if face.capitals_only:
            label = label.upper()
        elif face.family in _SCRIPT_FAMILIES and len(label) > 1 and label.isupper() and rng.random() < 0.8:
            label = label.capitalize()
        height = _crop_height(rng, self.selection.heights or _HEIGHTS["clean" if clean else "photo"])
        drawn = label if frozen else as_set(rng, label, face)
        canvas, box = write(rng, drawn, face, height, clean, lambda: words.frequent(rng))
        if not clean and rng.random() < 0.09 and len(label) > 2:
            canvas, box = bend(rng, canvas, box)
        placement = place(rng, box, height, clean)
        crop, contrast, ink = _paint(rng, canvas, placement, clean, frozen)

        def shot() -> npt.NDArray[np.uint8]:
            if clean:
                return to_uint8_jpeg(rng, clean_effects(rng, crop), 0.4, 45, frozen=frozen)
            return to_uint8_jpeg(rng, photo_effects(rng, crop.copy(), contrast), 0.6, 22, frozen=frozen)

        return shot() if frozen or clean else most_legible(shot, ink), label

    def _load(self) -> WordSource:
        if self._words is None:
            by_family = usable_faces(self.split)
            wanted = self.selection.families or tuple(by_family)
            if missing := [family for family in wanted if family not in by_family]:
                raise MissingFontsError(
                    f"the {self.split} split has no font families {missing}; type: pip install "
                    + " ".join(f"fontpkg-{family}" for family in missing)
                )
            chosen = [faces for family, faces in by_family.items() if family in wanted]
            if self.split == "train":
                chosen = [not_thin(faces) for faces in chosen]
            for signs in (False, True):
                self._families[signs] = [faces for faces in chosen if faces[0].for_signs == signs]
            self._words = WordSource(self.split, self.seed)
            if self.split == "train":
                self._street = WordSource(self.split, self.seed, street_mixture)
        return self._words

    def _legible(self, rng: np.random.Generator, face: Face, label: str, clean: bool) -> Face:
        """That face, or another if it draws a letter of the label without its marks."""
        for _ in range(8):
            if not lacks_marks(face, label.upper() if face.capitals_only else label):
                break
            face = self._face(rng, clean)
        return face

    def _face(self, rng: np.random.Generator, clean: bool) -> Face:
        """Families alike, within one: signs are bold, print is regular, few are italic."""
        signs = rng.random() < _SIGN_FAMILY_SHARE["clean" if clean else "photo"]
        families = self._families[signs] or self._families[not signs]
        faces = families[int(rng.random() * len(families))]
        italic, bold = rng.random() < 0.15, rng.random() < (0.35 if clean else 0.65)
        fitting = [face for face in faces if face.italic == italic and (face.weight >= 600) == bold] or faces
        return fitting[int(rng.random() * len(fitting))]


def _crop_height(rng: np.random.Generator, heights: tuple[float, float]) -> float:
    least, most = heights
    return float(least * (most / least) ** rng.random())


def _paint(
    rng: np.random.Generator, ink: Mask, placement: Placement, clean: bool, frozen: bool
) -> tuple[Pixels, float, npt.NDArray[np.float32]]:
    """Ink, outline and shadow in the crop's plane, over a background.

    -> (H, W, 3) float32, 0..255; how much ink and paper differ, 0..255; share of ink (H, W), 0..1.
    """
    height, width = placement.height, placement.width
    paper, colour = contrasting_colours(rng, clean)
    contrast = float(np.abs(paper - colour).mean())
    layers: list[tuple[Mask, Colour]] = []
    if not clean:
        ink, layers = _decorations(rng, ink, paper, colour, frozen)
    stack = np.dstack([ink, *(mask for mask, _ in layers)]) if layers else ink
    warped = cv2.warpPerspective(stack, placement.homography, (width, height), flags=cv2.INTER_LINEAR)
    warped = warped.reshape(height, width, -1)
    crop = background(rng, height, width, paper, clean)
    if rng.random() < (0.10 if clean else 0.2):
        crop = _sign_parts(rng, crop, placement, colour, clean)
    for number, (_, layer_colour) in enumerate(layers, start=1):
        share = warped[..., number, None].astype(np.float32) * np.float32(1 / 255)
        crop += share * (layer_colour - crop)
    share = warped[..., 0, None].astype(np.float32) * np.float32(1 / 255)
    if clean:
        return np.asarray(crop + share * (colour - crop), np.float32), contrast, share[..., 0]
    if rng.random() < 0.06:
        share *= np.float32(0.7 + 0.2 * rng.random())  # worn or translucent
    surface = _letter_surface(rng, colour, height, width)
    return np.asarray(crop + share * (surface - crop), np.float32), contrast, share[..., 0]


def _letter_surface(rng: np.random.Generator, colour: Colour, height: int, width: int) -> Pixels:
    """What the letters are made of: paint mostly, sometimes a gradient, marble, wood, metal."""
    draw = rng.random()
    if draw < 0.6:
        return colour
    if draw < 0.82:
        return colour + (smooth_field(rng, height, width, 3 if draw < 0.68 else 1, 2) - 0.5) * (40 + 60 * rng.random())
    names = ("marble", "wood", "brushed", "clouds", "blobs", "leaves", "paper", "slats")
    pattern = tile(rng, names[int(rng.random() * len(names))], height, width)
    return colour + (pattern * (8 + 32 * rng.random()))[..., None]


def _decorations(
    rng: np.random.Generator, ink: Mask, paper: Colour, colour: Colour, frozen: bool
) -> tuple[Mask, list[tuple[Mask, Colour]]]:
    """-> ink made bolder or thinner, and the layers to paint under it, lowest first."""
    size = ink.shape[0]  # about 2.3 em
    step = max(size // 45, 1)
    draw = rng.random()
    if draw < 0.10 and size > 50:
        ink = np.asarray(cv2.dilate(ink, _disc(step)), np.uint8)
    elif draw < 0.13 and size > 50:
        ink = np.asarray(cv2.erode(ink, np.ones((2, 2), np.uint8)), np.uint8)
    layers: list[tuple[Mask, Colour]] = []
    draw = rng.random()
    dark = float(colour.mean()) < 128
    other = np.full(3, 250 - 40 * rng.random() if dark else 40 * rng.random(), np.float32)
    if rng.random() < 0.3:
        drawn = rng.random(3, dtype=np.float32) * 255
        other = drawn if distinct(drawn, colour) else other
    reach = step * (1 + int(rng.random() * 2.4))
    if draw < 0.10:  # drop shadow
        shade = cv2.GaussianBlur(_shifted(rng, ink, reach), (0, 0), 0.5 + step * 2 * rng.random())
        layers.append((np.asarray(shade, np.uint8), paper * np.float32(0.2 + 0.4 * rng.random())))
    elif draw < 0.17:  # solid letters
        side = colour * np.float32(0.15 + 0.3 * rng.random())
        layers.append((_extruded(rng, ink, reach + step), side if distinct(side, colour) else other))
    elif draw < 0.20:  # lamp light
        glow = cv2.GaussianBlur(ink, (0, 0), 3.0 * step)
        if frozen:
            halo = np.asarray(np.minimum(glow.astype(np.uint16) * 2, 255), np.uint8)
            layers.append((halo, np.asarray(127 + colour / 2, np.float32)))
        else:
            layers.append(glow_of(rng, np.asarray(glow, np.uint8), paper, colour))
        return ink, layers
    if draw > 0.86 or (draw < 0.17 and rng.random() < 0.2):
        layers.append((np.asarray(cv2.dilate(ink, _disc(reach)), np.uint8), other))
    elif draw > 0.845 and size > 60:  # hollow letters
        ink = np.asarray(cv2.subtract(cv2.dilate(ink, _disc(step)), cv2.erode(ink, _disc(1))), np.uint8)
    return ink, layers


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _shifted(rng: np.random.Generator, ink: Mask, reach: int) -> Mask:
    dx, dy = (int(round((2 * rng.random() - 1) * 2 * reach)) for _ in range(2))
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return np.asarray(cv2.warpAffine(ink, move, (ink.shape[1], ink.shape[0]), flags=cv2.INTER_NEAREST), np.uint8)


def _extruded(rng: np.random.Generator, ink: Mask, reach: int) -> Mask:
    """The ink swept along a short line: the side of solid letters."""
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    end = tuple(int(round(reach + (reach if rng.random() < 0.5 else -reach) * rng.random())) for _ in range(2))
    cv2.line(kernel, (reach, reach), (end[0], end[1]), 1)
    return np.asarray(cv2.dilate(ink, kernel), np.uint8)


def _sign_parts(rng: np.random.Generator, crop: Pixels, placement: Placement, colour: Colour, clean: bool) -> Pixels:
    """A rule under the word, a frame around it, or the end of the sign at one side of the crop."""
    height, width = placement.height, placement.width
    left, top, right, bottom = (int(round(value)) for value in placement.word)
    thick = 1 + int(rng.random() * height / 24)
    ink = tuple(float(value) for value in colour)
    kind = rng.random()
    if kind < 0.3:
        y = min(bottom + 1 + int(rng.random() * height / 12), height - 1)
        cv2.line(crop, (-1, y), (width, y), ink, thick if not clean else 1)
    elif kind < 0.55:
        gap = 1 + int(rng.random() * height / 10) + thick
        cv2.rectangle(crop, (left - gap, top - gap), (right + gap, bottom + gap), ink, thick if not clean else 1)
    else:
        beyond = (rng.random(3) * 255).astype(np.float32)
        side = int(rng.random() * 4)
        if side == 0:
            crop[: max(top, 0)] = beyond
        elif side == 1:
            crop[max(bottom + 1, 0) :] = beyond
        elif side == 2:
            crop[:, : max(left - 1, 0)] = beyond
        else:
            crop[:, max(right + 1, 0) :] = beyond
    return crop
