"""Words within whole pictures, cut out where they lie: VinText's folders and ICDAR's zips.

VinText: `vietnamese/` with `labels/gt_N.txt` and folders of pictures (`train_images`, `test_image`,
`unseen_test_images`; im0001.jpg belongs to gt_1.txt), each line x1,y1,x2,y2,x3,y3,x4,y4,WORD, corners clockwise from
the word's top left. ICDAR: pictures and gt_NAME.txt, in zips as they are downloaded or unpacked; lines as VinText's, or
left,top,right,bottom,WORD; or pictures of single words with one list of lines NAME, "WORD". A word that reads ### is
illegible and is left out, and so is one without text; `SceneText.counts` tells how many.

The pictures of such data sets stay where they are. VinText's may be used for research or education only and must not
be passed on, whole or in part, in any form: its crops neither.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import enclosing_boxes
from clip4str_doctr.images import IMAGE_SUFFIXES, UnreadableImageError, natural_key, open_image
from clip4str_doctr.training.datasets import LABELS_FILE, LMDB_FILE, DatasetError

__all__ = ["SHAPES", "SceneText", "Shape", "is_scene_text", "splits_of"]

# How a word is cut out: the straight box around its corners, or its corners made a rectangle.
Shape = Literal["straight", "rectified"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

_ILLEGIBLE = "###"
_LABELS_FOLDER = "labels"
_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
# What reading a file, also out of an archive, fails with; RuntimeError: it is encrypted.
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, RuntimeError)
_QUAD = re.compile(rf"((?:{_NUMBER},){{8}})(.*)")
_BOX = re.compile(rf"((?:{_NUMBER},){{4}}|(?:-?\d+(?:\.\d+)?\s+){{4}})(.*)")
# The field that ICDAR's multi-lingual sets have before the word.
_SCRIPT = re.compile(r"(Arabic|Bangla|Chinese|Hindi|Japanese|Korean|Latin|Mixed|None|Symbols)\s*,\s*(.*)")
_LISTED = re.compile(r"([^,]+?)\s*,\s*(.*)")

Crop = npt.NDArray[np.uint8]
Quad = npt.NDArray[np.float64]  # (4, 2) in pixels, clockwise from the word's top left


@dataclass(frozen=True)
class _File:
    """A file of a folder, or a member of a zip."""

    container: Path
    name: str

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    def __str__(self) -> str:
        return str(self.container / self.name)

    def read(self) -> bytes:
        if self.container.is_dir():
            return (self.container / self.name).read_bytes()
        with zipfile.ZipFile(self.container) as archive:
            return archive.read(self.name)


@dataclass(frozen=True)
class _Place:
    """Where a word is. quad: None where the picture is the word."""

    picture: _File
    quad: Quad | None


def is_scene_text(path: Path) -> bool:
    """Whether `SceneText` reads it: a zip, a folder of zips, VinText's root or one of its folders of pictures, or a
    folder with pictures and lists of words."""
    place = path.expanduser()
    if place.is_file():
        return zipfile.is_zipfile(place)
    if not place.is_dir() or (place / LABELS_FILE).is_file() or (place / LMDB_FILE).is_file():
        return False
    return bool(_labels_folder(place) or splits_of(place) or any(_has(place, suffix) for suffix in (".txt", ".zip")))


def splits_of(root: Path) -> list[Path]:
    """VinText's folders of pictures, given the folder that holds them beside `labels`, or the one above it."""
    for place in (root, root / "vietnamese"):
        if _has(place / _LABELS_FOLDER, ".txt"):
            folders = sorted(folder for folder in place.iterdir() if folder.is_dir() and folder.name != _LABELS_FOLDER)
            return [folder for folder in folders if any(_has(folder, suffix) for suffix in IMAGE_SUFFIXES)]
    return []


def _labels_folder(pictures: Path) -> Path | None:
    beside = pictures.resolve().parent / _LABELS_FOLDER
    return beside if _has(beside, ".txt") and beside != pictures.resolve() else None


