"""Whole pages: which words a detector finds, how they are read, beside Tesseract on the same pages, in one run.

`python -m clip4str_doctr.benchmark.pages [--seeds N] [--first-seed S] [--detectors rapidocr tesseract] [-o FILE]`
writes JSON: a row per kind of page and reader, and the protocol. A word counts as found if a box of one's own has an
IoU of 0.5 or more with its ink, both as straight boxes; as read, if besides the text there is the same, case and
punctuation included. The CER is of the whole page's text, a space between words, in the order of `page` (or
Tesseract's own): a wrong order of lines costs more than most wrong letters do. So a second one is of the same words
put into rows across the page, as `page --layout rows` does. What lies on illegible words, rules and leaders counts
neither as right nor as wrong, as a box or as text.
"""

import argparse
import os
import shlex
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rapidfuzz.distance import Levenshtein

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.comparison import as_word
from clip4str_doctr.benchmark.labelled import name_of
from clip4str_doctr.benchmark.recognisers import Recogniser, recogniser, versions
from clip4str_doctr.benchmark.rendered_pages import LAYOUTS, Layout, PageWord, RenderedPage, photographed, render_page
from clip4str_doctr.benchmark.report import device_name, package_commit, tell, weights_of
from clip4str_doctr.benchmark.scene_text import SceneText
from clip4str_doctr.boxes import enclosing_boxes, word_boxes
from clip4str_doctr.config import PRESETS
from clip4str_doctr.detection import detector
from clip4str_doctr.finders import TesseractWords
from clip4str_doctr.lines import MARGIN
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.pages.columns import ColumnBuilder
from clip4str_doctr.pages.reading import words_of
from clip4str_doctr.pages.rows import rows_of

__all__ = ["KINDS", "PageReading", "measure", "pages_of", "scene_pages", "score_pages"]

ARCH = "clip4str_vn_tiny"
KINDS = (
    "clean 150 dpi",
    "clean 300 dpi",
    "photographed 150 dpi",
    "columns 150 dpi",
    "table 150 dpi",
    "photographed table 150 dpi",
    "receipt 200 dpi",
    "photographed receipt 200 dpi",
    "letter 150 dpi",
    "photographed letter 150 dpi",
)
_IOU = 0.5

Boxes = npt.NDArray[np.float64]  # (N, 4): xmin, ymin, xmax, ymax in pixels


@dataclass(frozen=True)
class PageReading:
    """What a reader says of a page: boxes (N, 4) in pixels, their N words in reading order, seconds by step."""

    boxes: Boxes
    words: list[str]
    seconds: dict[str, float]


class _Reads(torch.nn.Module):
    """A recogniser in the place of docTR's recognition predictor; it reads crops whole and tells no confidence."""

    def __init__(self, one: Recogniser) -> None:
        super().__init__()
        self._read = one

    def forward(self, crops: Sequence[npt.NDArray[np.uint8]], **_: Any) -> list[tuple[str, float]]:
        return [("".join(text.split()), 1.0) for text in self._read(crops)]


class Reader:
    """docTR's predictor with one of our detectors and a recogniser, in the order of `page`, timed by step.

    arch: an architecture of docTR's zoo or weights of ours, read by the predictor that docTR makes for them, which may
    cut wide crops; or the name of another recogniser, as `recognisers.recogniser` takes it, which reads them whole.
    """

    def __init__(self, name: str, arch: str = ARCH, device: torch.device | str = "cpu") -> None:
        from doctr.models import recognition_predictor
        from doctr.models.predictor import OCRPredictor
        from doctr.models.recognition import zoo

        # docTR's annotation asks for its own class, its code for what that does.
        found: Any = detector(name, device=device)
        reads: Any
        if arch in zoo.ARCHS:
            reads, self.model = recognition_predictor(arch, pretrained=True).to(device), arch
            self.facts = dict(weights_of(find_weights(arch) if arch in PRESETS else None))
        else:
            one = recogniser(arch, device)
            reads = _Reads(one) if one.predictor is None else one.predictor()
            self.model, self.facts = one.name, dict(one.facts)
        self.name = f"{name} + {self.model}"
        self._predictor = OCRPredictor(found, reads)
        self._predictor.doc_builder = ColumnBuilder()
        self._seconds: dict[str, float] = {}
        self._time("detection", self._predictor.det_predictor)
        self._time("recognition", self._predictor.reco_predictor)

    def _time(self, step: str, module: torch.nn.Module) -> None:
        started: list[float] = []
        module.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))

        def stop(*_: Any) -> None:
            self._seconds[step] = time.perf_counter() - started.pop()

        module.register_forward_hook(stop)

    def __call__(self, image: npt.NDArray[np.uint8]) -> PageReading:
        begin = time.perf_counter()
        page = self._predictor([image]).pages[0]
        whole = time.perf_counter() - begin
        # What is read as nothing is no word, as on the command line, and as of Tesseract.
        words = [word for word in words_of(page) if word.value]
        seconds = {**self._seconds, "rest": whole - sum(self._seconds.values())}
        return PageReading(word_boxes(words, image.shape[:2]), [word.value for word in words], seconds)


