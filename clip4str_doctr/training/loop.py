"""The training run: batches in, checkpoints, log lines and at the end a weights folder out.

`clip4str-doctr train RECIPE --out FOLDER` runs it; a run that was stopped goes on where it was.
"""

import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Read when torch starts. Waiting OpenMP threads spin briefly, then sleep: spinning on takes the rendering worker's
# core, sleeping at once costs a wake-up in each of a step's hundreds of parallel regions (163 against
# 180 words/s on 2 cores).
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import torch
from torch import Tensor, nn

from clip4str_doctr.atomic import written
from clip4str_doctr.checkpoint import read_run_state
from clip4str_doctr.config import model_config_to_dict
from clip4str_doctr.preprocess import normalize
from clip4str_doctr.training.data import (
    Batch,
    Pools,
    SamplesFactory,
    batches_from,
    default_samples,
    is_mixed,
    usable_cores,
    validation_crops,
)
from clip4str_doctr.training.finetune import OwnWords, mixed_with, own_words
from clip4str_doctr.training.freezing import freeze, recompute_layers
from clip4str_doctr.training.losses import CTCHead, batch_weight, counted_targets, encode_labels
from clip4str_doctr.training.optim import (
    MovingAverage,
    build_optimizer,
    schedule_factor,
    schedule_progress,
    set_learning_rate,
)
from clip4str_doctr.training.precision import autocast_dtype
from clip4str_doctr.training.pupils import find_pupil
from clip4str_doctr.training.recipe import (
    FREE_KEYS,
    FreezeRecipe,
    OtherRecipeError,
    Recipe,
    RecipeError,
    recipe_from_dict,
)
from clip4str_doctr.training.run_folder import CHECKPOINT, LOG, WEIGHTS, check_unused, is_exported, remove_parts
from clip4str_doctr.training.run_lock import only_run, stop_requests
from clip4str_doctr.training.run_log import RunLog
from clip4str_doctr.training.start import Start, check_alphabet, config_of_run, find_start, fitting_head
from clip4str_doctr.training.validate import watched_styles

logger = logging.getLogger(__name__)

MAX_SKIPPED = 20
# What a run needs of its checkpoint to go on.
_RUN_PARTS = "config recipe step active_seconds scores model ctc_head average optimizer".split()


def train(
    recipe: Recipe,
    out: str | Path,
    factory: SamplesFactory = default_samples,
    *,
    tokenizer: str | Path | None = None,
    strict_labels: bool = False,
) -> bool:
    """Run a recipe to its end, or until SIGINT or SIGTERM, and keep everything in the folder `out`.

    `out` gets checkpoint.pt, log.jsonl and, at the end, the folder weights/ (float16, of the averaged weights).
    If checkpoint.pt exists the run goes on from it, exactly as if it had never stopped -> whether the run is complete.
    Otherwise it starts from `recipe.model.init`, for which `tokenizer` is as in `find_start`.
    strict_labels: as in `own_words`; the words that are left out without it are listed in left_out.tsv.
    Raises OtherRecipeError if the checkpoint belongs to another recipe or other words, or if `out` holds weights but no
    checkpoint, RecipeError for a model that cannot be, or cannot write what is rendered, and for a folder that another
    run writes to, DatasetError for data sets that cannot be used, MissingFontsError where there is nothing to render
    with, WeightsError for a checkpoint.pt that is damaged or another's, and what `find_start` raises.
    """
    out = Path(out)
    state: dict[str, Any] | None = None
    with ExitStack() as held:
        if (out / CHECKPOINT).exists():
            # Held before it is read: another process may be about to save what comes after it.
            held.enter_context(only_run(out))
            # Mapped: beside what is built from it there would be no room for gigabytes read. It is let go below.
            state = read_run_state(out / CHECKPOINT, _RUN_PARTS, mapped=True)
        # Going on needs only what the checkpoint holds, even if what it once started from has gone.
        start = find_start(recipe.model, tokenizer) if state is None else Start(config_of_run(state, out / CHECKPOINT))
        rendering = factory is default_samples and bool(watched_styles(recipe))
        if rendering:
            check_alphabet(start.config)
        own = own_words(recipe.words, start.config, strict_labels)
        if state is None:
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(only_run(out))
            check_unused(out)
        torch.set_num_threads(recipe.run.threads)
        run = TrainingRun(recipe, start, own, precision=None if state is None else state.get("precision"))
        if state is not None:
            run.load_state_dict(state)
            logger.info("resumed at step %d", run.step)
            if run.progress >= 1.0 and is_exported(out, recipe.model.reader):
                return True
        # Gigabytes of the published model, of which the run has its own copies.
        state, image_size = None, start.config.image_tower.image_size
        del start
        if rendering:
            run.check_fonts()
        remove_parts(out)
        if own is not None:
            factory = mixed_with(own, recipe, factory, out, image_size)
        with stop_requests() as stop:
            _advance(run, out, factory, stop)
        if run.progress < 1.0:
            return False
        export = run.pupil.export
        del run
        export(out / CHECKPOINT, out / WEIGHTS)
        return True


