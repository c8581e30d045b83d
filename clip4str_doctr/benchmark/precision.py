"""What bfloat16 gives and costs on this CPU: `python -m clip4str_doctr.benchmark.precision -o FILE.json`.

Time and peak memory of the published size, plain and fast in float32 and fast in bfloat16, over the stream of words of
`latency`, all in turn; and how many strings of the embedded model change, whose weights are no random ones.
"""

import argparse
import copy
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.latency import (
    BATCHES,
    THREADS,
    WORDS_BEFORE,
    Stream,
    cpu_name,
    place_of,
    predictor_case,
)
from clip4str_doctr.benchmark.memory import peak_memory_elsewhere
from clip4str_doctr.benchmark.page_stream import page_words, render_words
from clip4str_doctr.benchmark.report import package_commit
from clip4str_doctr.benchmark.scripted import Script, scripted_model
from clip4str_doctr.benchmark.timing import Case, interleave
from clip4str_doctr.benchmark.word_sets import suite_words
from clip4str_doctr.caption_cache import CaptionCache
from clip4str_doctr.factories import clip4str_vn_tiny
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.plugin import recognition_predictor_of
from clip4str_doctr.training.suites import SUITES

__all__ = ["changed_strings", "main", "times"]

ARCH = "clip4str_vn"
# What all are compared with.
PLAIN = "float32, plain"
_MODES = {PLAIN: (torch.float32, "plain"), "float32": (torch.float32, "fast"), "bfloat16": (torch.bfloat16, "fast")}


def times(rounds: int, batches: Sequence[int], words_before: int) -> list[dict[str, Any]]:
    """Milliseconds a word of every mode and batch size, and how many times as fast as `PLAIN` that is."""
    cpu = torch.device("cpu")
    stream = Stream(rounds + 1, place_of(max(batches)) + max(max(batches), 16))
    models: dict[torch.dtype, CLIP4STR] = {torch.float32: scripted_model(cpu)[0]}
    models[torch.bfloat16] = copy.deepcopy(models[torch.float32]).bfloat16()
    seen = list(dict.fromkeys(page_words(words_before, seed=10)))
    cases: list[Case] = []
    for mode, (dtype, decoding) in _MODES.items():
        model, cache = models[dtype], CaptionCache() if decoding == "fast" else CaptionCache(max_bytes=0)
        if cache.max_bytes:
            model.text_tower.cache = cache
            with torch.inference_mode():
                model.text_tower.encode(seen)
        for batch in batches:
            predictor = recognition_predictor_of(model, batch_size=batch)
            case = predictor_case(ARCH, decoding, batch, stream, predictor, Script(model).dictate, 1, cache)
            case.mode = mode
            cases.append(case)
    interleave(cases, rounds)
    plain = {case.batch: median(case.milliseconds) for case in cases if case.mode == PLAIN}
    return [
        {**case.summary(), "times_as_fast": round(plain[case.batch] / median(case.milliseconds), 2)} for case in cases
    ]


def changed_strings(suites: Sequence[str], words: int) -> dict[str, dict[str, float]]:
    """Set of words -> shares of the embedded model's answers that stay as in float32, of all and of those that are
    right there, and of right ones in float32 and bfloat16; "running text" is the stream that is timed."""
    model = clip4str_vn_tiny(pretrained=True)
    halved = copy.deepcopy(model).bfloat16()
    readers = [recognition_predictor_of(one, batch_size=32) for one in (model, halved)]
    text = page_words(words, seed=77)
    sets = {"running text": (render_words(text, seed=77), text)}
    for name in suites:
        suite = suite_words(name, words)
        sets[name] = suite.crops, suite.labels
    figures = {}
    for name, (crops, labels) in sets.items():
        full, half = ([answer for answer, _ in read(crops)] for read in readers)
        same = [one == other for one, other in zip(full, half, strict=True)]
        right = [one == label for one, label in zip(full, labels, strict=True)]
        figures[name] = {
            "same": round(sum(same) / len(same), 4),
            "same_of_right": round(sum(a and b for a, b in zip(same, right, strict=True)) / max(sum(right), 1), 4),
            "right_float32": round(sum(right) / len(right), 4),
            "right_bfloat16": round(sum(a == b for a, b in zip(half, labels, strict=True)) / len(labels), 4),
        }
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of all cases in turn (default: 5)")
    parser.add_argument("--words", type=int, default=500, help="of each suite (default: 500)")
    parser.add_argument("--words-before", type=int, default=WORDS_BEFORE, metavar="N", help="the cache has seen")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    figures = {
        "what": f"{ARCH}, random weights that say the words; recognition_predictor(crops) to strings",
        "cpu": cpu_name(),
        "threads": THREADS,
        "torch": torch.__version__,
        "version": __version__,
        "commit": package_commit(),
        "words_before": args.words_before,
        "cases": times(args.rounds, BATCHES, args.words_before),
        "peak_memory": {name: peak_memory_elsewhere(ARCH, name) for name in ("float32", "bfloat16")},
        "strings": changed_strings(tuple(SUITES), args.words),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_name(f".{args.out.name}.part")
    part.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(args.out)


if __name__ == "__main__":
    main()
