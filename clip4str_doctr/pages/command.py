"""`clip4str-doctr page`: which files are read, where their outputs go, what is done already.

Only what needs no other package at the head: the command line's help shall not wait for torch.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip4str_doctr.atomic import written

if TYPE_CHECKING:
    from doctr.io.elements import Page
    from torch import nn
    from tqdm import tqdm

    from clip4str_doctr.pages.origins import Origins

__all__ = ["PageCommandError", "add_arguments", "read_pages"]

SUFFIXES = {"text": ".txt", "json": ".json", "hocr": ".hocr", "md": ".md", "pdf": ".pdf"}
DETECTORS = "rapidocr, tesseract, or doctr:<arch> for docTR's own, as doctr:db_resnet50"


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

    def done(self, origins: "Origins") -> bool:
        """Whether the output is there and nothing it depends on is newer; it is written after the drawings are."""
        if self.output is None or not self.output.exists():
            return False
        if not all(origins.is_from(path, self.source) for path in self.targets):
            return False
        needed = [self.source] if self.drawing is None else [self.source, self.drawing]
        return all(path.exists() and path.stat().st_mtime_ns <= self.output.stat().st_mtime_ns for path in needed)

    def drawing_of(self, number: int) -> Path:
        """Where page `number`, from 0 on, is drawn."""
        assert self.drawing is not None
        return self.drawing if not number else self.drawing.with_name(_numbered(self.drawing.name, number + 1))


def _numbered(name: str, number: int) -> str:
    return f"{name.removesuffix('.boxes.png')}.p{number}.boxes.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `page` beside those that choose a model."""
    parser.description = (
        "Find and read the words of whole pages: images (all pages of a TIFF) and PDFs. Of a folder its images and "
        "PDFs are read in natural order, subfolders are not. With -o, a file whose output is newer than itself is "
        "skipped, so that the same command goes on where it was stopped; nothing is written over what was made from "
        "another file, unless --overwrite says so."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="image, PDF, or folder of these")
    parser.add_argument("--detector", default="rapidocr", metavar="NAME", help=f"{DETECTORS} (default: rapidocr)")
    parser.add_argument(
        "--format", choices=list(SUFFIXES), default="text", help="pdf is a searchable PDF (default: text)"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="folder for the outputs (default: text to stdout)"
    )
    parser.add_argument("--draw", action="store_true", help="also write NAME.boxes.png, what was read beside each page")
    parser.add_argument("--overwrite", action="store_true", help="read again what has an output, whoever made it")
    parser.add_argument(
        "--dpi", type=_dpi, default=200.0, metavar="N", help="at which pages of a PDF are drawn (default: 200)"
    )


def _dpi(text: str) -> float:
    value = float(text)
    if not 36 <= value <= 1200:
        raise argparse.ArgumentTypeError(f"must lie in 36..1200, got {text}")
    return value


def read_pages(args: argparse.Namespace, load: "Callable[[], nn.Module]") -> int:
    """Read what args ask for; returns the exit status. load: gives the recogniser, on its device, once it is needed.

    Raises PageCommandError where nothing can be done.
    """
    _check(args)
    missing = [path for path in args.paths if not path.exists()]
    if len(missing) == len(args.paths):
        raise PageCommandError(f"no such file or folder: {', '.join(map(str, missing))}")
    for path in missing:
        print(f"{path}: no such file or folder", file=sys.stderr)
    jobs = _plan(args, [path for path in args.paths if path.exists()])
    origins = None if args.out is None else _origins(args, jobs)
    waiting = [job for job in jobs if origins is None or args.overwrite or not job.done(origins)]
    if skipped := len(jobs) - len(waiting):
        print(
            f"{skipped} of {len(jobs)} files skipped, their outputs in {args.out} are newer; --overwrite reads them",
            file=sys.stderr,
        )
    if origins is not None:
        # Before anything is there, so that whoever stops us leaves nothing without its source.
        new = [(path, job.source) for job in waiting for path in job.targets if not path.exists()]
        try:
            origins.add(new)
        except OSError as error:
            raise PageCommandError(f"-o {args.out} cannot be written to: {error}") from error
    read = _read_all(args, waiting, load, origins) if waiting else 0
    return 0 if read == len(waiting) and not missing else 1


def _origins(args: argparse.Namespace, jobs: Sequence[Job]) -> "Origins":
    """The record of the folder for outputs, which is made; nothing in it may be another source's or a stranger's."""
    from clip4str_doctr.pages.origins import Origins

    try:
        args.out.mkdir(parents=True, exist_ok=True)
        origins = Origins(args.out)
    except OSError as error:
        raise PageCommandError(f"-o {args.out} cannot be made a folder: {error}") from error
    for job in jobs:
        for path in job.targets:
            if complaint := None if args.overwrite else _complaint(path, job.source, origins):
                raise PageCommandError(
                    f"{complaint}; for {job.source} choose another -o, or replace it with --overwrite"
                )
    return origins


def _complaint(path: Path, source: Path, origins: "Origins") -> str | None:
    """What speaks against writing to a path; None if it is free, or was made from the same source."""
    if not path.exists() or origins.is_from(path, source):
        return None
    made = origins.source_of(path)
    return f"{path} is there already, " + ("not written by this command" if made is None else f"made from {made}")


def _check(args: argparse.Namespace) -> None:
    if args.out is None and args.format in ("pdf", "hocr"):
        raise PageCommandError(f"--format {args.format} writes files; say where with -o DIR")
    if args.out is None and args.draw:
        raise PageCommandError("--draw writes files; say where with -o DIR")
    if args.out is not None and (args.draw or args.format == "pdf"):
        if args.out.resolve() in {path.resolve() for path in args.paths}:
            raise PageCommandError(f"what is written to {args.out} would be read there next time; choose another -o")
    if args.format == "pdf":
        from clip4str_doctr.pages.searchable_pdf import MissingFontToolsError, glyphless_font

        try:
            glyphless_font(" ")
        except MissingFontToolsError as error:
            raise PageCommandError(str(error)) from error


