"""Our weight folder: round trips, verification, and writing that is whole or not at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_weights import CHECKPOINT, M_CLIP, out_map, pixels, same_weights

from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.modeling.text_tower import MClipTextTower
from clip4str_doctr.weights import WeightsError, WeightsNotFoundError, load_model, read_card, save_model


@pytest.fixture(scope="module")
def golden() -> CLIP4STR:
    return load_model(CHECKPOINT)


@pytest.fixture
def folder(tmp_path: Path, micro_folder: Path) -> Path:
    return shutil.copytree(micro_folder, tmp_path / "copy")


@pytest.mark.parametrize("source", ["micro", "golden"])
def test_round_trip(tmp_path: Path, micro_folder: Path, golden: CLIP4STR, source: str) -> None:
    model = golden if source == "golden" else load_model(micro_folder)
    card = save_model(model, tmp_path / "saved", {"source": "a test", "licence": "none", "metrics": {"n": 1}})
    again = load_model(tmp_path / "saved")
    assert again.config == model.config and not again.training
    assert same_weights(again, model)
    assert torch.equal(out_map(again), out_map(model))
    assert read_card(tmp_path / "saved") == card
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (card.arch, card.dtype, card.normalization) == (model.config.arch, "float32", "half")
    assert same_weights(load_model(tmp_path / "saved" / "model.safetensors"), model)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_converted_folder_carries_its_tokenizer(tmp_path: Path, golden: CLIP4STR) -> None:
    save_model(golden, tmp_path / "saved", {})
    for tokenizer in (None, M_CLIP, tmp_path / "saved"):
        tower = load_model(tmp_path / "saved", tokenizer=tokenizer).text_tower
        assert isinstance(tower, MClipTextTower) and isinstance(golden.text_tower, MClipTextTower)
        assert tower.tokenize(["phở", "", "a[E]b"]) == golden.text_tower.tokenize(["phở", "", "a[E]b"])
    shutil.rmtree(tmp_path / "saved" / "tokenizer")
    with pytest.raises(WeightsNotFoundError, match="on the card but missing"):
        load_model(tmp_path / "saved")


def test_letterboxed_models_are_refused(tmp_path: Path, micro_folder: Path) -> None:
    model = load_model(micro_folder)
    model.cfg = {"preserve_aspect_ratio": True}
    with pytest.raises(WeightsError, match="reads letterboxed crops .* no weights folder records"):
        save_model(model, tmp_path / "saved", {})
    assert not list(tmp_path.iterdir())
    model.from_pretrained(micro_folder)
    assert not model.cfg["preserve_aspect_ratio"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_storage_loads_as_float32(tmp_path: Path, micro_folder: Path, dtype: torch.dtype) -> None:
    model = load_model(micro_folder)
    card = save_model(model, tmp_path / "half", {}, dtype=dtype)
    assert card.dtype == str(dtype).removeprefix("torch.")
    again = load_model(tmp_path / "half")
    for name, tensor in again.state_dict().items():
        original = model.state_dict()[name]
        expected = original.to(dtype).to(original.dtype) if original.is_floating_point() else original
        assert tensor.dtype == original.dtype and torch.equal(tensor, expected), name


def test_values_beyond_float16_are_refused(tmp_path: Path, micro_folder: Path) -> None:
    model = load_model(micro_folder)
    with torch.no_grad():
        model.visual_decoder.get_parameter("head.bias")[0] = 1e5
    with pytest.raises(WeightsError, match="visual_decoder.head.bias holds values beyond float16's 65504"):
        save_model(model, tmp_path / "half", {}, dtype=torch.float16)
    assert not list(tmp_path.iterdir())
    save_model(model, tmp_path / "half", {}, dtype=torch.bfloat16)


def test_training_a_loaded_model_leaves_its_file_alone(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(pixels(model), ["a", "b"])["loss"].backward()
    optimizer.step()
    assert (folder / "model.safetensors").read_bytes() == before
    assert not same_weights(load_model(folder), model)
    # Even over the file that the model is mapped from.
    save_model(model, folder, {})
    assert same_weights(load_model(folder), model)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    position = data.index(b"25") if name == "config.json" else len(data) // 2
    data[position] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(WeightsError, match=f"{name} is damaged or was changed: its card says SHA-256 .*, got"):
        load_model(folder)


def edit_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    (folder / "card.json").write_text(json.dumps({**card, **changes}), encoding="utf-8")


def test_folders_at_odds_with_themselves(folder: Path) -> None:
    digests = dict(read_card(folder).sha256)
    for changes, message in (
        ({"arch": "clip4str_vn"}, "disagree about arch: clip4str_vn and clip4str_vn_tiny"),
        ({"normalization": "clip"}, "says normalization 'clip', but its preprocess is"),
        ({"preprocess": None, "normalization": None}, "disagree about preprocess"),
        ({"sha256": {}}, "lists no SHA-256 of model.safetensors"),
        ({"sha256": {**digests, "../stranger": "0"}}, "lies outside the folder"),
        ({"temperature": 0}, "temperature must be a number above 0, got 0"),
        ({"temperature": "1"}, "temperature must be a number above 0, got '1'"),
        ({"certain_from": 0}, "certain_from must be above 0, and 1 at most, got 0"),
        ({"certain_from": 5}, "certain_from must be above 0, and 1 at most, got 5"),
        ({"certain_from": float("nan")}, "certain_from must be above 0, and 1 at most, got nan"),
        ({"certain_from": "1"}, "certain_from must be a number, or left out, got '1'"),
        ({"sha256": None}, "sha256 must map file names to hexadecimal digests, got None"),
        ({"sha256": {**digests, "config.json": 1}}, "sha256 must map file names to hexadecimal digests"),
        ({"colour": "red"}, r"unknown fields \['colour'\]"),
    ):
        shutil.copy(folder / "card.json", folder / "card.bak")
        edit_card(folder, **changes)
        with pytest.raises(WeightsError, match=message):
            load_model(folder)
        shutil.move(folder / "card.bak", folder / "card.json")
    (folder / "card.json").write_text("[]")
    with pytest.raises(WeightsError, match="must hold a JSON object, got list"):
        load_model(folder)
    (folder / "card.json").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"card.json is missing; the weight folder is incomplete"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"heads": 0}, {"heads": 7}])
def test_a_config_of_no_model(folder: Path, change: dict[str, int]) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["decoder"] |= change
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"config\.json describes no model that can be: width must be a multiple"):
        load_model(folder)


def test_a_folder_whose_tensors_do_not_fit_its_config(tmp_path: Path, micro_folder: Path) -> None:
    model = load_model(micro_folder)
    model.config = replace(model.config, symbols="abc")
    save_model(model, tmp_path / "odd", {})
    with pytest.raises(WeightsError, match=r"misshapen: visual_decoder.embedding.weight \(232, 16\), expected \(6, 16"):
        load_model(tmp_path / "odd")


# Writing


def test_foreign_folders_are_left_alone(tmp_path: Path, micro_folder: Path) -> None:
    model = load_model(micro_folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files that are no weights of ours; choose an empty folder"):
        save_model(model, tmp_path, {})
    with pytest.raises(FileExistsError, match="notes.txt is a file"):
        save_model(model, tmp_path / "notes.txt", {})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    save_model(model, tmp_path, {}, overwrite=True)
    assert same_weights(load_model(tmp_path), model)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_writing_again_replaces_our_own(folder: Path) -> None:
    model = load_model(folder)
    (folder / "results.json").write_text("{}")
    with torch.no_grad():
        model.visual_decoder.get_parameter("head.bias").add_(1)
    save_model(model, folder, {"source": "second"})
    assert same_weights(load_model(folder), model)
    assert read_card(folder).source == "second"
    assert (folder / "results.json").exists()
    empty = folder.parent / "empty"
    empty.mkdir()
    save_model(model, empty, {})
    assert load_model(empty)


def test_an_interruption_leaves_the_old_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("clip4str_doctr.weight_folder.sha256_of", stop)
    with pytest.raises(KeyboardInterrupt):
        save_model(model, folder, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(KeyboardInterrupt):
        save_model(model, folder.parent / "new", {})
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_models_that_could_not_be_loaded_again_are_not_saved(tmp_path: Path, folder: Path) -> None:
    model = load_model(CHECKPOINT)
    assert isinstance(model.text_tower, MClipTextTower)
    model.text_tower.tokenizer = None
    with pytest.raises(WeightsError, match="no M-CLIP tokenizer"):
        save_model(model, tmp_path / "new", {})
    with pytest.raises(WeightsError, match="the card is of 'clip4str_vn', but the model is a 'clip4str_vn_tiny'"):
        save_model(load_model(folder), tmp_path / "new", {"arch": "clip4str_vn"})
    assert not (tmp_path / "new").exists()
