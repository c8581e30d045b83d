"""Dual predict-and-refine decoding (arXiv:2305.14014, section 3.3): the plain algorithm, without parameters.

A draft is read from the picture alone, spelled out as a caption, and read again from picture and caption together;
then both branches re-read their own answers. It is written for clearness and stays the oracle for faster paths.

A batch gives what its members give alone, which asks for two things the reference lacks: padding of captions is
hidden, and every row keeps its own draft length S (its `rows`, and `cross_rows` of the cross branch).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import DecodeConfig

__all__ = [
    "Reading",
    "Stage",
    "caption_ids",
    "cloze_mask",
    "dual_predict_and_refine",
    "join_memory",
    "unrolled_predict_and_refine",
]

DecoderFn = Callable[..., torch.Tensor]
TextTowerFn = Callable[[Sequence[str]], tuple[torch.Tensor, torch.Tensor]]
IdsTowerFn = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
# Visual logits and their rows -> captions, text tokens, text pad mask.
CaptionFn = Callable[[torch.Tensor, torch.Tensor], tuple[list[str], torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Stage:
    """What both branches answered at the draft (stage 0) or after a refinement.

    Words that were left at the visual branch's draft have it in every stage, for both branches.

    visual, cross: (N, L, V + 1) logits. rows, cross_rows: (N,) int64, how many leading rows of each word count, of
    either branch; the rest belongs to longer words of the batch. captions: the visual branch's strings, which the cross
    branch was shown (none when unrolled, where they stay ids).
    """

    visual: torch.Tensor
    cross: torch.Tensor
    rows: torch.Tensor
    cross_rows: torch.Tensor
    captions: list[str]


@dataclass(frozen=True)
class Reading:
    """All stages of one batch, draft first.

    certain: (N,) bool, the words that were left at the visual branch's draft; None where no word ever is.
    """

    stages: list[Stage]
    certain: torch.Tensor | None = None

    def answer(self, eos: int) -> torch.Tensor:
        """Final logits (N, L, V + 1) of the cross branch; rows that do not count say EOS with certainty."""
        return close_rows(self.stages[-1].cross, self.stages[-1].cross_rows, eos)

    def visual_answer(self, eos: int) -> torch.Tensor:
        """As `answer`, of the visual branch alone."""
        return close_rows(self.stages[-1].visual, self.stages[-1].rows, eos)


def dual_predict_and_refine(
    image_tokens: torch.Tensor,
    decoders: tuple[DecoderFn, DecoderFn],
    text_tower: TextTowerFn,
    charset: Charset,
    config: DecodeConfig,
    certain_from: float | None = None,
) -> Reading:
    """Read a batch of words. image_tokens: (N, M, d); decoders: visual and cross.

    certain_from: words of whose draft the visual branch is as certain as that (`draft_certainty`) are left at it; None
    for none of them, whatever `config.cross_modal` says.
    The draft has L = its longest word's rows (at most max_symbols + 1), every refinement max_symbols + 1.
    """

    def caption(visual_logits: torch.Tensor, rows: torch.Tensor) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        captions = spell(visual_logits, rows, charset)
        return captions, *text_tower(captions)

    return _predict_and_refine(image_tokens, decoders, caption, charset, config, certain_from, stop=True)


def unrolled_predict_and_refine(
    image_tokens: torch.Tensor,
    decoders: tuple[DecoderFn, DecoderFn],
    encode_ids: IdsTowerFn,
    charset: Charset,
    config: DecodeConfig,
    certain_from: float | None = None,
) -> Reading:
    """`dual_predict_and_refine` as a graph can hold it: no strings, no early stop, shapes that depend on N alone.

    encode_ids: caption ids as `caption_ids` makes them -> text tokens, pad mask. The answers are the same, since rows
    beyond a word's own never count.
    """

    def caption(visual_logits: torch.Tensor, rows: torch.Tensor) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        return [], *encode_ids(caption_ids(visual_logits, rows, charset))

    return _predict_and_refine(image_tokens, decoders, caption, charset, config, certain_from, stop=False)


def _predict_and_refine(
    image_tokens: torch.Tensor,
    decoders: tuple[DecoderFn, DecoderFn],
    caption: CaptionFn,
    charset: Charset,
    config: DecodeConfig,
    certain_from: float | None,
    *,
    stop: bool,
) -> Reading:
    """The algorithm. stop: whether the draft ends as soon as every word has met EOS."""
    visual_decoder, cross_decoder = decoders
    length = config.max_symbols + 1

    def see(visual_logits: torch.Tensor, rows: torch.Tensor) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        """The memory of the cross branch: the picture, and the visual branch's answer as text."""
        captions, tokens, pad = caption(visual_logits, rows)
        return captions, *join_memory(image_tokens, tokens, pad)

    if config.decode_ar:
        visual = draft_greedy(visual_decoder, image_tokens, charset, length, stop=stop)
        rows = rows_to_eos(visual, charset.eos)
    else:
        visual = draft_at_once(visual_decoder, image_tokens, charset, length)
        rows = torch.full_like(visual[:, 0, 0], length, dtype=torch.int64)
    captions, memory, pad = see(visual, rows)
    if config.cross_length == "own":
        cross = draft_greedy(cross_decoder, memory, charset, length, stop=stop, memory_pad=pad)
        if stop:  # otherwise both are as long as can be
            visual, cross = side_by_side(visual, cross, charset.eos)
        stages = [Stage(visual, cross, rows, rows_to_eos(cross, charset.eos), captions)]
    else:
        cross = draft_greedy(cross_decoder, memory, charset, visual.shape[1], stop=False, memory_pad=pad)
        stages = [Stage(visual, cross, rows, rows, captions)]

    for _ in range(config.refine_iters):
        last = stages[-1]
        visual = refine(visual_decoder, image_tokens, last.visual, last.rows, charset, length)
        rows = torch.full_like(last.rows, length)
        captions, memory, pad = see(visual, rows)
        cross = refine(cross_decoder, memory, last.cross, last.cross_rows, charset, length, memory_pad=pad)
        stages.append(Stage(visual, cross, rows, rows, captions))
    if certain_from is None:
        return Reading(stages)
    certain = draft_certainty(stages[0].visual, charset.eos) >= certain_from
    return Reading(settle(stages, certain, charset.eos), certain)


