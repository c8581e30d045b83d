"""Fine-tuning: frozen parts, batches in parts, recomputed layers, the published architecture, words of one's own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_weights import CHECKPOINT as PUBLISHED
from golden_weights import M_CLIP
from noise_words import Noise
from PIL import Image

from clip4str_doctr.checkpoint import read_run_state
from clip4str_doctr.training import loop, losses
from clip4str_doctr.training.curve import draw_curve, read_log
from clip4str_doctr.training.data import Batch
from clip4str_doctr.training.export import export
from clip4str_doctr.training.freezing import freeze, recompute_layers, tower_layers
from clip4str_doctr.training.losses import LossRecipe, counted_targets, plm_loss
from clip4str_doctr.training.recipe import FreezeRecipe, OtherRecipeError, Recipe, RecipeError, WordsRecipe, load_recipe
from clip4str_doctr.training.start import Start, find_start
from clip4str_doctr.weight_card import read_card
from clip4str_doctr.weights import load_model, save_model

CONFIGS = Path(__file__).parents[2] / "configs"


def recipe_from(init: Path, name: str = "clip4str_vn_tiny_finetune", **parts: Any) -> Recipe:
    recipe = load_recipe(CONFIGS / f"{name}.yaml")
    run = {"threads": 1, "precision": "float32", "accumulate": 1, "recompute": False, **parts.pop("run", {})}
    return replace(
        recipe,
        model=replace(recipe.model, init=str(init)),
        data=replace(recipe.data, batch_size=4, pool_batches=2, workers=0, val_words=2),
        schedule=replace(recipe.schedule, total_samples=16, warmup=0.0),
        run=replace(recipe.run, log_every=1, validate_every=1000, **run),
        **parts,
    )


def batch_of(labels: list[str], size: tuple[int, int] = (32, 128)) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randint(0, 256, (len(labels), *size, 3), dtype=torch.uint8, generator=generator), labels)


def gradients(run: loop.TrainingRun, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Those that the optimiser would have got from one step."""
    monkeypatch.setattr(run, "_apply", lambda norm: None)
    run.advance(batch)
    return {name: one.grad for name, one in run.model.named_parameters() if one.grad is not None}


# Frozen parts