class TesseractReader:
    """Tesseract on its own: layout and reading in one."""

    def __init__(self) -> None:
        self._find = TesseractWords()
        self.name = f"tesseract -l {self._find.language}"

    def __call__(self, image: npt.NDArray[np.uint8]) -> PageReading:
        begin = time.perf_counter()
        rows = self._find.rows(image)
        seconds = {"all": time.perf_counter() - begin}
        boxes = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
        return PageReading(boxes, [row.text for row in rows], seconds)


def pages_of(kind: str, seeds: Sequence[int]) -> Iterator[RenderedPage]:
    """Pages of one of `KINDS`, one a seed. Raises ValueError for another kind."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    layout: Layout = next((layout for layout in LAYOUTS if layout in kind), "text")
    for seed in seeds:
        page = render_page(seed, layout, int(kind.split()[-2]))
        yield photographed(page, seed) if "photographed" in kind else page


def intersections(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """Straight boxes (N, 4) and (M, 4) -> the areas that they share (N, M)."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.prod(np.clip(opposite - corner, 0, None), axis=2), np.float64)


def overlaps(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """Straight boxes (N, 4) and (M, 4) -> intersection over union (N, M)."""
    common = intersections(first, second)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9), np.float64)


def matches(truth: Boxes, found: Boxes) -> list[tuple[int, int]]:
    """Pairs (number in truth, number in found) with an IoU of at least 0.5, best first, each number at most once."""
    values = overlaps(truth, found)
    pairs, used_truth, used_found = [], set(), set()
    rows, columns = np.nonzero(values >= _IOU)
    for place in np.argsort(-values[rows, columns], kind="stable"):
        one, other = int(rows[place]), int(columns[place])
        if one not in used_truth and other not in used_found:
            pairs.append((one, other))
            used_truth.add(one)
            used_found.add(other)
    return pairs


def scene_pages(source: SceneText) -> Iterator[RenderedPage]:
    """Pictures of a data set as pages; in which order their words are read is not known."""
    for image, words, illegible in source.pictures():
        found = tuple(PageWord(as_word(label), quad, line) for line, (label, quad) in enumerate(words))
        yield RenderedPage(image, found, tuple(illegible), ordered=False)


@dataclass
class _Counts:
    """Sums over pages. wanted: words; given: boxes that are not on illegible words; found, right: pairs of both."""

    wanted: int = 0
    given: int = 0
    found: int = 0
    right: int = 0
    right_uncased: int = 0
    edits: int = 0
    row_edits: int = 0
    symbols: int = 0

    def add(self, page: RenderedPage, reading: PageReading) -> None:
        truth_boxes = enclosing_boxes(np.array([word.quad for word in page.words]).reshape(-1, 4, 2))
        pairs = matches(truth_boxes, reading.boxes)
        self.wanted, self.found = self.wanted + len(page.words), self.found + len(pairs)
        excused = _on_illegible(page, reading.boxes, {other for _, other in pairs})
        self.given += len(reading.words) - len(excused)
        texts = [(as_word(page.words[one].text), as_word(reading.words[other])) for one, other in pairs]
        self.right += sum(label == text for label, text in texts)
        self.right_uncased += sum(label.casefold() == text.casefold() for label, text in texts)
        truth = _flat(page.text)

        def edits(order: Iterable[int]) -> int:
            text = " ".join(reading.words[number] for number in order if number not in excused)
            return Levenshtein.distance(_flat(text), truth)

        self.edits += edits(range(len(reading.words)))
        self.row_edits += edits(number for row in rows_of(reading.boxes) for number in row)
        self.symbols += len(truth)


def score_pages(read: Iterable[tuple[RenderedPage, PageReading]]) -> dict[str, Any]:
    """Pages, each with what was read of it -> shares over all their words.

    A word that is not found is not read either. Seconds are means by page.
    recall, precision: of boxes. word_accuracy, word_precision, hmean: end to end, boxes whose text is right, of all
    words, of all boxes given, and their harmonic mean; hmean_uncased: without regard to case. cer: as the reader orders
    words, cer_rows: as rows across the page; both None where the order of words is not known.
    Raises ValueError if no page has a legible word.
    """
    counts, seconds, ordered = _Counts(), [], True
    for page, reading in read:
        counts.add(page, reading)
        seconds.append(reading.seconds)
        ordered = ordered and page.ordered
    if not counts.wanted:
        raise ValueError(f"there is no legible word on {len(seconds)} pages")
    given = max(counts.given, 1)
    return {
        "pages": len(seconds),
        "words": counts.wanted,
        "recall": round(counts.found / counts.wanted, 4),
        "precision": round(counts.found / given, 4),
        "word_accuracy": round(counts.right / counts.wanted, 4),
        "word_precision": round(counts.right / given, 4),
        # 2 r p / (r + p) of r = right / wanted and p = right / given.
        "hmean": round(2 * counts.right / (counts.wanted + counts.given), 4),
        "hmean_uncased": round(2 * counts.right_uncased / (counts.wanted + counts.given), 4),
        "cer": round(counts.edits / counts.symbols, 4) if ordered else None,
        "cer_rows": round(counts.row_edits / counts.symbols, 4) if ordered else None,
        "seconds_per_page": {step: round(float(np.mean([one[step] for one in seconds])), 3) for step in seconds[0]},
    }


