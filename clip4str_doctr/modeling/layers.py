"""Attention and the pre-LN transformer block shared by the decoder and our own small towers."""

import torch
from torch import nn
from torch.nn import functional as F

from clip4str_doctr.modeling.linear import Linear, linear

__all__ = ["Attention", "Block", "plain_attention"]


def plain_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled dot product attention as plain products. (N or 1, heads, L, d / heads) each; hidden: as in `Attention`."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    mixed: torch.Tensor = scores.softmax(dim=-1) @ v
    return mixed


class Attention(nn.Module):
    """Multi-head attention with the parameter names of torch.nn.MultiheadAttention, which the published files use."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: torch.Tensor, source: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """query: (N or 1, Q, d), source: (N, K, d) for keys and values -> (N, Q, d).

        hidden: bool, True = this query may not see that key; broadcastable to (N, heads, Q, K).
        A query to which every key is hidden has no defined answer; callers never make one.
        """
        if query is source:
            width = query.shape[-1]
            joined = linear(query, self.in_proj_weight, self.in_proj_bias)
            return self.mix(joined[..., :width], joined[..., width:], hidden)
        return self.mix(self.project_query(query), self.project_source(source), hidden)

    def project_query(self, query: torch.Tensor) -> torch.Tensor:
        """(N, Q, d) -> (N, Q, d), what `mix` asks with."""
        width = query.shape[-1]
        return linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])

    def project_source(self, source: torch.Tensor) -> torch.Tensor:
        """(N, K, d) -> (N, K, 2 d), keys and values side by side: what a source is to all queries that come."""
        width = source.shape[-1]
        return linear(source, self.in_proj_weight[width:], self.in_proj_bias[width:])

    def mix(self, query: torch.Tensor, source: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """`forward` after the projections. query: (N or 1, Q, d), source: (N, K, 2 d) -> (N, Q, d)."""
        k, v = source.chunk(2, dim=-1)
        q, k, v = self._split(query), self._split(k), self._split(v)
        # Plain products: for the short sequences here they train faster on CPUs than the fused kernel's backward, and
        # for a single query its start costs more than it saves.
        if torch.is_grad_enabled() or query.shape[1] == 1:
            mixed = plain_attention(q, k, v, hidden)
        else:
            q = q.expand(k.shape[0], -1, -1, -1)
            mixed = F.scaled_dot_product_attention(q, k, v, None if hidden is None else ~hidden)
        out: torch.Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(N, L, d) -> (N, heads, L, d / heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Pre-LN transformer block with erf GELU: x + SA(LN(x)), then x + MLP(LN(x)), MLP four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = Linear(width, 4 * width)
        self.linear2 = Linear(4 * width, width)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """x: (N, L, d) -> (N, L, d). hidden: as in `Attention`."""
        y = self.norm1(x)
        x = x + self.self_attn(y, y, hidden)
        out: torch.Tensor = x + self.linear2(F.gelu(self.linear1(self.norm2(x))))
        return out
