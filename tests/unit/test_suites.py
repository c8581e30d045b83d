"""The validation suites: frozen labels, held out from training, rendered as they say."""

import unicodedata
import zlib

import numpy as np
import pytest

from clip4str_doctr.training.suites import SUITES, checksum, drawn, labels_of, rendered
from clip4str_doctr.training.suites.draw import draw_labels
from clip4str_doctr.training.synth import VAL_FAMILIES, fonts_installed, is_held_out
from clip4str_doctr.training.synth.fonts import usable_faces
from clip4str_doctr.training.synth.legibility import confused_letters
from clip4str_doctr.training.synth.words import valid_label

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]"
)

# Figures are compared across commits by the names of the suites: other labels are another suite, under another name.
FROZEN = {
    "clean": "5975d463",
    "photo": "58d7a263",
    "numbers": "ff8819c3",
    "rare_syllables": "6a002325",
    "long_words": "76d5787e",
    "tiny": "f3015864",
    "handwriting": "f07eeb46",
    "print_mixed": "456dbad0",
    "sign": "1fd9e530",
    "page": "2687fd42",
    "hand": "b5581717",
}


def test_labels_are_frozen() -> None:
    assert {name: f"{zlib.crc32('|'.join(labels_of(name)).encode()):08x}" for name in SUITES} == FROZEN


@pytest.mark.parametrize("name", SUITES)
def test_labels_are_words_of_the_alphabet(name: str) -> None:
    labels = labels_of(name)
    assert len(labels) == 1000
    assert all(valid_label(label) and unicodedata.is_normalized("NFC", label) for label in labels)
    assert len(set(labels)) > 500


def test_kinds() -> None:
    assert all(len(label) >= 12 for label in labels_of("long_words"))
    assert all(any(symbol.isdigit() for symbol in label) for label in labels_of("numbers"))
    assert not any(label.isupper() and len(label) > 1 for label in labels_of("handwriting"))
    for name in ("clean", "tiny"):
        assert min(map(len, labels_of(name))) > 1
        words = [label for label in labels_of(name) if any(symbol.isalpha() for symbol in label)]
        assert 0.1 < sum(word.isupper() for word in words) / len(words) < 0.3


@pytest.mark.parametrize("name", ["rare_syllables", "handwriting", "hand"])
def test_lexical_words_are_held_out(name: str) -> None:
    assert all(is_held_out(label) for label in labels_of(name))


def test_drawing_is_repeatable_and_held_out() -> None:
    assert draw_labels("clean", 20) == draw_labels("clean", 60)[:20]
    assert all(is_held_out(label) for label in draw_labels("rare_syllables", 50))
    for draw in (draw_labels, labels_of, rendered):
        with pytest.raises(ValueError, match="no suite 'dirty'; there are clean, photo"):
            draw("dirty")


def test_fonts_are_held_out() -> None:
    assert all(set(suite.families) <= VAL_FAMILIES for suite in SUITES.values())


@needs_fonts
def test_print_is_drawn_with_faces_that_show_every_mark() -> None:
    faces = usable_faces("val")
    for family in SUITES["clean"].families:
        for face in faces[family]:
            assert not confused_letters(face), f"{face.path} at weight {face.weight}"
    # That the check finds what it is there for: a face without dots under its letters.
    light = [face for face in faces["work-sans"] if face.weight == 250]
    assert light and all({"a", "ạ", "Ê", "Ệ"} <= confused_letters(face) for face in light)


@needs_fonts
@pytest.mark.parametrize("name", SUITES)
def test_rendering(name: str) -> None:
    suite, drawn = SUITES[name], rendered(name, 12)
    assert [label.casefold() for label in drawn.labels] == [label.casefold() for label in labels_of(name)[:12]]
    assert drawn.as_defined is None
    assert all(crop.dtype == np.uint8 and crop.shape[2] == 3 for crop in drawn.crops)
    if suite.heights:
        least, most = suite.heights
        assert all(crop.shape[0] <= most for crop in drawn.crops)
        # Only a label too wide for a crop comes out lower.
        assert all(crop.shape[0] >= least or crop.shape[1] >= 350 for crop in drawn.crops)
    again = rendered(name, 12)
    assert (again.labels_crc, again.pixels_crc) == (drawn.labels_crc, drawn.pixels_crc)


def test_more_words_than_there_are() -> None:
    with pytest.raises(ValueError, match="has 1000 words, cannot give 1001"):
        rendered("clean", 1001)


@needs_fonts
def test_other_words_of_a_suites_kind() -> None:
    suite = rendered("clean", 6)
    crops, labels = drawn("clean", 6)
    assert labels == suite.labels and checksum(crops) == checksum(suite.crops)
    again, same = drawn("clean", 6, seed=SUITES["clean"].seed)
    assert same == labels and checksum(again) == checksum(crops)
    for name in ("clean", "photo"):
        _, others = drawn(name, 40, seed=1)
        assert len(set(others) & set(labels_of(name)[:40])) < 10 and all(map(valid_label, others))
    with pytest.raises(ValueError, match="1000 words, cannot give 1001"):
        drawn("clean", 1001)
