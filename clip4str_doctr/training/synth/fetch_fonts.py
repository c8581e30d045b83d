"""Fill a folder with font families that PyPI does not have: python -m clip4str_doctr.training.synth.fetch_fonts DIR

The families and their versions stand in data/more_fonts.txt; npm, and for Debian's packages apt-get, must be
installed. A family is kept if its files have every letter of the alphabet, or every plain one. DIR/fonts.json
records source, licence and hashes.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from clip4str_doctr.atomic import written
from clip4str_doctr.training.synth.families import letters_of_file

logger = logging.getLogger(__name__)


def wanted_families() -> list[list[str]]:
    """Rows of data/more_fonts.txt: ["npm", family, version] or ["deb", package, family, files]."""
    table = resources.files("clip4str_doctr.training.synth").joinpath("data", "more_fonts.txt").read_text()
    return [line.split() for line in table.splitlines() if not line.startswith("#")]


def fetch(folder: Path, rows: Sequence[Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Download the families that `folder` lacks -> what fonts.json records of every family there.

    Raises RuntimeError, with what the tool said, if a package cannot be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record_path = folder / "fonts.json"
    record: dict[str, dict[str, Any]] = json.loads(record_path.read_text()) if record_path.is_file() else {}
    for row in rows:
        family = row[1] if row[0] == "npm" else row[2]
        if family in record and (folder / family).is_dir():
            continue
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part") as work:
            files, source, licence = (_from_npm if row[0] == "npm" else _from_debian)(Path(work), row)
            kept = {path: letters for path in files if (letters := letters_of_file(str(path))) != "none"}
            if not kept:
                logger.warning("%s lacks plain letters of the alphabet and is left out", source)
                continue
            _install(folder / family, list(kept), licence)
        record[family] = {
            "source": source,
            "licence": licence_of_file(next(path for path in sorted((folder / family).iterdir()) if _is_font(path))),
            "letters": "all" if set(kept.values()) == {"all"} else "plain",
            "sha256": {path.name: _sha256(path) for path in sorted((folder / family).iterdir())},
        }
        with written(record_path) as part:
            part.write_text(json.dumps(record, indent=1, sort_keys=True))
    return record


def _install(target: Path, files: Sequence[Path], licence: Path) -> None:
    """Move font files and their licence to `target` in one step."""
    part = files[0].parent / ".family"
    part.mkdir()
    for path in (*files, licence):
        if path.is_file():  # older packages bring no licence file; the fonts themselves name theirs
            shutil.copyfile(path, part / path.name)
    if target.exists():
        shutil.rmtree(target)
    os.replace(part, target)


def _from_npm(work: Path, row: Sequence[str]) -> tuple[list[Path], str, Path]:
    """-> font files, name of the package, its licence file."""
    _, family, version = row
    source = f"@expo-google-fonts/{family}@{version}"
    _run(["npm", "pack", "--loglevel=error", "--pack-destination", str(work), source], work)
    with tarfile.open(next(work.glob("*.tgz"))) as archive:
        _extract(archive, work)
    files = sorted(path for path in work.rglob("*") if _is_font(path))
    package = work / "package"
    own = package / "LICENSE_FONT"
    return files, source, own if own.is_file() else package / "LICENSE"


def _extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Regular files that stay within the folder; the filter of `extractall` came with Python 3.11.4."""
    for member in archive:
        target = (folder / member.name).resolve()
        source = archive.extractfile(member) if member.isfile() else None
        if source is None or not target.is_relative_to(folder.resolve()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file)


def _from_debian(work: Path, row: Sequence[str]) -> tuple[list[Path], str, Path]:
    """-> font files, name of the package, its copyright file."""
    _, package, _, pattern = row
    _run(["apt-get", "download", "-q", package], work)
    archive = next(work.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(archive), str(work)], work)
    return sorted(work.rglob(pattern)), archive.name, work / "usr" / "share" / "doc" / package / "copyright"


def licence_of_file(path: Path) -> str:
    """What the font itself says about its licence; empty if it says nothing."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it ships no types

    with TTFont(path, lazy=True) as font:
        said = [font["name"].getDebugName(number) or "" for number in (13, 14)]
    return " ".join(" ".join(said).split())[:300]


def _is_font(path: Path) -> bool:
    return path.suffix.lower() in (".ttf", ".otf")


def _run(command: Sequence[str], work: Path) -> None:
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not installed; it fetches fonts, see {__name__}") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-500:]}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clip4str_doctr.training.synth.fetch_fonts", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("npm", "deb"), help="packages of one kind (default: both)")
    arguments = parser.parse_args()
    rows = [row for row in wanted_families() if arguments.only in (None, row[0])]
    try:
        record = fetch(arguments.folder, rows)
    except RuntimeError as error:
        parser.exit(2, f"fetch_fonts: error: {error}\n")
    plain = sum(one["letters"] == "plain" for one in record.values())
    print(f"{arguments.folder}: {len(record)} families, {plain} of them without Vietnamese marks")


if __name__ == "__main__":
    main()
