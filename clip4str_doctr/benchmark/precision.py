"""What bfloat16 and int8 give and cost here: `python -m clip4str_doctr.benchmark.precision [--int8] -o FILE.json`.

Time of both models over the stream of words of `latency`, all of one model in turn: the plain algorithm by PyTorch's
own products in float32, as the reference computes; fast in float32, and in what is less precise; peak memory; and how
many strings of the embedded model change, whose weights are no random ones.
"""

import argparse
import copy
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
    nothing_to_say,
    place_of,
    predictor_case,
)
from clip4str_doctr.benchmark.memory import MIXED, PRECISIONS, peak_memory_elsewhere
from clip4str_doctr.benchmark.page_stream import page_words, render_words
from clip4str_doctr.benchmark.report import package_commit, tell, weights_of
from clip4str_doctr.benchmark.scripted import Script, scripted_model
from clip4str_doctr.benchmark.timing import Case, interleave
from clip4str_doctr.benchmark.word_sets import suite_words
from clip4str_doctr.caption_cache import CaptionCache
from clip4str_doctr.factories import clip4str_vn_tiny
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.linear import onednn_linear
from clip4str_doctr.plugin import recognition_predictor_of
from clip4str_doctr.training.suites import SUITES

__all__ = ["changed_strings", "less_precise", "main", "times"]

logger = logging.getLogger(__name__)

ARCHS = ("clip4str_vn", "clip4str_vn_tiny")
# What all are compared with.
PLAIN = "float32, plain, PyTorch's products"


def less_precise(model: CLIP4STR, int8: bool) -> dict[str, CLIP4STR]:
    """Copies of a model in float32: "bfloat16", mixed precision and, if asked for, "int8": the towers' linear layers
    quantised by torchao, activations as they come. Raises ImportError where torchao is missing."""
    copies = {"bfloat16": copy.deepcopy(model).bfloat16(), MIXED: copy.deepcopy(model).mixed_precision().pack()}
    if int8:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        copies["int8"] = copy.deepcopy(model)
        for tower in (copies["int8"].image_tower, copies["int8"].text_tower):
            quantize_(tower, Int8DynamicActivationInt8WeightConfig())
    return copies


def times(arch: str, rounds: int, batches: Sequence[int], words_before: int, int8: bool) -> list[dict[str, Any]]:
    """Milliseconds a word of every mode and batch size, and how many times as fast as `PLAIN` that is."""
    stream = Stream(rounds + 1, place_of(max(batches)) + max(max(batches), 16))
    scripted = arch == "clip4str_vn"
    full = scripted_model(torch.device("cpu"))[0] if scripted else clip4str_vn_tiny(pretrained=True)
    seen = list(dict.fromkeys(page_words(words_before, seed=10)))
    cases: list[Case] = []
    for mode, model in {PLAIN: full, "float32": full, **less_precise(full, int8)}.items():
        decoding, cache = ("plain", CaptionCache(max_bytes=0)) if mode == PLAIN else ("fast", CaptionCache())
        if cache.max_bytes:
            model.text_tower.cache = cache
            with torch.inference_mode():
                model.text_tower.encode(seen)
        before = Script(model).dictate if scripted else nothing_to_say
        for batch in batches:
            predictor = recognition_predictor_of(model, batch_size=batch)
            case = predictor_case(arch, decoding, batch, stream, predictor, before, 1, cache)
            case.mode = mode
            if mode == PLAIN:
                case.read = onednn_linear(False)(case.read)
            cases.append(case)
    interleave(cases, rounds)
    plain = {case.batch: median(case.milliseconds) for case in cases if case.mode == PLAIN}
    return [
        {**case.summary(), "times_as_fast": round(plain[case.batch] / median(case.milliseconds), 2)} for case in cases
    ]


def changed_strings(suites: Sequence[str], words: int, int8: bool) -> dict[str, dict[str, Any]]:
    """Set of words -> share of right answers of the embedded model in float32, and of each that is less precise: what
    share is right, stays the same, and stays of those that were right. "running text" is the stream that is timed."""
    model = clip4str_vn_tiny(pretrained=True)
    models = {"float32": model, **less_precise(model, int8)}
    readers = {name: recognition_predictor_of(one, batch_size=32) for name, one in models.items()}
    text = page_words(words, seed=77)
    sets = {"running text": (render_words(text, seed=77), text)}
    for name in suites:
        suite = suite_words(name, words)
        sets[name] = suite.crops, suite.labels
    figures: dict[str, dict[str, Any]] = {}
    for name, (crops, labels) in sets.items():
        answers = {kind: [answer for answer, _ in read(crops)] for kind, read in readers.items()}
        full = answers.pop("float32")
        right = [one == label for one, label in zip(full, labels, strict=True)]
        figures[name] = {"right_float32": _share(right)}
        for kind, strings in answers.items():
            same = [one == other for one, other in zip(full, strings, strict=True)]
            figures[name][kind] = {
                "right": _share([one == label for one, label in zip(strings, labels, strict=True)]),
                "same": _share(same),
                "same_of_right": _share([stays for stays, was in zip(same, right, strict=True) if was]),
            }
        logger.info("%s: %s", name, figures[name])
    return figures


def _share(true: Sequence[bool]) -> float:
    return round(sum(true) / max(len(true), 1), 4)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of all cases in turn (default: 5); 0: strings alone")
    parser.add_argument("--words", type=int, default=500, help="of each suite (default: 500)")
    parser.add_argument("--words-before", type=int, default=WORDS_BEFORE, metavar="N", help="the cache has seen")
    parser.add_argument("--int8", action="store_true", help="time that, too; needs torchao")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    figures: dict[str, Any] = {
        "what": "recognition_predictor(crops), from memory to strings; clip4str_vn: random weights that say the words",
        "cpu": cpu_name(),
        "threads": THREADS,
        "torch": torch.__version__,
        "version": __version__,
        "commit": package_commit(),
        "words_before": args.words_before,
        **weights_of(find_weights("clip4str_vn_tiny")),
    }
    if args.rounds:
        figures["cases"] = [
            case for arch in ARCHS for case in times(arch, args.rounds, BATCHES, args.words_before, args.int8)
        ]
        tell(figures, args.out)  # what follows takes other processes, which may find no memory
        figures["peak_memory"] = {
            arch: {name: peak_memory_elsewhere(arch, name) for name in PRECISIONS} for arch in ARCHS
        }
    figures["words_of_each"] = args.words
    figures["strings"] = changed_strings(tuple(SUITES), args.words, args.int8)
    tell(figures, args.out)


if __name__ == "__main__":
    main()