def _has(folder: Path, suffix: str) -> bool:
    return folder.is_dir() and any(path.suffix.lower() == suffix for path in folder.iterdir())


class SceneText:
    """The words of one data set, as `training.datasets.WordSet` has them.

    path: a zip or folder, see above. shape: how words are cut out. Raises DatasetError, which says what is missing.
    """

    def __init__(self, path: Path, shape: Shape = "straight") -> None:
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
        self.folder = path.expanduser()
        self.shape = shape
        self._open: tuple[_File, Crop] | None = None
        # How many words to read stand before each that is left out, and why it is.
        self._left_out: list[tuple[int, str]] = []
        self._places: dict[str, _Place] = {}
        self._labels: list[tuple[str, str]] = []
        self._unread: list[_Place] = []
        pictures, texts = self._files()
        self._files_of_pages = pictures
        listed = texts[0] if len(texts) == 1 and _is_list(texts[0], pictures) else None
        words = _listed_words(listed, pictures) if listed else _words_in(_paired(pictures, texts, self.folder))
        for name, place, label in words:
            if label in (_ILLEGIBLE, ""):
                self._left_out.append((len(self._labels), "illegible" if label else "empty"))
                self._unread.append(place)
            elif name in self._places:
                raise DatasetError(f"{self.folder} holds {name} twice; give one copy of its pictures")
            else:
                self._places[name] = place
                self._labels.append((name, label))

    def counts(self, words: int | None = None) -> dict[str, Any]:
        """What was taken and what was left out, and a checksum of the labels; words: of the first so many only."""
        taken = self._labels[:words]
        crc = zlib.crc32("\n".join(label for _, label in taken).encode())
        whole = len(taken) == len(self._labels)
        reasons = [why for before, why in self._left_out if whole or before < len(taken)]
        return {
            "pictures_with_words": len({self._places[name].picture for name, _ in taken}),
            "words": len(taken),
            **{why: reasons.count(why) for why in ("illegible", "empty")},
            "crops": self.shape,
            "labels_crc": f"{crc:08x}",
        }

    def entries(self) -> list[tuple[str, str]]:
        """(name, label) of every legible word, pictures in natural order, words as they are listed."""
        return list(self._labels)

    def crop(self, name: str) -> Crop:
        """-> (H, W, 3) uint8 RGB, at least one pixel each way. Raises UnreadableImageError."""
        place = self._places[name]
        if self._open is None or self._open[0] != place.picture:
            # Words of a picture are asked for one after the other.
            self._open = place.picture, _opened(place.picture)
        picture = self._open[1]
        if place.quad is None:
            return picture
        return _straight(picture, place.quad) if self.shape == "straight" else _rectified(picture, place.quad)

    def pictures(self) -> Iterator[tuple[Crop, list[tuple[str, Quad]], list[Quad]]]:
        """Every whole picture: itself, its legible words with their corners, the corners of the others.

        Raises DatasetError where pictures are single words, UnreadableImageError.
        """
        words: dict[_File, list[tuple[str, Quad]]] = {}
        unread: dict[_File, list[Quad]] = {}
        for name, label in self._labels:
            place = self._places[name]
            if place.quad is None:
                raise DatasetError(f"{self.folder} holds pictures of single words, not of whole pages")
            words.setdefault(place.picture, []).append((label, place.quad))
        for place in self._unread:
            if place.quad is not None:
                unread.setdefault(place.picture, []).append(place.quad)
        for file in self._files_of_pages:
            try:
                picture = _opened(file)
            except UnreadableImageError as error:
                raise UnreadableImageError(f"{file.name}: {error}") from error
            yield picture, words.get(file, []), unread.get(file, [])

    def _files(self) -> tuple[list[_File], list[_File]]:
        """Pictures and texts."""
        place = self.folder
        splits = splits_of(place) if place.is_dir() else []
        if len(splits) > 1:
            names = ", ".join(str(split) for split in splits)
            raise DatasetError(f"{place} holds several sets of pictures; give one of {names}")
        found = list(_members(splits[0] if splits else place))
        pictures = [file for file in found if file.suffix in IMAGE_SUFFIXES]
        # ICDAR's archives hold a readme now and then, those of words where they were cut out, macOS's files of its own.
        texts = [file for file in found if file.suffix == ".txt" and not _is_no_list(file.stem.lower())]
        labels = None if place.is_file() else _labels_folder(splits[0] if splits else place)
        if labels is not None:
            texts = [file for file in _members(labels) if file.suffix == ".txt"]
        if not pictures or not texts:
            raise DatasetError(
                f"{place} holds {len(pictures)} pictures and {len(texts)} lists of words; both are needed"
            )
        return sorted(pictures, key=_order), sorted(texts, key=_order)


