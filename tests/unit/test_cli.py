"""The command line, mostly in this process; once as it is installed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from golden_weights import CHECKPOINT, M_CLIP
from PIL import Image
from safetensors import safe_open

from clip4str_doctr import CLIP4STR, cli, load_model, plugin
from clip4str_doctr.file_types import IMAGE_SUFFIXES, PAGE_SUFFIXES, listed
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.recipe_files import find_recipe
from clip4str_doctr.training.synth.fonts import fonts_installed
from clip4str_doctr.weight_card import read_card

ROOM = 2
FULL = torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture(scope="module")
def words() -> dict[str, npt.NDArray[np.uint8]]:
    random = np.random.default_rng(5)
    sizes = {"1.png": (32, 100), "2.png": (40, 160), "10.png": (60, 90)}
    return {name: random.integers(0, 256, (*size, 3), np.uint8) for name, size in sizes.items()}


@pytest.fixture
def folder(tmp_path: Path, words: Any) -> Path:
    folder = tmp_path / "ảnh"
    folder.mkdir()
    for name, pixels in words.items():
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def expected(words: Any, micro_folder: Path) -> dict[str, tuple[str, float]]:
    """What the model says to each picture alone."""
    model = load_model(micro_folder)
    preprocess = Preprocess((32, 128), model.config.preprocess)
    with torch.inference_mode():
        return {name: model(preprocess([pixels]), return_preds=True)["preds"][0] for name, pixels in words.items()}


@pytest.fixture
def read(micro_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLIP4STR_DOCTR_HOME", str(micro_folder.parent))
    return lambda *args: cli.main(["read", "--device", "cpu", *map(str, args)])


def test_a_line_for_each_picture_in_natural_order(read: Any, folder: Path, expected: Any, capsys: Any) -> None:
    assert read(folder) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{name}: {expected[name][0]}" for name in ("1.png", "2.png", "10.png")]
    assert err == ""


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_json_and_batches(read: Any, folder: Path, expected: Any, capsys: Any, batch_size: int) -> None:
    assert read(folder / "10.png", folder / "1.png", folder / "2.png", "--json", "--batch-size", batch_size) == 0
    array = json.loads(capsys.readouterr().out)
    assert [list(item) for item in array] == [["path", "text", "confidence"]] * 3
    for item, name in zip(array, ("10.png", "1.png", "2.png"), strict=True):
        assert (item["path"], item["text"]) == (str(folder / name), expected[name][0])
        assert item["confidence"] == pytest.approx(expected[name][1], rel=1e-3, abs=0)


def test_weights_by_path(read: Any, folder: Path, expected: Any, micro_folder: Path, capsys: Any) -> None:
    assert read(folder / "2.png", "--weights", micro_folder, "--arch", "clip4str_vn_tiny") == 0
    assert capsys.readouterr().out == f"2.png: {expected['2.png'][0]}\n"


def test_the_published_checkpoint_with_its_tokenizer_elsewhere(
    read: Any, folder: Path, words: Any, tmp_path: Path, capsys: Any
) -> None:
    checkpoint = Path(shutil.copy(CHECKPOINT, tmp_path / "published.ckpt"))
    assert read(folder, "--weights", checkpoint) == 2
    assert "--mclip" in capsys.readouterr().err
    assert read(folder, "--weights", checkpoint, "--mclip", M_CLIP) == 0
    model = load_model(CHECKPOINT, tokenizer=M_CLIP)
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    with torch.inference_mode():
        answers = {name: model(preprocess([pixels]))["preds"][0][0] for name, pixels in words.items()}
    assert len(set(answers.values())) > 1
    assert capsys.readouterr() == ("".join(f"{name}: {answers[name]}\n" for name in ("1.png", "2.png", "10.png")), "")


def test_a_large_picture_is_read_without_a_warning(
    read: Any, folder: Path, expected: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(folder / "2.png") as picture:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", picture.width * picture.height - 1)
    assert read(folder / "2.png") == 0
    assert capsys.readouterr() == (f"2.png: {expected['2.png'][0]}\n", "")


def test_names_that_stand_twice_are_told_apart(read: Any, folder: Path, capsys: Any) -> None:
    other = folder / "other"
    other.mkdir()
    (folder / "1.png").rename(other / "2.png")
    assert read(folder / "2.png", other, folder / "10.png") == 0
    starts = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert starts == [str(folder / "2.png"), str(other / "2.png"), "10.png"]


def test_corrupt_pictures_are_reported_and_the_others_read(read: Any, folder: Path, expected: Any, capsys: Any) -> None:
    whole = (folder / "2.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "4.jpg").write_bytes(b"")
    assert read(folder) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{name}: {expected[name][0]}" for name in ("1.png", "2.png", "10.png")]
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        [str(folder / name), "not a readable image"] for name in ("3.png", "4.jpg")
    ]


def test_further_pictures_of_a_file_are_told(read: Any, folder: Path, expected: Any, capsys: Any) -> None:
    with Image.open(folder / "1.png") as first, Image.open(folder / "2.png") as second:
        first.save(folder / "từ.tif", save_all=True, append_images=[second])
        first.save(folder / "one.tif")
    assert read(folder / "từ.tif", folder / "one.tif") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{name}: {expected['1.png'][0]}" for name in ("từ.tif", "one.tif")]
    assert err == (
        f"{folder / 'từ.tif'}: only the first of its 2 pictures is read; save each of them as a file, or try page\n"
    )


def test_nothing_but_corrupt_pictures(read: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    assert read(tmp_path, "--json") == 1
    assert json.loads(capsys.readouterr().out) == []


def test_one_pixel(read: Any, tmp_path: Path, capsys: Any) -> None:
    Image.new("1", (1, 1)).save(tmp_path / "a.bmp")
    assert read(tmp_path) == 0
    assert capsys.readouterr().out.startswith("a.bmp: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["."], "no image in ."),
        (["word.png", "--device", "cpx"], "cannot use --device cpx"),
        (["word.png", "--device", "meta"], "cannot use --device meta"),
        (["word.png", "--arch", "clip5str"], "unknown --arch clip5str; installed: .*clip4str_vn_tiny"),
        (["word.png", "--arch", "clip4str_vn"], "no weights of clip4str_vn: looked for .*clip4str-doctr convert"),
        (["word.png", "--mclip", "M_clip"], "--mclip goes with --weights"),
        (["word.png", "--weights", "nowhere.ckpt"], "nowhere.ckpt does not exist"),
        (["word.png", "--weights", "word.png"], "word.png"),
        (["word.png", "--weights", "HOME", "--arch", "clip4str_vn"], "holds a clip4str_vn_tiny, not a clip4str_vn"),
    ],
)
def test_what_cannot_be_done_is_said(
    read: Any, tmp_path: Path, micro_folder: Path, monkeypatch: Any, capsys: Any, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if arguments[0] == "word.png":
        Image.new("RGB", (9, 9)).save("word.png")
    assert read(*[str(micro_folder) if argument == "HOME" else argument for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("clip4str-doctr: error: ")
    assert re.search(message, err, re.DOTALL), err


def test_a_missing_path_leaves_the_others_to_be_read(read: Any, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "word.png")
    assert read(tmp_path / "nowhere.png", tmp_path / "word.png") == 1
    out, err = capsys.readouterr()
    assert out.startswith("word.png: ") and "nowhere.png: no such file or folder" in err


def test_a_name_that_cannot_be_looked_up_leaves_the_others_to_be_read(read: Any, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "word.png")
    assert read(tmp_path / (300 * "x" + ".png"), tmp_path / "word.png") == 1
    out, err = capsys.readouterr()
    assert out.startswith("word.png: ") and "xx.png: File name too long" in err


def test_batches_are_halved_where_memory_ends(
    read: Any, folder: Path, expected: Any, capsys: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, sizes = CLIP4STR.forward, list[int]()

    def forward(model: CLIP4STR, pixels: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > ROOM:
            raise FULL
        return whole(model, pixels, **options)

    monkeypatch.setattr(CLIP4STR, "forward", forward)
    assert read(folder) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {expected[name][0]}" for name in ("1.png", "2.png", "10.png")
    ]
    assert (
        sizes[0] == 3
        and set(sizes[1:]) == {1}
        and len(sizes) >= 4
        and caplog.text.count("there is no memory for 3 crops at once") == 1
    )


def test_what_was_read_is_told_where_memory_ends(
    read: Any, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = CLIP4STR.forward, list[int]()

    def forward(model: CLIP4STR, pixels: torch.Tensor, **options: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) > 1:
            raise FULL
        return whole(model, pixels, **options)

    monkeypatch.setattr(CLIP4STR, "forward", forward)
    assert read(folder, "--json", "--batch-size", "1") == 2
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1 and "there is no memory to read one picture: CUDA out of memory" in err


def test_ctrl_c_ends_reading_with_what_was_read(
    read: Any, folder: Path, expected: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = CLIP4STR.forward, list[int]()

    def forward(model: CLIP4STR, pixels: torch.Tensor, **options: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(model, pixels, **options)

    monkeypatch.setattr(CLIP4STR, "forward", forward)
    # Python ignores the signal where it was started by a shell in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert read(folder, "--json", "--batch-size", "1") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    out, err = capsys.readouterr()
    assert [one["text"] for one in json.loads(out)] == [expected["1.png"][0]] and err == ""


def test_a_device_without_room_for_the_model(
    read: Any, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to(*_: Any, **__: Any) -> Any:
        raise FULL

    monkeypatch.setattr(CLIP4STR, "to", to)
    assert read(folder) == 2
    assert "no room for the model: CUDA out of memory. Try --device cpu" in capsys.readouterr().err


def test_what_only_our_models_have_is_refused_for_others(
    read: Any, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ModuleType("their_package")
    vars(theirs)["theirs"] = lambda pretrained: torch.nn.Identity()
    monkeypatch.setitem(sys.modules, "their_package", theirs)
    entry = EntryPoint("theirs", "their_package:theirs", plugin.FACTORY_GROUP)
    monkeypatch.setattr(plugin, "entry_points", lambda group: (entry,))
    bench = ["bench", "accuracy", "--arch", "theirs", "--device", "cpu"]
    alone = "--arch theirs is no CLIP4STR, which alone has --cross-modal; leave it out"
    assert read(folder, "--arch", "theirs", "--cross-modal", "auto") == 2
    assert capsys.readouterr() == ("", f"clip4str-doctr: error: {alone}\n")
    assert cli.main([*bench, "--cross-modal", "auto"]) == 2
    assert capsys.readouterr() == ("", f"clip4str-doctr: error: {alone}\n")
    assert cli.main(bench) == 2
    both = "--arch theirs is no CLIP4STR, both of whose branches are measured; use --models"
    assert capsys.readouterr() == ("", f"clip4str-doctr: error: {both}\n")


@pytest.mark.parametrize("device", ["hpu", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there(read: Any, folder: Path, capsys: Any, device: str) -> None:
    assert read(folder, "--device", device) == 2
    assert f"cannot use --device {device}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["read"], ["read", "a.png", "--batch-size", "0"], ["reed"]])
def test_usage(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2 and "usage: clip4str-doctr" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["read", "page"])
def test_help_lists_the_types_that_are_read(command: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    suffixes = {"read": IMAGE_SUFFIXES, "page": PAGE_SUFFIXES}[command]
    assert ".jfif" in suffixes and f"Of a folder its {listed(suffixes)} files are read" in shown


def test_pictures_of_other_types_are_told(read: Any, folder: Path, expected: Any, capsys: Any) -> None:
    for name in ("4.heic", "5.pdf", "6.txt"):
        (folder / name).touch()
    assert read(folder) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(expected)
    assert err.startswith(f"{folder}: not read (1 heic, 1 pdf); convert them to one of bmp, ")


def test_weights_lists_places(read: Any, micro_folder: Path, capsys: Any) -> None:
    assert cli.main(["weights"]) == 0
    out = capsys.readouterr().out
    assert "clip4str_vn:\n" in out and f"  {micro_folder}: used\n" in out


def test_convert_says_what_is_wrong(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"no checkpoint")
    command = ["convert", tmp_path / "a.ckpt", "--mclip", tmp_path, "-o", tmp_path / "out", "--dtype", "float16"]
    assert cli.main([str(part) for part in command]) == 2
    assert "a.ckpt" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["--dtype", "float16", "--overwrite"]])
def test_convert(tmp_path: Path, capsys: Any, options: list[str]) -> None:
    out = tmp_path / "out"
    command = [str(part) for part in ("convert", CHECKPOINT, "--mclip", M_CLIP, "-o", out)]
    if options:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        assert cli.main(command) == 2 and "--overwrite" in capsys.readouterr().err
    assert cli.main([*command, *options]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    dtype = "float16" if options else "float32"
    assert read_card(out).dtype == dtype
    with safe_open(next(out.glob("*.safetensors")), "pt") as tensors:
        assert str(tensors.get_tensor("visual_decoder.head.weight").dtype) == f"torch.{dtype}"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `train` is called with; the last one added is what it answers, or raises."""
    calls: list[Any] = []

    def train(recipe: Any, out: Path, **options: Any) -> bool:
        answer = calls.pop()
        calls.append((recipe, out, options))
        if isinstance(answer, BaseException):
            raise answer
        return bool(answer)

    monkeypatch.setattr("clip4str_doctr.training.loop.train", train)
    monkeypatch.setattr("clip4str_doctr.training.synth.fonts.fonts_installed", lambda: True)
    return calls


