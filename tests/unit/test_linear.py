"""Linear layers by oneDNN: the same answers, and only where they may be."""

from pathlib import Path

import pytest
import torch
from torch import nn

from clip4str_doctr.modeling import linear as module
from clip4str_doctr.modeling.image_tower import ClipImageTower
from clip4str_doctr.modeling.linear import Linear, linear, onednn_linear, replace_linear_layers

if not torch.backends.mkldnn.is_available():
    pytest.skip("this PyTorch has no oneDNN", allow_module_level=True)

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


@pytest.mark.parametrize("enabled", [False, True])
def test_clips_attention_is_torchs(enabled: bool) -> None:
    from open_clip.transformer import QuickGELU, VisionTransformer

    from clip4str_doctr.config import ClipImageTowerConfig

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
