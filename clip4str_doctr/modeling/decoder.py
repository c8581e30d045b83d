"""The PARSeq decoder: position queries read a context of symbols and a memory (arXiv:2207.06966, section 3.2)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from clip4str_doctr.config import DecoderConfig
from clip4str_doctr.modeling.layers import Attention
from clip4str_doctr.modeling.linear import Linear, linear

__all__ = ["Decoder", "Head"]


class DecoderLayer(nn.Module):
    """Two-stream layer whose content stream is never updated; names as in the reference's DecoderLayer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.width, config.heads)
        self.cross_attn = Attention(config.width, config.heads)
        self.linear1 = Linear(config.width, config.mlp_width)
        self.linear2 = Linear(config.mlp_width, config.width)
        self.norm_q = nn.LayerNorm(config.width)
        self.norm_c = nn.LayerNorm(config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)

    def forward(
        self,
        queries: torch.Tensor,
        content: torch.Tensor,
        memory: torch.Tensor,
        content_hidden: torch.Tensor | None,
        memory_hidden: torch.Tensor | None,
    ) -> torch.Tensor:
        """queries (1, Q, d), content (N, K, d), memory (N, M, d) -> (N, Q, d). The memory is not normalised."""
        context, memory = self.project_content(content), self.cross_attn.project_source(memory)
        return self.answer(queries, self.ask(queries), context, memory, content_hidden, memory_hidden)

    def ask(self, queries: torch.Tensor) -> torch.Tensor:
        """(1, Q, d) -> (1, Q, d), with what the queries ask the content."""
        return self.self_attn.project_query(self.norm_q(queries))

    def project_content(self, content: torch.Tensor) -> torch.Tensor:
        """(N, K, d) -> keys and values (N, K, 2 d). The content stream is never updated, so they stay as they are."""
        return self.self_attn.project_source(self.norm_c(content))

    def answer(
        self,
        queries: torch.Tensor,
        asked: torch.Tensor,
        content: torch.Tensor,
        memory: torch.Tensor,
        content_hidden: torch.Tensor | None,
        memory_hidden: torch.Tensor | None,
    ) -> torch.Tensor:
        """`forward` after the projections. queries, asked (1, Q, d), content (N, K, 2 d), memory (N, M, 2 d)."""
        x = queries + self.self_attn.mix(asked, content, content_hidden)
        x = x + self.cross_attn.mix(self.cross_attn.project_query(self.norm1(x)), memory, memory_hidden)
        out: torch.Tensor = x + self.linear2(F.gelu(self.linear1(self.norm2(x))))
        return out


class Head(nn.Linear):
    """Linear layer that answers in float32: in bfloat16, logits of like size are equal and argmax is chance."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., d) of any float dtype -> (..., V + 1) float32 (under autocast, what autocast says)."""
        return linear(x.float(), self.weight.float(), self.bias.float())


class Decoder(nn.Module):
    """Symbol embedding, position queries, one two-stream layer, head.

    num_symbols: V; the embedding has V + 3 rows (EOS, BOS, PAD), the head V + 1 (EOS).
    max_symbols: longest answer; there is one more position query, for EOS.
    """

    def __init__(self, config: DecoderConfig, num_symbols: int, max_symbols: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols + 3, config.width)
        self.pos_queries = nn.Parameter(torch.empty(1, max_symbols + 1, config.width))
        self.layer = DecoderLayer(config)
        self.norm = nn.LayerNorm(config.width)
        self.head = Head(config.width, num_symbols + 1)
        nn.init.trunc_normal_(self.pos_queries, std=0.02)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        ids: torch.Tensor,
        memory: torch.Tensor,
        *,
        positions: torch.Tensor | None = None,
        query_mask: torch.Tensor | None = None,
        content_pad: torch.Tensor | None = None,
        memory_pad: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (N, Q, V + 1) of the symbols at `positions`, given a context and a memory.

        ids: (N, K) int64, slot 0 is BOS, slot k the symbol at position k - 1. memory: (N, M, d).
        positions: (Q,) int64, default 0..K-1; repeats are allowed, since queries never see each other.
        query_mask: (Q, K) bool, content_pad: (N, K) bool, memory_pad: (N, M) bool; True = not to be seen.
        """
        queries = self.pos_queries[:, : ids.shape[1]] if positions is None else self.pos_queries[:, positions]
        content_hidden: torch.Tensor | None = None
        if query_mask is not None:
            content_hidden = query_mask[None, None]
        if content_pad is not None:
            padded = content_pad[:, None, None, :]
            content_hidden = padded if content_hidden is None else content_hidden | padded
        memory_hidden = None if memory_pad is None else memory_pad[:, None, None, :]
        x = self.layer(queries, self._content(ids), memory, content_hidden, memory_hidden)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits

    def queries(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All position queries (1, max_symbols + 1, d), and what they ask the content: the same for every picture."""
        return self.pos_queries, self.layer.ask(self.pos_queries)

    def project_memory(self, memory: torch.Tensor) -> torch.Tensor:
        """(N, M, d) -> keys and values (N, M, 2 d) for `answer`."""
        return self.layer.cross_attn.project_source(memory)

    def project_content(self, ids: torch.Tensor, first: int = 0) -> torch.Tensor:
        """ids: (N, K) int64 of the slots from `first` on -> keys and values (N, K, 2 d) for `answer`."""
        return self.layer.project_content(self._content(ids, first))

    def answer(
        self,
        queries: tuple[torch.Tensor, torch.Tensor],
        content: torch.Tensor,
        memory: torch.Tensor,
        content_hidden: torch.Tensor | None = None,
        memory_hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`forward` after the projections: logits (N, Q, V + 1).

        queries: both of `queries()`, or a cut of both, (1, Q, d). content: (N, K, 2 d), memory: (N, M, 2 d).
        content_hidden: (N or 1, 1, Q or 1, K), memory_hidden: (N, 1, 1, M) bool, True = not to be seen.
        """
        logits: torch.Tensor = self.head(
            self.norm(self.layer.answer(*queries, content, memory, content_hidden, memory_hidden))
        )
        return logits

    def _content(self, ids: torch.Tensor, first: int = 0) -> torch.Tensor:
        """(N, K) -> (N, K, d): scaled embeddings; BOS has no position, symbol k - 1 that of its own query."""
        embedded = math.sqrt(self.embedding.embedding_dim) * self.embedding(ids)
        if first > 0:
            placed: torch.Tensor = embedded + self.pos_queries[:, first - 1 : first - 1 + ids.shape[1]]
            return placed
        return torch.cat([embedded[:, :1], embedded[:, 1:] + self.pos_queries[:, : ids.shape[1] - 1]], dim=1)
