"""Configs: strict, hashable, and the same after a round trip through JSON."""

import json
from dataclasses import replace

import pytest

from clip4str_doctr.config import PRESETS, DecodeConfig, DecoderConfig, model_config_from_dict, model_config_to_dict


@pytest.mark.parametrize("arch", sorted(PRESETS))
def test_round_trip_through_json(arch: str) -> None:
    config = PRESETS[arch]
    again = model_config_from_dict(json.loads(json.dumps(model_config_to_dict(config))))
    assert again == config
    assert hash(again) == hash(config)
    assert config.arch == arch


def test_unknown_missing_and_misnamed_fields_are_named() -> None:
    values = model_config_to_dict(PRESETS["clip4str_vn_tiny"])
    with pytest.raises(ValueError, match=r"config has unknown fields \['width'\]"):
        model_config_from_dict({**values, "width": 3})
    with pytest.raises(ValueError, match=r"config.decoder lacks \['heads'\]"):
        model_config_from_dict({**values, "decoder": {"width": 192, "mlp_width": 768}})
    with pytest.raises(ValueError, match=r"config.image_tower.kind must be one of"):
        model_config_from_dict({**values, "image_tower": {"kind": "resnet"}})


def test_towers_must_meet_the_decoder() -> None:
    config = PRESETS["clip4str_vn_tiny"]
    with pytest.raises(ValueError, match="both towers must end in the decoder's width"):
        replace(config, decoder=DecoderConfig(width=64, heads=4, mlp_width=256))


def test_decode_options_are_checked_and_changed_one_by_one() -> None:
    with pytest.raises(ValueError, match="refine_iters"):
        DecodeConfig(refine_iters=-1)
    with pytest.raises(ValueError, match="max_symbols"):
        DecodeConfig(max_symbols=0)
    config = PRESETS["clip4str_vn"].with_decode(refine_iters=2)
    assert config.decode == DecodeConfig(25, True, 2)
    assert config.with_decode(decode_ar=False).decode == DecodeConfig(25, False, 2)
    assert config.with_decode(cross_modal="auto").decode == DecodeConfig(25, True, 2, "auto")
    with pytest.raises(ValueError, match="cross_modal must be one of .*'auto'.*, got 'never'"):
        config.with_decode(cross_modal="never")  # type: ignore[arg-type]


def test_files_written_before_an_option_came_have_its_default() -> None:
    values = model_config_to_dict(PRESETS["clip4str_vn_tiny"].with_decode(cross_modal="auto"))
    assert model_config_from_dict(values).decode.cross_modal == "auto"
    del values["decode"]["cross_modal"]
    assert model_config_from_dict(values).decode.cross_modal == "always"