@dataclass(frozen=True)
class StepReport:
    """Figures of one step, as tensors: each of them read waits for the device, so only those of logged steps are."""

    loss: Tensor
    visual: Tensor
    cross: Tensor
    ctc: Tensor
    characters: Tensor
    words: Tensor
    grad_norm: Tensor


class TrainingRun:
    """Everything that a run changes: weights, averages, optimiser, counters. One `advance` is one step."""

    def __init__(
        self,
        recipe: Recipe,
        start: Start | None = None,
        own: OwnWords | None = None,
        precision: str | None = None,
    ) -> None:
        """start: default what the recipe says. own: the user's words, if some are trained on. precision: the
        property's, of a run that goes on."""
        start = start or find_start(recipe.model)
        self.own = own
        torch.manual_seed(recipe.run.seed)
        self.recipe = recipe
        self.origin = start.origin
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.autocast = autocast_dtype(recipe.run.precision, self.device, precision)
        self.config = start.config
        self.pupil = find_pupil(recipe.model.reader)
        try:
            self.model: Any = self.pupil.build(self.config)
        except ValueError as error:
            raise RecipeError(f"model.overrides ask for what cannot be built: {error}") from error
        if start.weights is not None:
            self.model.load_state_dict(start.weights)
        self.model.to(self.device)
        self.frozen = [] if recipe.freeze == FreezeRecipe() else freeze(self.model, recipe.freeze)
        if recipe.run.recompute:
            recompute_layers(self.model)
        if max(recipe.loss.ctc_weight, recipe.loss.ctc_weight_end) > 0:
            tower = self.model.feat_extractor
            CTCHead.check_grid(getattr(tower, "tower", tower), recipe.loss.ctc_rows)
        self.ctc_head = CTCHead(
            self.config.decoder.width,
            len(self.config.symbols),
            rows=recipe.loss.ctc_rows,
            steps=recipe.loss.ctc_steps_per_column,
        )
        if (head := fitting_head(start.ctc_head, self.ctc_head.state_dict())) is not None:
            self.ctc_head.load_state_dict(head)
        self.ctc_head.to(self.device)
        if self.origin is not None:
            logger.info("started from %s, SHA-256 %s", self.origin["name"], self.origin["sha256"])
        self.optimizer = build_optimizer(self.model, self.ctc_head, recipe.optim)
        self.average = MovingAverage(self.model, recipe.optim.ema_decay, from_random=start.weights is None)
        still = {part for one in self.frozen for part in one.modules()}
        norms = [one for one in self.model.modules() if isinstance(one, nn.BatchNorm2d)]
        self.batch_norms = [one for one in norms if one not in still]
        self.step = 0
        self.skipped = 0
        self.fonts: str | None = None  # `fonts_digest` of what its words are rendered with
        self.active_seconds = 0.0
        self.scores: dict[str, dict[str, float]] = {}  # of the last validation, by style
        self.scored_step = 0  # when that was
        self.model.train()
        for part in self.frozen:
            part.eval()

    @property
    def samples(self) -> int:
        return self.step * self.recipe.data.batch_size

    @property
    def progress(self) -> float:
        return schedule_progress(self.samples, self.active_seconds, self.recipe.schedule)

    @property
    def precision(self) -> str:
        """The dtype that steps are computed in, autocast's or the weights'."""
        return str(self.autocast or torch.float32)

    def check_fonts(self) -> None:
        """Remember what words are rendered with; warn if it was something else when the run was saved."""
        from clip4str_doctr.training.synth.families import fonts_digest

        found = fonts_digest(street=bool(self.recipe.data.page or self.recipe.data.sign))
        if self.fonts not in (None, found):
            logger.warning("the run so far had other fonts than there are now: from here on its words look otherwise")
        self.fonts = found

    @property
    def _step_seed(self) -> int:
        """What a step draws by hangs on its number: resuming needs no state of a generator."""
        return self.recipe.run.seed * 1_000_003 + self.step

    def advance(self, batch: Batch) -> StepReport:
        """Learn from one batch."""
        loss_recipe = self.recipe.loss
        learn_norms = is_mixed(self.samples, self.recipe.schedule.total_samples, self.recipe.data)
        for norm_layer in self.batch_norms:
            norm_layer.train(learn_norms)
        set_learning_rate(self.optimizer, schedule_factor(self.progress, self.recipe.schedule))
        ctc_weight = loss_recipe.ctc_weight + self.progress * (loss_recipe.ctc_weight_end - loss_recipe.ctc_weight)
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(self._step_seed)  # of what models draw themselves: the published text tower has dropout
        report = self._learn(batch, encode_labels(self.config, batch.labels), ctc_weight)
        parameters = [*self.model.parameters(), *self.ctc_head.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.optim.clip_norm)
        self._apply(norm)
        self.step += 1
        return replace(report, grad_norm=norm.detach())

    def _learn(self, batch: Batch, encoded: list[list[int]], ctc_weight: float) -> StepReport:
        """Leave the batch's gradient in the parameters; the parts it is cut into weigh as in means over all of it."""
        recipe = self.recipe.loss
        size = -(-len(encoded) // self.recipe.run.accumulate)
        parts = [slice(first, first + size) for first in range(0, len(encoded), size)]
        targets = [counted_targets(encoded[part], recipe.permutations) for part in parts]
        totals: dict[str, Tensor] = {}
        weight = batch_weight(encoded, recipe.length_weight)
        for part, counted in zip(parts, targets, strict=True):
            # The same for each part: all read alike.
            generator = torch.Generator().manual_seed(self._step_seed)
            pixels = batch.pixels[part].to(self.device).permute(0, 3, 1, 2).float() / 255
            pixels = normalize(pixels, self.config.preprocess)
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                branches = self.pupil.losses(self.model, pixels, encoded[part], recipe, generator)
                # Without it, image towers whose tokens form no grid of columns can be trained, too.
                ctc = self.ctc_head.loss(branches.image_tokens, encoded[part]) if ctc_weight else torch.zeros(())
            of_targets, of_words = counted / sum(targets), len(encoded[part]) / len(encoded)
            figures = {
                "visual": branches.visual * of_targets,
                "cross": branches.cross * of_targets,
                "ctc": ctc.to(self.device) * of_words,
                "characters": branches.characters * of_targets,
                "words": branches.words * of_words,
            }
            loss = recipe.visual_weight * figures["visual"] + recipe.cross_weight * figures["cross"]
            figures["loss"] = loss + ctc_weight * figures["ctc"]
            (weight * figures["loss"]).backward()  # type: ignore[no-untyped-call]  # torch has no hint for it
            for name, figure in figures.items():
                totals[name] = totals.get(name, 0.0) + figure.detach()
        return StepReport(**totals, grad_norm=torch.zeros(()))

    def _apply(self, norm: Tensor) -> None:
        """Take the optimiser's step, unless the gradient is not finite; FloatingPointError if that keeps happening."""
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.model)
            self.skipped = 0
            return
        self.skipped += 1
        logger.warning("step %d skipped: its gradient is not finite", self.step)
        if self.skipped >= MAX_SKIPPED:
            raise FloatingPointError(
                f"{self.skipped} gradients in a row were not finite; lower optim.learning_rate, in a new folder"
            )

    def averaged_model(self) -> Any:
        """A float32 copy with the averaged weights, in eval mode."""
        model = self.pupil.build(self.config).to(self.device)
        self.average.copy_to(model)
        return model.eval()

    def state_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_dict(),
            "config": model_config_to_dict(self.config),
            "origin": self.origin,
            "own_words": None if self.own is None else self.own.to_dict(),
            "step": self.step,
            "active_seconds": self.active_seconds,
            "precision": self.precision,
            "fonts": self.fonts,
            "scores": self.scores,
            "scored_step": self.scored_step,
            "model": self.model.state_dict(),
            "ctc_head": self.ctc_head.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises OtherRecipeError if the checkpoint was written by another recipe; FREE_KEYS may differ."""
        try:
            theirs, ours = recipe_from_dict(state["recipe"]).to_dict(), self.recipe.to_dict()
        except ValueError as error:
            raise OtherRecipeError(f"the checkpoint is another version's ({error}); use a new output folder") from error
        differing = [f"{part}.{key}" for part in ours for key in ours[part] if ours[part][key] != theirs[part][key]]
        if fixed := [key for key in differing if key not in FREE_KEYS]:
            raise OtherRecipeError(f"the checkpoint has another {', '.join(fixed)}; use a new output folder")
        if state.get("own_words") != (None if self.own is None else self.own.to_dict()):
            raise OtherRecipeError("the words of --data or --val have changed since the checkpoint; use a new folder")
        if state.get("precision", self.precision) != self.precision:
            logger.warning(
                "the run so far was in %s, this machine goes on in %s, which is faster here: not to the bit as there",
                *(state["precision"], self.precision),
            )
        self.model.load_state_dict(state["model"])
        self.ctc_head.load_state_dict(state["ctc_head"])
        # Anew: with its weights the model was given its tokenizer, whose files are part of what is averaged. The one
        # before goes first, for it is as large as the model.
        del self.average
        self.average = MovingAverage(self.model, self.recipe.optim.ema_decay)
        self.average.load_state_dict(state["average"])
        # Copied, for it keeps the tensors it is given, and those may lie in a file that is about to be replaced.
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self.fonts = state.get("fonts")
        self.origin = state.get("origin")  # checkpoints of before there were other starts than random ones lack it
        self.step, self.active_seconds, self.scores = state["step"], state["active_seconds"], state["scores"]
        self.scored_step = state.get("scored_step", self.step)


def _advance(run: TrainingRun, out: Path, factory: SamplesFactory, stop: list[int]) -> None:
    """Step until the recipe is used up or a signal came; log, validate and save on the way."""
    recipe = run.recipe
    pools = Pools(run.config.image_tower.image_size, recipe.schedule.total_samples, recipe.data, factory)
    # A step is as slow as the slowest of its threads: where rendering would take cores from them, it waits its turn.
    crowded = run.device.type == "cpu" and recipe.run.threads + recipe.data.workers > usable_cores()
    with closing(pools):
        batches = batches_from(run.step, pools, by_turns=crowded)
        log = RunLog(run, out / LOG)
        held_out = {style: validation_crops(style, recipe.data, factory) for style in watched_styles(recipe)}
        if run.own is not None:
            held_out["own"] = (
                [word.small_crop(run.config.image_tower.image_size) for word in run.own.val],
                [word.label for word in run.own.val],
            )
        every = max(recipe.run.validate_every // recipe.data.batch_size, 1)
        if run.step == 0 and run.origin is not None:
            log.validation(held_out)  # what there was before
        saved = time.monotonic()
        while run.progress < 1.0 and not stop:
            log.tick()
            report = run.advance(next(batches))
            log.tick()
            log.step(report)
            if run.step % every == 0:
                log.validation(held_out)
            if time.monotonic() - saved > recipe.run.checkpoint_minutes * 60:
                save_checkpoint(run, out / CHECKPOINT)
                saved = time.monotonic()
        if run.progress >= 1.0 and log.validated_step != run.step:
            log.validation(held_out)
        save_checkpoint(run, out / CHECKPOINT)


def save_checkpoint(run: TrainingRun, path: Path) -> None:
    """Write the run's state; a reader sees the old file or the new one, never a part."""
    # The prefix is what `train` knows the parts of killed runs by. Of an open file: torch would write the passing name
    # into it.
    try:
        with written(path, f"{CHECKPOINT}.") as part, open(part, "wb") as file:
            torch.save(run.state_dict(), file)
    except RuntimeError as error:
        # On a full disk torch fails once more while it closes the archive, and tells that.
        raise OSError(f"{path} cannot be written ({error}); the one before is as it was") from error
    logger.info("saved %s at step %d", path, run.step)
