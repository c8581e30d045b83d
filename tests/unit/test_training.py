"""The parts of training on a micro model: masks, losses, schedule, averages, recipe, scores."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clip4str_doctr.config import (
    HALF_NORMALIZATION,
    CharTextTowerConfig,
    ConvImageTowerConfig,
    DecodeConfig,
    DecoderConfig,
    ModelConfig,
)
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.training.losses import (
    IGNORE,
    CTCHead,
    batch_weight,
    context_and_targets,
    corrupt_captions,
    encode_labels,
    hidden_image_tokens,
    look_alikes,
    plm_loss,
    training_loss,
    validation_loss,
)
from clip4str_doctr.training.optim import MovingAverage, parameter_groups, schedule_factor, schedule_progress
from clip4str_doctr.training.permutations import draw_permutations, permuted_targets, query_masks
from clip4str_doctr.training.recipe import LossRecipe, OptimRecipe, load_recipe, recipe_from_dict

SYMBOLS = "aáàâbđe"
RECIPE = Path(__file__).parents[2] / "configs" / "clip4str_vn_tiny.yaml"


def micro_model() -> CLIP4STR:
    torch.manual_seed(0)
    image = ConvImageTowerConfig((16, 64), (16, 32), width=32, layers=1, heads=2, output_dim=32)
    text = CharTextTowerConfig(width=32, layers=1, heads=2, output_dim=32)
    decode = DecodeConfig(max_symbols=6)
    decoder = DecoderConfig(width=32, heads=2, mlp_width=64)
    return build_model(ModelConfig("micro", SYMBOLS, image, text, decoder, decode, HALF_NORMALIZATION))


# Permutations and masks


def test_orders_come_in_mirrored_pairs_and_short_labels_have_fewer() -> None:
    for length, expected in ((1, 1), (2, 2), (3, 6), (4, 6), (5, 6), (9, 6)):
        orders = draw_permutations(length, 6, torch.Generator().manual_seed(length))
        assert orders.shape == (expected, length)
        assert orders[0].tolist() == list(range(length))
        assert torch.equal(orders.sort(dim=1).values, torch.arange(length).expand_as(orders))
        if expected > 1:
            assert torch.equal(orders[1::2], orders[0::2].flip(1))
        if length <= 5:
            assert len({tuple(order) for order in orders.tolist()}) == expected
    assert len(draw_permutations(4, 1)) == 1
    for count in (0, 3):
        with pytest.raises(ValueError, match="mirrored pairs"):
            draw_permutations(4, count)


def test_masks_of_hand_cases() -> None:
    hidden = query_masks(torch.tensor([[0, 1, 2], [2, 1, 0], [1, 0, 2]]))
    seen = [[[slot for slot in range(4) if not query[slot]] for query in order] for order in hidden.tolist()]
    assert seen[0] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]  # left to right: causal
    assert seen[1] == [[0, 2, 3], [0, 3], [0], [0]]  # right to left: the end comes first and sees BOS only
    assert seen[2] == [[0, 2], [0], [0, 1, 2], [0, 1, 2, 3]]


def test_no_query_sees_its_own_character_or_none_at_all() -> None:
    hidden = query_masks(draw_permutations(7, 6))
    assert hidden.diagonal(offset=1, dim1=1, dim2=2).all()
    assert not hidden[:, :, 0].any()


def test_ends_count_in_the_first_two_orders_only() -> None:
    targets = torch.tensor([[3, 4, 9], [3, 9, IGNORE]])
    stacked = permuted_targets(targets, 4, eos=9, ignore=IGNORE)
    assert stacked.tolist() == [
        [3, 4, 9] * 2 + [3, 4, IGNORE] * 2,
        [3, 9, IGNORE] * 2 + [3, IGNORE, IGNORE] * 2,
    ]


def test_stacked_orders_answer_as_one_by_one() -> None:
    model = micro_model().eval()
    encoded = [[0, 1, 2, 3], [4, 5], [6]]
    context, _ = context_and_targets(encoded, model.charset)
    pad = context == model.charset.pad
    memory = torch.randn(3, 8, 32)
    masks = query_masks(draw_permutations(4, 6))
    positions = torch.arange(5)
    stacked = model.visual_decoder(
        context, memory, positions=positions.repeat(6), query_mask=masks.flatten(0, 1), content_pad=pad
    )
    for index, logits in enumerate(stacked.chunk(6, dim=1)):
        alone = model.visual_decoder(context, memory, positions=positions, query_mask=masks[index], content_pad=pad)
        torch.testing.assert_close(logits, alone)


# Losses


def test_context_and_targets_frame_the_label() -> None:
    charset = micro_model().charset
    context, targets = context_and_targets([[5, 6], [1]], charset)
    assert context.tolist() == [[charset.bos, 5, 6], [charset.bos, 1, charset.pad]]
    assert targets.tolist() == [[5, 6, charset.eos], [1, charset.eos, IGNORE]]


def test_cross_branch_sends_no_gradient_through_captions_but_reaches_the_image_tower() -> None:
    model = micro_model()
    pixels = torch.randn(3, 3, 16, 64)
    plm_loss(model, pixels, [[0, 1], [2], [3, 4, 5]], LossRecipe()).cross.backward()
    assert all(parameter.grad is None for parameter in model.visual_decoder.parameters())
    for part in (model.image_tower, model.text_tower, model.cross_decoder):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


def test_captions_are_what_the_visual_branch_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = micro_model()
    model.visual_decoder.head.bias.data[model.charset.eos] = -10.0  # words go on for as long as they may
    pixels = torch.randn(3, 3, 16, 64)
    captions: list[list[str]] = []
    encode = model.text_tower.forward
    monkeypatch.setattr(model.text_tower, "forward", lambda words: captions.append(list(words)) or encode(words))
    for source in ("read", "forced"):
        plm_loss(model, pixels, [[0, 1], [2], [3, 4, 5]], LossRecipe(captions=source, caption_corruption=0.0))
    # Batch norms of a model in training mode see the batch, so it reads the very batch, in the same mode.
    assert captions[0] == model.read(pixels).stages[0].captions
    assert captions[1] != captions[0]


def test_half_of_some_images_is_hidden_from_the_cross_branch() -> None:
    hidden = hidden_image_tokens(400, 64, 0.25, torch.Generator().manual_seed(0))
    rows = hidden.any(1)
    assert 70 < rows.sum() < 130
    assert 0.45 < hidden[rows].float().mean() < 0.55
    model = micro_model()
    pixels, labels = torch.randn(2, 3, 16, 64), [[0, 1], [2]]
    losses = [plm_loss(model, pixels, labels, LossRecipe(1, hidden_images=share)) for share in (0.0, 1.0)]
    torch.testing.assert_close(losses[0].visual, losses[1].visual)
    assert losses[0].cross != losses[1].cross


def test_losses_of_a_batch_ignore_padding() -> None:
    model = micro_model().eval()
    pixels = torch.randn(2, 3, 16, 64)
    recipe = LossRecipe(permutations=1, caption_corruption=0.0)
    labels = [[0, 1, 2, 3], [4]]
    both = plm_loss(model, pixels, labels, recipe)
    alone = [plm_loss(model, pixels[i : i + 1], labels[i : i + 1], recipe) for i in range(2)]
    for name in ("visual", "cross"):
        weighted = (5 * getattr(alone[0], name) + 2 * getattr(alone[1], name)) / 7
        torch.testing.assert_close(getattr(both, name), weighted)


def test_validation_loss_is_of_one_order_and_true_captions() -> None:
    model = micro_model().eval()
    pixels, labels = torch.randn(2, 3, 16, 64), ["abđab", "đbab"]
    told = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        told.append(validation_loss(model, pixels, labels).item())
    assert told[0] == told[1]
    parts = plm_loss(model, pixels, encode_labels(model.config, labels), LossRecipe(1, caption_corruption=0.0))
    assert told[0] == pytest.approx((parts.visual + parts.cross).item())
    many = [(torch.manual_seed(seed), training_loss(model, pixels, labels).item())[1] for seed in range(3)]
    assert len({*many, told[0]}) == 4


def test_model_loss_in_training_and_validation() -> None:
    model = micro_model()
    pixels = torch.randn(2, 3, 16, 64)
    for loss in (training_loss(model, pixels, ["ab", "đ"]), validation_loss(model, pixels, ["ab", "đ"])):
        assert loss.shape == () and loss.requires_grad and torch.isfinite(loss)
    with pytest.raises(ValueError, match="1..6 symbols, got 7"):
        training_loss(model, pixels, ["a" * 7, "a"])
    with pytest.raises(ValueError, match="1..6 symbols, got 0"):
        training_loss(model, pixels, ["", "a"])


def test_ctc_head_reads_columns_from_left_to_right() -> None:
    head = CTCHead(8, 5, rows=4, steps=2)
    tokens = torch.randn(1, 4 * 6, 8)
    logits = head(tokens)
    assert logits.shape == (1, 12, 6)
    changed = tokens.clone()
    changed[:, [2, 8, 14, 20]] += 1  # column 2 of the four rows
    differs = (head(changed) != logits).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [4, 5]
    assert torch.isfinite(head.loss(tokens, [[0, 1, 2]]))
    assert head.loss(tokens, [[0] * 13]) == 0  # does not fit into 12 steps
    with pytest.raises(ValueError, match="do not form 4 rows"):
        head(torch.randn(1, 6, 8))


def test_corrupted_captions_keep_base_letters() -> None:
    assert set(look_alikes(SYMBOLS)["a"]) == {"á", "à", "â"}
    assert "b" not in look_alikes(SYMBOLS)
    assert look_alikes("dđD")["đ"] == ("d", "D")
    corrupted = corrupt_captions(["aba"] * 200, SYMBOLS, 0.5, random.Random(0))
    assert 60 < sum(one != "aba" for one in corrupted) < 140
    assert all(one[1] == "b" and len(one) == 3 for one in corrupted)
    assert corrupt_captions(["b", ""], SYMBOLS, 1.0, random.Random(0)) == ["b", ""]


# Optimiser, schedule, average


def test_schedule_warms_up_then_falls_to_its_end() -> None:
    schedule = replace(load_recipe(RECIPE).schedule, warmup=0.1, final_factor=0.05)
    factors = [schedule_factor(step / 100, schedule) for step in range(101)]
    assert 0 < factors[0] < 0.01
    assert factors[5] == pytest.approx(0.5) and factors[10] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.05)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_schedule_holds_its_peak_before_it_falls() -> None:
    schedule = replace(load_recipe(RECIPE).schedule, warmup=0.1, hold=0.6, final_factor=0.0)
    factors = [schedule_factor(step / 100, schedule) for step in range(101)]
    assert factors[10:70] == [1.0] * 60
    assert factors[85] == pytest.approx(0.5) and factors[100] == pytest.approx(0.0)
    assert factors[70:] == sorted(factors[70:], reverse=True)


def test_a_schedule_of_more_than_the_whole_run_is_refused() -> None:
    values = load_recipe(RECIPE).to_dict()
    values["schedule"] |= {"warmup": 0.5, "hold": 0.6}
    with pytest.raises(ValueError, match=r"schedule\.warmup \+ schedule\.hold"):
        recipe_from_dict(values)


def test_progress_is_of_samples_or_hours_whichever_is_further() -> None:
    schedule = replace(load_recipe(RECIPE).schedule, total_samples=1000, max_hours=1.0)
    assert schedule_progress(500, 360.0, schedule) == 0.5
    assert schedule_progress(100, 1800.0, schedule) == 0.5
    assert schedule_progress(100, 7200.0, schedule) == 1.0
    assert schedule_progress(100, 7200.0, replace(schedule, max_hours=None)) == 0.1


def test_decay_and_rates_by_group() -> None:
    model, head = micro_model(), CTCHead(32, len(SYMBOLS), rows=4, steps=2)
    recipe = OptimRecipe(1e-3, 0.5, 2.0, (0.9, 0.98), 0.05, 5.0, 0.9)
    group_of = {id(one): group for group in parameter_groups(model, head, recipe) for one in group["params"]}
    assert len(group_of) == len(list(model.parameters())) + 2
    tower, decoder = model.image_tower, model.visual_decoder
    for parameter, peak, decay in (
        (tower.stem[0].weight, 5e-4, 0.05),
        (tower.stem[1].weight, 5e-4, 0.0),
        (tower.positions, 5e-4, 0.0),
        (head.proj.weight, 5e-4, 0.05),
        (decoder.layer.self_attn.in_proj_weight, 2e-3, 0.05),
        (decoder.layer.linear1.bias, 2e-3, 0.0),
        (decoder.embedding.weight, 2e-3, 0.0),
        (decoder.pos_queries, 2e-3, 0.0),
    ):
        group = group_of[id(parameter)]
        assert (group["peak"], group["weight_decay"]) == (peak, decay)


def test_moving_average_follows_the_formula_and_round_trips() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    average = MovingAverage(model, 0.5)
    start = model[0].weight.item()
    model[0].weight.data.fill_(4.0)
    model[1].num_batches_tracked.fill_(7)
    average.update(model)  # decay warms up: (1 + 1) / (10 + 1)
    decay = 2 / 11
    assert average.weights["0.weight"].item() == pytest.approx(decay * start + (1 - decay) * 4.0)
    assert average.weights["1.num_batches_tracked"] == 7
    other = MovingAverage(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1)), 0.5)
    other.load_state_dict(average.state_dict())
    assert other.updates == 1 and torch.equal(other.weights["0.weight"], average.weights["0.weight"])
    with pytest.raises(ValueError, match=r"0\.bias"):
        other.load_state_dict(MovingAverage(torch.nn.Sequential(torch.nn.Linear(1, 1)), 0.5).state_dict())


def test_an_average_of_trained_weights_keeps_them() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    averages = {kind: MovingAverage(model, 0.99, from_random=kind) for kind in (True, False)}
    with torch.no_grad():
        model[0].weight.fill_(0.0)
    for average in averages.values():
        for _ in range(10):
            average.update(model)
    left = {kind: float(average.weights["0.weight"]) for kind, average in averages.items()}
    assert left[False] == pytest.approx(0.99**10) and left[True] < 0.01
    other = MovingAverage(model, 0.99)
    other.load_state_dict(averages[False].state_dict())
    other.update(model)
    assert float(other.weights["0.weight"]) == pytest.approx(0.99**11)  # a run that goes on keeps its kind


def test_batches_of_long_words_may_weigh_more() -> None:
    short, usual, long = [[1]] * 4, [[1] * 5] * 4, [[1] * 23] * 4
    assert [batch_weight(batch, 0.0) for batch in (short, usual, long)] == [1, 1, 1]
    assert [batch_weight(batch, 1.0) for batch in (short, usual, long)] == pytest.approx([1 / 3, 1, 4])
    assert batch_weight(long, 0.5) == pytest.approx(2)


# Recipe


def test_recipe_file_is_read_whole_and_survives_a_round_trip() -> None:
    recipe = load_recipe(RECIPE)
    assert recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("data", "colour", 1, "unknown key data.colour"),
        ("data", "seed", None, "data.seed must be int, got None"),
        ("run", "threads", 2.5, "run.threads must be int, got 2.5"),
        ("run", "precision", "float8", "run.precision must be one of float32, bfloat16"),
        ("loss", "captions", "spoken", "loss.captions must be one of forced, read, got 'spoken'"),
        ("optim", "learning_rate", "1e-3", "YAML wants a dot"),
        ("optim", "betas", [0.9], "optim.betas must be tuple"),
        ("data", "clean_end", 1.5, "data.clean_end must lie in 0..1, got 1.5"),
        ("run", "log_every", 0, "run.log_every must be at least 1, got 0"),
        ("schedule", "max_hours", 0, r"schedule.max_hours must be above 0, got 0.0"),
        ("data", "workers", -1, r"data.workers must be 0 or more, got -1"),
        ("optim", "betas", [0.9, 1.0], r"optim.betas must be 0 or more and less than 1, got \[0.9, 1.0\]"),
        ("optim", "learning_rate", float("nan"), r"optim.learning_rate must be above 0, got nan"),
        ("optim", "learning_rate", float("inf"), r"optim.learning_rate must be finite, got inf"),
    ],
)
def test_recipe_errors_name_the_key(part: str, key: str, value: Any, message: str) -> None:
    values = load_recipe(RECIPE).to_dict()
    values[part][key] = value
    with pytest.raises(ValueError, match=message):
        recipe_from_dict(values)


def test_recipe_missing_key_and_wrong_file(tmp_path: Path) -> None:
    values = load_recipe(RECIPE).to_dict()
    del values["optim"]["betas"]
    with pytest.raises(ValueError, match=r"missing key optim\.betas"):
        recipe_from_dict(values)
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"list\.yaml: the recipe must be a mapping"):
        load_recipe(tmp_path / "list.yaml")
