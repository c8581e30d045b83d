"""Text detectors of other packages as functions: page -> boxes. Each is optional and says what to install.

They hold no open files or sessions until first used, so that predictors with them can be copied, pickled and moved.
"""

import csv
import logging
import shutil
import subprocess
import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from clip4str_doctr.boxes import Page
from clip4str_doctr.long_pages import find_in_stretches

__all__ = ["RapidOCRLines", "TesseractRow", "TesseractWords", "import_rapidocr", "quiet_rapidocr"]

# So many of these marks and nothing else lead the eye across a line.
_LEADER, _LEADERS = 5, frozenset(".…·-_,")
# Where a low word's line is, so many words beside it tell.
_BESIDE = 4


def import_rapidocr() -> Any:
    """Its engine's class. Raises RuntimeError where rapidocr or onnxruntime is not installed."""
    try:
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401  # RapidOCR itself notices at the first page
        from rapidocr import RapidOCR
    except ImportError as error:
        raise RuntimeError(
            f"rapidocr is not installed ({error}); type: pip install 'clip4str-doctr[detect]'"
        ) from error
    return RapidOCR


def quiet_rapidocr(engine: Any, **params: Any) -> Any:
    """A new engine of that class. It logs to the console at "info" through handlers of its own, and warns of every page
    without text."""
    made = engine(params={"Global.log_level": "error", **params})
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return made


class RapidOCRLines:
    """Lines found by RapidOCR's PP-OCR detector (ONNX Runtime, CPU), whose model lies in its wheel.

    Its direction classifier spoils clean lines and its recogniser lacks most Vietnamese letters: only the detector
    runs. Raises RuntimeError where rapidocr or onnxruntime is not installed.
    """

    # It shrinks pages with a longer side.
    LONGEST = 2000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Any = None
        self._import()

    @staticmethod
    def _import() -> Any:
        return import_rapidocr()

    def __call__(self, page: Page) -> npt.NDArray[np.float64]:
        """page (H, W, 3) uint8 RGB -> quads (N, 4, 2) of lines, in pixels. Long pages are seen in stretches.

        RapidOCR sorts its boxes but not their scores, so the scores belong to no box and are left out.
        Raises RuntimeError for a page that RapidOCR fails on, as strips less than 16 of 2000 pixels wide or high.
        """
        return find_in_stretches(self._find, page, self.LONGEST)

    def _find(self, page: Page) -> npt.NDArray[np.float64]:
        with self._lock:
            if self._engine is None:
                self._engine = self._make()
            engine = self._engine
            # As other OpenCV code, it takes arrays for BGR.
            try:
                found = engine(np.ascontiguousarray(page[..., ::-1]), use_det=True, use_cls=False, use_rec=False)
            except Exception as error:  # its own exceptions have no other class in common
                height, width = page.shape[:2]
                raise RuntimeError(f"RapidOCR failed on {width} x {height} pixels: {error}") from error
        if found.boxes is None:
            return np.zeros((0, 4, 2))
        return np.asarray(found.boxes, np.float64).reshape(-1, 4, 2)

    def _make(self) -> Any:
        return quiet_rapidocr(self._import())

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # an ONNX session cannot be pickled; it is made again when needed

    def __repr__(self) -> str:
        return "RapidOCRLines()"


@dataclass(frozen=True)
class TesseractRow:
    """A word of Tesseract's table: its straight box in pixels, confidence in 0..1, text, and its line."""

    box: tuple[float, float, float, float]
    score: float
    text: str
    line: tuple[str, ...]


