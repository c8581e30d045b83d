"""What reading costs: milliseconds a word and memory, each recogniser in a fresh process of its own.

`measure_costs` starts the processes; `python -m clip4str_doctr.benchmark.cost` is what runs in them.
"""

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from clip4str_doctr.benchmark.recognisers import Crops, Recogniser, as_path, recogniser
from clip4str_doctr.benchmark.report import device_name, package_commit

__all__ = ["cost_words", "measure_cost", "measure_costs"]

logger = logging.getLogger(__name__)

_WORDS, _SEED, _BATCH, _ROUNDS = 64, 5, 32, 5

PROTOCOL = {
    "words": f"rendered words as often as Vietnamese text has them (benchmark.page_stream, seed {_SEED})",
    "ms_per_word": f"median of {_ROUNDS} rounds of {_WORDS} words each, other words every time, {_BATCH} a call "
    "(which rapidocr and vietocr read one by one), after a round that is not counted; from crops in memory to strings",
    "memory_mb": "most memory the process had at a time, less what it had with Python, torch and this package alone "
    "before the recogniser was loaded; a program that it calls is counted whole",
    "threads": "each recogniser's own default",
}


def cost_words() -> Crops:
    """The crops that times are of, for all rounds. Raises RuntimeError if the fonts are not installed."""
    from clip4str_doctr.benchmark.page_stream import page_words, render_words

    return render_words(page_words(_WORDS * (_ROUNDS + 1), _SEED), _SEED)


def measure_costs(
    specs: Sequence[str], device: str = "cpu", crops: Crops | None = None, tell: Callable[[str], object] = logger.info
) -> dict[str, Any]:
    """Names of recognisers, as `recogniser` takes them -> {"protocol", "made", "models": name in tables -> costs}.

    One that fails is told, and has no costs. Raises RuntimeError, with what the process said, if all do.
    """
    words = cost_words() if crops is None else crops
    models: dict[str, Any] = {}
    failure = "there are no recognisers to measure"
    with tempfile.TemporaryDirectory() as folder:
        file, answer = Path(folder) / "crops.npz", Path(folder) / "costs.json"
        np.savez(file, *words)
        for spec in specs:
            command = [sys.executable, "-m", __name__, as_path(spec), str(file), str(answer), "--device", device]
            done = subprocess.run(command, capture_output=True, encoding="utf-8")
            if done.returncode:
                failure = f"measuring {spec} failed with status {done.returncode}:\n{done.stderr.strip()}"
                logger.warning(failure)
                continue
            told = json.loads(answer.read_text(encoding="utf-8"))
            models[told.pop("name")] = told
            tell(f"{spec}: {told['ms_per_word']} ms a word, {told['memory_mb']} MB")
    if not models:
        raise RuntimeError(failure)
    made = {
        "device": device_name(device),
        "torch": torch.__version__,
        "commit": package_commit(),
    }
    return {"protocol": PROTOCOL, "made": made, "models": models}


def measure_cost(one: Recogniser, crops: Crops, rounds: int = _ROUNDS, batch: int = _BATCH) -> dict[str, Any]:
    """Milliseconds a word of a recogniser in this process, and the load of the machine.

    crops: for all rounds and the one before that is not counted, each of which reads a part of its own.
    """
    count = len(crops) // (rounds + 1)
    if not count:
        raise ValueError(f"{rounds + 1} rounds need a crop each at least, got {len(crops)}")
    parts = [crops[start : start + count] for start in range(0, count * (rounds + 1), count)]
    values = [1000 * _round(one, part, batch) / count for part in parts][1:]
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


class _Children(threading.Thread):
    """While it runs, looks again and again how much memory the programs that this process has started take at most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0
        self._stop_now = threading.Event()

    def run(self) -> None:
        while not self._stop_now.wait(0.01):
            for task in Path("/proc/self/task").glob("*/children"):
                for child in _read(task).split():
                    # Before it is another program it shows this one's memory.
                    if _program(child) not in ("", _program("self")):
                        self.most = max(self.most, _peak_mb(child) or 0.0)

    def stop(self) -> float:
        self._stop_now.set()
        self.join()
        return self.most


def _peak_mb(process: str = "self") -> float | None:
    """Most resident memory of a process in megabytes so far; None where the system has no /proc that tells.

    Not `getrusage`, whose figure a new process inherits from the one that started it.
    """
    found = re.search(r"VmHWM:\s*(\d+) kB", _read(Path("/proc") / process / "status"))
    return int(found[1]) * 1024 / 1e6 if found else None


def _program(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/exe")
    except OSError:  # it has ended
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # it has ended, or there is no /proc
        return ""


def main() -> None:
    """One recogniser, told as a file of JSON: whatever its package prints is something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec")
    parser.add_argument("crops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with np.load(arguments.crops) as stored:
        crops = [stored[name] for name in stored.files]
    before = _peak_mb()
    begin = time.perf_counter()
    one = recogniser(arguments.spec, arguments.device)
    loading = time.perf_counter() - begin
    costs = measure_cost(one, crops)
    # Watching takes time, so it has a round of its own.
    children = _Children()
    children.start()
    _round(one, crops[:_WORDS], _BATCH)
    called, after = children.stop(), _peak_mb()
    memory = None if before is None or after is None else round(after - before + called, 1)
    costs |= {"name": one.name, "memory_mb": memory, "load_seconds": round(loading, 2)}
    if arguments.device.startswith("cuda"):
        costs["gpu_mb"] = round(torch.cuda.max_memory_allocated(arguments.device) / 1e6, 1)
    arguments.out.write_text(json.dumps(costs), encoding="utf-8")


if __name__ == "__main__":
    main()
