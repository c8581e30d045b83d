"""How long reading takes: `python -m clip4str_doctr.benchmark.latency -o results/latency.json`.

Whole predictors of docTR, from crops to strings, over a stream of words as running text has them; beside them the bare
image tower and docTR's own models. The published size has random weights that say what they are told (`scripted`).
"""

import argparse
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import nn

from clip4str_doctr import __version__
from clip4str_doctr.atomic import written
from clip4str_doctr.benchmark.memory import peak_memory_elsewhere
from clip4str_doctr.benchmark.page_stream import page_words, render_words
from clip4str_doctr.benchmark.report import package_commit, tell, weights_of
from clip4str_doctr.benchmark.scripted import MISREAD_SHARE, Script, scripted_model
from clip4str_doctr.benchmark.timing import Case, clock, interleave, stopwatch
from clip4str_doctr.caption_cache import CaptionCache
from clip4str_doctr.factories import clip4str_vn_tiny
from clip4str_doctr.fast_decoding import Branch, _SeenCaptions
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.decoder import Decoder
from clip4str_doctr.plugin import recognition_predictor_of
from clip4str_doctr.postprocess import PostProcessor
from clip4str_doctr.preprocess import Preprocess

__all__ = [
    "BATCHES",
    "THREADS",
    "Stream",
    "cpu_name",
    "main",
    "measure",
    "nothing_to_say",
    "place_of",
    "predictor_case",
]

logger = logging.getLogger(__name__)

ARCHS = ("clip4str_vn", "clip4str_vn_tiny")
PEERS = ("parseq", "vitstr_base", "crnn_vgg16_bn")
BATCHES = (1, 8, 32)
THREADS = 2
# The published size takes a hundred times as long as the small one, so it has a turn in each third round only.
FULL_SIZE_EVERY = 3
# What the captions' cache has seen of the stream before: an archive is longer than the measurement.
WORDS_BEFORE = 1000
# Further rounds, in which stages are told apart.
STAGE_ROUNDS = {"clip4str_vn": 1, "clip4str_vn_tiny": 4}
_TOWER = "image tower alone"
BATCHES_OF_ONE = {"clip4str_vn": 6, "clip4str_vn_tiny": 16}
# The published size's script is certain of every word, which "auto" would believe.
MODES = {
    "clip4str_vn": ("fast", "fast, no cache", "plain"),
    "clip4str_vn_tiny": ("fast", "auto", "fast, no cache", "plain"),
}


class Stream:
    """Words and their crops, another part of the text for every round and batch size, the same for all models."""

    def __init__(self, rounds: int, per_round: int) -> None:
        self._per_round = per_round
        self.words = page_words(rounds * per_round, seed=11)
        self._crops = render_words(self.words, seed=11)

    def part(self, number: int, place: int, count: int) -> tuple[list[str], list[Any]]:
        """`count` words and crops of a round, from `place` on."""
        start = number * self._per_round + place
        return self.words[start : start + count], self._crops[start : start + count]


def _turns(arch: str, batch: int) -> int:
    return BATCHES_OF_ONE.get(arch, 16) if batch == 1 else 1


def place_of(batch: int) -> int:
    return {1: 0, 8: 16, 32: 24}[batch]


def predictor_case(
    arch: str,
    mode: str,
    batch: int,
    stream: Stream,
    predictor: Any,
    before: Callable[[list[str]], None],
    every: int,
    cache: CaptionCache | None = None,
) -> Case:
    """Whole predict time. before: told the words of every batch, outside of the time. cache: which ours read with."""
    device = next(predictor.model.parameters()).device

    def read(number: int) -> tuple[float, int]:
        words, crops = stream.part(number, place_of(batch), batch * _turns(arch, batch))
        seconds = 0.0
        with _mode(predictor.model, mode, cache):
            for start in range(0, len(crops), batch):
                before(words[start : start + batch])
                began = clock(device)
                predictor(crops[start : start + batch])
                seconds += clock(device) - began
        return seconds, len(crops)

    return Case(arch, mode, batch, read, every)


class _mode:
    """The model decodes in this mode, with this cache, while open."""

    def __init__(self, model: nn.Module, mode: str, cache: CaptionCache | None) -> None:
        self._model, self._mode, self._cache = model, mode, cache

    def __enter__(self) -> None:
        if isinstance(self._model, CLIP4STR) and self._cache is not None:
            self._before = self._model.text_tower.cache, self._model.config
            self._model.text_tower.cache = self._cache
            self._model.config = self._model.config.with_decode(cross_modal="auto" if self._mode == "auto" else None)
            self._model.decoding = "plain" if self._mode == "plain" else "fast"

    def __exit__(self, *_: object) -> None:
        if isinstance(self._model, CLIP4STR) and self._cache is not None:
            self._model.decoding = "fast"
            self._model.text_tower.cache, self._model.config = self._before


