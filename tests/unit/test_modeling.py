"""The rooms of the model on random weights: shapes, masks, docTR's contract."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import (
    PRESETS,
    CharTextTowerConfig,
    ClipImageTowerConfig,
    ConvImageTowerConfig,
    CrossLength,
    DecodeConfig,
    DecoderConfig,
    MClipTextTowerConfig,
    ModelConfig,
)
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.modeling.decoder import Decoder
from clip4str_doctr.modeling.image_tower import ClipImageTower, ConvImageTower
from clip4str_doctr.modeling.text_tower import CharTextTower, MClipTextTower

MICRO = replace(
    PRESETS["clip4str_vn_tiny"],
    image_tower=ConvImageTowerConfig((16, 32), stem_widths=(8, 16), width=32, layers=1, heads=2, output_dim=32),
    text_tower=CharTextTowerConfig(width=16, layers=1, heads=2, output_dim=32),
    decoder=DecoderConfig(width=32, heads=4, mlp_width=64),
)


def micro_model(config: ModelConfig = MICRO) -> CLIP4STR:
    torch.manual_seed(0)
    model = build_model(config).eval()
    # Larger than the initial weights, so that different pictures give words of different lengths and letters.
    torch.nn.init.normal_(model.image_tower.proj.weight, std=2.0)
    for decoder in (model.visual_decoder, model.cross_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.5)
        torch.nn.init.normal_(decoder.layer.cross_attn.out_proj.weight, std=0.5)
    return model


def random_pixels(count: int, config: ModelConfig = MICRO) -> torch.Tensor:
    return torch.randn(count, 3, *config.image_tower.image_size, generator=torch.Generator().manual_seed(1)) * 3


@pytest.mark.parametrize(("image_size", "patch_size"), [((32, 32), (16, 16)), ((32, 96), (16, 8)), ((48, 64), (8, 16))])
def test_clip_tower_of_any_size(image_size: tuple[int, int], patch_size: tuple[int, int]) -> None:
    tower = ClipImageTower(ClipImageTowerConfig(image_size, patch_size, width=64, layers=1, output_dim=24))
    patches = image_size[0] // patch_size[0] * (image_size[1] // patch_size[1])
    assert tower(torch.zeros(2, 3, *image_size)).shape == (2, 1 + patches, 24)
    with pytest.raises(ValueError, match=re.escape(f"pixels must be (N, 3, {image_size[0]}, {image_size[1]})")):
        tower(torch.zeros(2, 3, 8, 8))


def test_conv_tower_grid_and_its_errors() -> None:
    config = ConvImageTowerConfig((16, 64), stem_widths=(4, 8, 8), width=16, layers=2, heads=2, output_dim=12)
    tower = ConvImageTower(config).eval()
    assert tower.grid == (2, 8)
    assert tower(torch.zeros(3, 3, 16, 64)).shape == (3, 16, 12)
    with pytest.raises(ValueError, match="multiple of 8"):
        ConvImageTower(replace(config, image_size=(20, 64)))
    with pytest.raises(ValueError, match="pixels must be"):
        tower(torch.zeros(3, 1, 16, 64))


def test_char_tower_hides_padding() -> None:
    charset = Charset(MICRO.symbols)
    tower = CharTextTower(CharTextTowerConfig(width=16, layers=2, heads=2, output_dim=8), charset, 25).eval()
    tokens, pad = tower(["phở", "", "x" * 26])
    assert tokens.shape == (3, 28, 8)
    assert pad.sum(1).tolist() == [23, 26, 0]
    alone, alone_pad = tower(["phở"])
    assert not alone_pad.any()
    torch.testing.assert_close(tokens[0, :5], alone[0], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="at most 26 symbols"):
        tower(["x" * 27])


def test_mclip_tower_without_tokenizer_says_what_to_do() -> None:
    config = MClipTextTowerConfig(
        vocab_size=20, width=16, layers=1, heads=2, mlp_width=32, max_positions=40, pad_id=1, output_dim=8
    )
    with pytest.raises(RuntimeError, match="no tokenizer"):
        MClipTextTower(config)(["phở"])


def test_decoder_masks_hide() -> None:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(width=16, heads=2, mlp_width=32), num_symbols=5, max_symbols=4).eval()
    ids = torch.tensor([[6, 0, 1]])
    other = torch.tensor([[6, 0, 2]])
    memory = torch.randn(1, 3, 16)
    query_mask = torch.tensor([[False, False, True], [False, False, False]])
    positions = torch.tensor([3, 0])
    first = decoder(ids, memory, positions=positions, query_mask=query_mask)
    second = decoder(other, memory, positions=positions, query_mask=query_mask)
    assert first.shape == (1, 2, 6)
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.allclose(first[:, 1], second[:, 1])
    padded = decoder(other, memory, positions=positions, content_pad=torch.tensor([[False, False, True]]))
    short = decoder(ids[:, :2], memory, positions=positions)
    torch.testing.assert_close(padded, short)
    wider = torch.cat([memory, torch.randn(1, 2, 16)], dim=1)
    hidden = torch.tensor([[False] * 3 + [True] * 2])
    torch.testing.assert_close(decoder(ids, wider, memory_pad=hidden), decoder(ids, memory))


def test_forward_contract() -> None:
    model = micro_model()
    pixels = random_pixels(3)
    out = model(pixels, return_model_output=True)
    assert set(out) == {"preds", "out_map"}
    assert out["out_map"].shape == (3, 26, 230)
    assert all(isinstance(text, str) and 0 <= confidence <= 1 for text, confidence in out["preds"])
    labels = ["a", "phở", "Đường"]
    assert set(model(pixels, labels)) == {"loss"}
    scored = model(pixels, labels, return_model_output=True, return_preds=True)
    assert set(scored) == {"preds", "out_map", "loss"}
    assert scored["preds"] == out["preds"]
    assert scored["loss"].ndim == 0 and torch.isfinite(scored["loss"])


def test_training_needs_labels_that_the_model_can_write() -> None:
    model = micro_model().train()
    pixels = random_pixels(2)
    with pytest.raises(ValueError, match="training needs labels"):
        model(pixels)
    with pytest.raises(ValueError, match="symbols lack"):
        model(pixels, ["漢", "a"])
    for wrong in ("ab", ["a"]):
        with pytest.raises(ValueError, match="target must be one label for each of 2 crops, got"):
            model(pixels, wrong)
    with pytest.raises(ValueError, match=r"1\.\.25 symbols"):
        model(pixels, ["x" * 26, "a"])
    loss = model(pixels, ["phở", "a"])["loss"]
    loss.backward()
    # Not the position of the last row: both labels end before it.
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("cross_length", ["visual", "own"])
@pytest.mark.parametrize("decode_ar", [True, False])
@pytest.mark.parametrize("refine_iters", [0, 1, 2])
def test_batch_mates_change_nothing(decode_ar: bool, refine_iters: int, cross_length: CrossLength) -> None:
    model = micro_model()
    # A bias towards EOS: drafts of many lengths, so that each row's own S matters.
    with torch.no_grad():
        model.visual_decoder.head.bias[model.charset.eos] += 5
    model.config = replace(MICRO, decode=DecodeConfig(25, decode_ar, refine_iters, cross_length=cross_length))
    pixels = random_pixels(24)
    with torch.inference_mode():
        together = model(pixels)["preds"]
        alone = [model(one[None])["preds"][0] for one in pixels]
        lengths = {stage.rows[0].item() for stage in (model.read(one[None]).stages[0] for one in pixels)}
    assert [text for text, _ in together] == [text for text, _ in alone]
    assert [score for _, score in together] == pytest.approx([score for _, score in alone], rel=1e-3, abs=0)
    assert len(lengths) > 2 or not decode_ar


def test_cfg_and_copies() -> None:
    model = micro_model()
    assert model.cfg["input_shape"] == (3, 16, 32)
    assert model.cfg["mean"] == (0.5, 0.5, 0.5)
    assert model.cfg["vocab"] == model.vocab == MICRO.symbols
    assert model.max_length == 25
    pixels = random_pixels(2)
    assert copy.deepcopy(model)(pixels)["preds"] == model(pixels)["preds"]


def test_cfg_brings_what_answers_hang_on() -> None:
    model, other = micro_model(), micro_model()
    decode = DecodeConfig(25, decode_ar=False, refine_iters=2, cross_modal="auto", cross_length="visual")
    model.config = replace(MICRO, decode=decode)
    model.postprocessor.temperature, model.certain_from = 1.5, 0.7
    other.cfg = json.loads(json.dumps(model.cfg))
    assert other.cfg == model.cfg and other.config == model.config
    pixels = random_pixels(8)
    assert other(pixels)["preds"] == model(pixels)["preds"]
    other.cfg = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}  # as docTR's own models have it
    assert other.config.decode == decode and other.postprocessor.temperature == 1.5


def test_entries_of_cfg_may_be_set_as_in_a_dict() -> None:
    model = micro_model()
    model.cfg["mean"] = (0.1, 0.2, 0.3)
    model.cfg.update(preserve_aspect_ratio=True, certain_from=0.75)
    assert model.config.preprocess.mean == (0.1, 0.2, 0.3) and model.certain_from == 0.75
    assert model.cfg["preserve_aspect_ratio"] is True
    with pytest.raises(ValueError, match="certain_from'\\] must be a number above 0"):
        model.cfg["certain_from"] = 2
    # As docTR's `push_to_hf_hub` does.
    cfg = model.cfg
    cfg["arch"], cfg["task"] = "other", "recognition"
    assert json.loads(json.dumps(cfg))["task"] == "recognition" and model.cfg["arch"] == "clip4str_vn_tiny"
    copied = copy.deepcopy(cfg)
    assert type(copied) is dict and copied == cfg


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"decode": {"max_symbols": 30}}, "max_symbols 30, the model has 25"),
        ({"decode": {"colour": 1}}, r"unknown fields \['colour'\]"),
        ({"certain_from": float("nan")}, "certain_from'\\] must be a number above 0, 1 at most, got nan"),
        ({"decode": None}, r"cfg\['decode'\] must be a dict of decoding options, got None"),
        ({"decode": {"max_symbols": "25"}}, "max_symbols must be an integer, got '25'"),
        ({"vocab": 5}, r"cfg\['vocab'\] is .* for this model, got 5"),
        ({"mean": 0.5}, "mean must be three numbers, of red, green and blue, got 0.5"),
        ({"mean": [0.5, 0.5]}, "mean must be three numbers"),
        ({"std": [0, 1, 1]}, r"std must be finite, and above 0, got \[0, 1, 1\]"),
        ({"mean": [float("nan"), 1, 1]}, "mean must be finite, got"),
        ({"temperature": "1"}, "temperature must be a number above 0, got '1'"),
    ],
)
def test_cfg_that_cannot_be(cfg: dict[str, object], message: str) -> None:
    model = micro_model()
    before = model.cfg
    with pytest.raises(ValueError, match=message):
        model.cfg = cfg
    assert model.cfg == before


def test_all_is_cast_where_only_a_part_was() -> None:
    model = micro_model()
    model.image_tower.half()
    model.to(device="cpu", dtype=torch.float16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def test_pixels_in_another_order_are_told_as_they_came() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 16, 32, 3\)"):
        micro_model()(torch.rand(2, 16, 32, 3))


def test_doctr_1_0_leaves_mixed_precision_alone() -> None:
    model = micro_model().mixed_precision()
    kinds = [parameter.dtype for parameter in model.parameters()]
    assert set(kinds) == {torch.float32, torch.bfloat16}
    first = next(model.parameters())
    assert model.to(device="cpu", dtype=first.dtype) is model  # what its set_device_and_dtype does before each batch
    assert [parameter.dtype for parameter in model.parameters()] == kinds
    assert {parameter.dtype for parameter in model.to(torch.float32).parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.to(device="cpu", dtype=torch.float16).parameters()} == {
        torch.float16
    }


def test_a_model_from_the_meta_device_takes_weights() -> None:
    model = micro_model()
    with torch.device("meta"):
        empty = build_model(MICRO)
    empty.to_empty(device="cpu").load_state_dict(model.state_dict())
    pixels = random_pixels(2)
    assert empty.eval()(pixels)["preds"] == model(pixels)["preds"]


def test_symbols_that_nfc_takes_apart_are_read_and_learnt() -> None:
    model = micro_model(replace(MICRO, symbols="\ufb30a"))
    with torch.no_grad():
        for decoder in (model.visual_decoder, model.cross_decoder):
            decoder.head.bias[0] += 100
    pixels = random_pixels(1)
    assert set(model(pixels)["preds"][0][0]) == {"\ufb30"}
    assert model(pixels, ["\ufb30a"])["loss"].isfinite()


@pytest.mark.parametrize("arch", sorted(PRESETS))
def test_presets_build_on_meta(arch: str) -> None:
    with torch.device("meta"):
        model = build_model(PRESETS[arch])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # Published: 655.5 M with a pooler that is never used; ours must fit 15 MB in float16.
    low, high = {"clip4str_vn": (650e6, 660e6), "clip4str_vn_tiny": (4e6, 7e6)}[arch]
    assert low < parameters < high
