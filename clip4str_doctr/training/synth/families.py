"""Font families of street and page pictures: those of `fonts`, more display faces, and a folder of the user's own.

Many faces that sign makers like have no Vietnamese letters. Sign makers cut the marks themselves; so does `marks`.
"""

import hashlib
import os
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.training.synth.fonts import (
    FONT_PACKAGES,
    SIGN_FAMILIES,
    VAL_FAMILIES,
    Face,
    MissingFontsError,
    faces_of_file,
    family_files,
    not_thin,
    usable_faces,
)

__all__ = [
    "FONTS_VARIABLE", "STREET_PACKAGES", "Family", "Kind", "fonts_digest", "letters_of_file", "own_fonts",
    "street_families",
]  # fmt: skip

Kind = Literal["text", "display", "script", "hand"]

# A folder with one sub-folder of .ttf and .otf files for each family; `fetch_fonts` fills one.
FONTS_VARIABLE = "CLIP4STR_DOCTR_FONTS"

# Display faces without Vietnamese marks (but for indie-flower, which has them); part of the `train` extra.
_STREET_FAMILIES = (
    "abril-fatface acme archivo-black arvo bebas-neue bodoni-moda caveat changa-one cinzel dm-serif-display fredoka "
    "gravitas-one hammersmith-one indie-flower kalam lilita-one lobster-two luckiest-guy oleo-script permanent-marker "
    "poppins righteous rubik russo-one sanchez satisfy shadows-into-light teko titan-one viga yellowtail zeyada "
    "zilla-slab"
).split()
STREET_PACKAGES: tuple[str, ...] = tuple(f"fontpkg-{family}" for family in _STREET_FAMILIES)

_SCRIPT = frozenset(
    "alex-brush allison allura birthstone corinthia dancing-script ephesis great-vibes hurricane lobster lobster-two "
    "meow-script montecarlo ms-madi oleo-script pacifico sacramento satisfy whisper yellowtail tex-gyre-chorus".split()
)
_HAND = frozenset(
    "amatic-sc andika caveat finger-paint gochi-hand grandstander indie-flower itim kalam mansalva marck-script "
    "patrick-hand permanent-marker playpen-sans schoolbell shadows-into-light shantell-sans sriracha zeyada".split()
)
_DISPLAY = frozenset(
    "bangers big-shoulders-display bubblegum-sans carter-one chewy coiny creepster darker-grotesque dela-gothic-one "
    "fahkwang farsan fredoka-one jura lalezar league-gothic lemonada madimi-one montserrat-alternates national-park "
    "orbitron paytone-one philosopher prata press-start-2p rajdhani rokkitt rubik-mono-one rye saira-stencil-one "
    "sigmar-one sour-gummy special-elite tex-gyre-heros-cn vt323 yeseva-one audiowide".split()
)
# Lower-case letters of these look like capitals, so their labels are upper-cased.
_CAPITALS_ONLY = frozenset(
    "amatic-sc bangers bebas-neue bungee cinzel creepster luckiest-guy permanent-marker rubik-mono-one "
    "sigmar-one".split()
)
# Inside other packages of the `train` extra: the Times-like STIX and DejaVu, of matplotlib's plots.
_INSIDE_MATPLOTLIB = {"stix-general": "STIXGeneral", "dejavu-sans": "DejaVuSans", "dejavu-serif": "DejaVuSerif"}
_BASE_LETTERS = frozenset(
    ord(unicodedata.normalize("NFD", symbol)[0])
    for symbol in VIETNAMESE_SYMBOLS.replace("đ", "d").replace("Đ", "D")
    if symbol not in "^`~"
)


@dataclass(frozen=True)
class Family:
    """Faces of one family. capitals_only: there are no small letters, labels must be capitals."""

    name: str
    kind: Kind
    faces: tuple[Face, ...]
    capitals_only: bool


def letters_of_file(path: str) -> Literal["all", "plain", "none"]:
    """Whether a font file has every letter of the alphabet, at least those without Vietnamese marks, or neither."""
    if faces_of_file("", path):
        return "all"
    return "plain" if faces_of_file("", path, _BASE_LETTERS) else "none"


def own_fonts() -> Path | None:
    """The folder that CLIP4STR_DOCTR_FONTS names, None without. Raises MissingFontsError if it is not there."""
    name = os.environ.get(FONTS_VARIABLE)
    if not name:
        return None
    if not Path(name).is_dir():
        raise MissingFontsError(
            f"{FONTS_VARIABLE} names {name!r}, which is no folder; unset it, or fill the folder with: "
            f"python -m clip4str_doctr.training.synth.fetch_fonts {name}"
        )
    return Path(name)


