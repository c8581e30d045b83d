"""Our weight folder: round trips, verification, and writing that is whole or not at all."""

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_weights import CHECKPOINT, M_CLIP, out_map, pixels, same_weights

from clip4str_doctr import weight_folder
from clip4str_doctr.factories import change_vocab
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


def test_dtypes_of_whole_numbers_are_refused(folder: Path) -> None:
    model = load_model(folder)
    before = (folder / "model.safetensors").read_bytes()
    for dtype in (torch.int32, torch.uint8, torch.bool):
        with pytest.raises(ValueError, match=f"dtype must be float32, float16 or bfloat16, .* got {dtype}"):
            save_model(model, folder, {}, dtype=dtype)
    assert (folder / "model.safetensors").read_bytes() == before


def test_the_users_home(micro_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = load_model(micro_folder)
    save_model(model, "~/weights", {})
    assert same_weights(load_model("~/weights"), model) and not (tmp_path / "~").exists()


def test_another_packages_postprocessor(micro_folder: Path, tmp_path: Path) -> None:
    class Theirs:
        """docTR's: no temperature, no kind of confidence."""

    model = load_model(micro_folder)
    theirs = Theirs()
    model.postprocessor = theirs  # type: ignore[assignment]  # what a user may do
    model.cfg = {"mean": (0.4, 0.4, 0.4)}
    assert model.postprocessor is theirs and model.config.preprocess.mean == (0.4, 0.4, 0.4)
    assert save_model(model, tmp_path / "saved", {}).temperature == 1.0
    change_vocab(model, "abc")
    assert model.postprocessor.confidence == "mean" and model.postprocessor.vocab == "abc"
    model.postprocessor = theirs  # type: ignore[assignment]
    model.cfg = {"confidence": "min"}
    assert model.postprocessor.confidence == "min"


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


def test_a_config_with_less_than_nothing(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["decoder"]["mlp_width"] = -768
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"config\.json describes no model that can be"):
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


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that behaves as a mount does: nothing is renamed into it or out of it, and it cannot be removed."""
    mount = tmp_path / "mount"
    mount.mkdir()
    replace_file, rmdir = os.replace, os.rmdir

    def within(path: Any) -> bool:
        parent = Path(os.path.realpath(os.path.dirname(path)))
        return mount == parent or mount in parent.parents

    def renamed(source: Any, target: Any) -> None:
        if within(source) != within(target):
            raise OSError(errno.EXDEV, "another file system")
        replace_file(source, target)

    def removed(path: Any, **options: Any) -> None:
        if os.path.realpath(path) == str(mount):
            raise OSError(errno.EBUSY, "a mount")
        rmdir(path, **options)

    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "rmdir", removed)
    return mount


@pytest.mark.parametrize("linked", [False, True])
def test_mounts_and_links_to_them_are_written(mounted: Path, micro_folder: Path, linked: bool) -> None:
    model = load_model(micro_folder)
    target = mounted
    if linked:
        target = mounted.parent / "link"
        target.symlink_to(mounted)
    for source in ("first", "second"):
        save_model(model, target, {"source": source})
        assert same_weights(load_model(target), model) and read_card(target).source == source
    assert sorted(contents(mounted)) == sorted(path.name for path in mounted.iterdir())
    assert {path.name for path in mounted.parent.iterdir()} == ({"mount", "link"} if linked else {"mount"})


def test_a_link_to_no_folder_makes_one_where_it_leads(tmp_path: Path, micro_folder: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "folder")
    save_model(load_model(micro_folder), tmp_path / "link", {})
    assert load_model(tmp_path / "deep" / "folder") and (tmp_path / "link").is_symlink()


def failing_at(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Path, Path], bool]) -> None:
    replace_file = os.replace

    def moved(source: Path, target: Path) -> None:
        if fails(source, target):
            raise PermissionError(errno.EACCES, "in use")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", moved)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/tokenizer.json", "config.json", "card.json"])
@pytest.mark.parametrize("way", ["out of the folder", "into the folder"])
def test_a_failed_move_leaves_the_old_weights(
    tmp_path: Path, folder: Path, golden: CLIP4STR, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    save_model(golden, tmp_path / "golden", {"source": "first"})
    before = contents(tmp_path / "golden")
    with monkeypatch.context() as patch:
        place = tmp_path / "golden" / name
        failing_at(
            patch,
            (lambda source, _: source == place)
            if way.startswith("out")
            else lambda source, target: target == place and ".replaced" not in source.parts,
        )
        with pytest.raises(PermissionError, match=r"it holds what it held .*in use.*; end what uses it, or choose"):
            save_model(golden, tmp_path / "golden", {"source": "second"}, dtype=torch.float16)
    assert contents(tmp_path / "golden") == before
    assert {path.name for path in (tmp_path / "golden").iterdir()} == {name.split("/")[0] for name in before}
    # Where there was none, no half of one stays.
    failing_at(monkeypatch, lambda _, target: target == folder / "tokenizer" / "tokenizer.json")
    before = contents(folder)
    with pytest.raises(PermissionError):
        save_model(golden, folder, {})
    assert contents(folder) == before and not (folder / "tokenizer").exists()


def test_old_weights_that_cannot_be_put_back_stay_beside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, before = load_model(folder), (folder / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        failing_at(patch, lambda source, _: source.name != "model.safetensors" or source.parent.name == ".replaced")
        with pytest.raises(PermissionError, match=r"the files that were there lie in .*\.replaced"):
            save_model(model, folder, {"source": "second"}, dtype=torch.float16)
    assert before in contents(folder).values()
    save_model(model, folder, {"source": "third"}, overwrite=True)
    assert read_card(folder).source == "third" and load_model(folder)


def test_no_half_of_a_folder_is_taken_for_weights(
    tmp_path: Path, golden: CLIP4STR, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    arrived = []

    def look(_: Path, target: Path) -> bool:
        arrived.append(target.relative_to(tmp_path / "new").as_posix())
        with pytest.raises(WeightsNotFoundError, match=r"holds no weights|card\.json is missing"):
            load_model(tmp_path / "new")
        return False

    failing_at(monkeypatch, look)
    save_model(golden, tmp_path / "new", {})
    assert arrived[0] == "model.safetensors" and arrived[-2:] == ["config.json", "card.json"]
    assert len(arrived) == len(contents(tmp_path / "new"))


@pytest.mark.parametrize("moves", range(1, 7))
def test_a_writer_killed_while_it_replaces_is_followed_by_another(
    folder: Path, micro_folder: Path, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever files are there by then, the same call again ends well."""
    model, move = load_model(micro_folder), weight_folder._move
    moved: list[Path] = []

    def killed(source: Path, target: Path, undo: Any) -> None:
        moved.append(source)
        if len(moved) == moves:
            undo.pop_all()  # nobody puts anything back
            raise SystemExit
        move(source, target, undo)

    with monkeypatch.context() as during, pytest.raises(SystemExit):
        during.setattr(weight_folder, "_move", killed)
        save_model(model, folder, {})
    save_model(model, folder, {})
    assert same_weights(load_model(folder), model)


def test_what_killed_writers_left_blocks_nothing_and_goes_in_time(tmp_path: Path, micro_folder: Path) -> None:
    model, target = load_model(micro_folder), tmp_path / "target"
    old, young = target / ".clip4str-old.partial", target / ".clip4str-young.partial"
    for left in (old, young, tmp_path / old.name):
        shutil.copytree(micro_folder, left)
        (left / "card.json").unlink()
    for path in (old, *old.iterdir(), tmp_path / old.name, *(tmp_path / old.name).iterdir()):
        os.utime(path, (time.time() - 1e6,) * 2)
    with pytest.raises(WeightsNotFoundError, match="holds no weights"):
        load_model(target)
    save_model(model, target, {})
    save_model(model, tmp_path / "other", {})
    assert load_model(target)
    assert young.exists() and not old.exists() and not (tmp_path / old.name).exists()


def test_replaced_files_that_cannot_be_removed_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As on Windows, where a model maps them.
    model = load_model(folder)
    monkeypatch.setattr("clip4str_doctr.weight_folder.shutil.rmtree", lambda *_, **__: None)
    with caplog.at_level(logging.WARNING):
        save_model(model, folder, {"source": "second"})
    assert "holds replaced weights that are in use" in caplog.text
    assert read_card(folder).source == "second" and same_weights(load_model(folder), model)


def test_a_place_that_cannot_be_written_is_told_before_anything_is(tmp_path: Path, micro_folder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write the weights .*file.new .*; choose another folder"):
        save_model(load_model(micro_folder), tmp_path / "file" / "new", {})


@pytest.mark.parametrize("there", [False, True])
def test_files_are_on_the_disk_before_they_get_their_names(
    tmp_path: Path, golden: CLIP4STR, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        (tmp_path / "new").mkdir()
    synced: set[str] = set()

    def sync(path: Path) -> None:
        assert not contents(tmp_path / "new").keys() & {"model.safetensors", "card.json"}
        synced.add(path.name)

    monkeypatch.setattr("clip4str_doctr.weight_folder.sync_file", sync)
    save_model(golden, tmp_path / "new", {})
    assert synced == {name.rsplit("/")[-1] for name in contents(tmp_path / "new")}


def test_models_that_could_not_be_loaded_again_are_not_saved(tmp_path: Path, folder: Path) -> None:
    model = load_model(CHECKPOINT)
    assert isinstance(model.text_tower, MClipTextTower)
    model.text_tower.tokenizer = None
    with pytest.raises(WeightsError, match="no M-CLIP tokenizer"):
        save_model(model, tmp_path / "new", {})
    with pytest.raises(WeightsError, match="the card is of 'clip4str_vn', but the model is a 'clip4str_vn_tiny'"):
        save_model(load_model(folder), tmp_path / "new", {"arch": "clip4str_vn"})
    assert not (tmp_path / "new").exists()


def test_a_compiled_model_is_saved_as_itself(micro_folder: Path, tmp_path: Path) -> None:
    model = load_model(micro_folder)
    save_model(torch.compile(model), tmp_path / "saved", {"source": "random", "licence": "Apache-2.0"})  # type: ignore[arg-type]
    assert same_weights(load_model(tmp_path / "saved"), model)
    with pytest.raises(TypeError, match="save_model takes a CLIP4STR, got Linear"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "other", {})  # type: ignore[arg-type]


def test_weights_are_read_on_the_cpu_whatever_the_default_device(micro_folder: Path) -> None:
    for path, options in ((micro_folder, {}), (CHECKPOINT, {"tokenizer": M_CLIP})):
        with torch.device("meta"):
            model = load_model(path, **options)  # type: ignore[arg-type]
        assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cpu"}


def test_quantised_weights_are_moved(micro_folder: Path) -> None:
    """torch swaps the contents of tensors of other classes, and refuses where anything refers to them weakly."""
    model = load_model(micro_folder)
    pixels = torch.rand(2, 3, 32, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(pixels)["preds"]
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.text_tower.to(torch.float64).to(torch.float32)
        model.to("cpu", torch.float32)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    assert model.text_tower.cache.info().captions == 0
    with torch.inference_mode():
        assert model(pixels)["preds"] == expected
