"""The renderer: labels it may draw, what train and val share (nothing), and crops that come out the same each time."""

import pickle
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS, Charset
from clip4str_doctr.training.synth import (
    FONT_PACKAGES,
    STYLES,
    VAL_FAMILIES,
    Renderer,
    Selection,
    WordSource,
    fonts_installed,
    is_held_out,
    place_tone,
    words,
)
from clip4str_doctr.training.synth import fonts as fonts_room
from clip4str_doctr.training.synth.families import STREET_PACKAGES

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[train]"
)


@pytest.fixture(scope="module")
def labels() -> dict[str, list[str]]:
    return {
        split: [source.sample(index) for index in range(4000)]
        for split, source in (("train", WordSource("train", 0)), ("val", WordSource("val", 0)))
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hòa", "hoà"),
        ("HÒA", "HOÀ"),
        ("Hóa", "Hoá"),
        ("khỏe", "khoẻ"),
        ("THỦY", "THUỶ"),
        ("ủy", "uỷ"),
        ("Hòa-Thủy,", "Hoà-Thuỷ,"),
        # One spelling only: a closed syllable, the u of qu, no tone, another rhyme.
        ("hoàng", "hoàng"),
        ("quý", "quý"),
        ("QUỲ", "QUỲ"),
        ("hoa", "hoa"),
        ("toán", "toán"),
        ("nghĩa", "nghĩa"),
        ("khuỷu", "khuỷu"),
        ("mùa", "mùa"),
    ],
)
def test_tone_placement(old: str, new: str) -> None:
    assert place_tone(old, "new") == new
    assert place_tone(new, "old") == old
    assert place_tone(new, "new") == new
    assert is_held_out(old) == is_held_out(new)


def test_hold_out_looks_through_case_and_punctuation() -> None:
    for word in ("Viễn", "phở", "ĐÀ", "thuỷ", "BÉO"):
        assert {is_held_out(form) for form in (word, word.lower(), word.upper(), f'"{word}",', f"({word})")} == {
            is_held_out(word)
        }


def test_labels_are_valid(labels: dict[str, list[str]]) -> None:
    charset = Charset(VIETNAMESE_SYMBOLS)
    for label in labels["train"] + labels["val"]:
        assert 1 <= len(label) <= 25 and " " not in label
        assert unicodedata.is_normalized("NFC", label)
        charset.encode(label)  # raises for a foreign symbol


def test_labels_depend_on_seed_split_and_index_only(labels: dict[str, list[str]]) -> None:
    again = WordSource("train", 0)
    assert [again.sample(index) for index in (3999, 7)] == [labels["train"][3999], labels["train"][7]]
    other = WordSource("train", 1)
    assert [other.sample(index) for index in range(20)] != labels["train"][:20]


def test_every_symbol_and_kind_is_seen(labels: dict[str, list[str]]) -> None:
    source = WordSource("train", 5)
    drawn = labels["train"] + [source.sample(index) for index in range(16000)]
    assert set("".join(drawn)) == set(VIETNAMESE_SYMBOLS)
    words = [label for label in drawn if label.isalpha() and len(label) > 1]
    assert 0.35 < sum(label.isupper() for label in words) / len(words) < 0.6
    plate, price, phone, date = r"\d{2}[A-Z]-\d{3}\.\d{2}", r"[\d.]+đ", r"0\d{9}", r"\d\d/\d\d/\d{4}"
    for kind in (plate, price, phone, date, r"\d+K", r".*@gmail\.com", r"\d+%"):
        assert any(re.fullmatch(kind, label) for label in drawn), kind


def test_lexical_words_are_split() -> None:
    train, val = (WordSource(split, 0) for split in ("train", "val"))
    rng = np.random.default_rng(0)
    for name in ("tokens", "syllables", "names", "places", "signs"):
        drawn = [train.frequent(rng, name) for _ in range(500)]
        assert not any(is_held_out(word) and words._bare(word) not in words._everyday() for word in drawn)
        assert all(is_held_out(val.uniform(rng, name)) for _ in range(500))


def test_everyday_words_are_for_training_and_validation() -> None:
    source = WordSource("train", 0)
    everyday = {"của", "số", "theo", "phố", "bánh"}
    assert all(is_held_out(word) for word in everyday) and everyday <= {*source._words["tokens"]}
    rare = {word for word, _ in words.token_counts() if words._bare(word) in words._held_out_words()}
    assert len(rare) > 1000 and not rare & {*source._words["tokens"]}


def test_training_says_no_held_out_word_by_chance() -> None:
    train = WordSource("train", 0)
    said = {words._bare(train.sample(index)) for index in range(6000)}
    assert not said & words._held_out_words()
    # Numbers are no words, and single letters are everybody's.
    assert words._held_out_words() and not any(word.isdigit() or len(word) == 1 for word in words._held_out_words())


