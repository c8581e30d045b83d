"""Linear layers by oneDNN: the same answers, and only where they may be."""

import copy
import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from clip4str_doctr.config import ClipImageTowerConfig
from clip4str_doctr.modeling import linear as module
from clip4str_doctr.modeling.image_tower import ClipImageTower
from clip4str_doctr.modeling.layers import Block
from clip4str_doctr.modeling.linear import (
    Linear,
    cast_products,
    linear,
    onednn_linear,
    pack_weights,
    replace_linear_layers,
)

if not torch.backends.mkldnn.is_available():
    pytest.skip("this PyTorch has no oneDNN", allow_module_level=True)

NEEDS_BFLOAT16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no bfloat16 by oneDNN"
)
_INPUTS, _OUTPUTS = 512, 768


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what went to PyTorch's own linear."""
    seen: list[tuple[int, ...]] = []
    by_torch = torch.nn.functional.linear

    def counted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return by_torch(x, weight, bias)

    monkeypatch.setattr(module.F, "linear", counted)
    return seen


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(_INPUTS, _OUTPUTS).eval()


@pytest.mark.parametrize("shape", [(20, _INPUTS), (300, _INPUTS), (4, 77, _INPUTS)])
@pytest.mark.parametrize("bias", [False, True])
def test_onednn_and_torch_agree(
    layer: Linear, calls: list[tuple[int, ...]], shape: tuple[int, ...], bias: bool
) -> None:
    x = torch.randn(shape)
    # A part of the weights, as attention has them.
    weight, offset = layer.weight[256:], layer.bias[256:] if bias else None
    with torch.inference_mode():
        with onednn_linear(False):
            expected = linear(x, weight, offset)
        assert calls == [shape]
        with onednn_linear(True):
            found = linear(x, weight, offset)
        assert calls == [shape]
    assert found.shape == (*shape[:-1], 512)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_goes_to_torch(layer: Linear, calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(64, _INPUTS)
    with onednn_linear(True):
        with torch.no_grad():
            layer(x)
            assert not calls
            layer(x[:2])  # too little work
            layer.bfloat16()(x.bfloat16())
            layer.float()
            with torch.autocast("cpu", torch.bfloat16):
                assert layer(x).dtype == torch.bfloat16
            assert len(calls) == 3
            graph = str(torch.export.export(layer, (x,)).graph)
            assert "mkldnn" not in graph and "linear" in graph
        layer(x).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with onednn_linear(True), torch.no_grad():
        before = len(calls)
        layer(x)
        assert len(calls) == before + 1


@pytest.mark.parametrize(("vendor", "expected"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_processor_decides(
    layer: Linear,
    calls: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    vendor: str,
    expected: bool,
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n", encoding="utf-8")
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "cpuinfo")
    module._is_amd.cache_clear()
    try:
        with torch.no_grad():
            layer(torch.randn(64, _INPUTS))
    finally:
        module._is_amd.cache_clear()
    assert (not calls) is expected


def test_layers_are_replaced_with_their_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU())).eval()
    before = dict(model.named_parameters())
    replace_linear_layers(model)
    kinds = [type(one) for one in model.modules() if isinstance(one, nn.Linear)]
    assert kinds == [Linear, Linear] and not any(one.training for one in model.modules())
    assert {name: id(one) for name, one in model.named_parameters()} == {name: id(one) for name, one in before.items()}


class _OtherLinear(nn.Module):
    """A layer that has no weight of a `Linear`'s kind."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.parts = layer.weight.detach().chunk(2)
        self.offset = layer.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x @ part.T for part in self.parts], dim=-1) + self.offset


@pytest.mark.parametrize("enabled", [False, True])
def test_clips_blocks_are_open_clips(enabled: bool) -> None:
    from open_clip.transformer import QuickGELU, VisionTransformer

    config = ClipImageTowerConfig(image_size=(64, 64), patch_size=8, width=128, layers=2, output_dim=32)
    torch.manual_seed(0)
    tower = ClipImageTower(config).eval()
    theirs = VisionTransformer(64, 8, 128, 2, 2, 4.0, output_dim=32, act_layer=QuickGELU, pool_type="none").eval()
    theirs.load_state_dict(tower.visual.state_dict())
    pixels = torch.randn(3, 3, 64, 64)
    with onednn_linear(enabled):
        with torch.inference_mode():
            torch.testing.assert_close(tower(pixels), theirs(pixels), atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(tower(pixels), theirs(pixels), atol=2e-5, rtol=1e-5)
        for block in tower.visual.transformer.resblocks:  # as a quantiser does
            block.mlp.c_fc = _OtherLinear(block.mlp.c_fc)
        with torch.inference_mode():
            torch.testing.assert_close(tower(pixels), theirs(pixels), atol=2e-5, rtol=1e-5)


def test_hooks_of_clips_layers_are_called() -> None:
    """Those of pruning, which make the weight before each call, among them."""
    config = ClipImageTowerConfig(image_size=(64, 64), patch_size=8, width=128, layers=1, output_dim=32)
    torch.manual_seed(0)
    tower, pixels = ClipImageTower(config).eval(), torch.randn(1, 3, 64, 64)
    layer = tower.visual.transformer.resblocks[0].mlp.c_fc
    with torch.inference_mode():
        whole = tower(pixels)
        prune.l1_unstructured(layer, "weight", 0.5)
        pruned = tower(pixels)
        del layer.weight  # is made anew before each call
        torch.testing.assert_close(tower(pixels), pruned)
    assert not torch.allclose(whole, pruned, atol=1e-3)
    seen: list[int] = []
    tower = ClipImageTower(config).eval()
    for part in tower.visual.transformer.resblocks[0].mlp:
        handle = part.register_forward_hook(lambda *_: seen.append(1))
        with torch.inference_mode():
            tower(pixels)
        handle.remove()
    assert len(seen) == 3


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each packed copy that is made, how many outputs its weight has."""
    seen: list[int] = []
    packed = module._Packed

    def counted(weight: torch.Tensor) -> module._Packed:
        seen.append(weight.shape[0])
        return packed(weight)

    monkeypatch.setattr(module, "_Packed", counted)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=NEEDS_BFLOAT16)])
