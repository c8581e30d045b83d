"""Whole training runs of a micro model on words drawn as random blocks: data, learning, resuming, signals, logs."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from micro_training import MICRO, RECIPE, SYMBOLS, Blocks, micro_recipe

from clip4str_doctr.config import HALF_NORMALIZATION
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training import loop, run_log, shares
from clip4str_doctr.training.data import Pools, batches_from, clean_share, sample_style
from clip4str_doctr.training.export import export
from clip4str_doctr.training.losses import CTCHead, LossRecipe, plm_loss
from clip4str_doctr.training.metrics import Scores
from clip4str_doctr.training.optim import build_optimizer
from clip4str_doctr.training.provenance import both_licences
from clip4str_doctr.training.recipe import OptimRecipe, OtherRecipeError, RecipeError, load_recipe
from clip4str_doctr.training.run_folder import is_exported
from clip4str_doctr.training.run_lock import only_run
from clip4str_doctr.training.start import model_config
from clip4str_doctr.training.suites import SUITES
from clip4str_doctr.training.synth import fonts_installed
from clip4str_doctr.training.synth.families import FONTS_VARIABLE
from clip4str_doctr.training.validate import read_words, score, watched_certainty, watched_temperature
from clip4str_doctr.weight_card import CARD_FILE, WeightsError, read_card
from clip4str_doctr.weights import load_model, save_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the micro recipe that is at its end. For looking only: `finished` is a copy."""
    folder = tmp_path_factory.mktemp("trained")
    threads = torch.get_num_threads()
    assert loop.train(micro_recipe(), folder, Blocks)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path, one_thread: None) -> Path:
    """With the times of its files, by which a run tells whether its weights are those of its checkpoint."""
    return Path(shutil.copytree(trained, tmp_path / "finished"))


# Data


def micro_pools(workers: int, mixed_fraction: float = 0.0) -> Pools:
    data = replace(micro_recipe().data, workers=workers, mixed_fraction=mixed_fraction)
    return Pools((16, 64), 48, data, Blocks)


def test_batches_are_of_similar_length_and_cover_every_sample_once() -> None:
    batches = list(islice(batches_from(0, micro_pools(0)), 3))
    drawn = [sample_style(index, 48, micro_recipe().data) for index in range(12)]
    expected = [Blocks(style, "train", 1).sample(index)[1] for index, style in enumerate(drawn)]
    assert sorted(label for batch in batches for label in batch.labels) == sorted(expected)
    ranges = sorted((min(map(len, batch.labels)), max(map(len, batch.labels))) for batch in batches)
    assert all(one[1] <= other[0] for one, other in zip(ranges, ranges[1:], strict=False))
    assert batches[0].pixels.shape == (4, 16, 64, 3) and batches[0].pixels.dtype == torch.uint8


def test_batches_depend_on_their_number_only() -> None:
    plain = list(islice(batches_from(0, micro_pools(0)), 7))
    later = list(islice(batches_from(4, micro_pools(0)), 3))
    worked = list(islice(batches_from(0, micro_pools(1)), 7))
    for batch, other in [*zip(plain[4:], later, strict=True), *zip(plain, worked, strict=True)]:
        assert batch.labels == other.labels and torch.equal(batch.pixels, other.pixels)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_if_they_are_rendered_by_turns(workers: int) -> None:
    # Pools of three batches: rounds end within what is compared, and resuming begins within a pool.
    ahead = list(islice(batches_from(0, micro_pools(0)), 16))
    by_turns = list(islice(batches_from(0, micro_pools(workers), by_turns=True), 16))
    resumed = list(islice(batches_from(4, micro_pools(workers), by_turns=True), 12))
    for batch, other in [*zip(ahead, by_turns, strict=True), *zip(ahead[4:], resumed, strict=True)]:
        assert batch.labels == other.labels and torch.equal(batch.pixels, other.pixels)


def test_batches_mix_lengths_at_first() -> None:
    mixed = list(islice(batches_from(0, micro_pools(0, mixed_fraction=0.5)), 9))
    drawn = [sample_style(index, 48, micro_recipe().data) for index in range(24)]
    expected = [Blocks(style, "train", 1).sample(index)[1] for index, style in enumerate(drawn)]
    # Half of 48 samples: two pools of three batches of four, as they were drawn.
    assert sorted(label for batch in mixed[:6] for label in batch.labels) == sorted(expected)
    assert {tuple(batch.labels) for batch in mixed[:6]} == {tuple(expected[one : one + 4]) for one in range(0, 24, 4)}
    assert all(batch.labels == sorted(batch.labels, key=len) for batch in mixed[6:])