def fonts_digest(*, street: bool) -> str:
    """SHA-256 of what fonts there are to render with: versions of packages, names and sizes of the folder's files.

    street: of the styles "sign" and "page", too; the older ones know neither the folder nor all packages.
    Raises MissingFontsError for a folder that is not there.
    """
    found = []
    for package in (*FONT_PACKAGES, *STREET_PACKAGES, "matplotlib") if street else FONT_PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    if street and (folder := own_fonts()) is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
        found += [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path in files]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def street_families(split: str) -> dict[str, Family]:
    """split "train" or "val" -> families by name, in alphabetic order.

    The same packages and the same folder give the same families. Raises MissingFontsError if there are none.
    """
    return _street_families(split, own_fonts())


@lru_cache(maxsize=4)
def _street_families(split: str, folder: Path | None) -> dict[str, Family]:
    found = dict(usable_faces(split))
    files = {family: family_files(f"fontpkg-{family}") for family in _STREET_FAMILIES}
    plots = {family: _matplotlib_files(prefix) for family, prefix in _INSIDE_MATPLOTLIB.items()}
    files |= plots
    if folder is not None:
        for own in sorted(path for path in folder.iterdir() if path.is_dir()):
            if not files.get(own.name):
                files[own.name] = sorted(str(path) for path in own.iterdir() if path.suffix.lower() in (".ttf", ".otf"))
    for family, paths in files.items():
        if family in found or (family in VAL_FAMILIES) != (split == "val"):
            continue
        faces = tuple(face for path in paths for face in _faces(family, path))
        if faces:
            found[family] = tuple(map(_named_by_its_file, faces)) if family in plots else faces
    return {
        name: Family(name, _kind(name), _few(faces, split), name in _CAPITALS_ONLY or _small_capitals(faces[0].path))
        for name, faces in sorted(found.items())
    }


def _few(faces: tuple[Face, ...], split: str) -> tuple[Face, ...]:
    """At most two upright weights, light or regular and bold or black, beside the two of italics.

    In training none is thinner than light (`not_thin`).
    Opening a face costs as much as a picture; a process cannot keep thousands open.
    """
    kept = []
    for italic in (False, True):
        of_slant = sorted((face for face in faces if face.italic == italic), key=lambda face: (face.weight, face.path))
        for bold in (False, True):
            some = [face for face in of_slant if (face.weight >= 600) == bold]
            if split == "train" and some:
                some = list(not_thin(some))
            kept += some if len(some) <= 2 else [some[len(some) // 2], some[-1]] if bold else [some[0], some[-1]]
    return tuple(kept)


def _faces(family: str, path: str) -> list[Face]:
    """Faces with their own marks, or else with marks to be drawn; none if plain letters are missing, too."""
    return faces_of_file(family, path) or [
        replace(face, drawn_marks=True) for face in faces_of_file(family, path, _BASE_LETTERS)
    ]


def _matplotlib_files(prefix: str) -> list[str]:
    try:
        files = metadata.distribution("matplotlib").files or []
    except metadata.PackageNotFoundError:
        return []
    endings = ("", "Bol", "Italic", "BolIta", "-Bold", "-Italic", "-Oblique", "-BoldOblique", "-BoldItalic")
    wanted = {f"{prefix}{ending}.ttf" for ending in endings}
    return sorted(str(file.locate()) for file in files if file.name in wanted)


def _named_by_its_file(face: Face) -> Face:
    """Weight and slant of a face of matplotlib's, whose names are others than those of font packages."""
    stem = Path(face.path).stem
    slanted = stem.endswith(("Ita", "Italic", "Oblique"))
    return replace(face, weight=700 if "Bol" in stem else 400, italic=slanted)


def _small_capitals(path: str) -> bool:
    """Whether a family's file names say that its small letters are small capitals."""
    return any(part in Path(path).stem.lower() for part in ("sc-", "smallcaps"))


def _kind(family: str) -> Kind:
    if family in _SCRIPT:
        return "script"
    if family in _HAND:
        return "hand"
    if family in _DISPLAY or family in SIGN_FAMILIES or family in _STREET_FAMILIES:
        return "display"
    return "text"
