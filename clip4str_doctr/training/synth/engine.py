"""The styles "sign" and "page": which words, which faces, how high; and the picture from them."""

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.synth.families import FONTS_VARIABLE, Family, Kind, street_families
from clip4str_doctr.training.synth.fonts import Face, MissingFontsError
from clip4str_doctr.training.synth.legibility import has_faint_dots, lacks_marks
from clip4str_doctr.training.synth.pages import PAGE_HEIGHTS, render_page
from clip4str_doctr.training.synth.selection import Selection
from clip4str_doctr.training.synth.signs import SIGN_HEIGHTS, render_sign
from clip4str_doctr.training.synth.typography import as_set
from clip4str_doctr.training.synth.vocabularies import document_mixture, street_mixture
from clip4str_doctr.training.synth.words import WordSource, digits

__all__ = ["Engine"]

_KINDS: tuple[tuple[float, Kind], ...] = ((0.36, "text"), (0.70, "display"), (0.87, "script"), (1.0, "hand"))
# Decrees are set in Times New Roman, letters in it or in Arial: these have their shapes or come near.
_TIMES = ("stix-general", "tex-gyre-termes", "tinos")
_ARIAL = ("arimo", "carlito", "noto-sans", "open-sans", "roboto", "tex-gyre-heros")
# What sign writers have on their machines, where a kind's families are drawn alike otherwise.
_USUAL = frozenset(
    "alfa-slab-one anton archivo-black archivo-narrow arimo barlow-condensed bebas-neue fjalla-one league-gothic "
    "montserrat open-sans roboto roboto-condensed tex-gyre-heros tex-gyre-heros-cn tinos".split()
)
_USUAL_SHARE = 0.25
_LEAST_SCRIPT_HEIGHT = 18.0  # pixels; hairlines are lost below


class Engine:
    """Street and page pictures of one split. Raises MissingFontsError if selected families, or all, are not there."""

    def __init__(
        self, style: Literal["sign", "page"], split: Literal["train", "val"], seed: int, selection: Selection
    ) -> None:
        self.style, self.selection = style, selection
        self._frozen = split == "val"  # as the suites' pictures were drawn
        self.words = WordSource(split, seed, street_mixture if style == "sign" else document_mixture)
        families = street_families(split)
        wanted = selection.families or tuple(families)
        if missing := [name for name in wanted if name not in families]:
            raise MissingFontsError(
                f"the {split} split has no font families {missing}; type: pip install clip4str-doctr[train], or name a "
                f"folder that has them in {FONTS_VARIABLE}"
            )
        chosen = [families[name] for name in families if name in wanted]
        self._by_kind = {kind: [one for one in chosen if one.kind == kind] or chosen for _, kind in _KINDS}
        self._formal = [[one for one in chosen if one.name in names] for names in (_TIMES, _ARIAL)]
        # STIX lacks Vietnamese letters, and is there for those who have nothing nearer.
        self._formal[0] = [one for one in self._formal[0] if one.name != "stix-general"] or self._formal[0]
        self._usual = [] if self._frozen or selection.families else [one for one in chosen if one.name in _USUAL]
        self._tills = [one for one in chosen if one.faces[0].fixed_pitch and not one.faces[0].held_out]

    def sample(self, rng: np.random.Generator, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        """-> crop (H, W, 3) uint8 RGB, C-contiguous, 8..200 px high; label of 1..25 symbols."""
        label = self.words.draw(rng)
        if self.selection.labels is not None:
            # The drawn one is thrown away, so that the picture's chances do not depend on who chose the label.
            label = self.selection.labels[index]
        family = self._sign_family(rng) if self.style == "sign" else self._page_family(rng)
        if not self._frozen and family.kind == "script" and any(symbol.isdigit() for symbol in label):
            family = self._sign_family(rng)  # few numbers are written in script
        if family.capitals_only:
            label = label.upper()
        elif family.kind == "script" and len(label) > 1 and label.isupper() and rng.random() < 0.85:
            # 51A-123.45 and QL1A stay as they are.
            label = label.capitalize() if self._frozen or label.isalpha() else label
        face = _face(rng, family, 0.68 if self.style == "sign" else 0.25)
        if not face.drawn_marks and _draws_wrongly(face, label):
            face = replace(face, drawn_marks=True)
        drawn = label if face.held_out else as_set(rng, label, face)
        draw = rng.random()
        if self.style == "page":
            least, most = self.selection.heights or PAGE_HEIGHTS
            height = least * (most / least) ** (0.1 + 0.9 * draw)
            return render_page(rng, drawn, face, height, lambda: self._neighbour(rng, drawn)), label
        least, most = self.selection.heights or SIGN_HEIGHTS
        # Crops of 15 to 70 pixels are the rule: a reader's input is lower still. Both ends are rare.
        middle = 0.2 + 0.48 * draw if rng.random() < (0.82 if self._frozen else 0.72) else draw
        height = least * (most / least) ** (draw if self.selection.heights else middle)
        if family.kind == "script" and not self.selection.heights:
            height = max(height, _LEAST_SCRIPT_HEIGHT)
        return render_sign(rng, drawn, face, height, lambda: self._neighbour(rng, drawn)), label

    def _neighbour(self, rng: np.random.Generator, drawn: str) -> str:
        """A word that stands beside or above the one that is drawn: of the same board or page, mostly in its case."""
        if self._frozen:
            return self.words.frequent(rng)
        draw = rng.random(3)
        if draw[0] < 0.4 and any(symbol.isdigit() for symbol in drawn):
            return digits(rng, 3 + int(draw[1] * 2))
        written = "boards" if self.style == "sign" else "decrees"
        word = self.words.frequent(rng, written if draw[1] < 0.5 else "tokens")
        return word.upper() if drawn.isupper() and draw[2] < 0.85 else word

    def _sign_family(self, rng: np.random.Generator) -> Family:
        draw = rng.random()
        if self._usual and rng.random() < _USUAL_SHARE:
            return self._usual[int(draw * len(self._usual))]
        families = self._by_kind[next(kind for share, kind in _KINDS if draw < share)]
        return families[int(rng.random() * len(families))]

    def _page_family(self, rng: np.random.Generator) -> Family:
        draw, times, arial = rng.random(), *self._formal
        # Government paper is Times by decree.
        until_times, until_arial, until_text = (0.45, 0.65, 0.89) if self._frozen else (0.58, 0.74, 0.92)
        if draw < until_times and times:
            families = times
        elif draw < until_arial and arial:
            families = arial
        else:
            families = self._by_kind["text" if draw < 0.97 else "display"]
            if until_text < draw < 0.97 and self._tills:
                families = self._tills
        return families[int(rng.random() * len(families))]


def _draws_wrongly(face: Face, label: str) -> bool:
    """Whether marks of the label cannot be seen: hairline dots, and, of Carlito's and Chivo's Ậ, the hat."""
    # The frozen suites know of the dots only.
    return has_faint_dots(face, label) or (not face.held_out and lacks_marks(face, label))


def _face(rng: np.random.Generator, family: Family, bold_share: float) -> Face:
    """Within a family: signs are bold, print is regular, few are italic."""
    italic, bold = rng.random() < 0.14, rng.random() < bold_share
    fitting = [face for face in family.faces if face.italic == italic and (face.weight >= 600) == bold]
    faces = fitting or family.faces
    return faces[int(rng.random() * len(faces))]
