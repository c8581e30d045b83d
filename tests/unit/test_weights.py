"""Weights: what is loaded as published, as ours and from the hub; what is refused, and in which words."""

import json
import os
import shutil
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_weights import CHECKPOINT, M_CLIP, edited, same_weights

from clip4str_doctr.checkpoint import read_checkpoint
from clip4str_doctr.config import CLIP_NORMALIZATION, HALF_NORMALIZATION, PRESETS, ClipImageTowerConfig
from clip4str_doctr.modeling.clip4str import CLIP4STR
from clip4str_doctr.weights import WeightsError, WeightsNotFoundError, load_model, save_model

Content = dict[str, Any]


@pytest.fixture(scope="module")
def published() -> Content:
    """The golden checkpoint's content, read by torch itself."""
    content: Content = torch.load(CHECKPOINT, weights_only=True)
    return content


@pytest.fixture(scope="module")
def golden() -> CLIP4STR:
    return load_model(CHECKPOINT)


# The published checkpoint


def test_dimensions_come_from_tensors(golden: CLIP4STR) -> None:
    # The hyper-parameters claim patch_size 14; conv1 says 16.
    assert golden.config.image_tower == ClipImageTowerConfig((224, 224), (16, 16), width=128, layers=2, output_dim=64)
    assert golden.config.text_tower.layers == 2 and golden.config.text_tower.heads == 2
    assert golden.config.decoder.heads == 8 and golden.config.decoder.mlp_width == 256
    assert golden.config.arch == "clip4str_vn" and golden.vocab == PRESETS["clip4str_vn"].symbols
    assert not golden.training
    assert {parameter.dtype for parameter in golden.parameters()} == {torch.float32}
    assert not any(tensor.is_meta for tensor in (*golden.parameters(), *golden.buffers()))


def test_rows_are_put_into_doctrs_order(golden: CLIP4STR, published: Content) -> None:
    for branch in ("visual_decoder", "cross_decoder"):
        decoder = getattr(golden, branch)
        symbols = len(golden.vocab)
        embedding = published["state_dict"][f"{branch}.text_embed.embedding.weight"]
        head, bias = (published["state_dict"][f"{branch}.head.{kind}"] for kind in ("weight", "bias"))
        assert torch.equal(decoder.embedding.weight[:symbols], embedding[1 : symbols + 1])
        assert torch.equal(decoder.embedding.weight[golden.charset.eos], embedding[0])
        assert torch.equal(decoder.embedding.weight[symbols + 1 :], embedding[symbols + 1 :])
        assert torch.equal(decoder.head.weight, torch.cat([head[1:], head[:1]]))
        assert torch.equal(decoder.head.bias, torch.cat([bias[1:], bias[:1]]))


def test_normalization() -> None:
    assert load_model(CHECKPOINT).config.preprocess == HALF_NORMALIZATION
    assert load_model(CHECKPOINT, normalization="half").config.preprocess == HALF_NORMALIZATION
    assert load_model(CHECKPOINT, normalization="clip").config.preprocess == CLIP_NORMALIZATION


