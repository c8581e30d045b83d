"""What reading costs: milliseconds a word and memory, each recogniser in a fresh process of its own.

`measure_costs` starts the processes; `python -m clip4str_doctr.benchmark.cost` is what runs in them.
"""

import argparse
import json
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

import numpy as np
import torch

from clip4str_doctr.benchmark.recognisers import Crops, Recogniser, recogniser

__all__ = ["cost_words", "measure_cost", "measure_costs"]

logger = logging.getLogger(__name__)

_WORDS, _SEED, _BATCH, _ROUNDS = 64, 5, 32, 5

PROTOCOL = {
    "words": f"{_WORDS} rendered words as often as Vietnamese text has them (benchmark.page_stream, seed {_SEED})",
    "ms_per_word": f"median of {_ROUNDS} rounds over all words, {_BATCH} a call, after one that is not counted; from "
    "crops in memory to strings",
    "memory_mb": "most memory the process had at a time, less what it had with Python, torch and this package alone "
    "before the recogniser was loaded; a program that it calls is counted whole",
    "threads": "each recogniser's own default",
}


def cost_words() -> Crops:
    """The crops that times are of. Raises RuntimeError if the fonts are not installed."""
    from clip4str_doctr.benchmark.page_stream import page_words, render_words

    return render_words(page_words(_WORDS, _SEED), _SEED)


def measure_costs(
    specs: Sequence[str], device: str = "cpu", crops: Crops | None = None, tell: Callable[[str], object] = logger.info
) -> dict[str, Any]:
    """Names of recognisers, as `recogniser` takes them -> {"protocol", "made", "models": name in tables -> costs}.

    Raises RuntimeError, with what the process said, if one fails.
    """
    words = cost_words() if crops is None else crops
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crops.npz"
        np.savez(file, *words)
        for spec in specs:
            command = [sys.executable, "-m", __name__, spec, str(file), "--device", device]
            done = subprocess.run(command, capture_output=True, encoding="utf-8")
            if done.returncode:
                raise RuntimeError(f"measuring {spec} failed with status {done.returncode}:\n{done.stderr.strip()}")
            told = json.loads(done.stdout.splitlines()[-1])
            models[told.pop("name")] = told
            tell(f"{spec}: {told['ms_per_word']} ms a word, {told['memory_mb']} MB")
    made = {"device": f"{device} ({platform.machine()}, {os.cpu_count()} cores)", "torch": torch.__version__}
    return {"protocol": PROTOCOL, "made": made, "models": models}


def measure_cost(one: Recogniser, crops: Crops, rounds: int = _ROUNDS, batch: int = _BATCH) -> dict[str, Any]:
    """Milliseconds a word of a recogniser in this process, and the load of the machine."""
    seconds = [_round(one, crops, batch) for _ in range(rounds + 1)][1:]
    values = [1000 * value / len(crops) for value in seconds]
    return {
        "ms_per_word": round(median(values), 3),
        "range": [round(min(values), 3), round(max(values), 3)],
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def _round(one: Recogniser, crops: Crops, batch: int) -> float:
    begin = time.perf_counter()
    for start in range(0, len(crops), batch):
        one(crops[start : start + batch])
    # Strings are on the CPU, so whatever the device was asked for is done.
    return time.perf_counter() - begin


def _peak_mb() -> tuple[float, float] | None:
    """Most resident memory of this process and of the largest it has called; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    own, called = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own * unit / 1e6, called * unit / 1e6


def main() -> None:
    """One recogniser, told as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec")
    parser.add_argument("crops", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with np.load(arguments.crops) as stored:
        crops = [stored[name] for name in stored.files]
    before = _peak_mb()
    begin = time.perf_counter()
    one = recogniser(arguments.spec, arguments.device)
    loading = time.perf_counter() - begin
    costs = measure_cost(one, crops)
    after = _peak_mb()
    memory = None if before is None or after is None else round(after[0] - before[0] + after[1], 1)
    costs |= {"name": one.name, "memory_mb": memory, "load_seconds": round(loading, 2)}
    if arguments.device.startswith("cuda"):
        costs["gpu_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
