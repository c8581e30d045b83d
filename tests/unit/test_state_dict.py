"""State dicts from files and web addresses into a model that exists, by docTR's `from_pretrained(path_or_url, ...)`."""

import copy
import functools
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_weights import CHECKPOINT, M_CLIP, edited, out_map, pixels, same_weights
from safetensors.torch import save_file
from torch.nn.utils import prune

from clip4str_doctr.config import PRESETS, ClipImageTowerConfig
from clip4str_doctr.modeling.clip4str import CERTAIN_FROM, CLIP4STR, build_model
from clip4str_doctr.weight_card import sha256_of
from clip4str_doctr.weights import WeightsError, WeightsNotFoundError, load_into, load_model, save_model


@pytest.fixture(scope="module")
def micro(micro_folder: Path) -> CLIP4STR:
    return load_model(micro_folder)


@pytest.fixture(scope="module")
def golden() -> CLIP4STR:
    return load_model(CHECKPOINT)


def changed(model: CLIP4STR) -> CLIP4STR:
    """A model like it, of which no weight is the same."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    return other


# Web addresses


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCTR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache" / "models"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """(address, folder, paths asked for): a folder of files, served on this machine."""
    folder = tmp_path / "site"
    (folder / "other").mkdir(parents=True)
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()
        thread.join()


def test_a_state_dict_by_its_address(site: Any, cache: Path, micro: CLIP4STR) -> None:
    address, folder, asked = site
    torch.save(micro.state_dict(), folder / "pytorch_model.bin")
    other = changed(micro)
    # docTR's cache would take this one for the first, by its name.
    torch.save(other.state_dict(), folder / "other" / "pytorch_model.bin")
    save_file(micro.state_dict(), folder / "model.safetensors")
    for path, wanted in (
        ("pytorch_model.bin", micro),
        ("other/pytorch_model.bin", other),
        ("model.safetensors?download=true", micro),
        ("pytorch_model.bin", micro),
    ):
        model = changed(other)
        model.from_pretrained(f"{address}/{path}")
        assert same_weights(model, wanted)
    assert len(asked) == 3, "the second time it lies in the cache"


def test_a_published_checkpoint_by_its_address(site: Any, cache: Path, golden: CLIP4STR) -> None:
    address, folder, _ = site
    (folder / "large.ckpt").symlink_to(CHECKPOINT)
    model = changed(golden)
    model.from_pretrained(f"{address}/large.ckpt", tokenizer=M_CLIP, refine_iters=0)
    assert same_weights(model, golden) and model.config.decode.refine_iters == 0


@pytest.mark.parametrize("wrapped", ["module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_names_of_wrapped_models(wrapped: str, kind: str, micro: CLIP4STR, tmp_path: Path) -> None:
    """As torch.save writes them of a model in DistributedDataParallel, or compiled."""
    stored = {f"{wrapped}{name}": tensor.clone() for name, tensor in micro.state_dict().items()}
    file = tmp_path / f"weights.{kind}"
    (save_file if kind == "safetensors" else torch.save)(stored, file)
    model = changed(micro)
    model.from_pretrained(file)
    assert same_weights(model, micro)
    stored["image_tower.x"] = torch.zeros(1)  # not all of them: then it is no wrapper's
    torch.save(stored, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no state dict of this model"):
        model.from_pretrained(tmp_path / "other.pt")
    assert same_weights(model, micro)


def test_weights_of_old_torch_and_no_weights(micro: CLIP4STR, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(micro.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="format before 1.6; torch.save again"):
        changed(micro).from_pretrained(tmp_path / "old.pt")
    torch.save(micro.state_dict(), tmp_path / "misnamed.safetensors")
    with pytest.raises(WeightsError, match="torch.save wrote it; rename it to .pt"):
        changed(micro).from_pretrained(tmp_path / "misnamed.safetensors")
    micro.from_pretrained(None)
    assert "no path or address of weights was given" in caplog.text


def test_the_hash_of_a_download(site: Any, cache: Path, micro: CLIP4STR) -> None:
    address, folder, asked = site
    torch.save(micro.state_dict(), folder / "model.pt")
    model = changed(micro)
    with pytest.raises(
        WeightsError, match=f"{address}/model.pt is not the file that was expected: .* begins with 0000"
    ):
        model.from_pretrained(f"{address}/model.pt", hash_prefix="00000000")
    assert not list(cache.iterdir())
    sha256 = sha256_of(folder / "model.pt")
    for _ in range(2):
        model.from_pretrained(f"{address}/model.pt", hash_prefix=sha256[:8])
    assert same_weights(model, micro) and len(asked) == 2
    # What a name says of it counts as well, if it is no mere number.
    for name in (f"model-{sha256[:8]}.pt", "model-2.pt", "model-00002.pt", "mô hình-20260101.pt"):
        (folder / name).write_bytes((folder / "model.pt").read_bytes())
        model.from_pretrained(f"{address}/{name}")
    (folder / "model-0123abcd.pt").write_bytes((folder / "model.pt").read_bytes())
    with pytest.raises(WeightsError, match="begins with 0123abcd, got"):
        model.from_pretrained(f"{address}/model-0123abcd.pt")


def test_nobody_is_asked_without_tls_who_was_to_be_asked_with_it(site: Any, cache: Path, micro: CLIP4STR) -> None:
    """docTR's own download asks by http where https fails."""
    address, folder, asked = site
    torch.save(micro.state_dict(), folder / "model.pt")
    with pytest.raises(WeightsNotFoundError, match="cannot get https://.* check the address and the network"):
        changed(micro).from_pretrained(f"https{address.removeprefix('http')}/model.pt")
    assert not any("model.pt" in path for path in asked)


