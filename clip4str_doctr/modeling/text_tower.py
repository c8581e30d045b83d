"""Captions -> text tokens: Multilingual-CLIP for the published weights, a small symbol transformer for our own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import CharTextTowerConfig, MClipTextTowerConfig, TextTowerConfig
from clip4str_doctr.modeling.layers import Block
from clip4str_doctr.tokenizer import MClipTokenizer

__all__ = ["TOKENIZER_KEY", "CharTextTower", "MClipTextTower", "build_text_tower"]

# State dict keys that hold a tokenizer file start with this, within their tower.
TOKENIZER_KEY = "tokenizer_file:"


class MClipTextTower(nn.Module):
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
        self.linear = nn.Linear(config.width, config.output_dim)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Tokenizer files go along as bytes: who has the state dict, from docTR's scripts or hub, can read with it."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, content in getattr(self.tokenizer, "files", {}).items():
            destination[f"{prefix}{TOKENIZER_KEY}{name}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        keys = [key for key in state_dict if key.startswith(prefix + TOKENIZER_KEY)]
        files = {key.removeprefix(prefix + TOKENIZER_KEY): state_dict.pop(key).cpu().numpy().tobytes() for key in keys}
        if files:
            self.tokenizer = MClipTokenizer(files)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

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


class CharTextTower(nn.Module):
    """A small transformer over BOS, the caption's symbols, EOS; the model's own alphabet is its tokenizer."""

    def __init__(self, config: CharTextTowerConfig, charset: Charset, max_symbols: int) -> None:
        super().__init__()
        self.charset = charset
        self.max_symbols = max_symbols
        self.embedding = nn.Embedding(len(charset) + 3, config.width)
        self.positions = nn.Parameter(torch.empty(1, max_symbols + 3, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.proj = nn.Linear(config.width, config.output_dim)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """captions: N strings, at most max_symbols + 1 symbols -> tokens (N, T, output_dim), pad mask (N, T) bool.

        One symbol more than an answer may have, because a draft without EOS fills the row of EOS too.
        Raises ValueError for a longer caption or a foreign symbol.
        """
        if longest := next((caption for caption in captions if len(caption) > self.max_symbols + 1), None):
            raise ValueError(f"captions hold at most {self.max_symbols + 1} symbols, got {len(longest)}: {longest!r}")
        charset = self.charset
        rows = [torch.tensor([charset.bos, *charset.encode(caption), charset.eos]) for caption in captions]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=charset.pad)
        return self.encode_ids(ids.to(self.embedding.weight.device))

    def encode_ids(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` after spelling. ids: (N, T) int64, each row BOS, symbols, EOS, then PAD."""
        pad = ids == self.charset.pad
        tokens = self.embedding(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            tokens = block(tokens, pad[:, None, None, :])
        return self.proj(self.norm(tokens)), pad


def build_text_tower(config: TextTowerConfig, charset: Charset, max_symbols: int) -> nn.Module:
    """The tower a config describes, with random weights."""
    if isinstance(config, MClipTextTowerConfig):
        return MClipTextTower(config)
    return CharTextTower(config, charset, max_symbols)