def test_train_says_whether_it_is_done(trained: list[Any], capsys: Any, tmp_path: Path) -> None:
    trained.append(True)
    assert cli.main(["train", "clip4str_vn_tiny"]) == 0
    recipe, out, options = trained.pop()
    assert out == Path("runs/clip4str_vn_tiny") and options == {"tokenizer": None, "strict_labels": False}
    assert recipe.model.init is None and recipe.words.train == ()
    assert capsys.readouterr().err == ""
    trained.append(False)
    assert cli.main(["train", "clip4str_vn_tiny"]) == 1
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
    trained[:] = [FULL]
    assert cli.main(["train", "clip4str_vn_tiny"]) == 2
    assert "Set run.recompute to true, or run.accumulate to twice" in capsys.readouterr().err
    trained[:] = [MemoryError()]
    assert cli.main(["train", "clip4str_vn_tiny"]) == 2
    assert "no memory for a step: MemoryError" in capsys.readouterr().err
    # Before there is anything to go on from; later it ends as above.
    trained[:] = [KeyboardInterrupt()]
    assert cli.main(["train", "clip4str_vn_tiny"]) == 130
    assert capsys.readouterr().err == ""
    # Nothing of one's own to be trained on.
    for command, what in (
        (["clip4str_vn_tiny_finetune"], "clip4str_vn_tiny_finetune.yaml is a recipe"),
        (["clip4str_vn_finetune"], "clip4str_vn_finetune.yaml is a recipe"),
        (["clip4str_vn_tiny", "--strict-labels"], "--strict-labels is"),
    ):
        assert cli.main(["train", *command]) == 2
        assert f"{what} for words of your own; say where they lie with --data DIR" in capsys.readouterr().err


