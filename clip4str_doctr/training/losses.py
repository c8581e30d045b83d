"""Training losses: permutation language modelling over both branches, and an auxiliary CTC head.

After PARSeq (arXiv:2207.06966) and CLIP4STR (arXiv:2305.14014): every branch is trained on several reading orders of
the label, and the cross branch reads the captions that the visual branch would have given it, without a gradient.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import ModelConfig
from clip4str_doctr.decoding import join_memory
from clip4str_doctr.eager import eager
from clip4str_doctr.fast_decoding import Branch, Memory
from clip4str_doctr.training.permutations import draw_permutations, order_count, permuted_targets, query_masks
from clip4str_doctr.training.recipe import LossRecipe, RecipeError

if TYPE_CHECKING:
    from clip4str_doctr.modeling.clip4str import CLIP4STR

IGNORE = -100
_USUAL_LENGTH = 6.0  # symbols of a word, and its end


@dataclass(frozen=True)
class BranchLosses:
    """Losses of one batch and what the visual branch made of it."""

    visual: Tensor  # () float32
    cross: Tensor  # () float32
    image_tokens: Tensor  # (N, M, d), with gradient
    characters: Tensor  # () float32, share of characters (and ends) the visual branch got right, teacher-forced
    words: Tensor  # () float32, share of words with all of these right


class CTCHead(nn.Module):
    """Reads the columns of the token grid as a sequence; used in training only, to get the image tower started.

    The tokens of a column (`rows` of them, row-major grid) are joined and mapped to `steps` time steps of
    `num_symbols` + 1 logits, the last one the blank.
    """

    @staticmethod
    def check_grid(tower: nn.Module, rows: int) -> None:
        """Raises RecipeError for an image tower whose tokens form no grid of that many rows."""
        grid = getattr(tower, "grid", None)
        if grid is None or grid[0] != rows:
            found = "form none" if grid is None else f"form one of {grid[0]} x {grid[1]}"
            raise RecipeError(
                f"the CTC head reads a grid of loss.ctc_rows = {rows} rows, and this image tower's tokens {found}; set "
                "loss.ctc_rows to its rows, or loss.ctc_weight and loss.ctc_weight_end to 0"
            )

    def __init__(self, width: int, num_symbols: int, *, rows: int, steps: int) -> None:
        super().__init__()
        self.rows, self.steps, self.blank = rows, steps, num_symbols
        self.proj = nn.Linear(rows * width, steps * (num_symbols + 1))

    def forward(self, image_tokens: Tensor) -> Tensor:
        """(N, rows * columns, width) -> (N, columns * steps, num_symbols + 1) logits."""
        count, tokens, width = image_tokens.shape
        if tokens % self.rows:
            raise ValueError(
                f"{tokens} image tokens do not form {self.rows} rows; set loss.ctc_rows to the grid's rows"
            )
        columns = tokens // self.rows
        grid = image_tokens.view(count, self.rows, columns, width).transpose(1, 2).reshape(count, columns, -1)
        logits: Tensor = self.proj(grid)
        return logits.view(count, columns * self.steps, self.blank + 1)

    def loss(self, image_tokens: Tensor, encoded: Sequence[Sequence[int]]) -> Tensor:
        """Mean CTC loss per symbol, in float32; labels longer than the time steps count as zero."""
        logits = self(image_tokens)
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)
        device = logits.device
        lengths = torch.tensor([len(ids) for ids in encoded], device=device)
        joined = torch.tensor([one for ids in encoded for one in ids], device=device)
        steps = torch.full_like(lengths, log_probs.shape[0])
        return F.ctc_loss(log_probs, joined, steps, lengths, blank=self.blank, zero_infinity=True)


def context_and_targets(encoded: Sequence[Sequence[int]], charset: Charset) -> tuple[Tensor, Tensor]:
    """Encoded labels -> context (N, L + 1) = [BOS, characters, PAD...], targets (N, L + 1) = [characters, EOS, IGNORE].

    L is the longest label of the batch.
    """
    longest = max(len(ids) for ids in encoded)
    context = torch.full((len(encoded), longest + 1), charset.pad)
    targets = torch.full((len(encoded), longest + 1), IGNORE)
    for row, ids in enumerate(encoded):
        context[row, : len(ids) + 1] = torch.tensor([charset.bos, *ids])
        targets[row, : len(ids) + 1] = torch.tensor([*ids, charset.eos])
    return context, targets


def plm_loss(
    model: "CLIP4STR",
    pixels: Tensor,
    encoded: Sequence[Sequence[int]],
    recipe: LossRecipe,
    generator: torch.Generator | None = None,
) -> BranchLosses:
    """Permutation language modelling over both branches.

    pixels (N, 3, H, W), normalised, of the model's dtype; encoded: N labels as ids, each of 1 symbol or more.
    `generator` (on the CPU) draws the reading orders and the corrupted captions; None: torch's own.
    """
    return _of_branches(model, model.image_tower(pixels), encoded, recipe, generator)


# What is drawn, and read as strings, is nothing for torch.compile; the image tower, most of a step, is.
@eager
def _of_branches(
    model: "CLIP4STR",
    image_tokens: Tensor,
    encoded: Sequence[Sequence[int]],
    recipe: LossRecipe,
    generator: torch.Generator | None,
) -> BranchLosses:
    charset, device = model.charset, image_tokens.device
    context, targets = (one.to(device) for one in context_and_targets(encoded, charset))
    orders = draw_permutations(targets.shape[1] - 1, recipe.permutations, generator)
    queries = {
        "positions": torch.arange(targets.shape[1], device=device).repeat(len(orders)),
        "query_mask": query_masks(orders).flatten(0, 1).to(device),
        "content_pad": context == charset.pad,
    }
    stacked = permuted_targets(targets, len(orders), charset.eos, IGNORE)

    visual_logits = model.visual_decoder(context, image_tokens, **queries)
    forced = visual_logits[:, : targets.shape[1]].detach().argmax(-1)
    draft = forced if recipe.captions == "forced" else read_visually(model, image_tokens)
    captions = [charset.decode(ids) for ids in draft.tolist()]
    if recipe.caption_corruption:
        random = Random(int(torch.randint(2**62, (), generator=generator)))
        captions = corrupt_captions(captions, charset.symbols, recipe.caption_corruption, random)
    memory, memory_pad = join_memory(image_tokens, *model.text_tower(captions))
    if recipe.hidden_images:
        count, tokens, _ = image_tokens.shape
        hidden = hidden_image_tokens(count, tokens, recipe.hidden_images, generator).to(device)
        memory_pad = torch.cat([hidden, memory_pad[:, tokens:]], dim=1)
    cross_logits = model.cross_decoder(context, memory, memory_pad=memory_pad, **queries)

    right = (forced == targets) | (targets == IGNORE)
    return BranchLosses(
        visual=_cross_entropy(visual_logits, stacked, recipe.label_smoothing),
        cross=_cross_entropy(cross_logits, stacked, recipe.label_smoothing),
        image_tokens=image_tokens,
        characters=right[targets != IGNORE].float().mean(),
        words=right.all(1).float().mean(),
    )


@torch.no_grad()
def read_visually(model: "CLIP4STR", image_tokens: Tensor) -> Tensor:
    """image_tokens (N, M, d) -> ids (N, max_length + 1) of the visual branch's draft, as `CLIP4STR.read` has it."""
    branch = Branch(model.visual_decoder, model.charset, model.max_length + 1)
    memory = Memory(model.visual_decoder.project_memory(image_tokens))
    return branch.draft_to_eos(memory).argmax(-1)


