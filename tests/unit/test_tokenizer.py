"""The tokenizer that holds the pieces of Vietnamese letters alone gives the ids of the whole file."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from golden_weights import M_CLIP
from tokenizers import Tokenizer

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.tokenizer import MClipTokenizer

FILE = "tokenizer.json"


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((M_CLIP / FILE).read_bytes())
    return content


def with_foreign_pieces(about: dict[str, Any]) -> bytes:
    """The golden tokenizer as XLM-R's is: pieces of other letters stand between those of ours."""
    about = json.loads(json.dumps(about))
    vocab = about["model"]["vocab"]
    vocab[200:200] = [["\u65e5\u672c", -7.5], ["\u0416", -8.0]]
    vocab[-1:-1] = [["\u03a9", -30.0], ["\u0416a", -9.0]]
    mask = about["added_tokens"][-1]
    assert mask["content"] == "<mask>"
    mask["id"] = len(vocab) - 1
    return json.dumps(about).encode()


def whole(content: bytes) -> Any:
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def test_vietnamese_texts_get_the_files_ids_from_fewer_pieces(published: dict[str, Any]) -> None:
    content = with_foreign_pieces(published)
    tokenizer, reference = MClipTokenizer({FILE: content}), whole(content)
    rng = random.Random(4)
    texts = ["".join(rng.choices(VIETNAMESE_SYMBOLS, k=rng.randrange(26))) for _ in range(2000)]
    texts += ["", "<mask>", "a<mask>b", "</s>", "<pad>x", "<unk>", "x y", " x", "Ti\u1ebfng Vi\u1ec7t"]
    assert tokenizer(texts)["input_ids"] == [one.ids for one in reference.encode_batch(texts)]
    assert tokenizer.vocab_size == reference.get_vocab_size() == 486
    assert tokenizer._held[0].get_vocab_size() == 483, "the worst piece stays: what an unknown letter costs needs it"


@pytest.mark.parametrize("text", ["\u65e5\u672c", "\u0416aba", "\u03a9", "a\u2460b", "\ud55c"])
def test_a_text_with_other_letters_gets_the_files_ids_too(published: dict[str, Any], text: str) -> None:
    content = with_foreign_pieces(published)
    tokenizer, reference = MClipTokenizer({FILE: content}), whole(content)
    assert tokenizer(["nh\u00e0"])["input_ids"] == [reference.encode("nh\u00e0").ids]
    assert tokenizer(["nh\u00e0", text])["input_ids"] == [one.ids for one in reference.encode_batch(["nh\u00e0", text])]
    assert tokenizer(["nh\u00e0"])["input_ids"] == [reference.encode("nh\u00e0").ids]


def beyond_the_pieces(about: dict[str, Any]) -> None:
    about["added_tokens"].append({**about["added_tokens"][-1], "id": 482, "content": "<word>"})


def no_unigram(about: dict[str, Any]) -> None:
    vocab = {piece: number for number, (piece, _) in enumerate(about["model"]["vocab"])}
    about["model"] = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}


@pytest.mark.parametrize(("edit", "pieces"), [(beyond_the_pieces, 483), (no_unigram, 482)])
def test_files_whose_pieces_cannot_be_chosen_are_held_whole(
    published: dict[str, Any], edit: Callable[[dict[str, Any]], None], pieces: int
) -> None:
    about = json.loads(json.dumps(published))
    edit(about)
    content = json.dumps(about).encode()
    tokenizer, reference = MClipTokenizer({FILE: content}), whole(content)
    assert tokenizer.vocab_size == tokenizer._held[0].get_vocab_size() == pieces
    texts = ["nh\u00e0", "<word>", "a<mask>", "\u65e5"]
    assert tokenizer(texts)["input_ids"] == [one.ids for one in reference.encode_batch(texts)]