def test_batch_norms_learn_from_mixed_batches_only(one_thread: None) -> None:
    recipe = micro_recipe()
    run = loop.TrainingRun(replace(recipe, data=replace(recipe.data, mixed_fraction=0.25)))
    batches = batches_from(0, micro_pools(0, mixed_fraction=0.25))
    statistics = []
    for batch in islice(batches, 6):
        run.advance(batch)
        statistics.append(run.model.state_dict()["image_tower.stem.1.running_mean"].clone())
    # A quarter of 48 samples are three batches of four.
    assert not torch.equal(statistics[0], statistics[2])
    assert torch.equal(statistics[2], statistics[5])


def test_a_pause_does_not_count_as_training(monkeypatch: Any, tmp_path: Path, one_thread: None) -> None:
    now = iter([0.0, 3.0, 3.0 + 7200.0])
    monkeypatch.setattr(run_log, "time", SimpleNamespace(monotonic=lambda: next(now)))
    run = loop.TrainingRun(micro_recipe())
    log = run_log.RunLog(run, tmp_path / "log.jsonl")
    log.tick()
    assert run.active_seconds == 3.0
    log.tick()
    assert run.active_seconds == 3.0 + run_log.LONGEST_TICK


def test_share_of_clean_words_falls() -> None:
    data = replace(micro_recipe().data, clean_start=1.0, clean_end=0.3, clean_fraction=0.5, page=0.0, sign=0.0)
    assert [clean_share(index, 1000, data) for index in (0, 250, 500, 900)] == pytest.approx([1.0, 0.65, 0.3, 0.3])
    styles = [sample_style(index, 1000, data) for index in range(500, 1000)]
    assert 0.2 < styles.count("clean") / 500 < 0.4
    assert sample_style(0, 1000, data) == "clean"
    more = replace(data, page=0.5, sign=0.9)
    richer = [sample_style(index, 1000, more) for index in range(500, 1000)]
    assert set(richer) == {"clean", "page", "photo", "sign"} and richer.count("sign") > 5 * richer.count("photo")
    # Pages are some of the clean words, signs some of the others.
    assert [one in ("clean", "page") for one in richer] == [one == "clean" for one in styles]


# The run


def test_overfits_a_handful_of_words_and_reads_them_back(one_thread: None) -> None:
    blocks = Blocks("clean", "train", 0)
    labels = ["a", "bá", "đeà", "baab", "eâđáa", "aàáâbđ"]
    crops = [blocks.draw(label) for label in labels]
    model = loop.TrainingRun(micro_recipe()).model
    pixels = Preprocess((16, 64), HALF_NORMALIZATION)(crops)
    encoded = [model.charset.encode(label) for label in labels]
    head = CTCHead(32, len(SYMBOLS), rows=4, steps=2)
    optimizer = build_optimizer(model, head, OptimRecipe(3e-3, 1.0, 1.0, (0.9, 0.98), 0.01, 5.0, 0.9))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    first: float | None = None
    for _ in range(150):
        losses = plm_loss(model, pixels, encoded, LossRecipe())
        total = losses.visual + losses.cross + head.loss(losses.image_tokens, encoded)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        first = first or float(total.detach())
    assert first is not None and float(total.detach()) < 0.3 * first
    scores = score(model.eval(), crops, labels)
    assert scores == Scores(cased=1.0, uncased=1.0, tone=1.0, cer=0.0, ned=1.0, visual=1.0)


def test_run_resumes_bit_equal(tmp_path: Path, one_thread: None) -> None:
    recipe = micro_recipe()
    whole, halved = loop.TrainingRun(recipe), loop.TrainingRun(recipe)
    pools = micro_pools(0)
    for batch in islice(batches_from(0, pools), 8):
        whole.advance(batch)
    for batch in islice(batches_from(0, pools), 4):
        halved.advance(batch)
    loop.save_checkpoint(halved, tmp_path / loop.CHECKPOINT)
    torch.manual_seed(99)
    resumed = loop.TrainingRun(recipe)
    resumed.load_state_dict(torch.load(tmp_path / loop.CHECKPOINT, weights_only=True))
    for batch in islice(batches_from(resumed.step, pools), 4):
        resumed.advance(batch)
    assert resumed.step == whole.step == 8
    for ours, theirs in ((resumed.model, whole.model), (resumed.ctc_head, whole.ctc_head)):
        for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(one, other)
    for name, tensor in whole.average.weights.items():
        assert torch.equal(resumed.average.weights[name], tensor)