class TesseractWords:
    """Words found by Tesseract's page layout analysis; what it reads in them is not used.

    The program is called with the page on its standard input and answers a table: one call, no temporary files, and no
    package between that would do the same. It reads with `vie` where that is installed, else with what there is.
    Raises RuntimeError where the program is not installed or fails, and for a page that it would refuse as too large.
    """

    # It refuses pages with a longer side.
    MOST_SIDE = 32_767
    # Its boxes are tight around the ink; by how much they grow is in heights of the box.
    MARGIN = 0.1

    def __init__(self, program: str = "tesseract", seconds: float = 300) -> None:
        self.program, self.seconds = program, seconds
        if shutil.which(program) is None:
            raise RuntimeError(
                f"the program {program!r} is not installed; type: apt install tesseract-ocr tesseract-ocr-vie"
            )
        # Windows ends lines with CR LF. The last two are data of layout and of formulas, no languages.
        listed = [name.strip() for name in self.run(["--list-langs"], b"").splitlines()[1:]]
        languages = [name for name in listed if name and name not in ("osd", "equ")]
        self.language = next((name for name in ("vie", "eng", *languages) if name in languages), None)
        if self.language is None:
            raise RuntimeError("tesseract has no language data; type: apt install tesseract-ocr-vie")

    def __call__(self, page: Page) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """page (H, W, 3) uint8 RGB -> straight boxes (N, 4) of words in pixels, Tesseract's confidence (N,) in 0..1.

        Dots that lead from a dish to its price are no words. A dash is as high as the words beside it, or it would fill
        a crop like a bar.
        """
        rows = [row for row in self.rows(page) if not _leads(row.text)]
        boxes = _as_high_as_beside(rows)
        return boxes, np.array([row.score for row in rows], np.float64)

    def rows(self, page: Page) -> list["TesseractRow"]:
        """page (H, W, 3) uint8 RGB -> its words in Tesseract's order, with what it read in them."""
        height, width = page.shape[:2]
        if max(height, width) > self.MOST_SIDE:
            raise RuntimeError(
                f"{self.program} reads pages of up to {self.MOST_SIDE} pixels a side, got {width} x {height}; cut the "
                "page, scale it down, or use the detector rapidocr, which sees high pages in stretches"
            )
        done, data = cv2.imencode(".ppm", np.ascontiguousarray(page[..., ::-1]))
        assert done
        table = self.run(["stdin", "stdout", "-l", str(self.language), "tsv"], data.tobytes())
        found = []
        for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["level"] != "5" or not (row["text"] or "").strip():
                continue
            left, top, width, height = (float(row[key]) for key in ("left", "top", "width", "height"))
            line = tuple(row[key] for key in ("block_num", "par_num", "line_num"))
            score = min(max(float(row["conf"]) / 100, 0.0), 1.0)
            found.append(TesseractRow((left, top, left + width, top + height), score, row["text"].strip(), line))
        return found

    def run(self, arguments: list[str], data: bytes) -> str:
        """The program's standard output, given its arguments and standard input. Raises RuntimeError if it fails."""
        try:
            done = subprocess.run([self.program, *arguments], input=data, capture_output=True, timeout=self.seconds)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{self.program} has not finished a page in {self.seconds} seconds") from error
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").strip()
            raise RuntimeError(f"{self.program} failed with status {done.returncode}: {message}")
        return done.stdout.decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"TesseractWords({self.program!r})"


def _leads(text: str) -> bool:
    return len(text) >= _LEADER and _LEADERS.issuperset(text)


def _as_high_as_beside(rows: list[TesseractRow]) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) of words; those of less than half their line's usual height reach as far as those beside them."""
    boxes = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
    heights, middles = boxes[:, 3] - boxes[:, 1], (boxes[:, 0] + boxes[:, 2]) / 2
    lines: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        lines.setdefault(row.line, []).append(number)
    for line in map(np.array, lines.values()):
        low = heights[line] < np.median(heights[line]) / 2
        for number in line[low]:
            near = np.argsort(np.abs(middles[line[~low]] - middles[number]), kind="stable")[:_BESIDE]
            top, bottom = np.median(boxes[line[~low][near]][:, [1, 3]], axis=0)
            boxes[number, 1], boxes[number, 3] = min(boxes[number, 1], top), max(boxes[number, 3], bottom)
    return boxes
