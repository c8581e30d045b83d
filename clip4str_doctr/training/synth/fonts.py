"""Font families for rendering: found through package metadata, checked letter by letter, some kept for validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

from PIL import ImageFont

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS

__all__ = [
    "FONT_PACKAGES", "FONT_SIZES", "SIGN_FAMILIES", "VAL_FAMILIES", "Face", "MissingFontsError", "faces_of_file",
    "family_files", "fonts_installed", "load_face", "not_thin", "usable_faces",
]  # fmt: skip

_TRAIN_TEXT = (
    "alegreya-sans andada-pro archivo arimo asap barlow barlow-semi-condensed be-vietnam-pro bitter "
    "bricolage-grotesque cabin chakra-petch chivo cormorant cormorant-garamond crimson-pro crimson-text eb-garamond "
    "encode-sans epilogue exo exo-2 fira-sans fraunces geologica hanken-grotesk ibm-plex-mono ibm-plex-sans "
    "ibm-plex-serif inconsolata inter inter-tight jetbrains-mono josefin-sans kanit league-spartan lexend "
    "lexend-deca libre-franklin literata maven-pro merriweather merriweather-sans montserrat mulish newsreader "
    "noto-sans noto-sans-display noto-serif nunito nunito-sans open-sans overpass play playfair-display "
    "plus-jakarta-sans prompt public-sans questrial raleway roboto roboto-flex roboto-mono roboto-slab saira "
    "sarabun signika source-code-pro source-sans-3 source-serif-4 space-grotesk vollkorn"
).split()
_TRAIN_SIGN = (
    "alfa-slab-one alumni-sans anton archivo-narrow baloo-2 barlow-condensed black-ops-one bungee comfortaa dosis "
    "fira-sans-condensed fjalla-one great-vibes ibm-plex-sans-condensed lobster pacifico quicksand roboto-condensed "
    "saira-condensed smooch-sans unbounded varela-round"
).split()

_VAL_PRINT = "dancing-script lora manrope onest oswald rowdies space-mono spectral work-sans yanone-kaffeesatz".split()
# Whole families that no training sample is drawn with: sans, serif, slab, display, rounded, script, condensed, mono;
# and of `families`, two written by hand and two of signs.
VAL_FAMILIES: frozenset[str] = frozenset(
    {*_VAL_PRINT, "indie-flower", "kalam", "patrick-hand", "paytone-one", "satisfy", "titan-one"}
)

# What `pip install clip4str-doctr[train]` brings; news-cycle is left out, it lacks letters with a hook.
FONT_PACKAGES: tuple[str, ...] = tuple(
    f"fontpkg-{family}" for family in sorted({*_TRAIN_TEXT, *_TRAIN_SIGN, *_VAL_PRINT})
)

# Lower-case letters of these look like capitals, so their labels are upper-cased.
_CAPITALS_ONLY = frozenset({"bungee"})
SIGN_FAMILIES = frozenset({*_TRAIN_SIGN, "dancing-script", "oswald", "rowdies", "yanone-kaffeesatz"})

# As tills print; of training families.
_FIXED_PITCH = frozenset("cousine ibm-plex-mono inconsolata jetbrains-mono roboto-mono source-code-pro vt323".split())

_LEAST_WEIGHT = 300
FONT_SIZES = (16, 26, 40, 60)  # pixels per em; a word is drawn at the next size above its final one, then scaled
_NAMED_WEIGHTS = {
    "extralight": 200, "thin": 100, "light": 300, "medium": 500, "semibold": 600, "extrabold": 800, "black": 900,
    "bold": 700,
}  # fmt: skip
_HELP = "pip install clip4str-doctr[train]"


class MissingFontsError(RuntimeError):
    """What the renderer draws with is not installed, or not all of it; the message says what to type."""


@dataclass(frozen=True)
class Face:
    """One font file at one weight. axes: the variable font's coordinates, None for a static file.

    drawn_marks: the file has no Vietnamese letters; `marks` draws what goes over and under the plain ones.
    """

    family: str
    path: str
    weight: int
    axes: tuple[float, ...] | None
    italic: bool
    drawn_marks: bool = False

    @property
    def capitals_only(self) -> bool:
        return self.family in _CAPITALS_ONLY

    @property
    def for_signs(self) -> bool:
        return self.family in SIGN_FAMILIES

    @property
    def fixed_pitch(self) -> bool:
        return self.family in _FIXED_PITCH

    @property
    def held_out(self) -> bool:
        """Whether no training sample is drawn with it: what is new in the renderer leaves the frozen suites alone."""
        return self.family in VAL_FAMILIES


def family_files(package: str) -> list[str]:
    """Paths of the font files that an installed package brings; empty if it is not installed."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        return []
    return sorted(str(file.locate()) for file in files if file.name.lower().endswith((".ttf", ".otf")))


