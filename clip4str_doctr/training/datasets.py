"""Word pictures with labels from the user's disk: docTR's recognition format, and LMDB as PARSeq and CLIP4STR use it.

docTR: a folder with `images/` and `labels.json`, {"file name": "label"}. LMDB: a folder with `data.mdb`, whose keys
are num-samples, image-%09d (an encoded picture) and label-%09d (UTF-8), counted from 1.
"""

import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clip4str_doctr.charset import Charset
from clip4str_doctr.images import UnreadableImageError, open_image

logger = logging.getLogger(__name__)

LABELS_FILE = "labels.json"
IMAGES_FOLDER = "images"
LMDB_FILE = "data.mdb"


class DatasetError(ValueError):
    """A data set that cannot be used; the message says what was expected, what is there, and what to do."""


class WordSet(Protocol):
    """Pictures and labels as they lie on the disk, nothing checked yet. May be pickled."""

    folder: Path

    def entries(self) -> list[tuple[str, str]]:
        """(name, label as it is written) of every word, in a fixed order. Raises DatasetError."""
        ...

    def crop(self, name: str) -> npt.NDArray[np.uint8]:
        """-> (H, W, 3) uint8 RGB. Raises UnreadableImageError."""
        ...


def open_word_set(folder: str | Path) -> WordSet:
    """The data set in a folder, by what lies in it. Raises DatasetError if it is neither format, or no folder."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise DatasetError(f"{place} is no folder; a data set is {_expected()}")
    if (place / LABELS_FILE).is_file():
        return DoctrFolder(place)
    if (place / LMDB_FILE).is_file():
        return LmdbFolder(place)
    found = sorted(path.name for path in place.iterdir())[:5]
    raise DatasetError(f"{place} holds {', '.join(found) or 'nothing'}; a data set is {_expected()}")


def _expected() -> str:
    return f"a folder with {IMAGES_FOLDER}/ and {LABELS_FILE} (docTR's format), or one with {LMDB_FILE} (LMDB)"


class DoctrFolder:
    """docTR's recognition format; pictures may also lie beside the labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pictures = folder / IMAGES_FOLDER if (folder / IMAGES_FOLDER).is_dir() else folder

    def entries(self) -> list[tuple[str, str]]:
        path = self.folder / LABELS_FILE
        try:
            labels = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=self._unique)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DatasetError(f'{path} must be JSON in UTF-8, {{"file name": "label"}}; it is not: {error}') from error
        if not isinstance(labels, dict):
            raise DatasetError(f'{path} must hold {{"file name": "label"}}, got a {type(labels).__name__}')
        if wrong := next((name for name, label in labels.items() if not isinstance(label, str)), None):
            raise DatasetError(f"{path}: the label of {wrong!r} must be a string, got {labels[wrong]!r}")
        return list(labels.items())

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        labels = dict(pairs)
        if len(labels) < len(pairs):
            name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            found = " and ".join(repr(label) for one, label in pairs if one == name)
            raise DatasetError(
                f"{self.folder / LABELS_FILE}: {name!r} stands there more than once, as {found}; keep one"
            )
        return labels

    def crop(self, name: str) -> npt.NDArray[np.uint8]:
        return open_image(self._pictures / name)