def test_decoding_options(tmp_path: Path) -> None:
    other = edited(tmp_path, lambda content: content["hyper_parameters"].update(decode_ar=False, refine_iters=3))
    decode = load_model(other, tokenizer=M_CLIP).config.decode
    assert (decode.decode_ar, decode.refine_iters) == (False, 3)
    decode = load_model(other, tokenizer=M_CLIP, decode_ar=True, refine_iters=0, cross_modal="auto").config.decode
    assert (decode.decode_ar, decode.refine_iters, decode.cross_modal) == (True, 0, "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "imagenet"}, r"normalization must be one of \['clip', 'half'\] or None, got 'imagenet'"),
        ({"decode_ar": 1}, "decode_ar must be True or False, got 1"),
        ({"cross_modal": "never"}, "cross_modal must be one of .*'auto'.*, got 'never'"),
        ({"refine_iters": -1}, "refine_iters must be 0 or more, got -1"),
        ({"refine_iters": "2"}, "refine_iters must be an integer, got '2'"),
        ({"refine_iters": True}, "refine_iters must be an integer, got True"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(CHECKPOINT, **options)


def test_published_layout(tmp_path: Path, golden: CLIP4STR, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "M_clip" / "models--M-CLIP--XLM-Roberta-Large-Vit-B-32" / "snapshots" / "85949a3a"
    shutil.copytree(M_CLIP, snapshot)
    (tmp_path / "clip4str").mkdir()
    shutil.copy(CHECKPOINT, tmp_path / "clip4str" / "clip4str-large-epoch=4.ckpt")
    assert same_weights(load_model(tmp_path), golden)
    assert same_weights(load_model(str(tmp_path / "clip4str" / "clip4str-large-epoch=4.ckpt")), golden)
    # Relative paths have no parents by name.
    monkeypatch.chdir(tmp_path / "clip4str")
    for path in ("clip4str-large-epoch=4.ckpt", "."):
        assert same_weights(load_model(path), golden)
    shutil.copy(CHECKPOINT, tmp_path / "clip4str" / "another.ckpt")
    with pytest.raises(WeightsError, match=r"several checkpoints: \['another.ckpt', 'clip4str-large-epoch=4.ckpt'\]"):
        load_model(tmp_path)
    shutil.copytree(snapshot, snapshot.with_name("other"))
    with pytest.raises(WeightsError, match="several tokenizers"):
        load_model(tmp_path / "clip4str" / "another.ckpt")


def test_what_a_checkpoint_may_carry_besides(tmp_path: Path, golden: CLIP4STR) -> None:
    """The second CLIP, index buffers of old transformers, OpenAI's text encoder, optimizer and schedule."""

    def add(content: Content) -> None:
        extras = (
            "second_clip_model.visual.conv1.weight",
            "second_clip_model.text.transformer.embeddings.position_ids",
            "M_clip_model.transformer.embeddings.position_ids",
            "clip_model.transformer.resblocks.0.ln_1.weight",
            "clip_model.token_embedding.weight",
            "clip_model.positional_embedding",
            "clip_model.ln_final.bias",
            "clip_model.text_projection",
        )
        content["state_dict"].update({name: torch.ones(1, 2, dtype=torch.int64) for name in extras})
        content["optimizer_states"] = [{"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": []}]
        # As torch < 2 stored it: getattr(OneCycleLR, "_annealing_cos").
        annealing = torch.optim.lr_scheduler.OneCycleLR._annealing_cos
        content["lr_schedulers"] = [{"total_steps": 10, "anneal_func": annealing}]

    path = edited(tmp_path, add)
    assert same_weights(load_model(path, tokenizer=M_CLIP), golden)
    # What torch takes for safe meanwhile is known to all threads.
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(lambda _: read_checkpoint(path), range(80)))) == 80


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints(tmp_path: Path, golden: CLIP4STR, dtype: torch.dtype) -> None:
    def narrow(content: Content) -> None:
        content["state_dict"] = {name: tensor.to(dtype) for name, tensor in content["state_dict"].items()}

    model = load_model(edited(tmp_path, narrow), tokenizer=M_CLIP)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, golden.state_dict()[name].to(dtype).float()), name