def _is_no_list(stem: str) -> bool:
    return "readme" in stem or stem == "coords"


def _members(place: Path) -> Iterator[_File]:
    zips = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.suffix.lower() == ".zip")
    for path in zips:
        try:
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise DatasetError(f"{path} is no readable zip: {error}") from error
        yield from (_File(path, name) for name in names if "__MACOSX" not in name)
    if place.is_dir():
        yield from (_File(place, path.name) for path in place.iterdir() if path.is_file())


def _order(file: _File) -> list[tuple[int, str]]:
    return natural_key(Path(file.name))


def _lines(text: _File) -> list[tuple[int, str]]:
    """(number from 1, line) of every line that is not empty."""
    try:
        content = text.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{text.container}, {text.name}: must be UTF-8, is not: {error}") from error
    except _DAMAGED as error:
        raise DatasetError(f"{text.container}, {text.name}: cannot be read: {error}") from error
    lines = ((number, line.strip("\r \t")) for number, line in enumerate(content.split("\n"), 1))
    return [(number, line) for number, line in lines if line]


def _is_list(text: _File, pictures: list[_File]) -> bool:
    names = {PurePosixPath(file.name).name for file in pictures}
    first = next(iter(_lines(text)), (0, ""))[1]
    match = _LISTED.fullmatch(first)
    return bool(match and match[1] in names)


def _listed_words(text: _File, pictures: list[_File]) -> Iterator[tuple[str, _Place, str]]:
    by_name: dict[str, _File] = {}
    for file in pictures:
        if (other := by_name.setdefault(PurePosixPath(file.name).name, file)) != file:
            raise DatasetError(f"{file} and {other} bear one name, a list cannot tell them apart; give one of them")
    listed = set()
    for number, line in _lines(text):
        match = _LISTED.fullmatch(line)
        if match is None or match[1] not in by_name:
            raise DatasetError(f'{text.container}, {text.name}, line {number}: expected PICTURE, "WORD", got {line!r}')
        listed.add(match[1])
        yield match[1], _Place(by_name[match[1]], None), _unquoted(match[2])
    if missing := sorted(set(by_name) - listed):
        raise DatasetError(f"{text.container}, {text.name} lacks the words of {', '.join(missing[:10])}")


def _paired(pictures: list[_File], texts: list[_File], folder: Path) -> Iterator[tuple[_File, list[tuple[int, str]]]]:
    """Every picture with its lines; by name, gt_NAME.txt, or, if none is named so, by the number at the names' ends."""
    by_name: dict[str, list[_File]] = {}
    by_number: dict[int, list[_File]] = {}
    for file in texts:
        by_name.setdefault(file.stem.removeprefix("gt_"), []).append(file)
        if (number := _last_number(file)) is not None:
            by_number.setdefault(number, []).append(file)
    named = any(picture.stem in by_name for picture in pictures)
    picture_of: dict[_File, _File] = {}
    for picture in pictures:
        number = _last_number(picture)
        same = by_name.get(picture.stem, []) if named else by_number.get(number, []) if number is not None else []
        if len(same) > 1:
            # The same name in several folders of an archive.
            same = [file for file in same if PurePosixPath(file.name).parent == PurePosixPath(picture.name).parent]
        if len(same) != 1:
            raise DatasetError(f"{folder}: {picture.name} has {len(same)} lists of words, one is needed")
        if (other := picture_of.setdefault(same[0], picture)) != picture:
            raise DatasetError(f"{same[0]} could be of {other} and of {picture}; leave one of them in {folder}")
        yield picture, _lines(same[0])
    # VinText's `labels` is for several folders of pictures; where lists lie with their pictures, one without is a loss.
    # Lexicons and licences are none: only what is named as the lists that were used are.
    marked = any(file.stem.startswith("gt_") for file in picture_of)
    lone = [
        file
        for file in texts
        if file not in picture_of
        and file.container.name != _LABELS_FOLDER
        and (file.stem.startswith("gt_") if marked else _last_number(file) is not None)
    ]
    if lone:
        raise DatasetError(f"{folder} lacks the pictures of {len(lone)} lists of words; the first is {lone[0]}")


