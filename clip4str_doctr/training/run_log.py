"""What a training run tells while it runs: log lines, log.jsonl, and the clock of its schedule."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clip4str_doctr.atomic import written
from clip4str_doctr.training.run_folder import said_by

if TYPE_CHECKING:
    from clip4str_doctr.training.loop import StepReport, TrainingRun

__all__ = ["LONGEST_TICK", "RunLog"]

logger = logging.getLogger(__name__)

# Seconds: no step or validation of one style takes longer, a pause does.
LONGEST_TICK = 120.0


class RunLog:
    """Log lines and log.jsonl, and the clock that `active_seconds` is counted by.

    Lines of steps that the run has not made, as one that was killed leaves them behind its last checkpoint, go first;
    of a run that never saved one, all.
    """

    def __init__(self, run: "TrainingRun", path: Path) -> None:
        self.run, self.path = run, path
        kept = _cut_after(path, run.step if run.step else -1)
        self.last_tick = time.monotonic()
        self.window_seconds = run.active_seconds
        self.window_step = run.step
        validations = [line for line in kept if line.get("kind") == "validation"]
        self.validated_step = validations[-1]["step"] if validations else -1
        if self.validated_step == run.step:  # killed between the two, its checkpoint has the scores of before
            run.scores = {style: scores for style, scores in validations[-1].items() if isinstance(scores, dict)}
            run.scored_step = run.step
        self.totals: dict[str, Tensor] = {}

    def tick(self) -> None:
        """Count the time since the last tick as active, but for a pause (SIGSTOP, a sleeping laptop)."""
        now = time.monotonic()
        self.run.active_seconds += min(now - self.last_tick, LONGEST_TICK)
        self.last_tick = now

    def step(self, report: "StepReport") -> None:
        """Remember a step's figures; on every `log_every`th write their means."""
        run = self.run
        for one in fields(report):
            self.totals[one.name] = self.totals.get(one.name, 0.0) + getattr(report, one.name)
        if run.step % run.recipe.run.log_every:
            return
        steps = run.step - self.window_step
        seconds = max(run.active_seconds - self.window_seconds, 1e-9)
        means = {name: round(float(total) / steps, 4) for name, total in self.totals.items()}
        speed = {
            "lr": run.optimizer.param_groups[0]["lr"],
            "images_per_second": round(steps * run.recipe.data.batch_size / seconds, 1),
        }
        self._write({"kind": "train", **means, **speed})
        self.window_step, self.window_seconds = run.step, run.active_seconds
        self.totals.clear()

    def validation(self, held_out: Mapping[str, tuple[list[npt.NDArray[np.uint8]], list[str]]]) -> None:
        """Score the averaged weights on the crops and labels of each style, and write that."""
        model = self.run.averaged_model()
        scores = {}
        for style, (crops, labels) in held_out.items():
            scores[style] = asdict(self.run.pupil.score(model, crops, labels))
            self.tick()
        self.validated_step = self.run.step
        rounded = {style: {name: round(one, 4) for name, one in parts.items()} for style, parts in scores.items()}
        self.run.scores, self.run.scored_step = rounded, self.run.step
        self._write({"kind": "validation", **rounded})

    def _write(self, values: Mapping[str, Any]) -> None:
        run = self.run
        clock = {"step": run.step, "samples": run.samples, "progress": round(run.progress, 5)}
        line = {**clock, **values, "active_seconds": round(run.active_seconds, 1)}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        logger.info("%s", " ".join(f"{key} {value}" for key, value in line.items()))


def _cut_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Leave of a log the lines up to a step -> what they say; what is no line, torn off by a crash, goes, too."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = {line: said for line in lines if line.endswith("\n") and (said := said_by(line)) and said["step"] <= step}
    if len(kept) < len(lines):
        with written(path) as part:
            part.write_text("".join(kept), encoding="utf-8")
    return list(kept.values())