def test_addresses_and_folders_that_are_none(
    cache: Path, micro: CLIP4STR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("http://127.0.0.1/my model.pt", "http://a..b/model.pt"):
        with pytest.raises(WeightsNotFoundError, match=f"cannot get {address}"):
            changed(micro).from_pretrained(address)
    (tmp_path / "file").touch()
    monkeypatch.setenv("DOCTR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(WeightsNotFoundError, match="cannot get http://127.0.0.1/model.pt"):
        changed(micro).from_pretrained("http://127.0.0.1/model.pt")


@pytest.mark.parametrize(
    "kind", ["nothing", "web page", "half of it", "half of a safetensors file", "a byte that is wrong"]
)
def test_what_cannot_be_downloaded_is_not_kept(kind: str, site: Any, cache: Path, micro: CLIP4STR) -> None:
    address, folder, _ = site
    file = folder / "model.pt"
    if kind == "web page":
        file.write_text("<!DOCTYPE html><html>Please log in")
    elif kind != "nothing":
        if kind != "half of a safetensors file":
            torch.save(micro.state_dict(), file)
        else:
            save_file(micro.state_dict(), file)
        content = bytearray(file.read_bytes())
        if kind.startswith("half"):
            file.write_bytes(content[: len(content) // 2])
        else:
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
    model = changed(micro)
    before = copy.deepcopy(model)
    error, message = {
        "nothing": (WeightsNotFoundError, f"cannot get {address}/model.pt .*404"),
        "web page": (WeightsError, "got a web page"),
        "half of it": (WeightsError, "is cut short or damaged"),
        "half of a safetensors file": (WeightsError, "or a part of one"),
        "a byte that is wrong": (WeightsError, "damaged"),
    }[kind]
    with pytest.raises(error, match=message):
        model.from_pretrained(f"{address}/model.pt")
    assert same_weights(model, before) and not list(cache.iterdir())
    torch.save(micro.state_dict(), file)
    model.from_pretrained(f"{address}/model.pt")
    assert same_weights(model, micro)


# Files


def test_the_hash_of_a_file(tmp_path: Path, micro: CLIP4STR, micro_folder: Path) -> None:
    torch.save(micro.state_dict(), tmp_path / "model.pt")
    model = changed(micro)
    with pytest.raises(WeightsError, match="must have a SHA-256 that begins with 0123, got"):
        model.from_pretrained(tmp_path / "model.pt", hash_prefix="0123")
    with pytest.raises(WeightsNotFoundError, match="is no file, so it has no SHA-256; leave hash_prefix='0123' out"):
        model.from_pretrained(micro_folder, hash_prefix="0123")
    model.from_pretrained(tmp_path / "model.pt", hash_prefix=sha256_of(tmp_path / "model.pt")[:8])
    assert same_weights(model, micro)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_ignored_keys_are_neither_taken_nor_missed(suffix: str, tmp_path: Path, micro: CLIP4STR) -> None:
    names = ["visual_decoder.head.weight", "visual_decoder.head.bias", "cross_decoder.head.bias"]
    stored = micro.state_dict()
    # Of another shape, unknown to the model, and not there at all.
    stored[names[0]], stored["surprise"] = torch.zeros(3, 3), torch.zeros(1)
    del stored[names[2]]
    file = tmp_path / f"model.{suffix}"
    (torch.save if suffix == "pt" else save_file)(stored, file)
    model = changed(micro)
    before = copy.deepcopy(model)
    with pytest.raises(WeightsError, match=r"\(1 problems\).*\n  unexpected: surprise"):
        model.from_pretrained(file, ignore_keys=names)
    assert same_weights(model, before)
    model.from_pretrained(file, ignore_keys=[*names, "surprise", "nowhere"])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, (before if name in names else micro).state_dict()[name]), name


def test_calibration_goes_with_the_weights(tmp_path: Path, micro: CLIP4STR) -> None:
    """What a card says of its weights is not said of others; what the caller said is."""
    torch.save(micro.state_dict(), tmp_path / "model.pt")
    folder = tmp_path / "folder"
    calibrated = copy.deepcopy(micro)
    calibrated.postprocessor.temperature, calibrated.certain_from = 1.5, 0.7
    save_model(calibrated, folder, {"source": "a test"})
    one = load_model(folder)
    assert (one.postprocessor.temperature, one.certain_from) == (1.5, 0.7)
    one.from_pretrained(tmp_path / "model.pt")
    assert (one.postprocessor.temperature, one.certain_from) == (1.0, CERTAIN_FROM)
    one.from_pretrained(folder)
    assert (one.postprocessor.temperature, one.certain_from) == (1.5, 0.7)
    one.cfg = {"temperature": 1.2, "certain_from": 0.8}
    one.from_pretrained(tmp_path / "model.pt")
    assert (one.postprocessor.temperature, one.certain_from) == (1.2, 0.8)


def test_a_config_of_somebody_elses_beside_a_state_dict(tmp_path: Path, micro: CLIP4STR) -> None:
    save_file(micro.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"arch": "clip4str_vn_tiny", "task": "recognition"}')
    model = changed(micro)
    model.from_pretrained(tmp_path / "model.safetensors")
    assert same_weights(model, micro)


def test_a_tokenizer_for_a_tower_that_takes_none(micro_folder: Path) -> None:
    with pytest.raises(WeightsError, match="clip4str_vn_tiny, whose text tower takes no tokenizer; leave it out"):
        load_model(micro_folder, tokenizer=M_CLIP)


def test_ignored_keys_are_for_state_dicts(micro: CLIP4STR, micro_folder: Path) -> None:
    with pytest.raises(ValueError, match="ignore_keys is for state dicts, and .* holds a whole model; leave it out"):
        changed(micro).from_pretrained(micro_folder, ignore_keys=["a"])


@pytest.mark.parametrize("source", ["micro", "golden"])
def test_a_model_built_for_another_size_takes_the_architectures(
    source: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """docTR's `evaluate.py --resume` builds every model for 32 x 128 pixels, or H x 4H by --input_size."""
    model: CLIP4STR = request.getfixturevalue(source)
    torch.save(model.state_dict(), tmp_path / "run.pt")
    size = (64, 256) if source == "micro" else (32, 128)
    config = replace(model.config, image_tower=replace(model.config.image_tower, image_size=size))
    resumed = build_model(config).eval()
    resumed.from_pretrained(str(tmp_path / "run.pt"))
    assert resumed.config == model.config and not resumed.image_tower.training
    assert torch.equal(out_map(resumed), out_map(model))
    (told,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert f"read {model.config.image_tower.image_size}; the model was built for {size}" in told
    # Other weights are refused as ever, and leave the model as it was.
    torch.save({**model.state_dict(), "surprise": torch.zeros(1)}, tmp_path / "other.pt")
    other = build_model(config)
    with pytest.raises(WeightsError, match="is no state dict of this model"):
        other.from_pretrained(tmp_path / "other.pt")
    assert other.config == config


# In place


@pytest.fixture
def small() -> CLIP4STR:
    """An architecture clip4str_vn of yet other dimensions than the golden one."""
    config = PRESETS["clip4str_vn"]
    torch.manual_seed(0)
    return build_model(
        replace(
            config,
            image_tower=ClipImageTowerConfig((32, 64), (16, 16), width=64, layers=1, output_dim=32),
            text_tower=replace(
                config.text_tower, vocab_size=500, width=32, layers=1, heads=2, mlp_width=32, output_dim=32
            ),
            decoder=replace(config.decoder, width=32, heads=2, mlp_width=64),
        )
    )


def test_a_device_without_room_leaves_the_model_as_it_was(small: CLIP4STR, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: id(part) for name, part in small.named_children()}
    room, whole = [2], torch.nn.Module.to

    def to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        room[0] -= 1
        if room[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(module, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    with pytest.raises(torch.OutOfMemoryError):
        load_into(small, CHECKPOINT)
    assert {name: id(part) for name, part in small.named_children()} == before


def test_from_pretrained_takes_the_files_dimensions(small: CLIP4STR, golden: CLIP4STR) -> None:
    small.postprocessor.confidence = "mean"
    small.from_pretrained(CHECKPOINT)
    assert small.training, "in-place loading keeps the mode, as docTR's does"
    assert small.config == golden.config
    assert small.postprocessor.confidence == "mean"
    assert same_weights(small, golden)
    small.eval()
    assert torch.equal(out_map(small), out_map(golden))


def test_a_failed_load_changes_nothing(small: CLIP4STR, tmp_path: Path, micro_folder: Path) -> None:
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    config = small.config
    with pytest.raises(WeightsError, match="missing: cross_decoder.head.bias"):
        load_into(small, edited(tmp_path, lambda c: c["state_dict"].pop("cross_decoder.head.bias")), tokenizer=M_CLIP)
    with pytest.raises(ValueError, match="holds a clip4str_vn_tiny, but the model is a clip4str_vn; use load_model"):
        load_into(small, micro_folder)
    assert small.config == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())


def test_a_model_with_pruned_layers_is_left_as_it_was(micro: CLIP4STR, micro_folder: Path) -> None:
    model = changed(micro)
    prune.l1_unstructured(model.visual_decoder.head, "weight", 0.3)  # type: ignore[no-untyped-call]  # torch has no hint
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match="missing: visual_decoder.head.weight_orig"):
        model.from_pretrained(micro_folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_pickle_with_a_flipped_bit(micro: CLIP4STR, tmp_path: Path) -> None:
    """Checksums are left out where a file is only asked what it is; unpickling then ends in anything."""
    torch.save(micro.state_dict(), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    start = data.index(b"data.pkl") + len("data.pkl")
    for place in range(start, start + 400, 13):
        flipped = bytearray(data)
        flipped[place] ^= 1
        (tmp_path / "flipped.pt").write_bytes(flipped)
        model = changed(micro)
        try:
            model.from_pretrained(tmp_path / "flipped.pt")
        except (WeightsError, WeightsNotFoundError):
            continue
        assert same_weights(model, micro), "what lies between the records may be anything"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../../evil.txt": b"owned"}, r"tokenizer files must be .*, got \['\.\./\.\./evil\.txt'\]; do not trust"),
        ({"/evil.txt": b"owned"}, r"tokenizer files must be .*, got \['/evil\.txt'\]; do not trust"),
        ({"tokenizer.json": b"{}"}, "must be a tokenizer in the `tokenizers` format, got KeyError: 'model'"),
        ({"tokenizer.json": None, "config.json": b"{}"}, "a tokenizer needs tokenizer.json"),
    ],
)
def test_a_state_dict_with_a_strange_tokenizer(
    golden: CLIP4STR, tmp_path: Path, files: dict[str, bytes | None], message: str
) -> None:
    tensors = golden.state_dict()
    for name, content in files.items():
        key = f"text_tower.tokenizer_file:{name}"
        if content is None:
            del tensors[key]
        else:
            tensors[key] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    torch.save(tensors, tmp_path / "stranger.pt")
    model = load_model(CHECKPOINT, tokenizer=M_CLIP)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        model.from_pretrained(tmp_path / "stranger.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(WeightsError, match=message):
        model.load_state_dict(tensors)


def test_without_weights_the_text_tower_asks_for_its_tokenizer(small: CLIP4STR) -> None:
    with pytest.raises(RuntimeError, match="no tokenizer to encode captions with; load weights together with"):
        small.eval()(pixels(small))