def _static_weight(path: str) -> int:
    name = path.rsplit("-", 1)[-1].lower()
    return next((weight for key, weight in _NAMED_WEIGHTS.items() if key in name), 400)


_ALPHABET = frozenset(ord(symbol) for symbol in VIETNAMESE_SYMBOLS)


def faces_of_file(family: str, path: str, needed: frozenset[int] = _ALPHABET) -> list[Face]:
    """Faces of one file; none if a needed code point is missing (the package may declare more than it has)."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it ships no types

    with TTFont(path, lazy=True) as font:
        if not needed <= set(font.getBestCmap()):
            return []
        axes = list(font["fvar"].axes) if "fvar" in font else []
    italic = "italic" in path.rsplit("/", 1)[-1].lower()
    if not axes:
        return [Face(family, path, _static_weight(path), None, italic)]
    weights = next(((axis.minValue, axis.maxValue) for axis in axes if axis.axisTag == "wght"), (400, 400))
    wanted = sorted({int(min(max(weight, weights[0]), weights[1])) for weight in (250, 400, 600, 750, 1000)})
    return [
        Face(
            family,
            path,
            weight,
            tuple(float(weight if axis.axisTag == "wght" else axis.defaultValue) for axis in axes),
            italic,
        )
        for weight in wanted
    ]


def not_thin(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Faces, one at least, without those thinner than light, or the heaviest: of thin ones a stop is two pixels at 40
    to the em, and nothing is learned from what cannot be seen."""
    kept = tuple(face for face in faces if face.weight >= _LEAST_WEIGHT)
    return kept or (max(faces, key=lambda face: face.weight),)


def fonts_installed() -> bool:
    """Whether any of FONT_PACKAGES is installed, and fontTools, which checks them."""
    try:
        metadata.distribution("fonttools")
    except metadata.PackageNotFoundError:
        return False
    return any(family_files(package) for package in FONT_PACKAGES)


@lru_cache(maxsize=2)
def usable_faces(split: str) -> dict[str, tuple[Face, ...]]:
    """split "train" or "val" -> faces by family, families in alphabetic order.

    Only packages named in FONT_PACKAGES count, never a font of the system: the same packages give the same pictures.
    Raises MissingFontsError if no family of the split is installed.
    """
    families: dict[str, tuple[Face, ...]] = {}
    for package in FONT_PACKAGES:
        family = package.removeprefix("fontpkg-")
        if (family in VAL_FAMILIES) != (split == "val"):
            continue
        files = family_files(package)
        faces = tuple(face for path in files for face in faces_of_file(family, path)) if files else ()
        if faces:
            families[family] = faces
    if not families:
        raise MissingFontsError(f"no fonts with Vietnamese letters for the {split} split are installed; type: {_HELP}")
    return families


@lru_cache(maxsize=2048)
def load_face(face: Face, size: int) -> ImageFont.FreeTypeFont:
    """The face opened at `size` pixels per em, kept for the process."""
    font = ImageFont.truetype(face.path, size, layout_engine=ImageFont.Layout.BASIC)
    if face.axes is not None:
        font.set_variation_by_axes(list(face.axes))
    return font
