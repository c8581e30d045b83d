"""Runs that start from weights that exist: which ones, what is kept, what resuming needs."""

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_weights import CHECKPOINT as PUBLISHED
from golden_weights import M_CLIP
from noise_words import Noise

from clip4str_doctr import cli
from clip4str_doctr.config import PRESETS
from clip4str_doctr.lookup import find_weights
from clip4str_doctr.modeling.clip4str import build_model
from clip4str_doctr.training import loop, precision
from clip4str_doctr.training.data import Batch, Pools, batches_from
from clip4str_doctr.training.export import export
from clip4str_doctr.training.precision import autocast_dtype
from clip4str_doctr.training.recipe import ModelRecipe, OtherRecipeError, Recipe, RecipeError, load_recipe
from clip4str_doctr.training.start import CHECKPOINT_PARTS, check_alphabet, find_start
from clip4str_doctr.weight_card import WeightCard, WeightsError, read_card
from clip4str_doctr.weights import load_model, save_model

RECIPE = Path(__file__).parents[2] / "configs" / "clip4str_vn_tiny_continue.yaml"


def recipe_from(init: str | Path | None, **data: Any) -> Recipe:
    recipe = load_recipe(RECIPE)
    return replace(
        recipe,
        model=replace(recipe.model, init=None if init is None else str(init)),
        data=replace(recipe.data, batch_size=4, pool_batches=2, workers=0, val_words=2, **data),
        schedule=replace(recipe.schedule, total_samples=16, max_hours=None, warmup=0.0),
        run=replace(recipe.run, threads=1, precision="float32", log_every=1, validate_every=1000),
    )


def noise_batches(recipe: Recipe, step: int = 0) -> Any:
    return batches_from(step, Pools((32, 128), recipe.schedule.total_samples, recipe.data, Noise))


def test_weights_of_a_folder_are_taken_and_their_source_is_remembered(micro_folder: Path) -> None:
    run = loop.TrainingRun(recipe_from(micro_folder))
    expected = load_model(micro_folder)
    assert run.config == expected.config
    assert all(torch.equal(one, run.model.state_dict()[name]) for name, one in expected.state_dict().items())
    assert all(torch.equal(one, run.average.weights[name]) for name, one in expected.state_dict().items())
    origin = run.state_dict()["origin"]
    assert (origin["name"], origin["sha256"]) == (
        str(micro_folder),
        read_card(micro_folder).sha256["model.safetensors"],
    )


