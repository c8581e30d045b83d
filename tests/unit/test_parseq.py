"""docTR's PARSeq as the training loop's other pupil."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro_training import MICRO, Blocks, micro_recipe

from clip4str_doctr.charset import Charset
from clip4str_doctr.training import loop
from clip4str_doctr.training.data import Pools, batches_from
from clip4str_doctr.training.losses import LossRecipe, encode_labels
from clip4str_doctr.training.parseq import ParseqPupil, build_parseq, load_parseq, read_whole_crops
from clip4str_doctr.training.pupils import find_pupil
from clip4str_doctr.training.recipe import FreezeRecipe, load_recipe, recipe_from_dict
from clip4str_doctr.training.start import model_config

CONFIGS = Path(__file__).parents[2] / "configs"


def parseq_recipe(**run: Any) -> Any:
    recipe = micro_recipe(**run)
    return replace(recipe, model=replace(recipe.model, reader="parseq"))


def test_the_baseline_differs_by_its_reader_only() -> None:
    names = ("clip4str_vn_tiny_beside_parseq", "parseq_tiny")
    ours, theirs = (load_recipe(CONFIGS / f"{name}.yaml") for name in names)
    assert theirs.model == replace(ours.model, reader="parseq")
    assert (theirs.data, theirs.optim, theirs.schedule, theirs.run) == (ours.data, ours.optim, ours.schedule, ours.run)
    ctc = ("ctc_weight", "ctc_weight_end", "ctc_rows", "ctc_steps_per_column")
    assert all(getattr(theirs.loss, name) == getattr(ours.loss, name) for name in ctc)


def test_same_tower_as_clip4str() -> None:
    config = model_config(replace(micro_recipe().model, overrides=MICRO))
    ours, theirs = find_pupil("clip4str").build(config), build_parseq(config)
    shapes = [
        {name: one.shape for name, one in tower.state_dict().items()}
        for tower in (ours.image_tower, theirs.feat_extractor.tower)
    ]
    assert shapes[0] == shapes[1]
    assert theirs.max_length == 6 + 2 and theirs.vocab == "aáàâbđe"
    with pytest.raises(ValueError, match='"clip4str" or "parseq", got \'vitstr\''):
        find_pupil("vitstr")


def test_losses_are_those_of_doctr_and_reach_everything() -> None:
    pupil = ParseqPupil()
    config = model_config(replace(micro_recipe().model, overrides=MICRO))
    model = pupil.build(config)
    labels = ["ab", "đ", "eàâáee"]  # the last one as long as may be
    pixels = torch.randn(3, 3, 16, 64)

    def losses(seed: int) -> Any:
        return pupil.losses(
            model, pixels, encode_labels(config, labels), LossRecipe(), torch.Generator().manual_seed(seed)
        )

    first = losses(1)
    assert first.visual == losses(1).visual != losses(2).visual
    # One short word right is a larger share of the words than of the characters.
    assert 0 <= first.words <= 1 and 0 <= first.characters <= 1 and first.cross == 0
    # Four rows of tokens, as the tower gave them, without the one that docTR drops.
    assert first.image_tokens.shape == (3, 4 * 16, 32)
    (first.visual + first.image_tokens.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(1)))
    torch.manual_seed(seed)
    model.rng = np.random.default_rng(seed)
    assert torch.equal(model(pixels, labels)["loss"], first.visual)


def test_characters_right_are_counted_where_the_label_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pupil = ParseqPupil()
    config = model_config(replace(micro_recipe().model, overrides=MICRO))
    model = pupil.build(config)
    labels = ["ab", "eàâ"]
    truth = [[*Charset(config.symbols).encode(label), 0, 0][:4] for label in labels]
    truth[1][1] = 6  # one of five wrong; what is said after the end does not count
    logits = torch.nn.functional.one_hot(torch.tensor(truth).flatten(), 8).float()
    monkeypatch.setattr(model, "forward", lambda *_, **__: {"loss": torch.ones(()), "out_map": logits})
    model.feat_extractor(torch.randn(2, 3, 16, 64))
    found = pupil.losses(model, torch.empty(0), encode_labels(config, labels), LossRecipe(), torch.Generator())
    assert found.characters == pytest.approx(0.8) and found.words == 0.5


def test_a_run_ends_in_a_reader_that_doctr_takes(tmp_path: Path) -> None:
    recipe = parseq_recipe()
    assert loop.train(recipe, tmp_path, Blocks)
    reader = load_parseq(tmp_path / "weights")
    crops = [Blocks("clean", "val", 2).sample(index)[0] for index in range(5)]
    texts = read_whole_crops(reader, crops)
    assert len(texts) == 5 and all(set(text) <= set("aáàâbđe") for text in texts)
    state = torch.load(tmp_path / loop.CHECKPOINT, weights_only=True)
    for name, tensor in reader.state_dict().items():
        torch.testing.assert_close(tensor, state["average"]["weights"][name], rtol=1e-3, atol=1e-6, check_dtype=False)
    path = tmp_path / "weights" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="is not what config.json was written for"):
        load_parseq(tmp_path / "weights")


def test_resuming_is_exact() -> None:
    recipe = parseq_recipe()
    pools = Pools((16, 64), 48, recipe.data, Blocks)
    whole = loop.TrainingRun(recipe)
    for batch in islice(batches_from(0, pools), 4):
        whole.advance(batch)
    first = loop.TrainingRun(recipe)
    for batch in islice(batches_from(0, pools), 2):
        first.advance(batch)
    state = first.state_dict()
    second = loop.TrainingRun(recipe)
    second.load_state_dict(state)
    for batch in islice(batches_from(2, pools), 2):
        second.advance(batch)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


@pytest.mark.parametrize("part", [{"model": {"init": "clip4str_vn_tiny"}}, {"freeze": {"image_layers": 1}}])
def test_what_only_clip4str_can(part: dict[str, dict[str, Any]]) -> None:
    values = parseq_recipe().to_dict()
    for name, changes in part.items():
        values[name].update(changes)
    with pytest.raises(ValueError, match="model.reader parseq is trained from random weights"):
        recipe_from_dict(values)
    assert FreezeRecipe() == parseq_recipe().freeze
