"""Which files of a folder are read: by their suffixes, in lower case."""

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

__all__ = ["IMAGE_SUFFIXES", "PAGE_SUFFIXES", "listed", "overlooked", "present"]

# What every wheel of Pillow reads.
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
PAGE_SUFFIXES = IMAGE_SUFFIXES | {".pdf"}

# What else people keep pictures and scans in. To overlook these silently would be to lose pages.
_OTHERS = frozenset(
    {".arw", ".avif", ".cr2", ".djv", ".djvu", ".dng", ".doc", ".docx", ".epub", ".eps", ".heic", ".heif", ".hif"}
    | {".j2k", ".jp2", ".jxl", ".nef", ".odt", ".orf", ".ppt", ".pptx", ".ps", ".psd", ".raf", ".rw2", ".svg", ".tga"}
    | {".xps"}
)


def listed(suffixes: Collection[str]) -> str:
    """ ".tif", ".bmp" -> "bmp, tif"."""
    return ", ".join(suffix.removeprefix(".") for suffix in sorted(suffixes))


def present(paths: Sequence[Path]) -> list[Path]:
    """Those at which there is something; of the others stderr tells why not: nothing there, a name too long, a closed
    folder. Raises FileNotFoundError, saying that, where all are such.
    """
    reasons = {}
    for path in paths:
        try:
            if not path.exists():
                reasons[path] = "no such file or folder"
        except OSError as error:
            reasons[path] = error.strerror or str(error)
    told = [f"{path}: {why}" for path, why in reasons.items()]
    there = [path for path in paths if path not in reasons]
    if not there:
        raise FileNotFoundError("; ".join(told))
    for line in told:
        print(line, file=sys.stderr)
    return there


def overlooked(paths: Iterable[Path], suffixes: Collection[str]) -> list[str]:
    """What to tell of each folder with pictures or documents that have none of the suffixes, and so are not read.

    Subfolders and hidden files are nobody's concern. Raises OSError for a folder that cannot be listed.
    """
    complaints = []
    for folder in (path for path in paths if path.is_dir()):
        types = Counter(
            member.suffix.lower()
            for member in folder.iterdir()
            if not member.name.startswith(".")
            and member.suffix.lower() in (PAGE_SUFFIXES | _OTHERS).difference(suffixes)
            and member.is_file()
        )
        if types:
            found = ", ".join(f"{count} {suffix.removeprefix('.')}" for suffix, count in sorted(types.items()))
            complaints.append(f"{folder}: not read ({found}); convert them to one of {listed(suffixes)}")
    return complaints