def test_a_model_that_cannot_write_what_is_rendered_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = replace(PRESETS["clip4str_vn_tiny"], symbols="abcdefghij")
    torch.manual_seed(0)
    save_model(build_model(config).eval(), tmp_path / "ten", WeightCard(config.arch))
    with pytest.raises(RecipeError, match=r"10 symbols lack \d+ of those in rendered words.*words.share 1.0"):
        loop.train(recipe_from(tmp_path / "ten"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_architecture_stands_for_the_weights_that_are_found(
    micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP4STR_DOCTR_HOME", str(micro_folder.parent))
    start = find_start(ModelRecipe("clip4str_vn_tiny", init="clip4str_vn_tiny"))
    assert start.origin is not None and start.config == load_model(micro_folder).config


def test_the_recipe_that_goes_on_with_the_embedded_model() -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.model.init == "clip4str_vn_tiny" and recipe.data.mixed_fraction == 0.0
    start = find_start(replace(recipe.model, init=str(find_weights("clip4str_vn_tiny"))))
    assert start.config == PRESETS["clip4str_vn_tiny"]


def test_the_published_checkpoint_starts_a_run_and_keeps_its_tokenizer() -> None:
    start = find_start(ModelRecipe("clip4str_vn", init=str(PUBLISHED)), tokenizer=M_CLIP)
    expected = load_model(PUBLISHED, tokenizer=M_CLIP)
    assert start.weights is not None and start.config == expected.config
    assert start.origin is not None and start.origin["licence"] == "not stated by the publisher of the weights"
    run = loop.TrainingRun(recipe_from(PUBLISHED), start)
    assert run.averaged_model().text_tower.tokenize(["phở"]) == expected.text_tower.tokenize(["phở"])


def test_another_run_gives_its_average_and_its_auxiliary_head(micro_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_from(micro_folder)
    first = loop.TrainingRun(recipe)
    for batch in islice(noise_batches(recipe), 2):
        first.advance(batch)
    loop.save_checkpoint(first, tmp_path / "checkpoint.pt")
    second = loop.TrainingRun(recipe_from(tmp_path / "checkpoint.pt"))
    assert second.step == 0
    for name, tensor in first.average.weights.items():
        assert torch.equal(second.model.state_dict()[name], tensor)
    assert torch.equal(second.ctc_head.proj.weight, first.ctc_head.proj.weight)
    other_head = replace(recipe_from(tmp_path / "checkpoint.pt"), loss=replace(recipe.loss, ctc_steps_per_column=1))
    assert loop.TrainingRun(other_head).ctc_head.proj.out_features == first.ctc_head.proj.out_features // 2


def test_batch_norms_stand_still_from_the_first_step_or_learn_if_asked_to(micro_folder: Path) -> None:
    for fraction, moves in ((0.0, False), (1.0, True)):
        recipe = recipe_from(micro_folder, mixed_fraction=fraction)
        run = loop.TrainingRun(recipe)
        norm = run.batch_norms[0]
        before, weight = norm.running_mean.clone(), norm.weight.detach().clone()
        run.advance(next(noise_batches(recipe)))
        assert norm.training == moves and torch.equal(norm.running_mean, before) != moves
        assert not torch.equal(norm.weight, weight)


def test_resuming_is_exact_and_does_not_need_the_weights_any_more(
    micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    recipe = recipe_from(micro_folder)
    whole, halved = loop.TrainingRun(recipe), loop.TrainingRun(recipe)
    for batch in islice(noise_batches(recipe), 4):
        whole.advance(batch)
    for batch in islice(noise_batches(recipe), 2):
        halved.advance(batch)
    loop.save_checkpoint(halved, tmp_path / loop.CHECKPOINT)

    def gone(*_: Any) -> Any:
        raise AssertionError("resuming looked for the weights that the run once started from")

    monkeypatch.setattr(loop, "find_start", gone)
    assert loop.train(recipe, tmp_path, Noise)
    resumed = torch.load(tmp_path / loop.CHECKPOINT, weights_only=True)
    assert resumed["step"] == 4 and resumed["origin"] == whole.origin
    assert all(torch.equal(one, resumed["model"][name]) for name, one in whole.model.state_dict().items())
    with pytest.raises(OtherRecipeError, match=r"another model\.init"):
        loop.train(recipe_from("elsewhere"), tmp_path, Noise)


def test_the_card_says_whose_weights_were_trained_on(micro_folder: Path, tmp_path: Path) -> None:
    model, before = load_model(micro_folder), tmp_path / "before"
    model.postprocessor.temperature = 1.5
    sha256 = save_model(model, before, {"licence": "Apache-2.0"}).sha256["model.safetensors"]
    assert loop.train(recipe_from(before), tmp_path / "run", Noise)
    card = read_card(tmp_path / "run" / loop.WEIGHTS)
    assert card.source.startswith(f"trained by clip4str_doctr.training from before (SHA-256 {sha256})")
    assert card.temperature == 1.5
    assert card.licence == "Apache-2.0" and card.data is not None
    assert card.data.endswith("before that: not stated")


@pytest.mark.parametrize(
    ("init", "recipe", "message"),
    [
        ("nowhere", {}, "nowhere does not exist"),
        ("https://example.org/a.ckpt", {}, "web addresses are loaded by a model.s from_pretrained only"),
        ("MICRO", {"preset": "clip4str_vn"}, "holds a clip4str_vn_tiny, but model.preset is clip4str_vn"),
        ("MICRO", {"overrides": {"decoder": {"heads": 4}}}, "asks for another decoder than .* has"),
        ("text.pt", {}, "cannot be read .*expected the checkpoint.pt of a training run"),
        ("parseq.pt", {}, "of a run that trained a parseq; only one of a CLIP4STR can be started from"),
        ("hf://nobody", {}, "a hub address must be hf://owner/repo"),
        ("other.pt", {}, r"holds \['step'\]; expected the checkpoint.pt"),
    ],
)
def test_what_cannot_be_started_from(
    init: str, recipe: dict[str, Any], message: str, micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no checkpoint")
    torch.save({"step": 3}, "other.pt")
    torch.save({**dict.fromkeys(CHECKPOINT_PARTS, 1), "recipe": {"model": {"reader": "parseq"}}}, "parseq.pt")
    asked = ModelRecipe(**{"preset": "clip4str_vn_tiny", **recipe, "init": init.replace("MICRO", str(micro_folder))})
    with pytest.raises(WeightsError, match=message):
        find_start(asked)


def test_overrides_that_the_weights_have_are_welcome(micro_folder: Path) -> None:
    overrides = {"decoder": {"heads": 2}}
    assert find_start(ModelRecipe("clip4str_vn_tiny", overrides, str(micro_folder))).weights is not None


def test_the_command_line_says_what_it_cannot_start_from(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["--init", "nowhere"], "nowhere does not exist"),
        (["--mclip", "M_clip"], "--mclip goes with --init"),
    ):
        assert cli.main(["train", "clip4str_vn_tiny_continue", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_precision_is_chosen_by_what_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None and autocast_dtype("bfloat16", cpu) is torch.bfloat16
    for seconds, chosen in ((0.4, torch.bfloat16), (0.9, None), (20.0, None)):
        monkeypatch.setattr(precision, "_product_seconds", {torch.float32: 1.0, torch.bfloat16: seconds}.__getitem__)
        assert autocast_dtype("auto", cpu) is chosen
    for seconds, before, chosen in (
        (0.9, "torch.bfloat16", torch.bfloat16),  # slower than it once was: others may be at work
        (1.1, "torch.bfloat16", None),
        (0.5, "torch.float32", None),
        (0.1, "torch.float32", torch.bfloat16),
    ):
        monkeypatch.setattr(precision, "_product_seconds", {torch.float32: 1.0, torch.bfloat16: seconds}.__getitem__)
        assert autocast_dtype("auto", cpu, before) is chosen
    monkeypatch.undo()
    assert 0.0 < precision._product_seconds(torch.float32) < math.inf


def test_what_a_gpu_only_emulates_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for has_it, chosen in ((True, torch.bfloat16), (False, None)):

        def supported(including_emulation: bool = True, has_it: bool = has_it) -> bool:
            return including_emulation or has_it

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        assert autocast_dtype("auto", gpu) is chosen


def test_a_damaged_checkpoint_is_named(micro_folder: Path, tmp_path: Path) -> None:
    (tmp_path / loop.CHECKPOINT).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(
        WeightsError, match=r"checkpoint.pt cannot be read .*expected the checkpoint.pt of a training run"
    ):
        loop.train(recipe_from(micro_folder), tmp_path, Noise)
    with pytest.raises(WeightsError, match=r"checkpoint.pt cannot be read"):
        export(tmp_path / loop.CHECKPOINT, tmp_path / "weights")


def test_a_model_of_another_version_is_told(micro_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_from(micro_folder)
    loop.save_checkpoint(loop.TrainingRun(recipe), tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["config"]["sharpness"] = 1.0
    torch.save(state, tmp_path / "checkpoint.pt")
    message = "checkpoint.pt is of another version of this package, or damaged: its model's config says .*sharpness"
    with pytest.raises(WeightsError, match=message):
        loop.train(recipe, tmp_path)
    with pytest.raises(WeightsError, match=message):
        find_start(replace(recipe.model, init=str(tmp_path / "checkpoint.pt")))


def test_a_run_in_automatic_precision(micro_folder: Path) -> None:
    recipe = recipe_from(micro_folder)
    run = loop.TrainingRun(replace(recipe, run=replace(recipe.run, precision="auto")))
    report = run.advance(Batch(torch.zeros(2, 32, 128, 3, dtype=torch.uint8), ["phở", "a"]))
    assert torch.isfinite(report.loss)


def test_another_precision_than_the_run_had_is_told(micro_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_from(micro_folder)
    state = loop.TrainingRun(recipe).state_dict()
    loop.TrainingRun(recipe).load_state_dict(state)
    assert "so far was in" not in caplog.text
    loop.TrainingRun(recipe).load_state_dict({**state, "precision": "torch.bfloat16"})
    assert "so far was in torch.bfloat16, this machine goes on in torch.float32" in caplog.text


def test_what_cannot_be_trained_is_refused_before_it_is_tried() -> None:
    with pytest.raises(RecipeError, match="clip4str_vn cannot be trained from random weights.*name some by --init"):
        find_start(ModelRecipe("clip4str_vn"))
    short = find_start(ModelRecipe("clip4str_vn_tiny", overrides={"decode": {"max_symbols": 12}}))
    with pytest.raises(RecipeError, match="have up to 25 symbols, the model writes 12; render none"):
        check_alphabet(short.config)
    check_alphabet(find_start(ModelRecipe("clip4str_vn_tiny")).config)