def test_dropout_is_drawn_by_the_steps_number(tmp_path: Path, one_thread: None) -> None:
    recipe = micro_recipe()

    def run_of() -> loop.TrainingRun:
        run = loop.TrainingRun(recipe)
        # As the published text tower has it, of which the embedded model's has none.
        run.model.image_tower.register_forward_hook(lambda module, inputs, out: torch.dropout(out, 0.5, True))
        return run

    whole, halved = run_of(), run_of()
    batches = list(islice(batches_from(0, micro_pools(0)), 4))
    for batch in batches:
        whole.advance(batch)
    for batch in batches[:2]:
        halved.advance(batch)
    loop.save_checkpoint(halved, tmp_path / loop.CHECKPOINT)
    resumed = run_of()
    resumed.load_state_dict(torch.load(tmp_path / loop.CHECKPOINT, weights_only=True))
    torch.rand(100)  # as a data loader draws when it begins
    for batch in batches[2:]:
        resumed.advance(batch)
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path, one_thread: None) -> None:
    (tmp_path / f".{loop.CHECKPOINT}.1.part").write_bytes(b"half")
    assert loop.train(micro_recipe(), tmp_path, Blocks)
    assert not list(tmp_path.glob(".*.part"))


class FullDisk:
    """A file on a disk that takes so many bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> int:
        taken: int = self.file.write(memoryview(content)[: self.room])
        self.room -= taken
        if taken < len(content):
            raise OSError(errno.ENOSPC, "No space left on device")
        return taken


def test_a_checkpoint_that_the_disk_does_not_take_leaves_the_one_before(
    trained: Path, tmp_path: Path, monkeypatch: Any, one_thread: None
) -> None:
    halfway = loop.TrainingRun(micro_recipe())
    for batch in islice(batches_from(0, micro_pools(0, halfway.recipe.data.mixed_fraction)), 5):
        halfway.advance(batch)
    loop.save_checkpoint(halfway, tmp_path / loop.CHECKPOINT)
    before = (tmp_path / loop.CHECKPOINT).read_bytes()
    save = torch.save
    disks: list[FullDisk] = []

    def save_on_full_disk(state: Any, file: Any) -> None:
        disks.append(FullDisk(file, len(before) // 2))
        save(state, disks[-1])

    with monkeypatch.context() as during:
        during.setattr(torch, "save", save_on_full_disk)
        with pytest.raises(OSError, match=r"checkpoint\.pt cannot be written \(.+\); the one before is as it was$"):
            loop.train(micro_recipe(), tmp_path, Blocks)
    assert [disk.room for disk in disks] == [0], "it was being written"
    assert (tmp_path / loop.CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob(".*.part")) and not (tmp_path / loop.WEIGHTS).exists()
    assert loop.train(micro_recipe(), tmp_path, Blocks)
    assert [step for step, kind in told(tmp_path) if kind == "train"] == list(range(6, 13))
    assert_same_weights(tmp_path, trained)


def assert_same_weights(folder: Path, other: Path) -> None:
    """To the bit: of the run and of its average, after as many steps."""
    ours, theirs = (torch.load(one / loop.CHECKPOINT, weights_only=True) for one in (folder, other))
    assert ours["step"] == theirs["step"]
    for part in ("model", "ctc_head"):
        assert ours[part].keys() == theirs[part].keys()
        assert all(torch.equal(tensor, theirs[part][name]) for name, tensor in ours[part].items())
    one, two = (load_model(path / loop.WEIGHTS).state_dict() for path in (folder, other))
    assert one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_checkpoint_of_another_recipe_is_refused() -> None:
    recipe = micro_recipe()
    state = loop.TrainingRun(recipe).state_dict()
    other = replace(recipe, optim=replace(recipe.optim, learning_rate=5e-4), run=replace(recipe.run, log_every=7))
    with pytest.raises(ValueError, match=r"another optim\.learning_rate; use a new output folder"):
        loop.TrainingRun(other).load_state_dict(state)


def test_train_runs_to_its_end_logs_and_exports(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / loop.LOG).read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    assert [line["samples"] for line in steps] == list(range(4, 49, 4))
    assert {"loss", "visual", "cross", "ctc", "characters", "lr", "images_per_second"} <= steps[0].keys()
    scores = [line for line in lines if line["kind"] == "validation"]
    assert [line["samples"] for line in scores] == [24, 48]
    assert set(scores[0]["clean"]) == set(scores[0]["photo"]) == {"cased", "uncased", "tone", "cer", "ned", "visual"}
    card = read_card(trained / loop.WEIGHTS)
    assert card.dtype == "float16" and card.data is not None and card.data.startswith("48 ")
    assert card.metrics["watched"]["clean"] == scores[-1]["clean"]
    assert load_model(trained / loop.WEIGHTS).config.symbols == SYMBOLS


def test_a_finished_run_is_left_alone(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert loop.train(micro_recipe(), finished, Blocks)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_folder_is_one_runs_at_a_time(tmp_path: Path, one_thread: None) -> None:
    holder = (
        "import sys; from pathlib import Path; from clip4str_doctr.training.run_lock import only_run\n"
        "with only_run(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RecipeError, match="another run writes to .*; wait for it, stop it, or give another folder"):
            loop.train(micro_recipe(), tmp_path, Blocks)
        assert not (tmp_path / loop.LOG).exists()
        other.kill()
    assert loop.train(micro_recipe(), tmp_path, Blocks)


def test_weights_of_an_earlier_end_are_written_again(finished: Path) -> None:
    """As after a run that was given more time and was killed before it wrote them."""
    weights = finished / loop.WEIGHTS / "model.safetensors"
    long_ago = (finished / loop.CHECKPOINT).stat().st_mtime_ns - 10**9
    os.utime(weights, ns=(long_ago, long_ago))
    assert loop.train(micro_recipe(), finished, Blocks)
    assert weights.stat().st_mtime_ns > long_ago


FAILING = """
import sys
from dataclasses import replace
from pathlib import Path
from clip4str_doctr.training import loop
from micro_training import Blocks, micro_recipe