class LmdbFolder:
    """An LMDB environment.

    It is opened for every access, 0.1 ms: an open one may neither be inherited by a worker nor be opened twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            import lmdb
        except ImportError as error:
            raise DatasetError(f"{self.folder} is an LMDB; type pip install 'clip4str-doctr[train]'") from error
        try:
            environment = lmdb.open(
                str(self.folder), readonly=True, lock=False, readahead=False, meminit=False, create=False
            )
        except lmdb.Error as error:
            raise DatasetError(f"{self.folder / LMDB_FILE} cannot be opened as an LMDB: {error}") from error
        with environment:
            yield environment

    @contextmanager
    def _values(self) -> Iterator[Callable[[str], bytes | None]]:
        """Raises DatasetError for damaged pages, which are seen where they are read."""
        with self._opened() as environment:
            import lmdb  # which `_opened` has found

            try:
                with environment.begin() as transaction:
                    yield lambda key: transaction.get(key.encode())
            except lmdb.Error as error:
                raise DatasetError(f"{self.folder / LMDB_FILE} is damaged ({error}); copy it again") from error

    def entries(self) -> list[tuple[str, str]]:
        path = self.folder / LMDB_FILE
        entries = []
        self._look_whether_whole(path)
        with self._values() as value_of:
            count = value_of("num-samples")
            if count is None or not count.isdigit():
                raise DatasetError(f"{path} must say its size under num-samples, got {count!r}")
            for number in range(1, int(count) + 1):
                raw = value_of(f"label-{number:09d}")
                if raw is None:
                    raise DatasetError(f"{path} says {int(count)} samples but lacks label-{number:09d}")
                try:
                    entries.append((f"{number:09d}", raw.decode("utf-8")))
                except UnicodeDecodeError as error:
                    raise DatasetError(f"{path}: label-{number:09d} must be UTF-8, got {raw[:20]!r}") from error
        return entries

    def _look_whether_whole(self, path: Path) -> None:
        """LMDB maps the file: what lies beyond its end stops the whole program with a bus error, and no message.

        It may end with pages that were never written, so this is no proof.
        """
        with self._opened() as environment:
            there, needed = path.stat().st_size, (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if there < needed:
            logger.warning(
                "%s has %d bytes and tells of %d: if the program now ends with a bus error, the file was cut short; "
                "copy it again",
                *(path, there, needed),
            )

    def crop(self, name: str) -> npt.NDArray[np.uint8]:
        try:
            with self._values() as value_of:
                content = value_of(f"image-{name}")
        except DatasetError as error:
            raise UnreadableImageError(str(error)) from error
        if content is None:
            raise UnreadableImageError(f"there is no image-{name}")
        return open_image(io.BytesIO(content))


@dataclass(frozen=True)
class Word:
    """One word that can be trained on. label: NFC, 1..max_symbols symbols of the model's alphabet. digest: of the
    picture's pixels."""

    source: WordSet
    name: str
    label: str
    digest: bytes

    def crop(self) -> npt.NDArray[np.uint8]:
        """-> (H, W, 3) uint8 RGB. Raises DatasetError if the picture has gone since it was checked."""
        try:
            return self.source.crop(self.name)
        except UnreadableImageError as error:
            raise DatasetError(
                f"{self.source.folder}, {self.name}: {error}; was it changed during training?"
            ) from error

    def small_crop(self, image_size: tuple[int, int] = (0, 0)) -> npt.NDArray[np.uint8]:
        """As `crop`, but no larger than `augment.shrunk` leaves it for a model that reads `image_size`: a thousand
        photographs would not fit into memory."""
        # Imported when first needed: it loads OpenCV.
        from clip4str_doctr.training.augment import shrunk

        return shrunk(self.crop(), image_size)


@dataclass(frozen=True)
class LeftOut:
    """One that cannot, and why."""

    folder: Path
    name: str
    label: str
    reason: str


@dataclass(frozen=True)
class CheckedWords:
    """All words of some data sets, in order. sha256: of names, labels and pixels of what is used."""

    words: list[Word]
    left_out: list[LeftOut]
    sha256: str


def check_words(folders: Sequence[str | Path], charset: Charset, max_symbols: int) -> CheckedWords:
    """Open data sets and look at every label and picture; what cannot be used is told, in the log and in the answer.

    Raises DatasetError for a folder that is no data set, or that has no word to use.
    """
    words: list[Word] = []
    left_out: list[LeftOut] = []
    digest = hashlib.sha256()
    for folder in folders:
        source = open_word_set(folder)
        usable, unusable = _check(source, charset, max_symbols, digest)
        logger.log(logging.WARNING if unusable else logging.INFO, "%s", _summary(source.folder, usable, unusable))
        if not usable:
            raise DatasetError(f"{source.folder} has no word to use: {_summary(source.folder, usable, unusable)}")
        words += usable
        left_out += unusable
    return CheckedWords(words, left_out, digest.hexdigest())


def _check(source: WordSet, charset: Charset, max_symbols: int, digest: Any) -> tuple[list[Word], list[LeftOut]]:
    words, left_out = [], []
    for name, raw in source.entries():
        label = charset.spelling(raw)
        reason = _label_problem(label, charset, max_symbols)
        if reason is None:
            try:
                pixels = source.crop(name)
                shape, content = f"{pixels.shape}\n".encode(), pixels.tobytes()
                # A name need not be UTF-8.
                digest.update(f"{name}\n{label}\n".encode(errors="surrogateescape") + shape + content)
                own_digest = hashlib.sha256(shape + content).digest()
            except UnreadableImageError as error:
                reason = f"picture: {error}"
        if reason is None:
            words.append(Word(source, name, label, own_digest))
        else:
            left_out.append(LeftOut(source.folder, name, label, reason))
    return words, left_out


def _label_problem(label: str, charset: Charset, max_symbols: int) -> str | None:
    if not label:
        return "empty label"
    if foreign := sorted(set(label) - set(charset.symbols)):
        return f"symbols that the model cannot write: {' '.join(repr(symbol) for symbol in foreign)}"
    if len(label) > max_symbols:
        return f"longer than {max_symbols} symbols"
    return None


def _summary(folder: Path, words: Sequence[Word], left_out: Sequence[LeftOut]) -> str:
    counts = Counter(one.reason.split(":")[0] for one in left_out)
    told = f"{folder}: {len(words)} of {len(words) + len(left_out)} words can be used"
    if not left_out:
        return told
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    first = left_out[0]
    return f"{told}; left out: {reasons} (the first: {first.name}, {first.label!r}, {first.reason})"