def _last_number(file: _File) -> int | None:
    digits = re.search(r"(\d+)$", file.stem)
    return int(digits[1]) if digits else None


def _words_in(paired: Iterator[tuple[_File, list[tuple[int, str]]]]) -> Iterator[tuple[str, _Place, str]]:
    files = list(paired)
    scripts = all(_is_of_script(line) for _, lines in files for _, line in lines)
    # Four numbers before a word of digits and commas look like eight: so one kind of line for all, that of most.
    kinds = [_QUAD.fullmatch(line) is not None for _, lines in files for _, line in lines]
    quads = 2 * sum(kinds) >= len(kinds)
    for picture, lines in files:
        for number, line in lines:
            match = (_QUAD if quads else _BOX).fullmatch(line)
            if match is None:
                raise DatasetError(
                    f"the words of {picture.name}, line {number}: expected x1,y1,x2,y2,x3,y3,x4,y4,WORD or "
                    f"left,top,right,bottom,WORD, the same in all lines, got {line!r}"
                )
            values = [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?", match[1])]
            label = match[2].strip() if quads else _unquoted(match[2])
            if scripts and (after := _SCRIPT.fullmatch(label)):
                label = after[2]
            yield f"{picture.name}#{number}", _Place(picture, _quad(values)), label


def _is_of_script(line: str) -> bool:
    match = _QUAD.fullmatch(line)
    return match is not None and _SCRIPT.fullmatch(match[2].strip()) is not None


def _quad(values: list[float]) -> Quad:
    if len(values) == 4:
        left, top, right, bottom = values
        values = [left, top, right, top, right, bottom, left, bottom]
    return np.array(values, np.float64).reshape(4, 2)


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"')
    return text


def _opened(file: _File) -> Crop:
    try:
        content = file.read()
    except _DAMAGED as error:
        raise UnreadableImageError(f"not a readable file: {error}") from error
    return open_image(io.BytesIO(content))


def _straight(picture: Crop, quad: Quad) -> Crop:
    height, width = picture.shape[:2]
    left, top, right, bottom = enclosing_boxes(quad[None])[0]
    # What lies outside of the picture is no reason to drop a word: one pixel of it always remains.
    x, y = (int(np.clip(np.floor(value), 0, size - 1)) for value, size in ((left, width), (top, height)))
    x_end = int(np.clip(np.ceil(right), x + 1, width))
    y_end = int(np.clip(np.ceil(bottom), y + 1, height))
    return np.ascontiguousarray(picture[y:y_end, x:x_end])


def _rectified(picture: Crop, quad: Quad) -> Crop:
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)  # top, right, bottom, left
    most = 4 * max(picture.shape[:2])
    width, height = (
        int(np.clip(round(float(side)), 1, most)) for side in ((sides[[0, 2]]).mean(), sides[[1, 3]].mean())
    )
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    transform = cv2.getPerspectiveTransform(quad.astype(np.float32), target)
    if not np.isfinite(transform).all() or abs(np.linalg.det(transform)) < 1e-12:
        return _straight(picture, quad)
    crop = cv2.warpPerspective(
        picture, transform, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.ascontiguousarray(crop, np.uint8)
