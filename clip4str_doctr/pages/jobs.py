"""`clip4str-doctr page`: which files are read, where their outputs go, what is done already.

Only what needs no other package at the head: the command line's help shall not wait for torch.
"""

import argparse
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip4str_doctr.file_types import PAGE_SUFFIXES, overlooked
from clip4str_doctr.pages.origins import Origins

__all__ = ["SUFFIXES", "Job", "PageCommandError", "claimed_folder", "complaint_about", "plan"]

SUFFIXES = {"text": ".txt", "json": ".json", "hocr": ".hocr", "md": ".md", "pdf": ".pdf"}


class PageCommandError(Exception):
    """Nothing can be done as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Job:
    """One file to read. output: None for stdout. drawing: where the annotated first page goes, if it is wanted."""

    source: Path
    output: Path | None
    drawing: Path | None

    @property
    def targets(self) -> list[Path]:
        """What the job writes, of several drawings the first."""
        return [path for path in (self.output, self.drawing) if path is not None]

    def written(self, origins: Origins) -> bool:
        """Whether the output is there, whole, and no older than its source."""
        if self.output is None or not self.output.exists() or origins.lacks_pages(self.output):
            return False
        return origins.is_from(self.output, self.source) and _no_newer(self.source, self.output)

    def done(self, origins: Origins, how: str) -> bool:
        """Whether the output is written and, if wanted, the drawings are, read as it is or as `how` says."""
        if self.output is None or not self.written(origins):
            return False
        if self.drawing is None:
            return True
        if not self.drawing.exists() or not origins.is_from(self.drawing, self.source):
            return False
        # It is recorded of the first once all of them are there.
        drawn = origins.how(self.drawing)
        return drawn is not None and drawn in (origins.how(self.output), how) and _no_newer(self.source, self.drawing)

    def drawing_of(self, number: int) -> Path:
        """Where page `number`, from 0 on, is drawn."""
        assert self.drawing is not None
        return self.drawing if not number else self.drawing.with_name(_numbered(self.drawing.name, number + 1))


def _no_newer(path: Path, than: Path) -> bool:
    """False, too, where there is none."""
    return path.exists() and path.stat().st_mtime_ns <= than.stat().st_mtime_ns


def _numbered(name: str, number: int) -> str:
    return f"{name.removesuffix('.boxes.png')}.p{number}.boxes.png"


def plan(args: argparse.Namespace, paths: Sequence[Path]) -> list[Job]:
    """What to read of files and folders that exist. What is left out of folders is told on stderr.

    Raises PageCommandError if there is nothing, or two outputs would be one file, or an output one of the sources.
    """
    try:
        sources = _sources(paths)
    except OSError as error:
        raise PageCommandError(str(error)) from error
    if not sources:
        raise PageCommandError(f"no image or PDF in {', '.join(map(str, paths))}; page --help says what is read")
    if args.out is None:
        return [Job(source, None, None) for source in sources]
    jobs = []
    try:
        stems = _stems_of_before(sources, Origins(args.out), SUFFIXES[args.format])
    except OSError as error:
        raise PageCommandError(f"-o {args.out} cannot be made a folder: {error}") from error
    for source, stem in zip(sources, _output_stems(sources), strict=True):
        stem = stems.get(source, stem)
        output = args.out / (stem + SUFFIXES[args.format])
        jobs.append(Job(source, output, args.out / f"{stem}.boxes.png" if args.draw else None))
    for names in _groups([path.name for job in jobs for path in job.targets]).values():
        if len(names) > 1:
            raise PageCommandError(
                f"{len(names)} files would be written to {args.out / names[0]}; read them with different -o"
            )
    originals = {_identity(source) for source in sources if source.exists()}  # links to nothing are told when opened
    for job in jobs:
        for path in job.targets:
            if path.exists() and _identity(path) in originals:
                raise PageCommandError(f"{path} is among the files to read and would be overwritten; choose -o anew")
    return jobs


def _sources(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and of folders what can be read, but for what this command wrote there: no page is read twice."""
    from clip4str_doctr.pages.files import find_files

    for complaint in overlooked(paths, PAGE_SUFFIXES):
        print(complaint, file=sys.stderr)
    sources: list[Path] = []
    for path in paths:
        found = find_files([path])
        if path.is_dir():
            origins = Origins(path)
            kept = [source for source in found if origins.source_of(source) is None]
            if ours := len(found) - len(kept):
                print(f"{path}: {ours} files left out that this command wrote; name them to read them", file=sys.stderr)
            found = kept
        sources += found
    return list(dict.fromkeys(sources))


def _output_stems(sources: Sequence[Path]) -> list[str]:
    """scan.png and scan.pdf of one run become scan.png.txt and scan.pdf.txt; scan.PNG beside them scan.PNG-2.txt."""
    stems, names = _groups([source.stem for source in sources]), _groups([source.name for source in sources])
    outputs = []
    for source in sources:
        spellings = list(dict.fromkeys(names[_key(source.name)]))
        place = spellings.index(source.name)
        alone = len(stems[_key(source.stem)]) == 1
        outputs.append(source.stem if alone else f"{source.name}-{place + 1}" if place else source.name)
    return outputs


def _stems_of_before(sources: Sequence[Path], origins: Origins, suffix: str) -> dict[Path, str]:
    """What outputs of an earlier run are called, whatever stood beside their sources then: they may be corrected."""
    stems: dict[Path, str] = {}
    for source in sources:
        for stem in (source.stem, source.name):
            output = origins.folder / (stem + suffix)
            if origins.is_from(output, source) and output.exists():
                stems[source] = stem
                break
    return stems


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by what is the same for each of them."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_key(name), []).append(name)
    return groups


def _key(name: str) -> str:
    """The same for names that are one file where file systems mind neither case nor Unicode's forms, as on macOS."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _identity(path: Path) -> tuple[int, int]:
    """Equal for two names of one file, however they differ."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def claimed_folder(args: argparse.Namespace, jobs: Sequence[Job]) -> Origins:
    """Make the folder for outputs -> its record. Raises PageCommandError if an output's place in it is another source's
    or a stranger's, unless the user says --overwrite, and for a folder that cannot be made."""
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        origins = Origins(args.out)
    except OSError as error:
        raise PageCommandError(f"-o {args.out} cannot be made a folder: {error}") from error
    for job in jobs:
        for path in job.targets:
            try:
                complaint = complaint_about(path, job.source, origins)
            except OSError as error:
                raise PageCommandError(f"{job.source}: its output cannot be named so: {error}; rename it") from error
            if complaint and not args.overwrite:
                raise PageCommandError(
                    f"{complaint}; for {job.source} choose another -o, or replace it with --overwrite"
                )
    return origins


def complaint_about(path: Path, source: Path, origins: Origins) -> str | None:
    """What speaks against writing to a path; None if it is free, or was made from the same source."""
    if not path.exists() or origins.is_from(path, source):
        return None
    made = origins.source_of(path)
    return f"{path} is there already, " + ("not written by this command" if made is None else f"made from {made}")
