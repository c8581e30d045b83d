"""What `pretrained=True` finds, what it says when it finds nothing, and docTR's keyword arguments."""

import copy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import clip4str_doctr
from clip4str_doctr import clip4str_vn_tiny, lookup
from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.config import PRESETS
from clip4str_doctr.factories import change_vocab, clip4str_vn
from clip4str_doctr.images import open_image
from clip4str_doctr.lookup import cache_folder, embedded_folder, find_all, find_weights
from clip4str_doctr.modeling.clip4str import CERTAIN_FROM
from clip4str_doctr.training.validate import read_words
from clip4str_doctr.weights import WeightsNotFoundError, load_model, save_model

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three folders that are searched, all absent, and no embedded weights."""
    folders = {"home": tmp_path / "home", "pretrained": tmp_path / "cwd" / "pretrained", "cache": tmp_path / "xdg"}
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("CLIP4STR_DOCTR_HOME", str(folders["home"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folders["cache"]))
    monkeypatch.setattr(lookup, "__file__", str(tmp_path / "installed" / "clip4str_doctr" / "lookup.py"))
    return {**folders, "cache": folders["cache"] / "clip4str_doctr"}


def publish(folder: Path) -> None:
    """The published layout, with the golden checkpoint in it."""
    (folder / "clip4str").mkdir(parents=True)
    shutil.copy(GOLDEN / "clip4str-large-tiny-A.ckpt", folder / "clip4str" / "large.ckpt")
    shutil.copytree(GOLDEN / "M_clip", folder / "M_clip")


def test_search_order(places: dict[str, Path], micro_folder: Path) -> None:
    for name in ("cache", "pretrained", "home"):
        shutil.copytree(micro_folder, places[name] / "clip4str_vn_tiny")
        # ./pretrained is named as it is typed.
        expected = Path("pretrained") if name == "pretrained" else places[name]
        assert find_weights("clip4str_vn_tiny") == expected / "clip4str_vn_tiny"
    states = {str(place): state for place, state in find_all()["clip4str_vn_tiny"]}
    assert states == {
        str(places["home"] / "clip4str_vn_tiny"): "used",
        str(Path("pretrained/clip4str_vn_tiny")): "found",
        str(places["cache"] / "clip4str_vn_tiny"): "found",
    }
    assert {state for _, state in find_all()["clip4str_vn"]} == {"not there"}


def test_published_layout_is_found(places: dict[str, Path]) -> None:
    publish(places["pretrained"])
    assert find_weights("clip4str_vn") == Path("pretrained")
    model = clip4str_vn(pretrained=True, refine_iters=0)
    assert model.config.image_tower.width == 128 and model.config.decode.refine_iters == 0 and not model.training
    # A converted folder in the same place goes first.
    save_model(model, places["pretrained"] / "clip4str_vn", {})
    assert find_weights("clip4str_vn") == Path("pretrained/clip4str_vn")


def test_home_may_be_a_converted_folder_itself(places: dict[str, Path], micro_folder: Path) -> None:
    shutil.copytree(micro_folder, places["home"])
    assert find_weights("clip4str_vn_tiny") == places["home"]
    with pytest.raises(WeightsNotFoundError):
        find_weights("clip4str_vn")


def test_a_checkpoint_within_a_converted_folder_of_the_other(places: dict[str, Path], micro_folder: Path) -> None:
    shutil.copytree(micro_folder, places["home"])
    publish(places["home"])
    assert find_weights("clip4str_vn_tiny") == places["home"]
    assert clip4str_vn(pretrained=True).config.image_tower.width == 128


def test_the_published_size_never_becomes_tiny(places: dict[str, Path], micro_folder: Path) -> None:
    shutil.copytree(micro_folder, places["home"] / "clip4str_vn_tiny")
    with pytest.raises(WeightsNotFoundError) as caught:
        clip4str_vn(pretrained=True)
    message = str(caught.value)
    for part in (
        "no weights of clip4str_vn: looked for",
        str(places["home"] / "clip4str_vn"),
        str(places["cache"] / "clip4str_vn"),
        "https://drive.google.com/file/d/1yI-F9VBWNtZ-VuK_r9zoBjag_iGDat0R/view",
        "https://drive.google.com/drive/folders/1-aCM5xHcHWe2Z4Mw4NlAV3RDxSxP3Koc",
        "M-CLIP/XLM-Roberta-Large-Vit-B-32",
        f"clip4str-doctr convert CKPT --mclip M_clip -o {places['home'] / 'clip4str_vn'}",
    ):
        assert part in message
    # Nor by a folder under the wrong name.
    shutil.copytree(micro_folder, places["home"] / "clip4str_vn")
    with pytest.raises(ValueError, match="are of a clip4str_vn_tiny"):
        clip4str_vn(pretrained=True)


def test_a_missing_embedded_model_says_so(places: dict[str, Path]) -> None:
    with pytest.raises(WeightsNotFoundError, match="They ship with the package; install it again"):
        clip4str_vn_tiny(pretrained=True)
    with pytest.raises(ValueError, match=r"arch must be one of \['clip4str_vn', 'clip4str_vn_tiny'\], got 'clip5'"):
        find_weights("clip5")


@pytest.mark.parametrize("inside", ["clip4str_doctr/_pretrained", "pretrained"])
def test_embedded_weights(
    places: dict[str, Path], tmp_path: Path, micro_folder: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    """Inside the package once installed, beside it in a checkout; other places go first."""
    folder = shutil.copytree(micro_folder, tmp_path / "installed" / inside / "clip4str_vn_tiny")
    assert embedded_folder("clip4str_vn_tiny") == find_weights("clip4str_vn_tiny") == folder
    assert embedded_folder("clip4str_vn") is None
    assert not clip4str_vn_tiny(pretrained=True).training
    shutil.copytree(micro_folder, places["home"] / "clip4str_vn_tiny")
    assert find_weights("clip4str_vn_tiny") == places["home"] / "clip4str_vn_tiny"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "~/.cache/clip4str_doctr"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/clip4str_doctr"),
        ("darwin", {}, "~/Library/Caches/clip4str_doctr"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/x/clip4str_doctr"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/clip4str_doctr"),
        ("win32", {}, "~/AppData/Local/clip4str_doctr"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected).expanduser()


def test_a_cache_that_may_not_be_looked_into(
    places: dict[str, Path], tmp_path: Path, micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded model is read all the same, and what cannot be looked into is not there."""
    shutil.copytree(micro_folder, tmp_path / "installed" / "pretrained" / "clip4str_vn_tiny")
    stat = Path.stat

    def refused(path: Path, **options: Any) -> Any:
        if path.is_relative_to(places["cache"]):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    # For root, as whom tests may run, no mode of a folder refuses anything.
    monkeypatch.setattr(Path, "stat", refused)
    assert not clip4str_vn_tiny(pretrained=True).training
    listed = find_all()["clip4str_vn_tiny"]
    assert (places["cache"] / "clip4str_vn_tiny", "not there") in listed and listed[-1][1] == "used"
    with pytest.raises(WeightsNotFoundError, match="no weights of clip4str_vn: looked for"):
        find_weights("clip4str_vn")


