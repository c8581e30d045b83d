"""Captions -> token ids, from the tokenizer files that M-CLIP publishes; `tokenizers` alone, without transformers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS
from clip4str_doctr.weight_card import WeightsError, WeightsNotFoundError

__all__ = ["MClipTokenizer", "find_tokenizer_folder", "load_tokenizer", "tokenizer_of"]

_TOKENIZER_FILE = "tokenizer.json"
# Kept beside the weights so that the converted folder can be passed on by itself.
_COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model", "config.json")


# What captions are made of, and what the tokenizer puts in the place of spaces.
_LETTERS = frozenset(VIETNAMESE_SYMBOLS + " \u2581")


class MClipTokenizer:
    """XLM-RoBERTa's tokenizer exactly as the published `tokenizer.json` describes it.

    Of its 250,002 pieces only those of Vietnamese letters are held, 93,386, until a text has other letters: the rest
    takes 190 MiB and can stand nowhere in such a text.

    files: file name -> content, what `save_model` puts beside the weights.
    vocab_size: pieces, special tokens included.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        """Raises WeightsError without `tokenizer.json`, or for a name that is none of a tokenizer's files: names may
        come from strangers, and become paths."""
        if foreign := sorted(files.keys() - {_TOKENIZER_FILE, *_COMPANIONS}):
            raise WeightsError(
                f"tokenizer files must be {', '.join((_TOKENIZER_FILE, *_COMPANIONS))}, got {foreign}; do not trust "
                "where they come from"
            )
        if _TOKENIZER_FILE not in files:
            raise WeightsError(f"a tokenizer needs {_TOKENIZER_FILE}, got {sorted(files)}; take all of its files")
        self.files = files
        content, published_ids, self.vocab_size = _pieces_of_letters(files[_TOKENIZER_FILE])
        # One attribute, so that no thread meets the tokenizer of one set of pieces and the ids of the other.
        self._held: tuple[Any, list[int] | None] = _tokenizer(content), published_ids

    def __call__(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """N texts -> {"input_ids": N lists}, each with <s> and </s>."""
        tokenizer, published_ids = self._held
        if published_ids is not None and not all(_has_letters_alone(text, tokenizer) for text in texts):
            tokenizer, published_ids = self._held = _tokenizer(self.files[_TOKENIZER_FILE]), None
        found = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
        if published_ids is not None:
            found = [[published_ids[one] for one in ids] for ids in found]
        return {"input_ids": found}


def _has_letters_alone(text: str, tokenizer: Any) -> bool:
    """Whether what the pieces are to spell has no other letters: the text as the file's normaliser leaves it."""
    return _LETTERS.issuperset(tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text)


def _tokenizer(content: bytes) -> Any:
    """What `tokenizers` makes of a `tokenizer.json`."""
    from tokenizers import Tokenizer

    # From bytes: a str of XLM-R's 250,002 pieces takes 80 MiB more while it is read, and 17 for good.
    tokenizer = Tokenizer.from_buffer(content)
    # The file may have been saved with a fixed length; here every caption keeps its own.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _pieces_of_letters(content: bytes) -> tuple[bytes, list[int] | None, int]:
    """A `tokenizer.json` -> the same with those pieces alone that _LETTERS spell, their ids in the file, and how many
    pieces that has. All of it, and no ids, if it is no Unigram model, whose pieces do not depend on each other, or has
    special tokens that are no pieces.

    The best way to spell a text is found among the pieces that stand in it, so it stays the same. What an unknown
    letter costs depends on the worst piece of all, which is kept.
    """
    about = json.loads(content)
    model = about["model"]
    if model.get("type") != "Unigram":
        return content, None, _tokenizer(content).get_vocab_size(with_added_tokens=True)
    vocab, added = model["vocab"], {one["content"]: one for one in about["added_tokens"]}
    worst = min(range(len(vocab)), key=lambda number: vocab[number][1])
    kept = [
        number
        for number, (piece, _) in enumerate(vocab)
        if piece in added or number in (worst, model["unk_id"]) or _LETTERS.issuperset(piece)
    ]
    number_of = {old: new for new, old in enumerate(kept)}
    if any(one["id"] not in number_of for one in added.values()):
        return content, None, _tokenizer(content).get_vocab_size(with_added_tokens=True)
    model.update(vocab=[vocab[number] for number in kept], unk_id=number_of[model["unk_id"]])
    for one in added.values():
        one["id"] = number_of[one["id"]]
    for one in ((about["post_processor"] or {}).get("special_tokens") or {}).values():
        one["ids"] = [number_of[old] for old in one["ids"]]
    return json.dumps(about, ensure_ascii=False).encode(), kept, len(vocab)


def find_tokenizer_folder(folder: Path) -> Path:
    """The folder with `tokenizer.json`: this one, or the snapshot below it in the published layout, or a
    converted folder's tokenizer/.

    Raises WeightsNotFoundError if there is none, WeightsError if there are several.
    """
    if folder.is_file():
        raise WeightsError(f"the tokenizer must be a folder, got the file {folder}; pass the folder it lies in")
    if not folder.is_dir():
        raise WeightsNotFoundError(f"the tokenizer folder {folder} does not exist; pass the downloaded M_clip folder")
    if (folder / _TOKENIZER_FILE).is_file():
        return folder
    patterns = ("snapshots/*", "models--*/snapshots/*", "tokenizer")
    found = sorted({path.parent for pattern in patterns for path in folder.glob(f"{pattern}/{_TOKENIZER_FILE}")})
    if not found:
        raise WeightsNotFoundError(
            f"{folder} holds no {_TOKENIZER_FILE}, neither itself nor in models--*/snapshots/*; "
            "pass the downloaded M_clip folder (https://huggingface.co/M-CLIP/XLM-Roberta-Large-Vit-B-32)"
        )
    if len(found) > 1:
        raise WeightsError(f"{folder} holds several tokenizers: {[str(path) for path in found]}; pass one of them")
    return found[0]


def check_pieces(tokenizer: MClipTokenizer, embedded: int, where: object) -> None:
    """Raise WeightsError for a tokenizer of more pieces than a text tower embeds: it belongs to another one.

    where: whence it comes, for the message.
    """
    if tokenizer.vocab_size > embedded:
        raise WeightsError(
            f"the tokenizer of {where} has {tokenizer.vocab_size} pieces but the weights embed {embedded}; pass the "
            "M_clip folder that belongs to the weights"
        )


def load_tokenizer(folder: Path) -> MClipTokenizer:
    """The tokenizer of a folder that has `tokenizer.json`. Raises WeightsError if the file is not one."""
    names = (_TOKENIZER_FILE, *_COMPANIONS)
    return tokenizer_of({name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}, folder)


def tokenizer_of(files: dict[str, bytes], where: object) -> MClipTokenizer:
    """The tokenizer of files by name. where: whence they come, for messages. Raises WeightsError if they are none."""
    try:
        return MClipTokenizer(files)
    except WeightsError:
        raise
    # `tokenizers` raises bare Exception for a malformed file.
    except Exception as error:
        raise WeightsError(
            f"{_TOKENIZER_FILE} of {where} must be a tokenizer in the `tokenizers` format, got {type(error).__name__}: "
            f"{error}; download it"
        ) from error