def _tower_case(arch: str, model: CLIP4STR, batch: int, stream: Stream, every: int) -> Case:
    """The image tower alone, on pixels that are ready."""
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    device = next(model.parameters()).device

    @torch.inference_mode()
    def read(number: int) -> tuple[float, int]:
        _, crops = stream.part(number, place_of(batch), batch * _turns(arch, batch))
        pixels = torch.split(preprocess(crops).to(device), batch)
        began = clock(device)
        for part in pixels:
            model.image_tower(part)
        return clock(device) - began, len(crops)

    return Case(arch, _TOWER, batch, read, every)


def _our_cases(
    arch: str, stream: Stream, device: torch.device, batches: Sequence[int], words_before: int
) -> tuple[list[Case], CLIP4STR]:
    script: Script | None = None
    if arch == "clip4str_vn":
        model, script = scripted_model(device)
    else:
        model = clip4str_vn_tiny(pretrained=True).to(device)
    logger.info("the cache of %s reads %d words", arch, words_before)
    # Modes read the same words, so each has a cache of its own that no other has filled.
    caches = {mode: CaptionCache() if mode in ("fast", "auto") else CaptionCache(max_bytes=0) for mode in MODES[arch]}
    for mode in MODES[arch]:
        with _mode(model, mode, caches[mode]), torch.inference_mode():
            if caches[mode].max_bytes:
                model.text_tower.encode(list(dict.fromkeys(page_words(words_before, seed=10))))
        caches[mode].reset_info()
    model.text_tower.cache = caches["fast"]
    every = FULL_SIZE_EVERY if arch == "clip4str_vn" else 1
    before = script.dictate if script else nothing_to_say
    cases = []
    for batch in batches:
        predictor = recognition_predictor_of(model, batch_size=batch)
        cases.append(_tower_case(arch, model, batch, stream, every))
        for mode in MODES[arch]:
            cases.append(predictor_case(arch, mode, batch, stream, predictor, before, every, caches[mode]))
    return cases, model


def nothing_to_say(words: list[str]) -> None:
    """Models with weights read their crops."""