def draft_certainty(visual: torch.Tensor, eos: int) -> torch.Tensor:
    """(N, L, V + 1) logits of the visual draft -> (N,) float32: the probability of each word, its EOS included."""
    best = visual.float().log_softmax(-1).max(-1).values
    beyond = torch.arange(visual.shape[1], device=visual.device) >= rows_to_eos(visual, eos)[:, None]
    return best.masked_fill(beyond, 0).sum(1).exp()


def settle(stages: list[Stage], certain: torch.Tensor, eos: int) -> list[Stage]:
    """The stages with the visual branch's draft in the place of all that came after it, for `certain` words (N,)."""
    # Unrolled, there are no captions, and no graph holds lists.
    sure = certain.tolist() if stages[0].captions else []
    settled = []
    for stage in stages:
        draft = at_draft(stages[0], stage.visual.shape[1], eos)
        both = zip(draft.captions, stage.captions, sure, strict=True)
        captions = [first if left else last for first, last, left in both]
        settled.append(
            Stage(
                torch.where(certain[:, None, None], draft.visual, stage.visual),
                torch.where(certain[:, None, None], draft.cross, stage.cross),
                torch.where(certain, draft.rows, stage.rows),
                torch.where(certain, draft.cross_rows, stage.cross_rows),
                captions,
            )
        )
    return settled


def at_draft(draft: Stage, length: int, eos: int) -> Stage:
    """A stage of `length` rows, not less than the draft has, in which both branches say the visual branch's draft."""
    ends = rows_to_eos(draft.visual, eos)
    said = lengthen(close_rows(draft.visual, ends, eos), length, eos)
    return Stage(said, said, ends, ends, draft.captions)