def hidden_image_tokens(count: int, tokens: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """-> (count, tokens) bool: in a random `share` of the rows each token is hidden with a chance of one half.

    What the picture does not show the cross branch must learn from the caption.
    """
    chances = torch.rand(count, tokens, generator=generator)
    return (chances < 0.5) & (torch.rand(count, 1, generator=generator) < share)


def training_loss(model: "CLIP4STR", pixels: Tensor, labels: Sequence[str]) -> Tensor:
    """What docTR's `model(x, target)["loss"]` is in training mode: both branches with the default recipe -> ()."""
    return _sum_of_branches(model, pixels, labels, LossRecipe())


def validation_loss(model: "CLIP4STR", pixels: Tensor, labels: Sequence[str]) -> Tensor:
    """What docTR's `model(x, target)["loss"]` is otherwise: both branches, left to right only, teacher-forced -> ()."""
    return _sum_of_branches(model, pixels, labels, LossRecipe(permutations=1, caption_corruption=0.0))


def _sum_of_branches(model: "CLIP4STR", pixels: Tensor, labels: Sequence[str], recipe: LossRecipe) -> Tensor:
    losses = plm_loss(model, pixels, encode_labels(model.config, labels), recipe)
    return recipe.visual_weight * losses.visual + recipe.cross_weight * losses.cross


def encode_labels(config: ModelConfig, labels: Sequence[str]) -> list[list[int]]:
    """Labels as ids. Raises ValueError for one that is empty, too long, or has a foreign symbol."""
    charset, longest = Charset(config.symbols), config.decode.max_symbols
    encoded = [charset.encode(label) for label in labels]
    for label, ids in zip(labels, encoded, strict=True):
        if not 1 <= len(ids) <= longest:
            raise ValueError(f"labels must have 1..{longest} symbols, got {len(ids)}: {label!r}")
    return encoded


def counted_targets(encoded: Sequence[Sequence[int]], permutations: int) -> int:
    """How many targets the means of `plm_loss` are taken over: every character in every order, ends in two of them."""
    orders = order_count(max(len(ids) for ids in encoded), permutations)
    return sum(orders * len(ids) + min(orders, 2) for ids in encoded)


def batch_weight(encoded: Sequence[Sequence[int]], power: float) -> float:
    """Of a batch's mean loss per symbol, 1 for one whose words have six symbols with their end.

    Batches hold words of one length, so that with power 0 a symbol of a word of 20 weighs a tenth of one of a word of
    two; with 1 all symbols weigh alike, and a batch's loss is that of its words.
    """
    per_word = sum(len(ids) + 1 for ids in encoded) / len(encoded)
    return float((per_word / _USUAL_LENGTH) ** power)


def _cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """(N, Q, C) logits and (N, Q) targets -> mean over all that count, in float32."""
    counted = targets != IGNORE  # dropped before the softmax: half of the rows are padding or ends
    return F.cross_entropy(logits[counted].float(), targets[counted], label_smoothing=label_smoothing)


def corrupt_captions(captions: Sequence[str], symbols: str, share: float, random: Random) -> list[str]:
    """Replace characters of a random `share` of the captions by others of the same base letter.

    Late in training the visual branch is nearly always right on what it is trained on; this keeps showing the cross
    branch captions with the mistakes that it is there to correct: marks and case.
    """
    return [_corrupt(one, symbols, random) if random.random() < share else one for one in captions]


def _corrupt(caption: str, symbols: str, random: Random) -> str:
    alike = look_alikes(symbols)
    open_places = [place for place, symbol in enumerate(caption) if symbol in alike]
    changed = list(caption)
    for place in random.sample(open_places, min(len(open_places), random.choice((1, 1, 2)))):
        changed[place] = random.choice(alike[caption[place]])
    return "".join(changed)


@lru_cache(maxsize=4)
def look_alikes(symbols: str) -> dict[str, tuple[str, ...]]:
    """For each symbol that has any: the other symbols of the same base letter, whatever their case and marks."""
    groups: dict[str, list[str]] = {}
    for symbol in dict.fromkeys(symbols):
        base = unicodedata.normalize("NFD", symbol.lower().replace("đ", "d"))[0]
        groups.setdefault(base, []).append(symbol)
    return {
        symbol: tuple(other for other in group if other != symbol)
        for group in groups.values()
        for symbol in group
        if len(group) > 1
    }