class _EndsInTime:
    """Makes docTR's untrained PARSeq end as a trained one would: after the longest word of the batch."""

    def __init__(self, model: nn.Module) -> None:
        self._steps = self._longest = 0
        head = model.get_submodule("head")
        head.register_forward_hook(self._hook)

    def dictate(self, words: list[str]) -> None:
        self._steps, self._longest = 0, max(map(len, words))

    def _hook(self, head: nn.Module, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        first, self._steps = self._steps, self._steps + logits.shape[1]
        ended = torch.arange(first, self._steps, device=logits.device) % (self._longest + 1) >= self._longest
        # End of word is the last of PARSeq's logits.
        return logits + 1e4 * ended[:, None] * nn.functional.one_hot(
            torch.tensor(logits.shape[-1] - 1, device=logits.device), logits.shape[-1]
        )


def _peer_cases(stream: Stream, device: torch.device, batches: Sequence[int]) -> list[Case]:
    from doctr.models import recognition_predictor

    cases = []
    for name in PEERS:
        predictor = recognition_predictor(name, pretrained=False, pretrained_backbone=False).to(device)
        before = _EndsInTime(predictor.model).dictate if name == "parseq" else nothing_to_say
        cases += [predictor_case(name, "docTR", batch, stream, predictor, before, 1) for batch in batches]
    return cases


def _stage_times(
    cases: Sequence[Case], model: CLIP4STR, device: torch.device, first: int
) -> dict[str, dict[str, float]]:
    """batch -> stage -> ms per word of the fast mode, from round `first` on; each stage without those within it."""
    parts = [
        (Preprocess, "__call__", "preprocess"),
        (type(model.image_tower), "forward", "image tower"),
        (Decoder, "project_memory", "memory keys and values"),
        (Branch, "draft_to_eos", "visual draft"),
        (type(model.text_tower), "encode", "text tower"),
        (_SeenCaptions, "memory", "joining memories"),
        (Branch, "draft", "cross draft"),
        (Branch, "refine", "refinement"),
        (PostProcessor, "__call__", "postprocess"),
    ]
    table: dict[str, dict[str, float]] = {}
    for case in (case for case in cases if case.mode == "fast" and case.model == model.config.arch):
        rounds = []
        for number in range(first, first + STAGE_ROUNDS[case.model]):
            with stopwatch(device, *parts) as spent:
                _, words = case.read(number)
            rounds.append({name: 1000 * seconds / words for name, seconds in spent.items()})
        names = list(dict.fromkeys(name for one in rounds for name in one))
        table[str(case.batch)] = {name: round(median(one.get(name, 0.0) for one in rounds), 3) for name in names}
    return table


def measure(
    archs: Sequence[str], device: torch.device, rounds: int, batches: Sequence[int], words_before: int
) -> dict[str, Any]:
    """Everything but what needs processes of its own; see the module."""
    logger.info("rendering")
    stream = Stream(rounds + 1 + max(STAGE_ROUNDS.values()), place_of(max(batches)) + max(max(batches), 16))
    cases = _peer_cases(stream, device, batches)
    models = []
    for arch in archs:
        ours, model = _our_cases(arch, stream, device, batches, words_before)
        cases += ours
        models.append(model)
    interleave(cases, rounds)
    caches = {model.config.arch: model.text_tower.cache.info() for model in models}
    return {
        "protocol": {
            "what": "recognition_predictor(crops), crops in memory to strings; ms per word, median over rounds in "
            "which all cases take turns",
            "words": "drawn as often as in Vietnamese Wikipedia, rendered as document print",
            "clip4str_vn": f"random weights that say the words; the visual branch misreads {MISREAD_SHARE:.0%}",
            "cache": f"of captions, has seen {words_before} words before",
            "auto": "words are left at the visual branch's draft from the card's certainty on",
            "peers": "random weights; PARSeq ends after the longest word of the batch",
            "precision": "float32",
            "rounds": rounds,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "version": __version__,
            "commit": package_commit(),
        },
        "cases": [case.summary() for case in cases],
        "to_image_tower": to_image_tower(cases),
        "stages_ms_per_word": {model.config.arch: _stage_times(cases, model, device, rounds + 1) for model in models},
        "cache": {arch: {"hit_rate": round(info.hit_rate, 3), **info._asdict()} for arch, info in caches.items()},
    }


def to_image_tower(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """model -> "mode, batch" -> median time by that of the image tower alone in the same batch size."""
    ratios: dict[str, dict[str, float]] = {}
    towers = {(case.model, case.batch): median(case.milliseconds) for case in cases if case.mode == _TOWER}
    for case in cases:
        tower = towers.get((case.model, case.batch))
        if tower and case.mode != _TOWER:
            name = f"{case.mode}, batch {case.batch}"
            ratios.setdefault(case.model, {})[name] = round(median(case.milliseconds) / tower, 3)
    return ratios


def cold_start(repeats: int, device: str) -> dict[str, float]:
    """Seconds of `clip4str-doctr read ONE_IMAGE` and of importing docTR's models, turn by turn, medians."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "word.png"
        Image.fromarray(render_words(["phở"], seed=1)[0]).save(picture)
        commands = {
            "clip4str-doctr read": [
                *(sys.executable, "-m", "clip4str_doctr.cli", "read", str(picture), "--device", device)
            ],
            "import doctr.models": [sys.executable, "-c", "import doctr.models"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - began)
    # The first of each filled the disk cache.
    return {name: round(median(values[1:]), 3) for name, values in seconds.items()}


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} logical cores"


def draw(figures: dict[str, Any], picture: Path) -> None:
    """Milliseconds per word, logarithmic: one group of bars per batch size, one bar per model and mode."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = figures["cases"]
    batches = sorted({case["batch"] for case in cases})
    names = list(dict.fromkeys((case["model"], case["mode"]) for case in cases))
    figure = Figure(figsize=(5 * len(batches), 0.4 * len(names) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, batch in zip(figure.subplots(1, len(batches), sharey=True, squeeze=False)[0], batches, strict=True):
        of = {(case["model"], case["mode"]): case["ms_per_word"] for case in cases if case["batch"] == batch}
        bars = axes.barh([f"{model}, {mode}" for model, mode in names], [of.get(name, 0.0) for name in names])
        axes.bar_label(bars, fmt="%.1f", padding=2)
        axes.set(xscale="log", title=f"batch {batch}", xlabel="ms per word")
        axes.margins(x=0.2)
    # They share it: as listed, from the top.
    axes.invert_yaxis()
    figure.savefig(picture, dpi=100, format="png")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--arch", action="append", choices=ARCHS, help="may be repeated (default: both)")
    parser.add_argument("--rounds", type=int, default=12, help="of all cases in turn (default: 12)")
    parser.add_argument(
        "--words-before",
        type=int,
        default=WORDS_BEFORE,
        metavar="N",
        help=f"the captions' cache has seen (default: {WORDS_BEFORE})",
    )
    parser.add_argument("--quick", action="store_true", help="one round, batches of 1 and 8: to see that it runs")
    parser.add_argument("-o", "--out", type=Path, help="JSON to write; the plot goes beside it as PNG")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    if args.out is None:
        parser.error("-o FILE.json is required")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    archs = args.arch or ARCHS
    rounds, batches = (1, BATCHES[:2]) if args.quick else (args.rounds, BATCHES)
    figures = measure(archs, torch.device(args.device), rounds, batches, args.words_before)
    if "clip4str_vn_tiny" in archs:
        figures |= weights_of(find_weights("clip4str_vn_tiny"))
    tell(figures, args.out)  # what follows takes other processes, which may find no memory
    if torch.device(args.device).type == "cpu":
        # Of the process, not of a device.
        figures["peak_memory"] = {arch: peak_memory_elsewhere(arch) for arch in archs}
    figures["cold_start_seconds"] = cold_start(1 if args.quick else 5, args.device)
    tell(figures, args.out)
    with written(args.out.with_suffix(".png")) as part:
        draw(figures, part)


if __name__ == "__main__":
    main()