def test_other_split_or_style_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be"):
        WordSource("test", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split must be"):
        Renderer("photo", "test", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="style must be"):
        Renderer("dirty", "train", 0)  # type: ignore[arg-type]


def test_font_packages_name_every_family_once() -> None:
    assert len(set(FONT_PACKAGES)) == len(FONT_PACKAGES) >= 100
    assert not set(STREET_PACKAGES) & set(FONT_PACKAGES)
    # patrick-hand and paytone-one come with a folder of more fonts only.
    missing = {f"fontpkg-{family}" for family in VAL_FAMILIES} - {*FONT_PACKAGES, *STREET_PACKAGES}
    assert missing == {"fontpkg-patrick-hand", "fontpkg-paytone-one"}


@pytest.fixture
def forgotten_faces() -> Iterator[None]:
    """No faces remembered from, or left to, other tests."""
    fonts_room.usable_faces.cache_clear()
    yield
    fonts_room.usable_faces.cache_clear()


def test_missing_fonts_say_what_to_type(monkeypatch: pytest.MonkeyPatch, forgotten_faces: None) -> None:
    monkeypatch.setattr(fonts_room, "FONT_PACKAGES", ("fontpkg-there-is-no-such-font",))
    assert not fonts_installed()
    with pytest.raises(RuntimeError, match=r"pip install clip4str-doctr\[train\]"):
        Renderer("clean", "train", 0).sample(0)


@needs_fonts
def test_fonts_are_split_and_complete() -> None:
    train, val = fonts_room.usable_faces("train"), fonts_room.usable_faces("val")
    assert set(val) <= VAL_FAMILIES and not set(train) & VAL_FAMILIES
    assert not {face.path for faces in train.values() for face in faces} & {
        face.path for faces in val.values() for face in faces
    }
    face = next(iter(train.values()))[0]
    assert len(fonts_room.load_face(face, 26).getbbox("Nguyễn")) == 4


@needs_fonts
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("style", STYLES)
def test_crops(style: str, split: str) -> None:
    renderer = Renderer(style, split, 11)  # type: ignore[arg-type]
    for index in range(60):
        crop, label = renderer.sample(index)
        height, width, channels = crop.shape
        assert crop.dtype == np.uint8 and crop.flags.c_contiguous and channels == 3
        most_high, most_wide = (200, 480) if style in ("sign", "page") else (160, 360)
        assert 8 <= height <= most_high and 8 <= width <= most_wide
        assert 1 <= len(label) <= 25 and unicodedata.is_normalized("NFC", label)


@needs_fonts
def test_samples_repeat_in_any_order_and_after_pickling() -> None:
    renderer = Renderer("mixed", "train", 3)
    first = [renderer.sample(index) for index in range(20)]
    sent = pickle.loads(pickle.dumps(renderer))
    for index in reversed(range(20)):
        crop, label = sent.sample(index)
        assert label == first[index][1]
        np.testing.assert_array_equal(crop, first[index][0])
    other = Renderer("mixed", "train", 4).sample(0)
    assert other[1] != first[0][1] or other[0].shape != first[0][0].shape or (other[0] != first[0][0]).any()


@needs_fonts
def test_a_selection_is_kept() -> None:
    labels = ("Phở", "12/7/2024", "bánh", "NGUYỄN")
    renderer = Renderer("clean", "val", 3, Selection(labels, (8, 12), ("lora", "space-mono")))
    drawn = [renderer.sample(index) for index in range(4)]
    assert tuple(label for _, label in drawn) == labels
    assert {8, 9, 10, 11, 12} >= {crop.shape[0] for crop, _ in drawn}
    assert [pickle.loads(pickle.dumps(renderer)).sample(2)[1]] == ["bánh"]
    assert {faces[0].family for families in renderer._families.values() for faces in families} == {"lora", "space-mono"}
    with pytest.raises(IndexError):
        renderer.sample(4)
    with pytest.raises(RuntimeError, match=r"pip install fontpkg-arimo"):
        Renderer("clean", "val", 3, Selection(families=("arimo", "lora"))).sample(0)


@needs_fonts
def test_choosing_the_labels_changes_nothing_else() -> None:
    words = WordSource("val", 3)
    drawn = tuple(words.draw(np.random.default_rng([3, True, STYLES.index("photo"), index])) for index in range(12))
    own, chosen = Renderer("photo", "val", 3), Renderer("photo", "val", 3, Selection(drawn))
    for index in range(12):
        assert own.sample(index)[1] == chosen.sample(index)[1]
        np.testing.assert_array_equal(own.sample(index)[0], chosen.sample(index)[0])


@needs_fonts
def test_words_are_not_blank() -> None:
    renderer = Renderer("clean", "train", 8)
    spreads = [int(np.ptp(renderer.sample(index)[0])) for index in range(100)]
    assert min(spreads) > 60


@needs_fonts
def test_contact_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    from clip4str_doctr.training.synth.__main__ import main

    sheet = tmp_path / "sheet.png"
    monkeypatch.setattr("sys.argv", ["synth", "--style", "photo", "--split", "val", "--count", "7", "-o", str(sheet)])
    main()
    assert "7 crops" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.size == (6 * 220, 2 * 120)
    assert list(tmp_path.iterdir()) == [sheet]