class Fails(Blocks):
    def sample(self, index):
        if index > 20:
            raise ArithmeticError("no such sample")
        return super().sample(index)

if __name__ == "__main__":
    recipe = micro_recipe()
    loop.train(replace(recipe, data=replace(recipe.data, workers=1)), Path(sys.argv[1]), Fails)
"""


def test_an_error_ends_the_program_and_its_workers(tmp_path: Path) -> None:
    """Python waits for them, and they take no SIGTERM while training goes on."""
    script = tmp_path / "fails.py"
    script.write_text(FAILING)
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "no such sample" in done.stderr


def test_other_fonts_are_told(tmp_path: Path, one_thread: None, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.delenv(FONTS_VARIABLE, raising=False)
    older, street = (
        replace(micro_recipe(), data=replace(micro_recipe().data, page=share, sign=0.0)) for share in (0.0, 0.5)
    )
    saved = []
    for recipe in (older, street):
        run = loop.TrainingRun(recipe)
        run.check_fonts()
        saved.append(run.state_dict())
    (tmp_path / "fonts" / "one").mkdir(parents=True)
    (tmp_path / "fonts" / "one" / "a.ttf").write_bytes(b"1")
    monkeypatch.setenv(FONTS_VARIABLE, str(tmp_path / "fonts"))
    # Only the later styles use the folder.
    for recipe, state, told in ((older, saved[0], False), (street, saved[1], True)):
        run = loop.TrainingRun(recipe)
        run.load_state_dict(state)
        run.check_fonts()
        assert ("the run so far had other fonts" in caplog.text) == told
    monkeypatch.setenv(FONTS_VARIABLE, str(tmp_path / "nowhere"))
    loop.TrainingRun(older).check_fonts()
    with pytest.raises(RuntimeError, match="which is no folder"):
        loop.TrainingRun(street).check_fonts()


def test_a_killed_run_tells_no_step_twice(finished: Path) -> None:
    whole = (finished / loop.LOG).read_text()
    halfway = loop.TrainingRun(micro_recipe())
    for batch in islice(batches_from(0, micro_pools(0)), 5):
        halfway.advance(batch)
    loop.save_checkpoint(halfway, finished / loop.CHECKPOINT)
    # The last line was being written.
    (finished / loop.LOG).write_text(whole + '{"step": 5, "sam')
    # The next time it is killed after its last checkpoint, before there are weights.
    for _ in range(2):
        shutil.rmtree(finished / loop.WEIGHTS)
        assert loop.train(micro_recipe(), finished, Blocks)
        assert told(finished) == [(line["step"], line["kind"]) for line in map(json.loads, whole.splitlines())]


def test_the_scores_of_a_validation_that_was_logged_are_not_lost(finished: Path) -> None:
    whole = read_card(finished / loop.WEIGHTS).metrics
    # As if it had been killed after the last validation, its last checkpoint being of just before.
    state = torch.load(finished / loop.CHECKPOINT, weights_only=True)
    torch.save({**state, "scores": {}}, finished / loop.CHECKPOINT)
    shutil.rmtree(finished / loop.WEIGHTS)
    assert loop.train(micro_recipe(), finished, Blocks)
    assert read_card(finished / loop.WEIGHTS).metrics == whole and "clean" in whole["watched"]


def told(folder: Path) -> list[tuple[int, str]]:
    lines = (folder / loop.LOG).read_text(encoding="utf-8").splitlines()
    return [(line["step"], line["kind"]) for line in map(json.loads, lines)]


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_its_log_anew(
    tmp_path: Path, one_thread: None
) -> None:
    model = micro_recipe().model
    save_model(loop.TrainingRun(micro_recipe()).averaged_model(), tmp_path / "start", card={})
    recipe = replace(micro_recipe(), model=replace(model, init=str(tmp_path / "start"), overrides={}))
    assert loop.train(recipe, tmp_path / "run", Blocks)
    whole = told(tmp_path / "run")
    assert whole[0] == (0, "validation")
    (tmp_path / "run" / loop.CHECKPOINT).unlink()
    # Weights without a checkpoint are somebody's: not to be written over.
    card = (tmp_path / "run" / loop.WEIGHTS / CARD_FILE).read_bytes()
    with pytest.raises(OtherRecipeError, match=r"weights is there, but no checkpoint\.pt .*give another --out folder"):
        loop.train(recipe, tmp_path / "run", Blocks)
    assert told(tmp_path / "run") == whole and (tmp_path / "run" / loop.WEIGHTS / CARD_FILE).read_bytes() == card
    shutil.rmtree(tmp_path / "run" / loop.WEIGHTS)
    assert loop.train(recipe, tmp_path / "run", Blocks)
    assert told(tmp_path / "run") == whole


def test_weights_without_their_card_are_not_taken_for_whole(finished: Path) -> None:
    assert is_exported(finished, "clip4str")
    # It is moved last.
    (finished / loop.WEIGHTS / CARD_FILE).unlink()
    assert not is_exported(finished, "clip4str")


def test_weights_that_were_half_replaced_are_written_again(finished: Path, trained: Path) -> None:
    """As after a run that was given more time and was killed when the new tensors lay under the old card."""
    card = finished / loop.WEIGHTS / CARD_FILE
    card.write_text(card.read_text().replace(read_card(card.parent).sha256["model.safetensors"], "0" * 64))
    long_ago = (finished / loop.CHECKPOINT).stat().st_mtime_ns - 10**9
    os.utime(card, ns=(long_ago, long_ago))
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_model(card.parent)
    assert loop.train(micro_recipe(), finished, Blocks)
    assert is_exported(finished, "clip4str")
    assert_same_weights(finished, trained)


def test_a_checkpoint_whose_numbers_were_damaged_is_refused(tmp_path: Path, one_thread: None) -> None:
    run = loop.TrainingRun(micro_recipe())
    loop.save_checkpoint(run, tmp_path / loop.CHECKPOINT)
    content = bytearray((tmp_path / loop.CHECKPOINT).read_bytes())
    weights = next(iter(run.averaged_model().state_dict().values())).numpy().tobytes()
    content[content.index(weights) + 1] ^= 255
    (tmp_path / loop.CHECKPOINT).write_bytes(content)
    for read in (
        lambda: loop.train(micro_recipe(), tmp_path, Blocks),
        lambda: export(tmp_path / loop.CHECKPOINT, tmp_path / "new"),
    ):
        with pytest.raises(WeightsError, match=r"checkpoint\.pt is damaged: the CRC-32 of .*take a copy that is whole"):
            read()


def test_a_model_that_cannot_be_built_is_a_fault_of_the_recipe() -> None:
    recipe = micro_recipe()
    start = loop.Start(model_config(recipe.model))
    broken = replace(start.config, decoder=replace(start.config.decoder, heads=5))
    with pytest.raises(RecipeError, match=r"model\.overrides ask for what cannot be built: "):
        loop.TrainingRun(recipe, loop.Start(broken))


@pytest.mark.skipif(not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[train]")
def test_export_measures_the_suites_and_stores_a_temperature(
    tmp_path: Path, monkeypatch: Any, one_thread: None
) -> None:
    run = loop.TrainingRun(micro_recipe())
    loop.save_checkpoint(run, tmp_path / loop.CHECKPOINT)
    # Nothing that a random model answers is right, from which no temperature can be told.
    assert watched_temperature(run.averaged_model(), run.recipe.data, Blocks) == 1.0
    monkeypatch.setattr("clip4str_doctr.training.export.watched_temperature", lambda model, data: 1.75)
    assert watched_certainty(run.averaged_model().eval(), run.recipe.data, 4, Blocks) is None
    monkeypatch.setattr("clip4str_doctr.training.export.watched_certainty", lambda model, data, words: words / 10)
    # Of a model that cannot write what is rendered nothing is fitted to that.
    card = export(tmp_path / loop.CHECKPOINT, tmp_path / "small", words=2)
    assert card.temperature == 1.0 and "suites" in card.metrics
    monkeypatch.setattr("clip4str_doctr.training.export.VIETNAMESE_SYMBOLS", run.config.symbols)
    card = export(tmp_path / loop.CHECKPOINT, tmp_path / "weights", words=2)
    assert card.temperature == read_card(tmp_path / "weights").temperature == 1.75
    assert card.certain_from == 0.8
    assert set(card.metrics["suites"]) == set(SUITES) and card.metrics["suites"]["tiny"]["n"] == 2
    loaded = load_model(tmp_path / "weights")
    assert loaded.postprocessor.temperature == 1.75 and loaded.certain_from == 0.8
    # Drafts that are lost at a certainty of 1: no card can ask for more.
    monkeypatch.setattr("clip4str_doctr.training.export.watched_certainty", lambda model, data, words: 1.00001)
    assert export(tmp_path / loop.CHECKPOINT, tmp_path / "sure", words=2).certain_from == 1.0
    assert load_model(tmp_path / "sure").certain_from == 1.0
    # Saved again, they keep both.
    again = save_model(loaded, tmp_path / "again", card={})
    assert again.temperature == 1.75 and again.certain_from == 0.8


def export_two_runs(folder: Path) -> None:
    """Weights `other` and `own` of two seeds; the checkpoint of `own` stays."""
    for name, seed in (("other", 0), ("own", 1)):
        recipe = micro_recipe()
        loop.save_checkpoint(
            loop.TrainingRun(replace(recipe, run=replace(recipe.run, seed=seed))), folder / loop.CHECKPOINT
        )
        export(folder / loop.CHECKPOINT, folder / name)


def test_export_blends_with_other_weights(tmp_path: Path, one_thread: None) -> None:
    export_two_runs(tmp_path)
    ends = {name: load_model(tmp_path / name).float().state_dict() for name in ("other", "own")}
    card = export(tmp_path / loop.CHECKPOINT, tmp_path / "blend", blend=tmp_path / "other", blend_share=0.25)
    other_sha = read_card(tmp_path / "other").sha256["model.safetensors"]
    assert card.training is not None and card.training["blend"] == {"sha256": other_sha, "share": 0.25}
    assert card.licence == "Apache-2.0" and card.data is not None
    assert card.data.endswith("; averaged with weights trained on: " + str(read_card(tmp_path / "other").data))
    blend = load_model(tmp_path / "blend").float().state_dict()
    name = "visual_decoder.head.weight"
    assert not torch.equal(ends["own"][name], ends["other"][name])
    wanted = 0.75 * ends["own"][name] + 0.25 * ends["other"][name]
    torch.testing.assert_close(blend[name], wanted, atol=1e-3, rtol=1e-3)  # all three are float16
    with pytest.raises(ValueError, match=r"0\.\.1, got 1\.5"):
        export(tmp_path / loop.CHECKPOINT, tmp_path / "none", blend=tmp_path / "other", blend_share=1.5)
    with pytest.raises(ValueError, match="must have the run's alphabet"):
        export(
            tmp_path / loop.CHECKPOINT,
            tmp_path / "none",
            blend=Path(__file__).parents[2] / "pretrained" / "clip4str_vn_tiny",
        )
    assert not (tmp_path / "none").exists()


def test_shares_of_a_run_are_read_apart(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_two_runs(tmp_path)
    rng = np.random.default_rng(3)
    crops = [rng.integers(0, 256, (16, 64, 3), np.uint8) for _ in range(12)]
    answers = {name: read_words(load_model(tmp_path / name).float().eval(), crops) for name in ("other", "own")}
    assert answers["other"].texts != answers["own"].texts
    words = {name: (crops, read.texts) for name, read in answers.items()}
    told: list[float] = []
    run, other = shares.averaged_of_run(tmp_path / loop.CHECKPOINT), load_model(tmp_path / "other")
    found = shares.scores_of_shares(run, other, (1.0, 0.0), words, lambda share, _: told.append(share))
    assert told == list(found) == [1.0, 0.0]
    assert found[1.0]["other"].cased == 1.0 > found[1.0]["own"].cased
    assert found[0.0]["own"].cased > found[0.0]["other"].cased
    if fonts_installed():
        given = [str(tmp_path / loop.CHECKPOINT), str(tmp_path / "other"), "--shares", "0.5", "--words", "1"]
        monkeypatch.setattr(sys, "argv", ["shares", *given])
        shares.main()
        head, _, row = capsys.readouterr().out.splitlines()
        assert [cell.strip() for cell in head.split("|")[5:-1]] == list(SUITES)
        assert row.startswith("| 0.5 | ") and row.count("|") == head.count("|")
    with pytest.raises(ValueError, match=r"0\.\.1, got 1\.5"):
        shares.scores_of_shares(run, other, (1.5,), words)


def test_averages_are_bound_by_the_terms_of_both() -> None:
    assert both_licences("Apache-2.0", "Apache-2.0") == "Apache-2.0"
    assert both_licences("Apache-2.0", "CC-BY-SA-4.0") == "Apache-2.0 and CC-BY-SA-4.0"
    assert both_licences("Apache-2.0", "not stated") == "Apache-2.0; of weights it was averaged with: not stated"
    assert both_licences("not stated", "not stated") == "not stated"


@pytest.mark.parametrize("total", [1, 23, 24, 25, 40])
def test_a_run_sees_its_samples_once_each(total: int) -> None:
    """However many there are: the last pool is no larger than what is left."""

    class Numbers:
        def sample(self, index: int) -> Any:
            return np.zeros((8, 8, 3), np.uint8), "a" * (index % 5) + str(index)

    recipe = replace(micro_recipe().data, batch_size=4, pool_batches=3)
    pools = Pools((8, 8), total, recipe, lambda *_: Numbers())
    batches = -(-total // 4)
    seen = [int(label.strip("a")) for batch in islice(batches_from(0, pools), batches) for label in batch.labels]
    assert sorted(seen) == list(range(4 * batches))
    # Also where the run goes on in its last pool.
    again = [batch.labels for batch in islice(batches_from(batches - 1, pools), 1)]
    assert again == [[label for label in one.labels] for one in islice(batches_from(0, pools), batches - 1, batches)]


def test_a_ctc_head_reads_the_grid_that_there_is(one_thread: None) -> None:
    recipe = micro_recipe()
    assert recipe.loss.ctc_weight > 0
    taller = replace(recipe.model, overrides={**MICRO, "image_tower": {**MICRO["image_tower"], "image_size": [64, 64]}})
    grid = loop.TrainingRun(
        replace(recipe, model=taller, loss=replace(recipe.loss, ctc_weight=0.0, ctc_weight_end=0.0))
    )
    rows = grid.model.image_tower.grid[0]
    assert rows != recipe.loss.ctc_rows
    with pytest.raises(RecipeError, match=rf"loss.ctc_rows = {recipe.loss.ctc_rows} rows, .* form one of {rows} x"):
        loop.TrainingRun(replace(recipe, model=taller))
    loop.TrainingRun(replace(recipe, model=taller, loss=replace(recipe.loss, ctc_rows=rows)))


def test_a_card_says_of_which_weights_its_scores_are(tmp_path: Path, one_thread: None) -> None:
    run = loop.TrainingRun(micro_recipe())
    run.scores, run.scored_step, run.step = {"clean": {"cased": 0.5}}, 3, 5
    loop.save_checkpoint(run, tmp_path / loop.CHECKPOINT)
    watched = export(tmp_path / loop.CHECKPOINT, tmp_path / "weights").metrics["watched"]
    assert watched == {"clean": {"cased": 0.5}, "words": 4, "seed": run.recipe.data.val_seed, "at_samples": 12}
    # Of words of one's own alone no rendered ones are told.
    run.scores, run.scored_step = {"own": {"cased": 0.5}}, 5
    loop.save_checkpoint(run, tmp_path / loop.CHECKPOINT)
    assert export(tmp_path / loop.CHECKPOINT, tmp_path / "weights").metrics["watched"] == {"own": {"cased": 0.5}}


def test_a_checkpoint_is_read_when_nobody_else_writes_it(finished: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with only_run(finished):
        monkeypatch.setattr(loop, "read_run_state", lambda *_: pytest.fail("read while another run may save"))
        with pytest.raises(RecipeError, match="another run writes to"):
            loop.train(micro_recipe(), finished, Blocks)
    # One that began while words were looked at.
    monkeypatch.undo()
    other, words = tmp_path / "other", loop.own_words

    def meanwhile(*arguments: Any) -> Any:
        other.mkdir()
        shutil.copy(finished / loop.CHECKPOINT, other)
        return words(*arguments)

    monkeypatch.setattr(loop, "own_words", meanwhile)
    with pytest.raises(RecipeError, match="another run has begun in .*other meanwhile; the same command goes on"):
        loop.train(micro_recipe(), other, Blocks)


def test_a_checkpoint_of_another_version_is_told(tmp_path: Path, one_thread: None) -> None:
    run = loop.TrainingRun(micro_recipe())
    state = run.state_dict()
    state["recipe"]["loss"]["sharpness"] = 1.0
    with pytest.raises(RecipeError, match="the checkpoint is another version's .*sharpness.*new output folder"):
        run.load_state_dict(state)


def test_gradients_that_are_not_finite_are_skipped_but_not_for_ever(monkeypatch: Any, one_thread: None) -> None:
    run = loop.TrainingRun(micro_recipe())
    before = [one.clone() for one in run.model.parameters()]
    batch = next(batches_from(0, micro_pools(0)))
    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    run.advance(batch)
    assert run.step == 1 and run.average.updates == 0
    assert all(torch.equal(one, other) for one, other in zip(before, run.model.parameters(), strict=True))
    with pytest.raises(FloatingPointError, match="lower optim.learning_rate"):
        for _ in range(loop.MAX_SKIPPED):
            run.advance(batch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_a_checkpoint_and_the_run_goes_on(
    number: signal.Signals, trained: Path, tmp_path: Path, monkeypatch: Any, one_thread: None
) -> None:
    advance = loop.TrainingRun.advance
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def advance_and_stop(run: loop.TrainingRun, batch: Any) -> Any:
        if run.step == 2:
            os.kill(os.getpid(), number)
        return advance(run, batch)

    with monkeypatch.context() as during:
        during.setattr(loop.TrainingRun, "advance", advance_and_stop)
        assert not loop.train(micro_recipe(), tmp_path, Blocks)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    reached = torch.load(tmp_path / loop.CHECKPOINT, weights_only=True)
    assert reached["step"] == 3 and reached["active_seconds"] > 0
    assert not list(tmp_path.glob(".*.part")) and not (tmp_path / loop.WEIGHTS).exists()
    assert loop.train(micro_recipe(), tmp_path, Blocks)
    assert told(tmp_path) == told(trained)
    assert_same_weights(tmp_path, trained)


def test_model_overrides_are_strict() -> None:
    model = load_recipe(RECIPE).model
    assert model_config(model).arch == "clip4str_vn_tiny"
    assert model_config(replace(model, overrides=MICRO)).decode.max_symbols == 6
    with pytest.raises(ValueError, match="depth"):
        model_config(replace(model, overrides={"decoder": {"depth": 2}}))
    with pytest.raises(ValueError, match=r"model\.preset must be one of"):
        model_config(replace(model, preset="clip4str_vn_huge"))
