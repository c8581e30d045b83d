"""Captions -> token ids, from the tokenizer files that M-CLIP publishes; `tokenizers` alone, without transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip4str_doctr.weight_card import WeightsError, WeightsNotFoundError

__all__ = ["MClipTokenizer", "find_tokenizer_folder", "load_tokenizer"]

_TOKENIZER_FILE = "tokenizer.json"
# Kept beside the weights so that the converted folder can be passed on by itself.
_COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model", "config.json")


class MClipTokenizer:
    """XLM-RoBERTa's tokenizer exactly as the published `tokenizer.json` describes it.

    files: file name -> content, what `save_model` puts beside the weights.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        from tokenizers import Tokenizer

        self.files = files
        # From bytes: a str of XLM-R's 250,002 pieces takes 80 MiB more while it is read, and 17 for good.
        self._tokenizer: Any = Tokenizer.from_buffer(files[_TOKENIZER_FILE])
        # The file may have been saved with a fixed length; here every caption keeps its own.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def vocab_size(self) -> int:
        """Pieces, special tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """N texts -> {"input_ids": N lists}, each with <s> and </s>."""
        return {"input_ids": [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]}


def find_tokenizer_folder(folder: Path) -> Path:
    """The folder with `tokenizer.json`: this one, or the snapshot below it in the published layout, or a
    converted folder's tokenizer/.

    Raises WeightsNotFoundError if there is none, WeightsError if there are several.
    """
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


def load_tokenizer(folder: Path) -> MClipTokenizer:
    """The tokenizer of a folder that has `tokenizer.json`. Raises WeightsError if the file is not one."""
    names = (_TOKENIZER_FILE, *_COMPANIONS)
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    try:
        return MClipTokenizer(files)
    # `tokenizers` raises bare Exception for a malformed file.
    except Exception as error:
        raise WeightsError(
            f"{folder / _TOKENIZER_FILE} must be a tokenizer in the `tokenizers` format, got: {error}; download it"
        ) from error
