"""Captions -> text tokens: Multilingual-CLIP for the published weights, a small symbol transformer for our own."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from clip4str_doctr.caption_cache import CaptionCache
from clip4str_doctr.charset import Charset
from clip4str_doctr.config import CharTextTowerConfig, MClipTextTowerConfig, TextTowerConfig
from clip4str_doctr.modeling.layers import Block
from clip4str_doctr.modeling.linear import Linear, replace_linear_layers
from clip4str_doctr.tokenizer import MClipTokenizer, check_pieces, tokenizer_of
from clip4str_doctr.weight_card import WeightsError
from clip4str_doctr.weight_state import WeightState, active_autocast

__all__ = ["TOKENIZER_KEY", "CharTextTower", "MClipTextTower", "TextTower", "build_text_tower"]

# State dict keys that hold a tokenizer file start with this, within their tower.
TOKENIZER_KEY = "tokenizer_file:"


# Tokens in one call: enough to read the weights once for many captions, and few enough that attention costs nothing.
_PACKED_TOKENS = 512


class TextTower(nn.Module):
    """What both towers share: captions that were encoded before need not be encoded again.

    cache: used in eval mode without gradients only, and emptied when the weights change; see `CaptionCache`. Whoever
    switches adapters or hooks of the tower empties it by hand: `cache.clear()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cache = CaptionCache()

    def encode(self, captions: Sequence[str]) -> list[torch.Tensor]:
        """Distinct captions -> tokens (T, output_dim) of each, without padding; the values are those of `forward`.

        Raises as `forward`.
        """
        if self.training or torch.is_grad_enabled() or self.cache.max_bytes == 0:
            return self._encode(captions)
        state = WeightState(self, self._spelling())
        found = self.cache.find(captions, state)
        missing = [caption for caption in captions if caption not in found]
        if missing:
            fresh = dict(zip(missing, self._encode(missing), strict=True))
            self.cache.keep(fresh, state)
            found |= fresh
        return [found[caption] for caption in captions]

    def _encode(self, captions: Sequence[str]) -> list[torch.Tensor]:
        raise NotImplementedError

    def _spelling(self) -> object:
        """What makes ids of captions: with another one the tokens are others."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "TextTower":
        """As of any module; where the mode changes, weights are about to change or have changed: the cache goes."""
        if mode != self.training:
            self.cache.clear()
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "TextTower":
        if _are_swapped(self):
            # torch refuses to where anything refers to them weakly, as states of weights do.
            self.cache.clear()
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch ships it untyped
            return self
        before = WeightState(self)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch ships it untyped
        # to(), half(), cuda(): casting there and back may end at the same addresses. docTR 1.0 asks for what is there
        # already before every batch, which changes nothing.
        if not WeightState(self).same_as(before):
            self.cache.clear()
        return self


def _are_swapped(module: nn.Module) -> bool:
    """Whether torch changes contents between tensors when it moves or casts them, as it does with quantised ones."""
    plain = (torch.Tensor, nn.Parameter)
    return torch.__future__.get_swap_module_params_on_conversion() or any(
        type(tensor) not in plain for tensor in (*module.parameters(), *module.buffers())
    )


class MClipTextTower(TextTower):
    """XLM-RoBERTa and a linear layer: every token of `<s> caption </s>`, neither pooled nor normalised.

    tokenizer: texts -> {"input_ids": lists}, made of the M-CLIP files, or None until `tokenizer` is set. The model is
    built from the config alone, without any download.
    """

    def __init__(self, config: MClipTextTowerConfig, tokenizer: Any = None) -> None:
        super().__init__()
        # Imported here: transformers takes seconds, and the tiny model does without it.
        from transformers import XLMRobertaConfig, XLMRobertaModel

        self.pad_id = config.pad_id
        self.tokenizer = tokenizer
        xlm_config = XLMRobertaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_width,
            max_position_embeddings=config.max_positions,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            pad_token_id=config.pad_id,
        )
        self.transformer = XLMRobertaModel(xlm_config, add_pooling_layer=False)
        replace_linear_layers(self.transformer)
        self.linear = Linear(config.width, config.output_dim)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Tokenizer files go along as bytes: who has the state dict, from docTR's scripts or hub, can read with it."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, content in getattr(self.tokenizer, "files", {}).items():
            destination[f"{prefix}{TOKENIZER_KEY}{name}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        self.tokenizer = self.take_tokenizer(state_dict, prefix, "the state dict") or self.tokenizer
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def take_tokenizer(self, state_dict: dict[str, Any], prefix: str, where: object) -> MClipTokenizer | None:
        """The tokenizer among a text tower's entries, which are removed; None if there is none. where: for messages.

        Raises WeightsError for files that are no tokenizer's, and for one of more pieces than this tower embeds.
        """
        keys = [key for key in state_dict if key.startswith(prefix + TOKENIZER_KEY)]
        tensors = {key.removeprefix(prefix + TOKENIZER_KEY): state_dict.pop(key) for key in keys}
        if wrong := sorted(name for name, tensor in tensors.items() if tensor.dtype != torch.uint8):
            raise WeightsError(f"{wrong} of {where} must be bytes of tokenizer files (uint8); take the file anew")
        files = {name: tensor.cpu().numpy().tobytes() for name, tensor in tensors.items()}
        if not files:
            return None
        tokenizer = tokenizer_of(files, where)
        check_pieces(tokenizer, self.pieces, where)
        return tokenizer

    @property
    def pieces(self) -> int:
        """How many pieces of a tokenizer are embedded."""
        return int(self.transformer.embeddings.word_embeddings.num_embeddings)

    def tokenize(self, captions: Sequence[str]) -> list[list[int]]:
        """captions -> token ids with <s> and </s>.

        Two quirks of the reference, pinned by the golden data: a caption ends at a literal "[E]" (its own name for
        EOS), and a literal "</s>" or "<pad>" in a word becomes that special token. Raises RuntimeError without a
        tokenizer.
        """
        if self.tokenizer is None:
            raise RuntimeError(
                "this model has no tokenizer to encode captions with; load weights together with the M-CLIP tokenizer "
                "folder: load_model(path, tokenizer='.../M_clip')"
            )
        texts = [caption.split("[E]", 1)[0] for caption in captions]
        ids: list[list[int]] = self.tokenizer(texts)["input_ids"]
        return ids

    def forward(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """captions: N strings -> text tokens (N, T, output_dim) and pad mask (N, T) bool, True = padding."""
        rows = [torch.tensor(ids) for ids in self.tokenize(captions)]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        pad = torch.arange(ids.shape[1]) >= lengths[:, None]
        ids, pad = ids.to(self.linear.weight.device), pad.to(self.linear.weight.device)
        hidden = self.transformer(input_ids=ids, attention_mask=(~pad).long()).last_hidden_state
        return self.linear(hidden), pad

    def _encode(self, captions: Sequence[str]) -> list[torch.Tensor]:
        """Captions in a row, each seeing itself only: nothing is padded, and the weights are read once for all."""
        encoded: list[torch.Tensor] = []
        for rows in _packs(self.tokenize(captions)):
            lengths = [len(row) for row in rows]
            hidden = self.transformer.encoder(self._embed(rows), attention_mask=self._apart(lengths)).last_hidden_state
            encoded += self.linear(hidden)[0].split(lengths)
        return encoded

    def _embed(self, rows: list[list[int]]) -> torch.Tensor:
        """(1, tokens, width). Positions count from pad id + 1 in each caption; the token <pad> itself has the pad id's,
        as in XLM-R, where a sign that reads "<pad>" meets it."""
        counts = [list(accumulate(int(one != self.pad_id) for one in row)) for row in rows]
        ids = [one for row in rows for one in row]
        places = [self.pad_id + count for row in counts for count in row]
        positions = [self.pad_id if one == self.pad_id else place for one, place in zip(ids, places, strict=True)]
        both = torch.tensor([ids, positions], device=self.linear.weight.device)
        embedded: torch.Tensor = self.transformer.embeddings(
            # With types of their own: transformers 4 takes them from a table as long as one caption may be.
            input_ids=both[:1],
            position_ids=both[1:],
            token_type_ids=torch.zeros_like(both[:1]),
        )
        return embedded

    def _apart(self, lengths: list[int]) -> torch.Tensor | None:
        """(1, 1, tokens, tokens), to be added to scores: -inf between different captions. None for a single one."""
        if len(lengths) == 1:
            return None
        owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(self.linear.weight.device)
        mask = torch.zeros(len(owner), len(owner), dtype=self._dtype(), device=owner.device)
        return mask.masked_fill(owner[:, None] != owner, float("-inf"))[None, None]

    def _dtype(self) -> torch.dtype:
        # The fused kernel takes a mask of the queries' type only, which under autocast is not the weights'.
        return active_autocast(self.linear.weight.device) or self.linear.weight.dtype

    def _spelling(self) -> object:
        return self.tokenizer


class CharTextTower(TextTower):
    """A small transformer over BOS, the caption's symbols, EOS; the model's own alphabet is its tokenizer."""

    def __init__(self, config: CharTextTowerConfig, charset: Charset, max_symbols: int) -> None:
        super().__init__()
        self.charset = charset
        self.max_symbols = max_symbols
        self.embedding = nn.Embedding(len(charset) + 3, config.width)
        self.positions = nn.Parameter(torch.empty(1, max_symbols + 3, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.proj = Linear(config.width, config.output_dim)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """captions: N strings, at most max_symbols + 1 symbols -> tokens (N, T, output_dim), pad mask (N, T) bool.

        One symbol more than an answer may have, because a draft without EOS fills the row of EOS too.
        Raises ValueError for a longer caption or a foreign symbol.
        """
        charset = self.charset
        encoded = [charset.encode(caption) for caption in captions]
        for caption, symbols in zip(captions, encoded, strict=True):
            if len(symbols) > self.max_symbols + 1:
                raise ValueError(
                    f"captions hold at most {self.max_symbols + 1} symbols, got {len(symbols)}: {caption!r}"
                )
        rows = [torch.tensor([charset.bos, *symbols, charset.eos]) for symbols in encoded]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=charset.pad)
        return self.encode_ids(ids.to(self.embedding.weight.device))

    def _encode(self, captions: Sequence[str]) -> list[torch.Tensor]:
        # Their lengths, with BOS and EOS, are known here: asking the pad mask would wait for the whole tower.
        lengths = [len(self.charset.spelling(caption)) + 2 for caption in captions]
        tokens, _ = self(captions)
        return [one[:length] for one, length in zip(tokens, lengths, strict=True)]

    def encode_ids(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` after spelling. ids: (N, T) int64, each row BOS, symbols, EOS, then PAD."""
        pad = ids == self.charset.pad
        tokens = self.embedding(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            tokens = block(tokens, pad[:, None, None, :])
        return self.proj(self.norm(tokens)), pad

    def _spelling(self) -> object:
        return self.charset


def _packs(rows: list[list[int]]) -> Iterator[list[list[int]]]:
    """The rows in order, as many together as have `_PACKED_TOKENS` tokens at most, and never none."""
    pack: list[list[int]] = []
    for row in rows:
        if pack and sum(map(len, pack)) + len(row) > _PACKED_TOKENS:
            yield pack
            pack = []
        pack.append(row)
    if pack:
        yield pack


def build_text_tower(config: TextTowerConfig, charset: Charset, max_symbols: int) -> TextTower:
    """The tower a config describes, with random weights."""
    if isinstance(config, MClipTextTowerConfig):
        return MClipTextTower(config)
    return CharTextTower(config, charset, max_symbols)