def _on_illegible(page: RenderedPage, boxes: Boxes, matched: set[int]) -> set[int]:
    """Which boxes that are no legible word lie, with more than half of their area, on an illegible one."""
    others = np.array([number for number in range(len(boxes)) if number not in matched], np.int64)
    if not page.illegible or not len(others):
        return set()
    straight = enclosing_boxes(np.stack(page.illegible))
    common = intersections(boxes[others], straight)
    areas = np.maximum(np.prod(boxes[others, 2:] - boxes[others, :2], axis=1), 1e-9)
    return set(others[common.max(axis=1) / areas > _IOU].tolist())


def _flat(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def measure(
    detectors: Sequence[str],
    seeds: Sequence[int],
    kinds: Sequence[str] = KINDS,
    recognisers: Sequence[str] = (ARCH,),
    device: torch.device | str = "cpu",
    data: SceneText | None = None,
    save: Callable[[dict[str, Any]], object] = lambda report: None,
) -> dict[str, Any]:
    """Rows for every kind of page and every pair of detector and recogniser, and for Tesseract on its own where it is
    one of the detectors, with the protocol. data: whole pictures of a data set in the place of rendered pages. save: is
    given the report after every row, for a later one may fail.

    Raises RuntimeError if one of them is absent, ValueError for an unknown kind, for two recognisers of one name, and
    if the data set has no pictures of pages, one that cannot be opened, or none with a legible word.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"kinds of pages are {', '.join(KINDS)}, got {unknown[0]!r}")
    pairs = [Reader(name, arch, device) for name in detectors for arch in recognisers]
    readers: list[Reader | TesseractReader] = [*pairs]
    if "tesseract" in detectors:
        readers.append(TesseractReader())
    names = [one.name for one in readers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two readers are called {twice}; rename one of the weights' folders")
    protocol = _protocol(seeds if data is None else (), device)
    options = ["--seeds", str(len(seeds)), "--first-seed", str(seeds[0]), "--kinds", *kinds]
    title = "Rendered pages"
    if data is not None:
        whole = name_of(data.folder)
        kinds, title = [whole], f"Pages of {whole}"
        protocol |= {"pages": "legible words of whole pictures", "match": _match("the word's corners as labelled")}
        options = ["--data", whole]
        for _ in scene_pages(data):
            pass  # one that cannot be opened is better known now than after hours of reading
    command = shlex.join(
        ["clip4str-doctr", "bench", "page", *options, "--detectors", *detectors, "--models", *recognisers]
    )
    made = {"package": __version__, "commit": protocol["commit"], "device": protocol["device"]}
    report: dict[str, Any] = {"kind": "pages", "title": title, "command": command, "made": made}
    report |= {"models": {pair.model: pair.facts for pair in pairs}, "rows": [], "protocol": protocol}
    # A data set's pictures are opened anew for every reader: memory does not hold a thousand photographs.
    for kind in kinds:
        pages = list(pages_of(kind, seeds)) if data is None else []
        for read in readers:
            shown = pages if data is None else scene_pages(data)
            report["rows"].append({"kind": kind, "reader": read.name, **score_pages(_readings(read, shown))})
            save(report)
    return report


def _readings(
    read: "Reader | TesseractReader", pages: Iterable[RenderedPage]
) -> Iterator[tuple[RenderedPage, PageReading]]:
    for number, page in enumerate(pages):
        if number == 0:
            # Warm-up: sessions and weights are made at the first page. On its head, for words that were read are kept.
            read(np.ascontiguousarray(page.image[::-1, ::-1]))
        yield page, read(page.image)


def _match(truth: str) -> str:
    return f"IoU >= {_IOU} of straight boxes, each box once; ground truth: {truth}"


def _protocol(seeds: Sequence[int], device: torch.device | str) -> dict[str, Any]:
    return {
        "pages": "clip4str_doctr.benchmark.rendered_pages: fonts held out from training",
        "seeds": list(seeds),
        "match": _match("ink of the word"),
        "word_accuracy": "of all words, cased, NFC, found and read",
        "margin": MARGIN,
        "wide crops": "docTR's and our predictors cut them as they do by default, other recognisers read them whole",
        "commit": package_commit(),
        "versions": versions("clip4str-doctr", "python-doctr", "rapidocr", "torch"),
        "device": f"{device_name(device)}, {torch.get_num_threads()} torch threads",
        "load": [round(value, 1) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="pages of every kind (default: 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first page (default: 0)")
    parser.add_argument("--detectors", nargs="+", default=["rapidocr", "tesseract"], metavar="NAME")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write (default: standard output)")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {arguments.seeds}")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tell(measure(arguments.detectors, seeds, arguments.kinds), arguments.out)


if __name__ == "__main__":
    main()
