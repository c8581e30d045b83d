"""How much memory reading takes: `python -m clip4str_doctr.benchmark.memory [--crops N]...`.

Resident size of one process that reads an archive, page by page, with the small model; and the peak of one batch with
either model. The published size has random weights that say what they are told (`scripted`).
"""

import argparse
import gc
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from clip4str_doctr.benchmark.page_stream import page_words, render_words
from clip4str_doctr.benchmark.scripted import scripted_model
from clip4str_doctr.factories import clip4str_vn_tiny
from clip4str_doctr.plugin import recognition_predictor_of

__all__ = ["MIXED", "PRECISIONS", "archive_memory", "main", "peak_memory", "peak_memory_elsewhere"]

logger = logging.getLogger(__name__)

# What is documented as the fastest on CPUs that compute in bfloat16.
MIXED = "mixed, packed"
PRECISIONS = ("float32", "bfloat16", MIXED)
_MB = 2**20
# An archive's pages: so many words each, drawn from so many pictures, none quite like another.
_PAGE, _PICTURES = 200, 500


def _pages(crops: int) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Pages of words in running text, `crops` in all; every picture gets noise of its own."""
    random = np.random.default_rng(0)
    pictures = render_words(page_words(_PICTURES, seed=21), seed=21)
    for start in range(0, crops, _PAGE):
        drawn = [pictures[int(random.integers(_PICTURES))] for _ in range(min(_PAGE, crops - start))]
        noise = [random.integers(-12, 13, one.shape, np.int16) for one in drawn]
        yield [np.clip(one + dirt, 0, 255).astype(np.uint8) for one, dirt in zip(drawn, noise, strict=True)]


def archive_memory(stops: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """Resident MB (2**20 bytes) after so many crops read by `clip4str_vn_tiny`, batches of 32, and what its captions'
    cache holds of it. Raises ValueError if a stop is less than 1."""
    if min(stops) < 1:
        raise ValueError(f"stops must be 1 crop or more, got {min(stops)}")
    model = clip4str_vn_tiny(pretrained=True)
    read = recognition_predictor_of(model, batch_size=32)
    figures: dict[str, dict[str, float | None]] = {}
    done, waiting = 0, sorted(set(stops))
    for page in _pages(waiting[-1]):
        # A page may hold several stops.
        while page and waiting:
            part, page = page[: waiting[0] - done], page[waiting[0] - done :]
            read(part)
            done += len(part)
            if done == waiting[0]:
                gc.collect()
                held = model.text_tower.cache.info().size / _MB
                figures[str(done)] = {"resident_mb": _resident_mb("VmRSS"), "of_that_captions_mb": round(held, 2)}
                logger.info("%d crops: %s", waiting.pop(0), figures[str(done)])
    return figures


def peak_memory(arch: str, precision: str = "float32") -> dict[str, float | None]:
    """Of this process, after a batch of 32 words; MB of 2**20 bytes. precision: one of PRECISIONS."""
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    model, script = (
        scripted_model(torch.device("cpu"), dtype)
        if arch == "clip4str_vn"
        else (clip4str_vn_tiny(pretrained=True).to(dtype), None)
    )
    if precision == MIXED:
        # The text tower, most of the model, was made as it is to be.
        for part in (model.image_tower, model.visual_decoder, model.cross_decoder):
            part.float()
        model.mixed_precision().pack()
    words = page_words(32, seed=12)
    if script is not None:
        script.dictate(words)
    # Noise: the renderer's fonts would count too.
    crops = [np.random.default_rng(0).integers(0, 256, (32, 90, 3), np.uint8) for _ in words]
    recognition_predictor_of(model, batch_size=32)(crops)
    parameters = sum(one.numel() * one.element_size() for one in model.parameters())
    return {"peak_mb": _resident_mb("VmHWM"), "parameters_mb": round(parameters / _MB, 1)}


def _resident_mb(what: str) -> float | None:
    """VmRSS, now, or VmHWM, at most. From /proc where there is one: elsewhere the peak stands for both, and `getrusage`
    on Linux counts what the parent process had, too. None on Windows, which has neither."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(f"{what}:"))
        return round(int(line.split()[1]) * 1024 / _MB, 1)
    if sys.platform == "win32":
        return None
    import resource

    # macOS counts in bytes, others in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return round(peak / _MB, 1)


def peak_memory_elsewhere(arch: str, precision: str = "float32") -> dict[str, float | None]:
    """As `peak_memory`, in a process of its own, which has read nothing else. Raises RuntimeError if that fails."""
    command = [sys.executable, "-m", "clip4str_doctr.benchmark.memory", "--peak", arch, "--precision", precision]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing; memory may have ended"]
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {said[0]}")
    figures: dict[str, float | None] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--crops", type=int, action="append", metavar="N", help="may be repeated (default: 1000, 10000)"
    )
    parser.add_argument("--peak", choices=("clip4str_vn", "clip4str_vn_tiny"), help="of one batch of 32 words, instead")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the peak's model")
    args = parser.parse_args()
    # As latency.py has it: every thread has buffers of its own.
    torch.set_num_threads(2)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    print(
        json.dumps(
            peak_memory(args.peak, args.precision) if args.peak else archive_memory(args.crops or (1000, 10000)),
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