def changed_parts(run: loop.TrainingRun, steps: int = 2) -> set[str]:
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for _ in range(steps):
        run.advance(batch_of(["phở", "bò", "a1", "Huế"], run.config.image_tower.image_size))
    return {name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_towers_stay_and_the_decoders_learn(micro_folder: Path) -> None:
    whole = recipe_from(micro_folder, freeze=FreezeRecipe(image_tower=True, text_tower=True))
    run = loop.TrainingRun(replace(whole, data=replace(whole.data, mixed_fraction=1.0)))
    changed = changed_parts(run)
    assert changed and all(name.startswith(("visual_decoder.", "cross_decoder.")) for name in changed)
    assert not run.model.image_tower.training and run.model.cross_decoder.training
    trained = sum(len(group["params"]) for group in run.optimizer.param_groups)
    decoders = [*run.model.visual_decoder.parameters(), *run.model.cross_decoder.parameters()]
    assert trained == len(decoders) + len(list(run.ctc_head.parameters()))


def test_the_first_layers_of_a_tower_stay_with_all_before_them(micro_folder: Path) -> None:
    run = loop.TrainingRun(recipe_from(micro_folder, freeze=FreezeRecipe(image_layers=1, text_layers=1)))
    changed = {name for name in changed_parts(run) if "tower" in name}
    assert changed and all(".norm." in name or ".proj." in name for name in changed)
    with pytest.raises(RecipeError, match="text_layers is 2, but the text tower has 1 layers"):
        loop.TrainingRun(recipe_from(micro_folder, freeze=FreezeRecipe(text_layers=2)))


def test_layers_of_unknown_towers_are_not_guessed() -> None:
    with pytest.raises(TypeError, match="layers of a Linear are not known"):
        tower_layers(torch.nn.Linear(1, 1))


# Batches in parts


@pytest.mark.parametrize("labels", [["phở", "cơm", "chả", "bún", "mắm"], ["phở", "cơm", "quán", "chợ", "Huế"]])
def test_parts_of_a_batch_give_the_gradient_of_all_of_it(
    labels: list[str], micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parts of mixed lengths differ in what depends on the longest label: several orders are drawn by it, and drafts
    # without an end, which the cross branch is shown, are as long as it.
    alike = len({len(label) for label in labels}) == 1
    loss = LossRecipe(6 if alike else 1, cross_weight=float(alike), caption_corruption=0.0, ctc_weight_end=1.0)
    whole, parts = (
        loop.TrainingRun(recipe_from(micro_folder, loss=loss, run={"accumulate": accumulate})) for accumulate in (1, 2)
    )
    batch = batch_of(labels)
    reports = []
    for run in (whole, parts):
        monkeypatch.setattr(run, "_apply", lambda norm: None)
        reports.append(run.advance(batch))
    for name in set(loop.StepReport.__dataclass_fields__) - (set() if alike else {"cross"}):
        torch.testing.assert_close(getattr(reports[1], name), getattr(reports[0], name))
    theirs = dict(whole.model.named_parameters())
    learning = [name for name, parameter in parts.model.named_parameters() if parameter.grad is not None]
    assert "image_tower.stem.0.weight" in learning and "visual_decoder.head.weight" in learning
    for name in learning:
        # As accurate as a sum over all pixels is in float32.
        largest = float(theirs[name].grad.abs().max())
        torch.testing.assert_close(
            parts.model.get_parameter(name).grad, theirs[name].grad, rtol=1e-4, atol=1e-5 * largest + 1e-8
        )


@pytest.mark.parametrize("permutations", [1, 6])
@pytest.mark.parametrize("encoded", [[[1], [2, 3], [4, 5, 6, 7]], [[1], [2], [3]], [[1, 2], [1], [3, 4]]])
def test_targets_are_counted_as_the_losses_take_their_means(
    encoded: list[list[int]], permutations: int, micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = losses._cross_entropy

    def counting(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        seen.append(int((targets != losses.IGNORE).sum()))
        return plain(logits, targets, label_smoothing)

    monkeypatch.setattr(losses, "_cross_entropy", counting)
    recipe = LossRecipe(permutations=permutations, caption_corruption=0.0)
    plm_loss(load_model(micro_folder), torch.zeros(3, 3, 32, 128), encoded, recipe)
    assert seen == [counted_targets(encoded, permutations)] * 2


# Recomputed layers


def test_recomputed_layers_give_the_same_gradient(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loop.TrainingRun(recipe_from(micro_folder))
    saving = loop.TrainingRun(recipe_from(micro_folder, run={"recompute": True}))
    batch = batch_of(["phở", "bò"])
    expected, got = gradients(plain, batch, monkeypatch), gradients(saving, batch, monkeypatch)
    assert expected.keys() == got.keys() != set()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("tower", ["image_tower", "text_tower"])
def test_layers_are_really_computed_twice(tower: str) -> None:
    model = load_model(PUBLISHED, tokenizer=M_CLIP).train()
    layer = tower_layers(getattr(model, tower))[1][0]
    calls = []
    plain = layer.forward
    layer.forward = lambda *args, **options: (calls.append(1), plain(*args, **options))[1]
    recompute_layers(model)
    loss = plm_loss(model, torch.randn(1, 3, *model.config.image_tower.image_size), [[0, 1]], LossRecipe())
    (loss.visual + loss.cross).backward()
    assert len(calls) == 2


# The published architecture


def test_the_published_architecture_is_fine_tuned_from_its_recipe(tmp_path: Path) -> None:
    whole = load_recipe(CONFIGS / "clip4str_vn_finetune.yaml")
    assert whole.run.recompute and whole.run.precision == "auto" and whole.freeze.text_layers == 12
    # The golden model has two layers in each tower.
    recipe = recipe_from(
        PUBLISHED,
        "clip4str_vn_finetune",
        freeze=FreezeRecipe(text_layers=1),
        run={"accumulate": 2, "recompute": True, "precision": "bfloat16"},
    )
    start = find_start(recipe.model, M_CLIP)
    run = loop.TrainingRun(recipe, start)
    changed = changed_parts(run)
    assert not any(name.startswith("text_tower.transformer.embeddings.") for name in changed)
    assert not any(name.startswith("text_tower.transformer.encoder.layer.0.") for name in changed)
    for part in ("image_tower.visual.conv1", "text_tower.linear", "visual_decoder.", "cross_decoder."):
        assert any(name.startswith(part) for name in changed), part
    loop.save_checkpoint(run, tmp_path / loop.CHECKPOINT)
    export(tmp_path / loop.CHECKPOINT, tmp_path / "weights")
    model = load_model(tmp_path / "weights")
    assert model.text_tower.tokenize(["phở"]) and read_card(tmp_path / "weights").licence.startswith("not stated by")


def test_a_run_of_the_published_architecture_goes_on_without_the_files_it_started_from(tmp_path: Path) -> None:
    recipe = recipe_from(PUBLISHED, "clip4str_vn_finetune", freeze=FreezeRecipe(text_layers=1))
    first = loop.TrainingRun(recipe, find_start(recipe.model, M_CLIP))
    changed_parts(first)
    loop.save_checkpoint(first, tmp_path / loop.CHECKPOINT)
    resumed = loop.TrainingRun(recipe, Start(first.config))
    resumed.load_state_dict(read_run_state(tmp_path / loop.CHECKPOINT, ["average"]))
    assert resumed.average.weights.keys() == first.average.weights.keys()
    assert all(torch.equal(resumed.average.weights[name], one) for name, one in first.average.weights.items())
    for run in (first, resumed):
        changed_parts(run)
    assert all(torch.equal(resumed.average.weights[name], one) for name, one in first.average.weights.items())
    ids, expected = (run.averaged_model().text_tower.tokenize(["phở"]) for run in (resumed, first))
    assert ids == expected


def test_all_layers_of_the_published_towers_are_known() -> None:
    model = load_model(PUBLISHED, tokenizer=M_CLIP)
    freeze(model, FreezeRecipe(image_layers=2, text_layers=2))
    learning = {name for name, one in model.named_parameters() if one.requires_grad and "tower" in name}
    assert learning == {
        "image_tower.visual.ln_post.weight",
        "image_tower.visual.ln_post.bias",
        "image_tower.visual.proj",
        "text_tower.linear.weight",
        "text_tower.linear.bias",
    }


# Words of one's own


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    (folder / "images").mkdir(parents=True)
    labels = {}
    for number, label in enumerate(["phở", "bò", "Huế", "cơm", "tấm", "10€", "quán", "chợ"]):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        labels[f"{number}.png"] = label
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    return folder


def own(folder: Path, **options: Any) -> WordsRecipe:
    return WordsRecipe(train=(str(folder),), **options)


def test_a_run_on_own_words_says_what_it_read_before_and_after(words: Path, micro_folder: Path, tmp_path: Path) -> None:
    assert loop.train(recipe_from(micro_folder, words=own(words)), tmp_path / "run", Noise)
    lines = [json.loads(line) for line in (tmp_path / "run" / loop.LOG).read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [0, 4]
    assert {"clean", "photo", "own"} <= validations[0].keys()
    assert "10€" in (tmp_path / "run" / "left_out.tsv").read_text(encoding="utf-8")
    card = read_card(tmp_path / "run" / loop.WEIGHTS)
    assert card.data is not None and card.data.startswith("16 words, 50% of them the 6 of words (SHA-256 ")
    assert card.metrics["watched"]["own_words"] == 1
    draw_curve(tmp_path / "run" / loop.LOG, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    # A run that lost power leaves a line that is none; it is cut off when the run goes on.
    with open(tmp_path / "run" / loop.LOG, "a", encoding="utf-8") as log:
        log.write('{"step": 5, "sam')
    assert [line["step"] for line in read_log(tmp_path / "run" / loop.LOG)[1]] == [0, 4]
    # Of where the words lay, which may be a customer's folder, nothing goes out with the weights.
    card_text = (tmp_path / "run" / loop.WEIGHTS / "card.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in card_text and card.recipe is not None
    assert card.recipe["words"]["train"] == [words.name] and card.recipe["model"]["init"] == micro_folder.name


def test_a_run_that_starts_from_one_on_own_words_says_so(words: Path, micro_folder: Path, tmp_path: Path) -> None:
    licensed = tmp_path / "licensed"
    save_model(load_model(micro_folder), licensed, {"licence": "Apache-2.0", "data": "words of before"})
    first = recipe_from(licensed, words=own(words))
    assert loop.train(first, tmp_path / "first", Noise)
    ours = read_card(tmp_path / "first" / loop.WEIGHTS)
    for start in (loop.CHECKPOINT, loop.WEIGHTS):
        assert loop.train(recipe_from(tmp_path / "first" / start), tmp_path / f"second {start}", Noise)
        card = read_card(tmp_path / f"second {start}" / loop.WEIGHTS)
        assert card.licence == ours.licence == "not stated; of the weights it started from: Apache-2.0"
        assert ours.data is not None and ours.data.endswith("before that: words of before")
        assert card.data == f"16 Vietnamese words rendered by clip4str_doctr.training.synth; before that: {ours.data}"


def test_a_run_on_own_words_alone_renders_nothing(words: Path, micro_folder: Path, tmp_path: Path) -> None:
    class Unavailable(Noise):
        def sample(self, index: int) -> Any:
            raise AssertionError("rendered although every word is the user's own")

    assert loop.train(recipe_from(micro_folder, words=own(words, share=1.0)), tmp_path / "run", Unavailable)


def test_resuming_with_own_words_is_exact_and_notices_other_words(
    words: Path, micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_from(micro_folder, words=own(words), run={"checkpoint_minutes": 0.0})
    assert loop.train(recipe, tmp_path / "whole", Noise)
    saved = []
    plain = loop.save_checkpoint

    def save_and_stop(run: Any, path: Path) -> None:
        plain(run, path)
        saved.append(run.step)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path / "halved", Noise)
    moved = words.rename(tmp_path / "moved")
    monkeypatch.setattr(loop, "save_checkpoint", plain)
    assert loop.train(replace(recipe, words=own(moved)), tmp_path / "halved", Noise)
    one, other = (
        torch.load(tmp_path / name / loop.CHECKPOINT, weights_only=True)["model"] for name in ("whole", "halved")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)

    (moved / "labels.json").write_text(json.dumps({"0.png": "phở", "1.png": "bún"}), encoding="utf-8")
    with pytest.raises(OtherRecipeError, match="words of --data or --val have changed since the checkpoint"):
        loop.train(replace(recipe, words=own(moved)), tmp_path / "halved", Noise)
    with pytest.raises(OtherRecipeError, match="words of --data or --val have changed"):
        loop.train(replace(recipe, words=own(moved, share=0.5)), tmp_path / "halved", Noise)
