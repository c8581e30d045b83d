"""Images and PDFs -> page pictures, one at a time: a book need not fit into memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pypdfium2 as pdfium

from clip4str_doctr.file_types import PAGE_SUFFIXES
from clip4str_doctr.images import UnreadableImageError, find_images, frames_of, open_image

__all__ = ["UnreadablePdfError", "count_pages", "find_files", "is_pdf", "open_pages", "opened_pdf", "page_drawers"]

POINTS_PER_INCH = 72
# A page may declare any size; one of 5 x 5 m at 200 dpi would take 4.6 GB.
_MOST_PIXELS = 100_000_000


class UnreadablePdfError(UnreadableImageError):
    """A file that is no PDF, is damaged, or wants a password."""


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Files as given; of a folder, its images and PDFs in natural order. Raises FileNotFoundError."""
    return find_images(paths, PAGE_SUFFIXES)


def is_pdf(path: Path) -> bool:
    """Whether the file says so itself, in its first kilobyte as readers of PDFs allow; its name does not matter.

    Raises OSError.
    """
    with path.open("rb") as file:
        return b"%PDF-" in file.read(1024)


def count_pages(path: Path) -> int:
    """Pages of a PDF or a TIFF, 1 for other images. Raises UnreadableImageError, OSError."""
    if not is_pdf(path):
        return len(frames_of(path))
    with opened_pdf(path) as pdf:
        return len(pdf)


def open_pages(path: Path, *, dpi: float = 200) -> Iterator[npt.NDArray[np.uint8]]:
    """The pages of a file, (H, W, 3) uint8 RGB each. dpi: resolution at which PDF pages are drawn.

    Images are opened as `images.open_image` does. Raises UnreadableImageError, OSError.
    """
    for draw in page_drawers(path, dpi=dpi):
        yield draw()


def page_drawers(path: Path, *, dpi: float = 200) -> Iterator[Callable[[], npt.NDArray[np.uint8]]]:
    """What draws each page of a file, to be called before the next is asked for: one that fails leaves the others.

    Raises UnreadableImageError, OSError for the file, and so do the functions for their pages.
    """
    if not is_pdf(path):
        yield from (partial(open_image, path, frame) for frame in frames_of(path))
        return
    with opened_pdf(path) as pdf:
        # Or what is filled into its fields is not drawn. Before the first page is loaded.
        pdf.init_forms()
        yield from (partial(_drawn, pdf, number, dpi) for number in range(len(pdf)))


@contextmanager
def opened_pdf(path: Path) -> Iterator[pdfium.PdfDocument]:
    """A PDF with at least one page, closed afterwards. Raises UnreadablePdfError, OSError."""
    file = path.open("rb")
    try:
        # Opened here: by its name it takes "~" at the head for a home, and pypdfium2 before 5 only names in UTF-8.
        pdf = pdfium.PdfDocument(file, autoclose=True)
    except pdfium.PdfiumError as error:
        file.close()
        raise UnreadablePdfError(f"not a readable PDF: {error}") from error
    try:
        if not len(pdf):
            raise UnreadablePdfError("not a readable PDF: it has no pages")
        yield pdf
    finally:
        pdf.close()


def _drawn(pdf: pdfium.PdfDocument, number: int, dpi: float) -> npt.NDArray[np.uint8]:
    try:
        page = pdf[number]
        width, height = page.get_size()
        scale = min(dpi / POINTS_PER_INCH, (_MOST_PIXELS / max(width * height, 1)) ** 0.5)
        bitmap = page.render(scale=scale, rev_byteorder=True)
    except pdfium.PdfiumError as error:
        raise UnreadablePdfError(f"this page cannot be drawn: {error}") from error
    # The array looks into memory that is PDFium's.
    pixels: npt.NDArray[np.uint8] = np.array(bitmap.to_numpy()[..., :3])
    page.close()
    return pixels