def test_every_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    missing = (
        "clip_model.visual.conv1.weight",
        "clip_model.visual.proj",
        "M_clip_model.transformer.embeddings.position_embeddings.weight",
        "M_clip_model.LinearTransformation.bias",
        "visual_decoder.pos_queries",
        "cross_decoder.layers.0.norm_c.bias",
    )
    misshapen = (
        "clip_model.visual.ln_pre.weight",
        "clip_model.visual.transformer.resblocks.1.mlp.c_fc.weight",
        "M_clip_model.transformer.encoder.layer.0.intermediate.dense.bias",
        "visual_decoder.head.weight",
        "cross_decoder.norm.bias",
    )
    unexpected = (
        "clip_model.visual.transformer.resblocks.7.ln_1.bias",
        "clip_model.surprise",
        "M_clip_model.transformer.encoder.layer.2.output.dense.bias",
        "third_clip_model.logit_scale",
    )

    def spoil(content: Content) -> None:
        state = content["state_dict"]
        for name in missing:
            del state[name]
        state.update({name: torch.zeros(3) for name in (*misshapen, *unexpected)})
        state["cross_decoder.head.bias"] = "not a tensor"

    with pytest.raises(WeightsError) as caught:
        load_model(edited(tmp_path, spoil), tokenizer=M_CLIP)
    message = str(caught.value)
    for kind, names in (("missing", missing), ("misshapen", misshapen), ("unexpected", unexpected)):
        for name in names:
            assert f"{kind}: {name} " in message, message
    assert "misshapen: cross_decoder.norm.bias (3,), expected (64,)" in message
    assert "of another kind: cross_decoder.head.bias a str" in message
    assert f"({len(missing) + len(misshapen) + len(unexpected) + 1} problems)" in message


def test_an_empty_state_dict_names_everything(tmp_path: Path, published: Content) -> None:
    path = edited(tmp_path, lambda content: content["state_dict"].clear())
    # Without a tensor to tell the size of the text tower, the published one is missed: 1024 wide, unlike this M_clip.
    with pytest.raises(WeightsError, match="transformerDimensions 128, the checkpoint's is 1024"):
        load_model(path, tokenizer=M_CLIP)
    large = shutil.copytree(M_CLIP, tmp_path / "M_clip")
    (large / "config.json").write_text('{"modelBase": "xlm-roberta-large", "numDims": 512}')
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    assert all(
        f"missing: {name} " in str(caught.value)
        for name in published["state_dict"]
        if not name.startswith(("M_clip_model.transformer.pooler", "clip_model.logit_scale"))
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charset_train": None}, "charset_train must be a str, got None"),
        ({"img_size": [224]}, r"img_size must be two positive integers, got \[224\]"),
        ({"dec_num_heads": 7}, "dec_num_heads must divide the decoder's width 64, got 7"),
        (
            {"dec_num_heads": True, "max_label_length": 0},
            r"max_label_length must be at least 1, got 0; dec_num_heads must",
        ),
        ({"refine_iters": -1}, "ckpt: .*refine_iters must be at least 0, got -1"),
        ({"img_size": [32, 0]}, r"ckpt: .*img_size must be two positive integers, got \[32, 0\]"),
        ({"max_label_length": "25", "dec_num_heads": None}, "max_label_length must be a int.*dec_num_heads must be"),
        ({"charset_train": "abc"}, r"misshapen: visual_decoder.head.bias \(230,\), expected \(4,\)"),
        ({"max_label_length": 30}, r"misshapen: visual_decoder.pos_queries \(1, 26, 64\), expected \(1, 31, 64\)"),
        ({"img_size": [32, 128]}, "misshapen: clip_model.visual.positional_embedding"),
    ],
)
def test_hyper_parameters_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = edited(tmp_path, lambda content: content["hyper_parameters"].update(changes))
    with pytest.raises(WeightsError, match=message):
        load_model(path, tokenizer=M_CLIP)


def test_another_charset_test_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    same = load_model(CHECKPOINT)
    assert not caplog.records
    path = edited(tmp_path, lambda content: content["hyper_parameters"].update(charset_test="abc"))
    assert same_weights(load_model(path, tokenizer=M_CLIP), same)
    (told,) = (record.getMessage() for record in caplog.records)
    assert f"{path}: charset_test 'abc' is not charset_train" in told and "may differ from the reference's" in told
    caplog.clear()
    load_model(edited(tmp_path, lambda content: content["hyper_parameters"].pop("charset_test")), tokenizer=M_CLIP)
    assert not caplog.records


# Files that are no checkpoint


