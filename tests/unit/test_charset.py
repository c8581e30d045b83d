"""The alphabet that the published ids depend on."""

import hashlib
import unicodedata

import pytest

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS, Charset


def test_published_symbols_are_pinned() -> None:
    assert len(VIETNAMESE_SYMBOLS) == 229
    assert len(set(VIETNAMESE_SYMBOLS)) == 228
    digest = hashlib.sha256(VIETNAMESE_SYMBOLS.encode()).hexdigest()
    assert digest == "f3dddc8b65dda0e77d50198c6b155e33aa2ad2a4feeca8e251d811d85c68900d"
    assert unicodedata.is_normalized("NFC", VIETNAMESE_SYMBOLS)
    assert " " not in VIETNAMESE_SYMBOLS


def test_apostrophe_stands_twice_and_encodes_to_its_later_id() -> None:
    charset = Charset(VIETNAMESE_SYMBOLS)
    first, last = VIETNAMESE_SYMBOLS.index("'"), VIETNAMESE_SYMBOLS.rindex("'")
    assert last == first + 1
    assert charset.encode("'") == [last]
    assert charset.decode([first]) == charset.decode([last]) == "'"


def test_doctr_order_of_special_ids() -> None:
    charset = Charset("abc")
    assert (len(charset), charset.eos, charset.bos, charset.pad) == (3, 3, 4, 5)


def test_encode_normalises_and_decode_cuts_at_eos() -> None:
    charset = Charset(VIETNAMESE_SYMBOLS)
    ids = charset.encode(unicodedata.normalize("NFD", "VIỄN"))
    assert charset.decode([*ids, charset.eos, ids[0]]) == "VIỄN"
    assert charset.decode([]) == ""


def test_symbols_that_nfc_takes_apart_stay_whole() -> None:
    # U+FB30, of docTR's Hebrew alphabet, is two symbols in NFC, and neither stands in this alphabet.
    charset = Charset("\ufb30a")
    assert charset.encode("a\ufb30") == [1, 0]
    assert charset.spelling("a\ufb30") == "a\ufb30"


@pytest.mark.parametrize("text", ["hai từ", "漢", "ab\n"])
def test_foreign_symbols_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="symbols lack"):
        Charset(VIETNAMESE_SYMBOLS).encode(text)


def test_ids_that_are_no_symbols_are_refused() -> None:
    charset = Charset("abc")
    for bad in (charset.bos, charset.pad, -1):
        with pytest.raises(ValueError, match="ids to decode"):
            charset.decode([0, bad])


def test_an_empty_alphabet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one symbol"):
        Charset("")


def test_literal_eos_text_is_text() -> None:
    charset = Charset(VIETNAMESE_SYMBOLS)
    assert charset.decode(charset.encode("[E]n</s>")) == "[E]n</s>"


def test_typographic_symbols_are_spelled_with_plain_ones() -> None:
    charset = Charset(VIETNAMESE_SYMBOLS)
    for text, spelled in (
        ("\u201cPhở\u201d", '"Phở"'),
        ("\u2018bò\u2019", "'bò'"),
        ("2019\u20132020", "2019-2020"),
        ("Xin\u2026", "Xin..."),
        ("25m\u00b2", "25m2"),
        ("25.000\u20ab", "25.000đ"),
    ):
        assert charset.spelling(text) == spelled and charset.decode(charset.encode(text)) == spelled
    # An alphabet that has them keeps them, and one that lacks the plain ones, too, says so.
    assert Charset("abc\u20ab").spelling("a\u20ab") == "a\u20ab"
    with pytest.raises(ValueError, match="\u20ab"):
        Charset("abc").encode("a\u20ab")
