"""Permutations and the attention masks they stand for. After PARSeq, arXiv:2207.06966, section 3.2.

A permutation says in which order the characters of a label are read; a character may be predicted from those that come
before it in that order. Orders come in pairs, one the mirror of the other; the first pair is left-to-right and
right-to-left.
"""

from itertools import permutations as all_orders
from math import factorial

import torch
from torch import Tensor

# Up to this length all orders are listed and drawn without replacement; above, a repeated draw is too rare to matter.
_LISTED_LENGTH = 5


def draw_permutations(length: int, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw up to `count` reading orders of `length` characters -> (P, length) int64, each row a permutation.

    Row 0 is left-to-right, row 1 right-to-left, then pairs of a random order and its mirror. Short labels have fewer
    orders: P = min(count, length!). Raises ValueError for a length below 1 or a count that is neither 1 nor even.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if count != 1 and (count < 1 or count % 2):
        raise ValueError(f"permutations come in mirrored pairs: count must be 1 or even, got {count}")
    forward = torch.arange(length)
    if count == 1 or length == 1:
        return forward.unsqueeze(0)
    drawn = [forward, *_random_orders(length, count // 2 - 1, generator)]
    return torch.stack([order for one in drawn for order in (one, one.flip(0))])


def order_count(length: int, count: int) -> int:
    """How many orders `draw_permutations` gives."""
    return 1 if count == 1 else min(count, factorial(length))


def _random_orders(length: int, count: int, generator: torch.Generator | None) -> list[Tensor]:
    """Orders other than left-to-right and its mirror, no two of them (nor their mirrors) equal for short labels."""
    if length > _LISTED_LENGTH:
        return [torch.randperm(length, generator=generator) for _ in range(count)]
    listed = [order for order in all_orders(range(length)) if order < order[::-1]][1:]
    chosen = torch.randperm(len(listed), generator=generator)[:count].tolist()
    return [torch.tensor(listed[index]) for index in chosen]


def query_masks(orders: Tensor) -> Tensor:
    """Masks of all queries for (P, L) reading orders -> (P, L + 1, L + 1) bool, True = the query may not see the slot.

    Query i < L asks for character i, query L for the end of the label. Slot 0 is BOS and always seen, slot j holds
    character j - 1. A character never sees itself. The end is read after all characters, except in the right-to-left
    order (row 1), where it comes first and sees BOS only, as in PARSeq.
    """
    count, length = orders.shape
    rank = torch.argsort(orders, dim=1)
    hidden = torch.zeros(count, length + 1, length + 1, dtype=torch.bool, device=orders.device)
    hidden[:, :length, 1:] = rank[:, None, :] >= rank[:, :, None]
    if count > 1:
        hidden[1, length, 1:] = True
    return hidden


def permuted_targets(targets: Tensor, count: int, eos: int, ignore: int) -> Tensor:
    """Targets (N, Q) of one order -> (N, count * Q) of all of them, in the order of stacked queries.

    As in PARSeq the end of the label counts in the first two orders only; after that it becomes `ignore`.
    """
    rest = targets.masked_fill(targets == eos, ignore)
    return torch.cat([targets if index < 2 else rest for index in range(count)], dim=1)
