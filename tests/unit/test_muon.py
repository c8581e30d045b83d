"""Muon: orthogonal steps for hidden matrices, AdamW's for all else."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from micro_training import Blocks, micro_recipe
from torch import nn

from clip4str_doctr.modeling.decoder import Decoder
from clip4str_doctr.training import loop
from clip4str_doctr.training.data import Pools, batches_from
from clip4str_doctr.training.muon import MuonAndAdamW, hidden_matrices, orthogonalised


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8)])
def test_singular_vectors_stay_and_values_come_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-3, 1.0, 1e3])[: shape[0], None, None]
    steps = orthogonalised(matrices)
    assert steps.shape == shape
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.transpose(1, 2) @ steps @ right.transpose(1, 2)
    values = torch.diagonal(inner, dim1=1, dim2=2)
    assert ((values > 0.5) & (values < 1.3)).all(), values
    torch.testing.assert_close(inner, torch.diag_embed(values), atol=1e-4, rtol=0)


def test_which_matrices_are_hidden() -> None:
    model = loop.TrainingRun(micro_recipe()).model
    names = {id(one): name for name, one in model.named_parameters()}
    parts = {names[id(one)]: count for one, count in hidden_matrices(model)}
    assert parts["visual_decoder.layer.self_attn.in_proj_weight"] == 3
    assert parts["image_tower.blocks.0.linear1.weight"] == parts["text_tower.proj.weight"] == 1
    assert not any(word in name for name in parts for word in ("embedding", "head", "stem", "pos", "norm", "bias"))
    decoder = model.cross_decoder
    assert isinstance(decoder, Decoder) and sum(name.startswith("cross_decoder.") for name in parts) == 6


def test_first_step_by_hand_and_the_others_are_adamws() -> None:
    torch.manual_seed(0)
    matrix, other, alone = (nn.Parameter(torch.randn(6, 4)) for _ in range(3))
    alone.data.copy_(other.data)
    start = matrix.detach().clone()
    for one in (matrix, other):
        one.grad = torch.randn(6, 4)
    alone.grad = other.grad.clone()  # type: ignore[union-attr]  # set above
    common = {"weight_decay": 0.1, "lr": 1e-2}
    ours = MuonAndAdamW([{"params": [matrix], "parts": 2, **common}, {"params": [other], "parts": 0, **common}])
    theirs = torch.optim.AdamW([alone], **common)
    ours.step()
    theirs.step()
    assert matrix.grad is not None
    # The momentum is a twentieth of the gradient, and both point the same way.
    halves = orthogonalised(matrix.grad.view(2, 3, 4)).view(6, 4)
    torch.testing.assert_close(matrix.detach(), start * (1 - 1e-3) - 1e-2 * 0.2 * 2 * halves)
    torch.testing.assert_close(other, alone)
    assert len(ours.param_groups) == 2


def test_runs_learn_and_resume_exactly() -> None:
    recipe = micro_recipe()
    recipe = replace(recipe, optim=replace(recipe.optim, matrices="muon", learning_rate=3e-3))
    pools = Pools((16, 64), 4000, replace(recipe.data, batch_size=16, pool_batches=8, mixed_fraction=1.0), Blocks)
    recipe = replace(recipe, schedule=replace(recipe.schedule, total_samples=4000))
    whole = loop.TrainingRun(recipe)
    losses = [float(whole.advance(batch).loss) for batch in islice(batches_from(0, pools), 40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    first = loop.TrainingRun(recipe)
    for batch in islice(batches_from(0, pools), 3):
        first.advance(batch)
    second = loop.TrainingRun(recipe)
    second.load_state_dict(first.state_dict())
    again = [float(second.advance(batch).loss) for batch in islice(batches_from(3, pools), 3)]
    assert again == losses[3:6]