def _plan(args: argparse.Namespace, paths: Sequence[Path]) -> list[Job]:
    from clip4str_doctr.pages.files import find_files

    try:
        sources = list(dict.fromkeys(find_files(paths)))
    except OSError as error:
        raise PageCommandError(str(error)) from error
    if not sources:
        raise PageCommandError(f"no image or PDF in {', '.join(map(str, paths))}; page --help says what is read")
    if args.out is None:
        return [Job(source, None, None) for source in sources]
    # scan.png and scan.pdf of one run become scan.png.txt and scan.pdf.txt.
    stems = Counter(source.stem for source in sources)
    jobs = []
    for source in sources:
        stem = source.stem if stems[source.stem] == 1 else source.name
        output = args.out / (stem + SUFFIXES[args.format])
        jobs.append(Job(source, output, args.out / f"{stem}.boxes.png" if args.draw else None))
    for output, count in Counter(job.output for job in jobs).items():
        if count > 1:
            raise PageCommandError(f"{count} files would be written to {output}; read them with different -o")
    originals = {source.resolve() for source in sources}
    for job in jobs:
        for path in job.targets:
            if path.resolve() in originals:
                raise PageCommandError(f"{path} is among the files to read and would be overwritten; choose -o anew")
    return jobs


def _read_all(
    args: argparse.Namespace, jobs: Sequence[Job], load: "Callable[[], nn.Module]", origins: "Origins | None"
) -> int:
    """Reads all files; returns how many could be read and written."""
    import cv2
    from tqdm import tqdm

    from clip4str_doctr.images import UnreadableImageError
    from clip4str_doctr.pages.files import count_pages

    predictor = _predictor(args, load)
    # A file that cannot be opened counts as one page, and is reported when its turn comes.
    counts = []
    for job in jobs:
        try:
            counts.append(count_pages(job.source))
        except (UnreadableImageError, OSError):
            counts.append(1)
    exports: list[dict[str, Any]] = []
    read = 0
    # No bar where stderr is no terminal.
    with tqdm(total=sum(counts), unit="page", disable=None, file=sys.stderr) as bar:
        for job, count in zip(jobs, counts, strict=True):
            bar.set_postfix_str(job.source.name)
            before = bar.n
            try:
                pages = _pages_of(job, predictor, args, bar, origins)
                if job.output is not None and origins is not None:
                    _write(job.source, pages, args.format, job.output)
                    origins.add((path, job.source) for path in job.targets)
                elif args.format == "json":
                    exports.append(_export(job.source, pages))
                else:
                    _print(job.source, pages, args.format, bar, named=len(jobs) > 1)
                read += 1
            except (OSError, RuntimeError, ValueError, cv2.error) as error:
                # Of unreadable files, and of what finds words: another package's may fail on one page and go on.
                if isinstance(error, BrokenPipeError):
                    raise
                bar.write(f"{job.source}: {error}", file=sys.stderr)
            bar.update(before + count - bar.n)
    if args.out is None and args.format == "json":
        json.dump(exports, sys.stdout, ensure_ascii=False, indent=1)
        print()
    return read


def _predictor(args: argparse.Namespace, load: "Callable[[], nn.Module]") -> Any:
    from clip4str_doctr.detection import detector
    from clip4str_doctr.pages.reading import page_predictor

    model = load()
    device = next(model.parameters()).device
    try:
        finder = detector(args.detector, device=device)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise PageCommandError(f"--detector {args.detector}: {error}") from error
    return page_predictor(model, finder, batch_size=args.batch_size)


def _pages_of(
    job: Job, predictor: Any, args: argparse.Namespace, bar: "tqdm[Any]", origins: "Origins | None"
) -> "list[Page]":
    from clip4str_doctr.pages.files import open_pages
    from clip4str_doctr.pages.reading import read_page

    pages = []
    for number, pixels in enumerate(open_pages(job.source, dpi=args.dpi)):
        pages.append(read_page(predictor, pixels, number))
        if job.drawing is not None and origins is not None:
            from clip4str_doctr.pages.drawing import draw_page

            drawing = job.drawing_of(number)
            # Of all pages but the first it shows only now whether there are any.
            if complaint := None if args.overwrite else _complaint(drawing, job.source, origins):
                raise FileExistsError(complaint)
            origins.add([(drawing, job.source)])
            with written(drawing) as part:
                draw_page(pixels, pages[-1]).save(part, format="png", optimize=True)
        bar.update()
    return pages


def _write(source: Path, pages: "list[Page]", kind: str, output: Path) -> None:
    if kind == "pdf":
        from clip4str_doctr.pages.searchable_pdf import searchable_pdf

        searchable_pdf(source, pages, output)
        return
    text = _text(pages, kind)
    with written(output) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _text(pages: "list[Page]", kind: str) -> str:
    from clip4str_doctr.pages.outputs import WRITERS
    from clip4str_doctr.pages.reading import document_of

    return WRITERS[kind](document_of(pages))


def _export(source: Path, pages: "list[Page]") -> dict[str, Any]:
    export: dict[str, Any] = json.loads(_text(pages, "json"))
    return {"path": str(source), **export}


def _print(source: Path, pages: "list[Page]", kind: str, bar: "tqdm[Any]", *, named: bool) -> None:
    title = f"==> {source} <==\n" if named else ""
    # Through the bar, which is drawn anew below the text.
    bar.write(title + _text(pages, kind), file=sys.stdout, end="\n" if named else "")
    sys.stdout.flush()