def test_packed_weights_answer_bit_for_bit(layer: Linear, packings: list[int], dtype: torch.dtype) -> None:
    layer.to(dtype)
    x = torch.randn(3, 100, _INPUTS).to(dtype)
    with torch.inference_mode(), onednn_linear(True):
        expected = layer(x)
        pack_weights(layer)
        assert not packings  # not before they are needed
        for rows in (slice(None), slice(1), slice(2)):
            assert torch.equal(layer(x[rows]), expected[rows])
        assert packings == [_OUTPUTS]


def _cast_there_and_back(layer: Linear) -> None:
    layer.bfloat16().float()


def _load(layer: Linear) -> None:
    layer.load_state_dict({name: 2 * tensor for name, tensor in layer.state_dict().items()})


def _assign(layer: Linear) -> None:
    layer.load_state_dict({name: 2 * tensor for name, tensor in layer.state_dict().items()}, assign=True)


def _step(layer: Linear) -> None:
    with torch.enable_grad():
        layer(torch.ones(1, _INPUTS)).sum().backward()
    torch.optim.Adam(layer.parameters(), fused=True).step()


def test_quantised_weights_are_not_packed(layer: Linear) -> None:
    """They go other ways, and torch moves no tensor that something refers to weakly."""

    class Quantised(torch.Tensor):
        pass

    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Quantised), requires_grad=False)
    assert type(layer.weight) is Quantised
    pack_weights(layer)
    assert layer.weight not in module._packed


@pytest.mark.parametrize("change", [_cast_there_and_back, _load, _assign, _step])
def test_packed_weights_follow_their_weights(layer: Linear, change: Callable[[Linear], None]) -> None:
    x = torch.randn(64, _INPUTS)
    pack_weights(layer)
    with onednn_linear(True):
        with torch.no_grad():
            before = layer(x)
        change(layer)
        with torch.no_grad():
            found = layer(x)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(found, before)


def test_copies_of_packed_layers_are_layers(layer: Linear, packings: list[int], tmp_path: Path) -> None:
    x = torch.randn(64, _INPUTS)
    pack_weights(layer)
    with torch.no_grad(), onednn_linear(True):
        expected = layer(x)
        torch.save(layer, tmp_path / "layer.pt")
        for other in (copy.deepcopy(layer), torch.load(tmp_path / "layer.pt", weights_only=False)):
            assert torch.equal(other(x), expected)
    assert packings == [_OUTPUTS]


def test_packed_copies_go_with_their_layer(layer: Linear) -> None:
    gc.collect()
    before = len(module._packed)
    pack_weights(layer)
    assert len(module._packed) == before + 1
    del layer.weight
    gc.collect()
    assert len(module._packed) == before


def test_products_alone_are_cast() -> None:
    torch.manual_seed(0)
    block = Block(64, 4).eval()
    x = torch.randn(2, 9, 64)
    with torch.no_grad():
        expected = block(x)
        cast_products(block, torch.bfloat16)
        found = block(x)
    kept = {name for name, parameter in block.named_parameters() if parameter.dtype == torch.float32}
    assert kept == {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)
    # What is added to is as exact as before: where the layers add nothing, nothing is rounded.
    for one in (block.self_attn.out_proj, block.linear2):
        nn.init.zeros_(one.weight)
        nn.init.zeros_(one.bias)
    assert torch.equal(block(x), x)
