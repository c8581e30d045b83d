"""Conversion of the published checkpoint: same answers, no second copy, nothing half-written."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import CHECKPOINT, GOLDEN, M_CLIP
from PIL import Image
from safetensors import safe_open

from clip4str_doctr.config import PRESETS
from clip4str_doctr.convert import convert_checkpoint
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.tensor_file import read_tensors, write_tensors
from clip4str_doctr.weights import WeightsError, load_model, read_card


@pytest.fixture(scope="module")
def golden() -> CLIP4STR:
    return load_model(CHECKPOINT)


@pytest.fixture(scope="module")
def pixels(golden: CLIP4STR) -> torch.Tensor:
    crops = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((GOLDEN / "images").iterdir())]
    return Preprocess(golden.config.image_tower.image_size, golden.config.preprocess)(crops)


def test_float32_gives_the_same_logits(tmp_path: Path, golden: CLIP4STR, pixels: torch.Tensor) -> None:
    card = convert_checkpoint(CHECKPOINT, M_CLIP, tmp_path / "out", progress=False)
    model = load_model(tmp_path / "out")
    assert model.config == golden.config
    with torch.inference_mode():
        ours, theirs = (one(pixels[:8], return_model_output=True)["out_map"] for one in (model, golden))
    assert torch.equal(ours, theirs)
    assert card == read_card(tmp_path / "out")
    assert card.arch == "clip4str_vn" and card.dtype == "float32" and card.normalization == "half"
    assert CHECKPOINT.name in card.source
    for name, digest in card.sha256.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "card.json",
        "config.json",
        "model.safetensors",
        "tokenizer",
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_dtypes(tmp_path: Path, golden: CLIP4STR, pixels: torch.Tensor, dtype: torch.dtype) -> None:
    """Half the bytes; and of float16 the same strings."""
    card = convert_checkpoint(CHECKPOINT, M_CLIP, tmp_path / "out", dtype=dtype, progress=False)
    assert card.dtype == str(dtype).removeprefix("torch.")
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 0.55 * CHECKPOINT.stat().st_size
    model = load_model(tmp_path / "out")
    for name, tensor in golden.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.to(dtype).float())
    if dtype is torch.float16:
        with torch.inference_mode():
            ours, theirs = ([text for text, _ in one(pixels)["preds"]] for one in (model, golden))
        assert ours == theirs


def test_progress_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert_checkpoint(CHECKPOINT, None, tmp_path / "quiet", progress=False)
    assert capfd.readouterr() == ("", "")
    convert_checkpoint(CHECKPOINT, None, tmp_path / "out", progress=True)
    out, err = capfd.readouterr()
    assert not out and "100%" in err


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient:
        """A progress bar in whose time somebody presses Ctrl-C."""

        def __init__(self, **_: object) -> None:
            self.calls = 0

        def __enter__(self) -> "Impatient":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, _: int) -> None:
            self.calls += 1
            if self.calls == 50:
                raise KeyboardInterrupt

    monkeypatch.setattr("clip4str_doctr.convert.tqdm", Impatient)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(CHECKPOINT, M_CLIP, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be float32, float16 or bfloat16, got torch.int8"):
        convert_checkpoint(CHECKPOINT, M_CLIP, tmp_path / "out", dtype=torch.int8)
    with pytest.raises(FileNotFoundError, match="nowhere.ckpt does not exist"):
        convert_checkpoint(tmp_path / "nowhere.ckpt", M_CLIP, tmp_path / "out")
    with pytest.raises(WeightsError, match="is no checkpoint"):
        convert_checkpoint(M_CLIP / "config.json", M_CLIP, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="holds files that are no weights of ours"):
        convert_checkpoint(CHECKPOINT, M_CLIP, tmp_path, progress=False)


def test_a_taken_target_is_told_before_the_checkpoint_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").touch()
    monkeypatch.setattr("clip4str_doctr.convert.read_published", lambda *_: pytest.fail("2.6 GB were read for nothing"))
    for target, message in ((tmp_path, "holds files that are no weights"), (tmp_path / "mine.txt", "is a file")):
        with pytest.raises(FileExistsError, match=message):
            convert_checkpoint(CHECKPOINT, M_CLIP, target, progress=False)


def test_the_converted_folder_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    copy = tmp_path / "download" / "copy.ckpt"
    copy.write_bytes(CHECKPOINT.read_bytes())
    convert_checkpoint(copy, M_CLIP, tmp_path / "deep" / "out", progress=False)
    copy.unlink()
    model = load_model(tmp_path / "deep" / "out")
    assert model.text_tower.tokenizer(["phở"])["input_ids"][0]  # type: ignore[union-attr, operator]


def test_files_are_what_safetensors_expects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "counter": torch.tensor(7),
        "flags": torch.tensor([True, False, True]),
        "transposed": torch.randn(3, 5).t(),
        "empty": torch.zeros(0, 4),
        "half": torch.randn(7).half(),
        "wide": torch.randn(2, 2).double(),
    }
    digest = write_tensors(tmp_path / "a.safetensors", tensors)
    data = (tmp_path / "a.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert (8 + int.from_bytes(data[:8], "little")) % 64 == 0
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor) and file.get_tensor(name).dtype == tensor.dtype
    for name, tensor in read_tensors(tmp_path / "a.safetensors", torch.float32).items():
        wanted = tensors[name].float() if tensors[name].is_floating_point() else tensors[name]
        assert torch.equal(tensor, wanted) and tensor.dtype == wanted.dtype
    with pytest.raises(WeightsError, match="odd is torch.complex64, which weight files cannot hold"):
        write_tensors(tmp_path / "b.safetensors", {"odd": torch.zeros(1, dtype=torch.complex64)})


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}      more"])
def test_files_that_are_no_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="must be a safetensors file"):
        read_tensors(tmp_path / "a.safetensors", torch.float32)


def test_config_json_speaks_of_the_model(tmp_path: Path) -> None:
    convert_checkpoint(CHECKPOINT, M_CLIP, tmp_path / "out", progress=False)
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["symbols"] == PRESETS["clip4str_vn"].symbols
    assert config["image_tower"] == {
        "kind": "clip_vit",
        "image_size": [224, 224],
        "patch_size": [16, 16],
        "width": 128,
        "layers": 2,
        "output_dim": 64,
    }