def side_by_side(visual: torch.Tensor, cross: torch.Tensor, eos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Branches (N, L, V + 1) and (N, L', V + 1) -> the same, the shorter one lengthened."""
    length = max(visual.shape[1], cross.shape[1])
    return lengthen(visual, length, eos), lengthen(cross, length, eos)


def lengthen(logits: torch.Tensor, length: int, eos: int) -> torch.Tensor:
    """(N, L, V + 1) -> (N, length, V + 1), length >= L, by rows that say EOS with certainty."""
    if length == logits.shape[1]:
        return logits
    end = certain_end(logits[0, 0], eos).expand(logits.shape[0], length - logits.shape[1], -1)
    return torch.cat([logits, end], dim=1)


def join_memory(
    image_tokens: torch.Tensor, text_tokens: torch.Tensor, text_pad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross branch's memory (N, M + T, d), image tokens first, and which of it is padding (N, M + T) bool."""
    image_pad = torch.zeros(image_tokens.shape[:2], dtype=torch.bool, device=image_tokens.device)
    memory = torch.cat([image_tokens, text_tokens.to(image_tokens)], dim=1)
    return memory, torch.cat([image_pad, text_pad.to(image_pad.device)], dim=1)


def draft_greedy(
    decoder: DecoderFn,
    memory: torch.Tensor,
    charset: Charset,
    steps: int,
    *,
    stop: bool,
    memory_pad: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symbol by symbol: step i asks query i, having seen BOS and its own first i answers -> (N, <= steps, V + 1).

    stop: end when every word has met EOS.
    """
    ids = torch.full((memory.shape[0], 1), charset.bos, dtype=torch.int64, device=memory.device)
    logits: list[torch.Tensor] = []
    for step in range(steps):
        position = torch.arange(step, step + 1, device=memory.device)
        logits.append(decoder(ids, memory, positions=position, memory_pad=memory_pad))
        ids = torch.cat([ids, logits[-1].argmax(-1)], dim=1)
        if stop and bool((ids == charset.eos).any(dim=1).all()):
            break
    return torch.cat(logits, dim=1)


def draft_at_once(decoder: DecoderFn, memory: torch.Tensor, charset: Charset, length: int) -> torch.Tensor:
    """All queries together, each having seen BOS only -> (N, length, V + 1)."""
    ids = torch.full((memory.shape[0], 1), charset.bos, dtype=torch.int64, device=memory.device)
    return decoder(ids, memory, positions=torch.arange(length, device=memory.device))


def refine(
    decoder: DecoderFn,
    memory: torch.Tensor,
    previous: torch.Tensor,
    rows: torch.Tensor,
    charset: Charset,
    length: int,
    *,
    memory_pad: torch.Tensor | None = None,
) -> torch.Tensor:
    """Re-read every symbol, seeing all others of the branch's previous answer: cloze -> (N, length, V + 1).

    previous: (N, L, V + 1) logits, of which `rows` (N,) count. Hidden from all queries: slots from the first EOS on
    and, for a word whose draft was shorter than the batch's longest, the slots it would not have had alone.
    """
    answers = previous.argmax(-1)[:, :-1]
    bos = torch.full((answers.shape[0], 1), charset.bos, dtype=torch.int64, device=answers.device)
    ids = torch.cat([bos, answers], dim=1)
    slots = torch.arange(ids.shape[1], device=ids.device)
    content_pad = ((ids == charset.eos).long().cumsum(1) > 0) | (slots >= rows[:, None])
    return decoder(
        ids,
        memory,
        positions=torch.arange(length, device=ids.device),
        query_mask=cloze_mask(length, ids.shape[1], ids.device),
        content_pad=content_pad,
        memory_pad=memory_pad,
    )


def cloze_mask(queries: int, slots: int, device: torch.device) -> torch.Tensor:
    """(queries, slots) bool, True where hidden: query i may not see slot i + 1, its own symbol."""
    query = torch.arange(queries, device=device)[:, None]
    slot = torch.arange(slots, device=device)[None]
    return slot == query + 1


def rows_to_eos(logits: torch.Tensor, eos: int) -> torch.Tensor:
    """(N, L, V + 1) -> (N,) int64: rows up to and including the first EOS, or L."""
    ended = (logits.argmax(-1) == eos).long().cumsum(1) > 0
    return ((~ended).sum(1) + 1).clamp(max=logits.shape[1])


def spell(logits: torch.Tensor, rows: torch.Tensor, charset: Charset) -> list[str]:
    """(N, L, V + 1) logits, of which `rows` (N,) count -> N strings, cut at EOS."""
    ids: list[list[int]] = logits.argmax(-1).tolist()
    return [charset.decode(word[:count]) for word, count in zip(ids, rows.tolist(), strict=True)]


def caption_ids(logits: torch.Tensor, rows: torch.Tensor, charset: Charset) -> torch.Tensor:
    """What `spell` says, as ids: (N, L, V + 1) -> (N, L + 2) int64: BOS, the symbols, EOS, PAD to the end."""
    ids = logits.argmax(-1)
    slots = torch.arange(ids.shape[1], device=ids.device)
    ended = ((ids == charset.eos).long().cumsum(1) > 0) | (slots >= rows[:, None])
    bos = torch.full((ids.shape[0], 1), charset.bos, dtype=torch.int64, device=ids.device)
    padded = torch.cat([bos, ids.masked_fill(ended, charset.pad), torch.full_like(bos, charset.pad)], dim=1)
    place = torch.arange(padded.shape[1], device=ids.device)
    return torch.where(place == (~ended).sum(1, keepdim=True) + 1, charset.eos, padded)


def close_rows(logits: torch.Tensor, rows: torch.Tensor, eos: int) -> torch.Tensor:
    """Logits in which every row from `rows` on says EOS with certainty, so that batch mates never add symbols."""
    beyond = torch.arange(logits.shape[1], device=logits.device) >= rows[:, None]
    return torch.where(beyond[..., None], certain_end(logits[0, 0], eos), logits)


def certain_end(like: torch.Tensor, eos: int) -> torch.Tensor:
    """(V + 1,): a row that says EOS with certainty, of the type of the logits (V + 1,) given."""
    # Finite in float16 too, and far enough below 0 for a softmax of exactly 1 at EOS.
    row = torch.full_like(like, -1e4)
    row[eos] = 0
    return row