def write_zip(path: Path, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"hello", "a file of 5 bytes that starts with b'hello'"),
        (b"<!DOCTYPE html><html>Virus scan warning", "got a web page .Google Drive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0" + b'{"a":{}}        ', "a safetensors file; pass its folder"),
        (b"\x80\x02}q\0.", "a file of 6 bytes"),
        (("archive/data/0",), "a zip archive without tensors"),
        (("archive/data.pkl", "archive/constants.pkl", "archive/code/__torch__.py"), "TorchScript archive, such as Op"),
        (("archive/data.pkl", "archive/version"), "is damaged|malformed pickle"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes | tuple[str, ...], message: str) -> None:
    path = tmp_path / "some.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_zip(path, content)
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(path, tokenizer=M_CLIP)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999, 0.99999])
def test_a_checkpoint_that_is_cut_short(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.ckpt"
    data = CHECKPOINT.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match="is cut short or damaged .* download it again"):
        load_model(path, tokenizer=M_CLIP)


def test_a_checkpoint_with_a_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    data = bytearray(CHECKPOINT.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="is damaged: the CRC-32 of .* does not match; download it again"):
        load_model(path, tokenizer=M_CLIP)


def test_a_checkpoint_with_a_damaged_table_of_contents(tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    data = CHECKPOINT.read_bytes()
    (start,) = struct.unpack("<I", data[data.rindex(b"PK\5\6") + 16 :][:4])
    if start == 0xFFFFFFFF:
        (start,) = struct.unpack("<Q", data[data.rindex(b"PK\6\6") + 48 :][:8])
    assert data[start:].startswith(b"PK\1\2")
    for place in (0, 6, 9, 46):  # magic, version, flags, a name
        damaged = bytearray(data)
        damaged[start + place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="flipped.ckpt"):
            load_model(path, tokenizer=M_CLIP)


class Harmful:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks"])
def test_pickled_objects_are_named_and_never_run(tmp_path: Path, place: str) -> None:
    trace = tmp_path / "it ran"
    path = edited(tmp_path, lambda content: content[place].update(harm=Harmful(trace)))
    with pytest.raises(WeightsError, match=r"carries pickled objects.*(posix|nt)\.mkdir"):
        load_model(path, tokenizer=M_CLIP)
    assert not trace.exists()


def test_the_stand_in_for_getattr_fetches_nothing(tmp_path: Path) -> None:
    """The one global besides tensors that published files may name; what it gives cannot be called."""
    from clip4str_doctr.checkpoint import read_checkpoint

    class Fetch:
        def __reduce__(self) -> Any:
            return getattr, (torch.optim.lr_scheduler.OneCycleLR, "__init__")

    path = edited(tmp_path, lambda content: content["hyper_parameters"].update(fetched=Fetch()))
    assert read_checkpoint(path).hyper_parameters["fetched"] is None


@pytest.mark.parametrize("content", [torch.zeros(3), {"model": {}}, {"state_dict": {}}, {"state_dict": 1}])
def test_torch_files_of_another_kind(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="expected the published CLIP4STR checkpoint"):
        load_model(tmp_path / "other.pt", tokenizer=M_CLIP)


# The tokenizer folder


def test_a_checkpoint_alone_asks_for_the_tokenizer(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda content: None)
    with pytest.raises(WeightsNotFoundError, match="no M_clip folder lies beside it: download .* or pass tokenizer="):
        load_model(path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_model(path, tokenizer=tmp_path / "nowhere")
    with pytest.raises(WeightsNotFoundError, match="holds no tokenizer.json"):
        load_model(path, tokenizer=tmp_path)
    with pytest.raises(WeightsError, match="must be a folder, got the file .*tokenizer.json; pass the folder"):
        load_model(path, tokenizer=M_CLIP / "tokenizer.json")
    folder = shutil.copytree(M_CLIP, tmp_path / "M_clip")
    (folder / "config.json").unlink()
    with pytest.raises(WeightsNotFoundError, match="lacks M-CLIP's config.json: download it"):
        load_model(path, tokenizer=folder)


def larger_tokenizer(folder: Path, pieces: int) -> Path:
    """M-CLIP's folder with so many pieces more than its own."""
    folder = shutil.copytree(M_CLIP, folder)
    about = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    about["model"]["vocab"] += [[f"piece{number}", -20.0] for number in range(pieces)]
    (folder / "tokenizer.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def test_a_tokenizer_of_more_pieces_than_are_embedded(tmp_path: Path, golden: CLIP4STR) -> None:
    other = larger_tokenizer(tmp_path / "other", 9)
    message = "pieces but the weights embed .*; pass the M_clip folder that belongs to the weights"
    with pytest.raises(WeightsError, match=message):
        load_model(CHECKPOINT, tokenizer=other)
    save_model(golden, tmp_path / "saved", {})
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path / "saved", tokenizer=other)
    tensors = golden.state_dict()
    content = bytearray((other / "tokenizer.json").read_bytes())
    tensors["text_tower.tokenizer_file:tokenizer.json"] = torch.frombuffer(content, dtype=torch.uint8)
    torch.save(tensors, tmp_path / "state.pt")
    model = load_model(CHECKPOINT, tokenizer=M_CLIP)
    before = model.text_tower.tokenizer
    for load in (lambda: model.from_pretrained(tmp_path / "state.pt"), lambda: model.load_state_dict(tensors)):
        with pytest.raises(WeightsError, match=message):
            load()
        assert model.text_tower.tokenizer is before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modelBase": "xlm-roberta-huge"}, "modelBase must be one of .* got 'xlm-roberta-huge'"),
        ({"modelBase": ["xlm-roberta-large"]}, r"modelBase must be one of .* got \['xlm-roberta-large'\]"),
        ({"modelBase": "xlm-roberta-tiny", "numDims": 512}, "numDims 512, the checkpoint's is 64"),
        ({}, "modelBase must be one of .* got None"),
    ],
)
def test_an_m_clip_folder_of_another_model(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = shutil.copytree(M_CLIP, tmp_path / "M_clip")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        load_model(CHECKPOINT, tokenizer=folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="must be a tokenizer"):
        load_model(CHECKPOINT, tokenizer=folder)


# The hub


def test_hub_addresses(monkeypatch: pytest.MonkeyPatch, micro_folder: Path) -> None:
    asked: list[tuple[str, str | None]] = []

    def snapshot_download(repo_id: str, *, revision: str | None = None) -> str:
        asked.append((repo_id, revision))
        return str(micro_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = load_model("hf://someone/clip4str-vn-tiny", refine_iters=2)
    assert same_weights(model, load_model(micro_folder)) and model.config.decode.refine_iters == 2
    model.from_pretrained("hf://someone/clip4str-vn-tiny@v1.0")
    assert asked == [("someone/clip4str-vn-tiny", None), ("someone/clip4str-vn-tiny", "v1.0")]
    for address in ("hf://", "hf://alone", "hf://a/b/c", "hf://a/b@"):
        with pytest.raises(ValueError, match="a hub address must be hf://owner/repo"):
            load_model(address)


def test_hub_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for error, expected in (
        (LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder"), WeightsNotFoundError),
        (ConnectionError("no route to host"), WeightsNotFoundError),
        (HFValidationError("Repo id must use alphanumeric chars"), ValueError),
    ):

        def fail(*_: object, error: Exception = error, **__: object) -> str:
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
        with pytest.raises(expected, match="hf://someone/weights"):
            load_model("hf://someone/weights")


def test_places_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="does not exist; give a .ckpt file, a weights folder, or hf://"):
        load_model(tmp_path / "nowhere")
    expected = "holds no weights: expected config.json with model.safetensors"
    with pytest.raises(WeightsNotFoundError, match=expected) as caught:
        load_model(tmp_path)
    # Whoever has the wheel only has no README of ours to be sent to.
    assert "clip4str/ANY-NAME.ckpt" in str(caught.value) and "README" not in str(caught.value)
