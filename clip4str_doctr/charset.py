"""Symbols <-> ids, in docTR's order: symbols 0..V-1, then EOS, BOS, PAD."""

import unicodedata
from collections.abc import Iterable

__all__ = ["VIETNAMESE_SYMBOLS", "Charset", "plain"]

# 229 symbols, 228 distinct: training saw the apostrophe twice. Removing one shifts every later id.
VIETNAMESE_SYMBOLS = (
    "aAàÀảẢãÃáÁạẠăĂằẰẳẲẵẴắẮặẶâÂầẦẩẨẫẪấẤậẬbBcCdDđĐeEèÈẻẺẽẼéÉẹẸêÊềỀểỂễỄếẾệỆfFgGhHiIìÌỉỈĩĨíÍịỊjJkKlLmMnN"
    "oOòÒỏỎõÕóÓọỌôÔồỒổỔỗỖốỐộỘơƠờỜởỞỡỠớỚợỢpPqQrRsStTuUùÙủỦũŨúÚụỤưƯừỪửỬữỮứỨựỰvVwWxXyYỳỲỷỶỹỸýÝỵỴzZ"
    "0123456789!\"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~"
)


# What word processors set for plain symbols, and means the same.
_TYPOGRAPHIC = {
    "\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{HORIZONTAL ELLIPSIS}": "...",
}  # fmt: skip
# And what the embedded model is trained to read as the symbols of an alphabet that lacks it.
_NEAREST = _TYPOGRAPHIC | {"\N{SUPERSCRIPT TWO}": "2", "\N{SUPERSCRIPT THREE}": "3", "\N{DONG SIGN}": "đ"}


def plain(text: str) -> str:
    """text with plain symbols for curly quotes, dashes and an ellipsis."""
    return "".join(_TYPOGRAPHIC.get(symbol, symbol) for symbol in text)


class Charset:
    """The alphabet of one model.

    ids: symbol i has id i; `eos` = V, `bos` = V + 1, `pad` = V + 2, where V = len(charset). The head has V + 1 rows
    (no BOS, no PAD), the embedding V + 3. A symbol that stands twice is encoded with its later id; both ids decode.
    """

    def __init__(self, symbols: str) -> None:
        if not symbols:
            raise ValueError("a charset needs at least one symbol, got an empty string")
        self.symbols = symbols
        self.eos = len(symbols)
        self.bos = len(symbols) + 1
        self.pad = len(symbols) + 2
        # dict() keeps the last of equal keys: the later id, as the reference's tokenizer does.
        self._id_of = {symbol: index for index, symbol in enumerate(symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charset) and other.symbols == self.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def __repr__(self) -> str:
        return f"Charset({len(self)} symbols)"

    def spelling(self, text: str) -> str:
        """text as it is if the alphabet has every symbol of it, else NFC-normalised, and plain symbols for typographic
        ones that it lacks: quotes, dashes, an ellipsis, raised figures, the đồng's sign.

        Not always: docTR's alphabets of Hebrew and of India's scripts have symbols that NFC takes apart.
        """
        if self._id_of.keys() >= set(text):
            return text
        text = unicodedata.normalize("NFC", text)
        nearest = {symbol: other for symbol, other in _NEAREST.items() if self._id_of.keys() >= set(other)}
        return "".join(symbol if symbol in self._id_of else nearest.get(symbol, symbol) for symbol in text)

    def encode(self, text: str) -> list[int]:
        """text -> one id per symbol of its `spelling`, without BOS and EOS.

        Raises ValueError naming every symbol that the alphabet lacks.
        """
        text = self.spelling(text)
        foreign = sorted({symbol for symbol in text if symbol not in self._id_of})
        if foreign:
            raise ValueError(
                f"{text!r} holds {foreign}, which this model's {len(self)} symbols lack; remove or replace them"
            )
        return [self._id_of[symbol] for symbol in text]

    def decode(self, ids: Iterable[int]) -> str:
        """ids of one word -> text, cut at the first EOS. Raises ValueError for BOS, PAD or a negative id."""
        text = []
        for index in ids:
            if index == self.eos:
                break
            if not 0 <= index < len(self.symbols):
                raise ValueError(f"ids to decode must be 0..{self.eos}, got {index}; cut BOS and PAD off first")
            text.append(self.symbols[index])
        return "".join(text)