def test_options_of_train_reach_the_run(trained: list[Any], tmp_path: Path) -> None:
    trained.append(True)
    given = {name: tmp_path / name for name in ("init", "data", "val", "out", "mclip")}
    options = [part for name, path in given.items() for part in (f"--{name}", str(path))]
    assert cli.main(["train", "clip4str_vn_tiny", *options, "--strict-labels"]) == 0
    recipe, out, rest = trained.pop()
    assert recipe.model.init == str(given["init"])
    assert recipe.words.train == (str(given["data"]),) and recipe.words.val == (str(given["val"]),)
    assert out == given["out"] and rest == {"tokenizer": given["mclip"], "strict_labels": True}


def test_words_of_ones_own_need_no_recipe(trained: list[Any], micro_folder: Path, tmp_path: Path, capsys: Any) -> None:
    published = shutil.copytree(micro_folder, tmp_path / "published")
    card = json.loads((published / "card.json").read_text(encoding="utf-8"))
    (published / "card.json").write_text(json.dumps({**card, "arch": "clip4str_vn"}), encoding="utf-8")
    for init, arch in (
        (None, "clip4str_vn_tiny"),
        ("clip4str_vn", "clip4str_vn"),
        ("some.ckpt", "clip4str_vn"),
        (str(published), "clip4str_vn"),
        (str(micro_folder), "clip4str_vn_tiny"),
        (str(tmp_path), "clip4str_vn"),
        ("hf://somebody/something", "clip4str_vn_tiny"),
    ):
        trained.append(True)
        assert cli.main(["train", "--data", "mine", *(["--init", init] if init else [])]) == 0
        recipe, out, _ = trained.pop()
        assert recipe.model.preset == arch and recipe.model.init == (init or arch)
        assert out == Path(f"runs/{arch}_finetune") and recipe.words.train == ("mine",)
    assert cli.main(["train"]) == 2
    assert "say what to train: a recipe, or words of your own with --data DIR" in capsys.readouterr().err