def test_a_user_without_a_home(
    places: dict[str, Path], tmp_path: Path, micro_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = shutil.copytree(micro_folder, tmp_path / "installed" / "pretrained" / "clip4str_vn_tiny")
    for name in ("XDG_CACHE_HOME", "HOME", "USERPROFILE", "HOMEPATH"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd", reason="users are in a passwd file")

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("CLIP4STR_DOCTR_HOME", "~/weights")
    assert cache_folder() is None
    assert find_weights("clip4str_vn_tiny") == embedded
    with pytest.raises(WeightsNotFoundError) as caught:
        find_weights("clip4str_vn")
    for part in (Path("~/weights/clip4str_vn"), Path("pretrained/clip4str_vn"), f"-o {Path('~/weights/clip4str_vn')}"):
        assert str(part) in str(caught.value)


# docTR's keyword arguments


def test_random_weights_are_for_training() -> None:
    model = clip4str_vn_tiny(pretrained=False, pretrained_backbone=False, input_shape=(3, 64, 128), decode_ar=False)
    assert model.training and model.cfg["input_shape"] == (3, 64, 128) and not model.config.decode.decode_ar
    assert model.config.symbols == PRESETS["clip4str_vn_tiny"].symbols
    assert set(model(torch.zeros(1, 3, 64, 128), ["a"])) == {"loss"}


def test_another_alphabet() -> None:
    model = clip4str_vn_tiny(vocab="cba €").eval()
    assert model.vocab == "cba €" and model.cfg["vocab"] == "cba €"
    with torch.inference_mode():
        out = model(torch.zeros(1, 3, 32, 128), return_model_output=True, return_preds=True)
    assert out["out_map"].shape[-1] == 6 and set(out["preds"][0][0]) <= set("cba €")


def test_another_alphabet_keeps_known_rows(micro_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, original = load_model(micro_folder), load_model(micro_folder)
    change_vocab(model, "b€ a")
    assert "2 of the 4 symbols of this alphabet are new to the weights: €" in caplog.text
    old, new = original.charset, model.charset
    assert model.config.symbols == new.symbols == model.postprocessor.vocab == "b€ a"
    pairs = [
        (0, old.encode("b")[0]),
        (3, old.encode("a")[0]),
        (new.eos, old.eos),
        (new.bos, old.bos),
        (new.pad, old.pad),
    ]
    for name in ("visual_decoder.embedding.weight", "cross_decoder.embedding.weight", "text_tower.embedding.weight"):
        for row, old_row in pairs:
            assert torch.equal(model.get_parameter(name)[row], original.get_parameter(name)[old_row])
    for name in ("visual_decoder.head.weight", "cross_decoder.head.bias"):
        for row, old_row in pairs[:3]:
            assert torch.equal(model.get_parameter(name)[row], original.get_parameter(name)[old_row])
    with torch.inference_mode():
        text = model(torch.zeros(1, 3, 32, 128))["preds"][0][0]
    assert set(text) <= set("b€ a")
    before = model.visual_decoder
    change_vocab(model, "b€ a")
    assert model.visual_decoder is before


def test_what_was_fitted_to_the_weights_goes_with_their_alphabet() -> None:
    for vocab, kept in ((VIETNAMESE_SYMBOLS[:100], True), (VIETNAMESE_SYMBOLS + "₫", False)):
        model = clip4str_vn_tiny(pretrained=True)
        fitted = model.certain_from, model.postprocessor.temperature
        change_vocab(model, vocab)
        assert model.calibrated_by_card == kept
        now = model.certain_from, model.postprocessor.temperature
        assert now == (fitted if kept else (CERTAIN_FROM, 1.0)) and fitted != (CERTAIN_FROM, 1.0)


def test_a_symbol_that_stands_twice_is_not_as_likely_twice() -> None:
    """The published alphabet has the apostrophe twice; labels are encoded by the second, and only that is trained."""
    model = clip4str_vn_tiny(pretrained=True)
    original, old = copy.deepcopy(model), model.vocab
    first, second = (number for number, symbol in enumerate(old) if symbol == "'")
    change_vocab(model, old + "₫")
    for name in ("visual_decoder.head.bias", "cross_decoder.head.bias", "text_tower.embedding.weight"):
        new, before = model.get_parameter(name), original.get_parameter(name)
        assert torch.equal(new[first], before[first]) and torch.equal(new[second], before[second])
        assert not torch.equal(new[first], new[second])
    # Where it stands once it is the trained one.
    change_vocab(model, "a'b")
    assert torch.equal(model.visual_decoder.head.bias[1], original.visual_decoder.head.bias[second])


def test_a_new_alphabet_that_repeats_symbols_is_as_certain() -> None:
    """As the sum of two of docTR's alphabets does."""
    crop = open_image(Path(__file__).parents[2] / "examples" / "pho.png")
    model = clip4str_vn_tiny(pretrained=True)
    before = read_words(model, [crop])
    change_vocab(model, model.vocab + "PHOBabc")
    after = read_words(model, [crop])
    assert after.texts == before.texts == ["PHỞ"]
    assert after.confidences == pytest.approx(before.confidences, abs=2e-3)


def test_alphabets_that_whitelists_take_for_inner_layers(micro_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    width = PRESETS["clip4str_vn_tiny"].decoder.width
    letters = "".join(chr(0x4E00 + number) for number in range(width))
    clip4str_vn_tiny(vocab=letters)
    assert "add_whitelist" not in caplog.text
    clip4str_vn_tiny(vocab=letters[: width - 3])
    assert f"do not use docTR's add_whitelist with an alphabet of {width - 3} symbols" in caplog.text
    caplog.clear()
    model = load_model(micro_folder)
    change_vocab(model, letters[: model.config.decoder.width - 1])
    assert "add_whitelist" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_shape": (1, 32, 128)}, ValueError, r"input_shape must be \(3, H, W\), got \(1, 32, 128\)"),
        ({"input_shape": (3, 30, 128)}, ValueError, "image_size must be a multiple of 8"),
        ({"vocab": ""}, ValueError, "a charset needs at least one symbol"),
        ({"refine_iters": -1}, ValueError, "refine_iters must be 0 or more"),
        ({"refine_iters": "2"}, ValueError, "refine_iters must be an integer, got '2'"),
        ({"decode_ar": 1}, ValueError, "decode_ar must be True or False, got 1"),
        ({"assume_straight_pages": True}, TypeError, "assume_straight_pages"),
    ],
)
def test_options_that_cannot_be_had(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        clip4str_vn_tiny(**options)


def test_options_of_pretrained_models(
    places: dict[str, Path], micro_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(micro_folder, places["home"] / "clip4str_vn_tiny")
    build: Callable[..., Any] = clip4str_doctr.clip4str_vn_tiny
    # docTR's evaluation script passes what it feeds, whatever the weights read.
    model = build(pretrained=True, input_shape=(3, 64, 256))
    assert model.cfg["input_shape"] == (3, 32, 128)
    assert "read (3, 32, 128); input_shape=(3, 64, 256) is ignored" in caplog.text
    model = build(pretrained=True, input_shape=(3, 32, 128), vocab="abc", decode_ar=False, refine_iters=3)
    assert model.vocab == "abc" and model.config.decode.refine_iters == 3 and not model.config.decode.decode_ar
