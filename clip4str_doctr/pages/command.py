"""`clip4str-doctr page`: its options, reading file by file, writing what was read.

Only what needs no other package at the head: the command line's help shall not wait for torch.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip4str_doctr.atomic import remove_remains, written
from clip4str_doctr.file_types import PAGE_SUFFIXES, listed, present
from clip4str_doctr.pages.disk import State, outdate, state_of, writing
from clip4str_doctr.pages.jobs import SUFFIXES, Job, PageCommandError, claimed_folder, complaint_about, plan
from clip4str_doctr.pages.origins import Origins

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from doctr.io.elements import Page
    from torch import nn
    from tqdm import tqdm

__all__ = ["PageCommandError", "add_arguments", "read_pages"]

DETECTORS = "rapidocr, tesseract, or doctr:<arch> for docTR's own, as doctr:db_resnet50"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `page` beside those that choose a model."""
    parser.description = (
        "Find and read the words of whole pages: images (all pages of a TIFF) and PDFs. Of a folder its "
        f"{listed(PAGE_SUFFIXES)} files are read in natural order; subfolders are not, nor what this command wrote "
        "there. With -o, a file whose output is newer than itself is skipped, so that the same command goes on where "
        "it was stopped; nothing is written over what was made from another file, unless --overwrite says so. A page "
        "that cannot be read is reported and stays empty in the output, which the next run makes anew."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="image, PDF, or folder of these")
    parser.add_argument("--detector", default="rapidocr", metavar="NAME", help=f"{DETECTORS} (default: rapidocr)")
    parser.add_argument(
        "--format", choices=list(SUFFIXES), default="text", help="pdf is a searchable PDF (default: text)"
    )
    parser.add_argument(
        "--layout",
        choices=["blocks", "rows"],
        default="blocks",
        help="blocks reads columns one after the other, but row by row where words stand beside labels or figures; "
        "rows makes one line of all words side by side (default: blocks)",
    )
    parser.add_argument(
        "--turn",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pages that lie on their side or stand on their head are turned, which stderr tells; boxes in the outputs "
        "are then of the turned page (default: yes)",
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
    try:
        given = present(args.paths)
    except FileNotFoundError as error:
        raise PageCommandError(str(error)) from error
    jobs = plan(args, given)
    origins = None if args.out is None else claimed_folder(args, jobs)
    waiting = jobs
    if origins is not None and not args.overwrite:
        done = {job: job.done(origins, _how(args)) for job in jobs}
        waiting = [job for job in jobs if not done[job]]
        _tell_skipped(args, [job for job in jobs if done[job]], len(jobs), origins)
    if origins is not None:
        try:
            origins.make()
            remove_remains(origins.folder)
        except OSError as error:
            raise PageCommandError(f"-o {args.out} cannot be written to: {error}") from error
    read = _read_all(args, waiting, load, origins) if waiting else 0
    return 0 if read == len(waiting) and len(given) == len(args.paths) else 1


def _how(args: argparse.Namespace) -> str:
    """The options that what is read hangs on."""
    names = ("arch", "weights", "mclip", "cross_modal", "detector", "layout", "dpi")
    values = {name.replace("_", "-"): getattr(args, name) for name in names}
    told = [f"--{name} {value}" for name, value in values.items() if value is not None]
    return " ".join(told if args.turn else [*told, "--no-turn"])


def _tell_skipped(args: argparse.Namespace, skipped: Sequence[Job], of: int, origins: Origins) -> None:
    """Those that were read otherwise are skipped, too: somebody may have corrected them by hand."""
    if not skipped:
        return
    told = f"{len(skipped)} of {of} files skipped, their outputs in {args.out} are newer"
    ways = [None if job.output is None else origins.how(job.output) for job in skipped]
    if others := [way for way in ways if way not in (None, _how(args))]:
        told += f", but {len(others)} were read with other options (as {others[0]})"
    print(f"{told}; --overwrite reads them", file=sys.stderr)


def _check(args: argparse.Namespace) -> None:
    if args.out is None and args.format in ("pdf", "hocr"):
        raise PageCommandError(f"--format {args.format} writes files; say where with -o DIR")
    if args.out is None and args.draw:
        raise PageCommandError("--draw writes files; say where with -o DIR")
    if args.format == "pdf":
        from clip4str_doctr.pages.searchable_pdf import MissingFontToolsError, glyphless_font

        try:
            glyphless_font(" ")
        except MissingFontToolsError as error:
            raise PageCommandError(str(error)) from error


@dataclass
class _Run:
    """What the files of one run share. origins: None where nothing is written to a folder."""

    args: argparse.Namespace
    predictor: Any
    origins: Origins | None
    bar: "tqdm[Any]"
    named: bool
    exports: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # to be printed
    undrawn: set[Path] = field(default_factory=set)  # sources of which a drawing could not be made

    def complaint_about(self, path: Path, source: Path) -> str | None:
        """What speaks against writing to a path that may have come there since the run began."""
        return None if self.args.overwrite or self.origins is None else complaint_about(path, source, self.origins)

    def correction_of(self, output: Path, source: Path) -> str | None:
        """What speaks against reading a source anew: what was corrected by hand would be lost."""
        if self.args.overwrite or self.origins is None or not self.origins.is_from(output, source):
            return None
        if not self.origins.changed(output):
            return None
        why = "it lacks pages" if self.origins.lacks_pages(output) else "its source is newer"
        return f"{output} was changed since it was written, and stays, though {why}; --overwrite reads it anew"


def _read_all(
    args: argparse.Namespace, jobs: Sequence[Job], load: "Callable[[], nn.Module]", origins: Origins | None
) -> int:
    """Reads all files; returns how many could be read and written as a whole."""
    from tqdm import tqdm

    from clip4str_doctr.pages.files import count_pages
    from clip4str_doctr.pages.reading import READ_ERRORS

    predictor = _predictor(args, load)
    # A file that cannot be opened counts as one page, and is reported when its turn comes.
    counts = []
    for job in jobs:
        try:
            counts.append(count_pages(job.source))
        except READ_ERRORS:
            counts.append(1)
    # No bar where stderr is no terminal.
    with tqdm(total=sum(counts), unit="page", disable=None, file=sys.stderr) as bar:
        run = _Run(args, predictor, origins, bar, named=len(jobs) > 1)
        listened_to = True
        try:
            return sum(_read_or_tell(job, count, run) for job, count in zip(jobs, counts, strict=True))
        except BrokenPipeError:
            listened_to = False
            raise
        finally:
            # What was read is not lost for what comes after it, as Ctrl-C.
            if args.out is None and args.format == "json" and listened_to:
                bar.close()
                json.dump(run.exports, sys.stdout, ensure_ascii=False, indent=1)
                print()


def _read_or_tell(job: Job, count: int, run: _Run) -> bool:
    """Read, and write or print one file, or tell why not; whether all of it could be."""
    from clip4str_doctr.pages.reading import READ_ERRORS

    bar, before, whole = run.bar, run.bar.n, False
    bar.set_postfix_str(job.source.name)
    try:
        whole = _read_file(job, count, run)
    except READ_ERRORS as error:
        # Of unreadable files, and of what finds words: another package's may fail on one page and go on.
        if isinstance(error, BrokenPipeError):
            raise
        bar.write(f"{job.source}: {_reason(error)}", file=sys.stderr)
    # Out of there: that standard output takes no more is no fault of the file.
    for text in run.texts:
        # Through the bar, which is drawn anew below the text.
        bar.write(text, file=sys.stdout, end="\n" if run.named else "")
        sys.stdout.flush()
    run.texts.clear()
    bar.update(before + count - bar.n)
    return whole


def _read_file(job: Job, count: int, run: _Run) -> bool:
    """Read and write one file; whether all of its pages could be read. Raises what its only page does."""
    # Whose drawings are missing only: somebody may have corrected the output by hand.
    kept = run.origins is not None and not run.args.overwrite and job.written(run.origins)
    if not kept and job.output is not None and (complaint := run.correction_of(job.output, job.source)):
        raise FileExistsError(complaint)
    before = state_of(job.source)
    pages, unread = _pages_of(job, count, run)
    if not kept:
        _put_out(job, pages, unread, run, before)
    whole = not unread and job.source not in run.undrawn
    if run.origins is not None and state_of(job.source) != before:
        what = "was changed while it was read; the same command reads it again"
        what = what if job.source.exists() else "was removed while it was read; what was read of it stays"
        run.bar.write(f"{job.source} {what}", file=sys.stderr)
        whole = False
    if whole and job.drawing is not None and run.origins is not None:
        with writing(job.drawing):
            run.origins.add([(job.drawing, job.source)], how=_how(run.args))
    return whole


def _put_out(job: Job, pages: "list[Page]", unread: Sequence[int], run: _Run, before: State | None) -> None:
    """Write or print what was read in one file. before: the file's state when reading began.

    Raises FileExistsError for what came to be in its place meanwhile."""
    if job.output is not None and run.origins is not None:
        if complaint := run.complaint_about(job.output, job.source) or run.correction_of(job.output, job.source):
            raise FileExistsError(complaint)
        with writing(job.output):
            if unread or not job.output.exists():
                # Before the output is there: if we are stopped in between, it must not be taken for a whole one, nor be
                # without its source.
                run.origins.add([(job.output, job.source)], unread, _how(run.args))
            _write(job, job.output, pages, run, before)
            run.origins.add([(job.output, job.source)], unread, _how(run.args), whole=True)
    elif run.args.format == "json":
        run.exports.append({"path": str(job.source), **json.loads(_text(pages, run.args))})
    else:
        run.texts.append((f"==> {job.source} <==\n" if run.named else "") + _text(pages, run.args))


def _predictor(args: argparse.Namespace, load: "Callable[[], nn.Module]") -> Any:
    from clip4str_doctr.detection import detector
    from clip4str_doctr.pages.reading import page_predictor

    model = load()
    device = next(model.parameters()).device
    try:
        finder = detector(args.detector, device=device)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise PageCommandError(f"--detector {args.detector}: {error}") from error
    return page_predictor(model, finder, batch_size=args.batch_size, layout=args.layout)


def _pages_of(job: Job, count: int, run: _Run) -> "tuple[list[Page], list[int]]":
    """The pages of a file, and the numbers, from 1 on, of those that could not be read, which are empty and reported.

    Raises ValueError if none of several pages could be read.
    """
    from clip4str_doctr.pages.files import page_drawers
    from clip4str_doctr.pages.reading import READ_ERRORS, read_page, read_upright, turn_of, unread_page

    pages: list[Page] = []
    unread = []
    for number, draw in enumerate(page_drawers(job.source, dpi=run.args.dpi)):
        pixels = None
        try:
            pixels = draw()
            if run.args.turn:
                page, pixels = read_upright(run.predictor, pixels, number)
            else:
                page = read_page(run.predictor, pixels, number)
            pages.append(page)
        except READ_ERRORS as error:
            if count == 1:
                raise
            run.bar.write(f"{job.source}, page {number + 1}: {_reason(error)}", file=sys.stderr)
            unread.append(number + 1)
            pages.append(unread_page(number) if pixels is None else unread_page(number, pixels.shape[:2]))
        else:
            if turn := turn_of(page):
                told = job.source if count == 1 else f"{job.source}, page {number + 1}"
                run.bar.write(f"{told}: turned by {turn} degrees counter-clockwise", file=sys.stderr)
            _draw(job, number, pixels, page, run)
        run.bar.update()
    if len(unread) == len(pages):
        raise ValueError(f"none of its {len(pages)} pages could be read; nothing is written")
    for number in unread:
        _forget_drawing(job, number - 1, run)
    return pages, unread


def _reason(error: Exception) -> str:
    """Python's MemoryError says nothing."""
    return str(error) or type(error).__name__


def _forget_drawing(job: Job, number: int, run: _Run) -> None:
    """Take an earlier drawing of a page away: it would stand beside an empty page."""
    if job.drawing is not None and run.origins is not None and run.origins.is_from(job.drawing_of(number), job.source):
        with writing(job.drawing_of(number)):
            job.drawing_of(number).unlink(missing_ok=True)


def _draw(job: Job, number: int, pixels: "npt.NDArray[np.uint8]", page: "Page", run: _Run) -> None:
    if job.drawing is None or run.origins is None:
        return
    from clip4str_doctr.pages.drawing import draw_page

    drawing = job.drawing_of(number)
    # Of all pages but the first it shows only now whether there are any.
    if complaint := run.complaint_about(drawing, job.source):
        # What was read is not lost for that.
        run.bar.write(f"{job.source}, page {number + 1}, is not drawn: {complaint}", file=sys.stderr)
        run.undrawn.add(job.source)
        return
    picture = draw_page(pixels, page)
    with writing(drawing):
        run.origins.add([(drawing, job.source)])
        with written(drawing) as part:
            picture.save(part, format="png", optimize=True)


def _write(job: Job, output: Path, pages: "list[Page]", run: _Run, before: State | None) -> None:
    with written(output) as part:
        if run.args.format == "pdf":
            from clip4str_doctr.pages.searchable_pdf import save_searchable_pdf

            save_searchable_pdf(job.source, pages, part)
        else:
            part.write_text(_text(pages, run.args), encoding="utf-8", newline="\n")
        outdate(part, job.source, before)
        if run.origins is not None:
            run.origins.expect(output, job.source, part)


def _text(pages: "list[Page]", args: argparse.Namespace) -> str:
    from clip4str_doctr.pages.outputs import WRITERS, as_markdown
    from clip4str_doctr.pages.reading import document_of

    document = document_of(pages)
    if args.format == "md":
        return as_markdown(document, keep_lines=args.layout == "rows")
    return WRITERS[args.format](document)