def test_recipes_for_random_weights_are_told_of(trained: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    for options, message in (
        (["--data", "mine"], "starts from random weights; clip4str_vn_tiny_finetune trains ours further"),
        (["--init", "clip4str_vn_tiny"], "is for weights that start random: its rates are too high for trained ones"),
        ([], None),
    ):
        caplog.clear()
        trained.append(True)
        assert cli.main(["train", "clip4str_vn_tiny", *options]) == 0
        assert (message in caplog.text) if message else not caplog.text
        trained.clear()


def test_a_recipe_may_name_what_to_watch_only(trained: list[Any], tmp_path: Path, capsys: Any) -> None:
    recipe = tmp_path / "mine.yaml"
    ours = find_recipe("clip4str_vn_tiny_finetune").read_text(encoding="utf-8")
    assert ours.count("\nwords:\n") == 1
    recipe.write_text(ours.replace("\nwords:\n", "\nwords:\n  val: [watched]\n"), encoding="utf-8")
    trained.append(True)
    assert cli.main(["train", str(recipe), "--data", "mine"]) == 0
    words = trained.pop()[0].words
    assert words.train == ("mine",) and words.val == ("watched",)
    assert cli.main(["train", str(recipe)]) == 2
    assert "words.val watches words.train, which is empty" in capsys.readouterr().err


@pytest.mark.parametrize("present", [True, False])
def test_a_gpu_is_taken_where_there_is_one(present: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    assert cli._device("auto") == torch.device("cuda" if present else "cpu")


def test_a_gpu_that_cannot_be_used_is_left(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def busy(*_: Any, device: torch.device) -> Any:
        raise RuntimeError(f"CUDA error: all {device.type}-capable devices are busy or unavailable\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", busy)
    assert cli._device("auto") == torch.device("cpu")
    assert "the GPU cannot be used (CUDA error: all cuda-capable devices are busy or unavailable)" in caplog.text


def test_train_says_what_is_missing(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP4STR_DOCTR_FONTS", str(tmp_path / "nowhere"))
    recipe = tmp_path / "mine.yaml"
    ours = find_recipe("clip4str_vn_tiny").read_text(encoding="utf-8")
    recipe.write_text(ours, encoding="utf-8")
    if fonts_installed():
        assert cli.main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 2
        assert "CLIP4STR_DOCTR_FONTS names" in capsys.readouterr().err
    recipe.write_text(re.sub(r"permutations: \d+", "permutations: 5", ours), encoding="utf-8")
    assert cli.main(["train", str(recipe)]) == 2
    assert "loss.permutations come in mirrored pairs, 1 or even, got 5" in capsys.readouterr().err


def test_train_takes_a_recipe_by_path_or_name(tmp_path: Path, capsys: Any) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.touch()
    assert find_recipe(str(recipe)) == recipe
    assert find_recipe("clip4str_vn_tiny").name == "clip4str_vn_tiny.yaml"
    assert cli.main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    for broken, told in (
        ("model: {preset: clip4str_vn_tiny, colour: red}", "missing key data"),
        ("model: [", "expected the node content"),
        ("- 1", "must be a mapping of keys"),
    ):
        recipe.write_text(broken)
        assert cli.main(["train", str(recipe)]) == 2
        assert re.search(rf"mine.yaml.*{told}", capsys.readouterr().err, re.DOTALL)
    ours = find_recipe("clip4str_vn_tiny").read_text(encoding="utf-8")
    recipe.write_text(re.sub(r"val_seed: \d+", "val_seed: -1", ours), encoding="utf-8")
    assert cli.main(["train", str(recipe)]) == 2
    assert "data.val_seed must be 0 or more, got -1" in capsys.readouterr().err
    recipe.write_text(ours.replace("preset: clip4str_vn_tiny", "preset: clip5str"), encoding="utf-8")
    assert cli.main(["train", str(recipe)]) == 2
    assert "clip5str" in capsys.readouterr().err


def test_installed_command_under_a_plain_locale(micro_folder: Path, folder: Path, expected: Any) -> None:
    command = Path(sys.executable).with_name("clip4str-doctr")
    done = subprocess.run(
        [command, "read", folder / "1.png", "--weights", micro_folder],
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=300,
    )
    assert done.stdout.decode("utf-8") == f"1.png: {expected['1.png'][0]}\n", done.stderr
    assert done.returncode == 0


def test_the_small_model_reads_without_the_large_libraries(run_python: Any, folder: Path) -> None:
    code = "import sys; from clip4str_doctr.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    done = run_python("-c", code, "read", str(folder / "1.png"))
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "torch" in loaded and not loaded & {"doctr", "torchvision", "transformers", "open_clip"}


def test_reader_that_leaves_early(micro_folder: Path, folder: Path) -> None:
    """Some of what was asked for did not get through, as the status says; true's own is none of ours."""
    reading = f'"{sys.executable}" -m clip4str_doctr.cli read "{folder}" --weights "{micro_folder}"'
    command = ["bash", "-c", reading + ' | true; exit "${PIPESTATUS[0]}"']
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_standard_output_is_told() -> None:
    command = [sys.executable, "-m", "clip4str_doctr.cli", "weights"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "clip4str-doctr: error: standard output cannot be written: No space left on device\n"
