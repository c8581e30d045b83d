"""The algorithm of `decoding`, with everything done once that need not be done twice; the answers are the same.

- Keys and values of the memory are projected once per branch, those of the content stream once per symbol: in a decoder
  of one layer neither ever changes.
- A word that has met EOS leaves the visual draft.
- The cross branch mostly says what the visual branch said, so its draft is checked in one go instead of being spelled;
  only what it says beyond that, where it may, is spelled.
- Words of which the visual branch is certain are left at its draft, where that is asked for.
- Of a refinement, rows behind the end of every word are left out, where nobody looks at them.
- Every distinct caption is encoded once; a refined draft that equals the draft needs no second look at it.

The device is waited for where a draft asks whether all is said, where captions are spelled, and where ids go to it.
Nothing is changed in place that a gradient would need.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import torch

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import DecodeConfig
from clip4str_doctr.decoding import (
    Reading,
    Stage,
    at_draft,
    certain_end,
    cloze_mask,
    draft_certainty,
    lengthen,
    rows_to_eos,
    side_by_side,
)

__all__ = ["Branch", "EncodeFn", "Memory", "ProjectingDecoder", "fast_predict_and_refine", "fast_visual_branch"]

# Distinct captions -> tokens (T, d) of each.
EncodeFn = Callable[[Sequence[str]], list[torch.Tensor]]
Queries = tuple[torch.Tensor, torch.Tensor]

# Asking whether words have ended stops a GPU until it has caught up; a few steps too many cost it less.
_STEPS_BETWEEN_QUESTIONS = {"cpu": 1}
_STEPS_BETWEEN_QUESTIONS_ELSEWHERE = 4


class ProjectingDecoder(Protocol):
    """What is asked of a decoder here: `modeling.decoder.Decoder`, in parts."""

    def queries(self) -> Queries: ...

    def project_memory(self, memory: torch.Tensor) -> torch.Tensor: ...

    def project_content(self, ids: torch.Tensor, first: int = 0) -> torch.Tensor: ...

    def answer(
        self,
        queries: Queries,
        content: torch.Tensor,
        memory: torch.Tensor,
        content_hidden: torch.Tensor | None = None,
        memory_hidden: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


def fast_predict_and_refine(
    image_tokens: torch.Tensor,
    decoders: tuple[ProjectingDecoder, ProjectingDecoder],
    encode: EncodeFn,
    charset: Charset,
    config: DecodeConfig,
    certain_from: float | None = None,
    all_rows: bool = True,
) -> Reading:
    """As `dual_predict_and_refine`. encode: see `EncodeFn`. all_rows: False lets refinements end where all words do."""
    length, eos = config.max_symbols + 1, charset.eos
    branches = Branch(decoders[0], charset, length), Branch(decoders[1], charset, length)
    visual_branch, memory = branches[0], Memory(decoders[0].project_memory(image_tokens))
    visual, rows, captions = _visual_draft(visual_branch, memory, charset, config)
    ends = torch.tensor(rows).to(image_tokens.device)
    draft = Stage(visual, visual, ends, ends, captions)
    if certain_from is None:
        return Reading(_read_on(draft, image_tokens, memory, branches, encode, config, all_rows))

    certain = draft_certainty(visual, eos) >= certain_from
    open_words = [number for number, sure in enumerate(certain.tolist()) if not sure]
    if len(open_words) == len(rows):
        return Reading(_read_on(draft, image_tokens, memory, branches, encode, config, all_rows), certain)
    stages = [at_draft(draft, size, eos) for size in (visual.shape[1], *[length] * config.refine_iters)]
    if open_words:
        index = torch.tensor(open_words).to(image_tokens.device)
        longest = max(rows[number] for number in open_words)
        part = _words_of(draft, open_words, index, longest)
        read = _read_on(part, image_tokens[index], memory[index], branches, encode, config, all_rows)
        stages = [_put(stage, words, open_words, index, eos) for stage, words in zip(stages, read, strict=True)]
    return Reading(stages, certain)


def _read_on(
    draft: Stage,
    image_tokens: torch.Tensor,
    memory: "Memory",
    branches: tuple["Branch", "Branch"],
    encode: EncodeFn,
    config: DecodeConfig,
    all_rows: bool,
) -> list[Stage]:
    """All stages, given what the visual branch drafted. memory: what that branch looks at."""
    visual_branch, cross_branch = branches
    seen = _SeenCaptions(cross_branch.decoder, image_tokens, encode)
    cross_memory = seen.memory(draft.captions)
    stages = [_cross_draft(draft, cross_memory, cross_branch, config)]
    for _ in range(config.refine_iters):
        last = stages[-1]
        visual = visual_branch.refine(memory, last.visual, last.rows, None if all_rows else last.captions)
        captions = visual_branch.spell(visual)
        if captions != last.captions:
            cross_memory = seen.memory(captions)
        cross = cross_branch.refine(cross_memory, last.cross, last.cross_rows, None if all_rows else captions)
        rows = torch.full_like(draft.rows, max(visual.shape[1], cross.shape[1]))
        stages.append(Stage(*side_by_side(visual, cross, visual_branch.eos), rows, rows, captions))
    return stages


def _cross_draft(draft: Stage, memory: "Memory", branch: "Branch", config: DecodeConfig) -> Stage:
    """The visual branch's draft -> both branches' drafts."""
    guess = draft.visual.argmax(-1)
    if config.cross_length == "visual":
        return replace(draft, cross=branch.draft(memory, guess, draft.rows))
    cross = branch.draft_on(memory, branch.draft(memory, guess))
    rows = rows_to_eos(cross, branch.eos)
    return Stage(*side_by_side(draft.visual, cross, branch.eos), draft.rows, rows, draft.captions)


def _words_of(stage: Stage, numbers: list[int], index: torch.Tensor, length: int) -> Stage:
    """Some words of a stage, by their numbers, here and on the device, and the first `length` of its rows."""
    captions = [stage.captions[number] for number in numbers]
    visual, cross = stage.visual[index, :length], stage.cross[index, :length]
    return Stage(visual, cross, stage.rows[index], stage.cross_rows[index], captions)


def _put(stage: Stage, words: Stage, numbers: list[int], index: torch.Tensor, eos: int) -> Stage:
    """The stage with other words in the place of those of these numbers; they may have fewer rows, or more."""
    length = max(stage.visual.shape[1], words.visual.shape[1])
    captions = list(stage.captions)
    for number, caption in zip(numbers, words.captions, strict=True):
        captions[number] = caption
    return Stage(
        _put_rows(lengthen(stage.visual, length, eos), words.visual, index),
        _put_rows(lengthen(stage.cross, length, eos), words.cross, index),
        stage.rows.index_copy(0, index, words.rows),
        stage.cross_rows.index_copy(0, index, words.cross_rows),
        captions,
    )


def _put_rows(logits: torch.Tensor, words: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(N, L, V + 1) with words (n, <= L, V + 1) at `index` (n,); their missing rows are of no account."""
    return logits.index_copy(0, index, torch.cat([words, logits[index, words.shape[1] :]], dim=1))


def fast_visual_branch(
    image_tokens: torch.Tensor, decoder: ProjectingDecoder, charset: Charset, config: DecodeConfig
) -> list[str]:
    """What the visual branch says alone, the captions of `fast_predict_and_refine`'s last stage, without the rest."""
    length = config.max_symbols + 1
    branch = Branch(decoder, charset, length)
    memory = Memory(branch.decoder.project_memory(image_tokens))
    visual, rows, captions = _visual_draft(branch, memory, charset, config)
    row_counts = torch.tensor(rows).to(image_tokens.device)
    for _ in range(config.refine_iters):
        visual = branch.refine(memory, visual, row_counts, captions)
        row_counts = torch.full_like(row_counts, visual.shape[1])
        captions = branch.spell(visual)
    return captions


def _visual_draft(
    branch: "Branch", memory: "Memory", charset: Charset, config: DecodeConfig
) -> tuple[torch.Tensor, list[int], list[str]]:
    """The draft's logits, as long as its longest word, how many rows of each word count, and its strings."""
    length = config.max_symbols + 1
    visual = branch.draft_to_eos(memory) if config.decode_ar else branch.draft_at_once(memory)
    ids = visual.argmax(-1).tolist()
    rows = [min(_symbols(word, charset.eos) + 1, length) if config.decode_ar else length for word in ids]
    return visual[:, : max(rows)], rows, [charset.decode(word) for word in ids]


@dataclass(frozen=True)
class Memory:
    """Keys and values (N, M, 2 d) of what one branch looks at, and which of it is padding (N, 1, 1, M), if any."""

    projected: torch.Tensor
    hidden: torch.Tensor | None = None

    def __getitem__(self, rows: slice | torch.Tensor) -> "Memory":
        return Memory(self.projected[rows], None if self.hidden is None else self.hidden[rows])


class _SeenCaptions:
    """The cross branch's memories of one batch: pictures once, each distinct caption once."""

    def __init__(self, decoder: ProjectingDecoder, image_tokens: torch.Tensor, encode: EncodeFn) -> None:
        self._project = decoder.project_memory
        self._images = decoder.project_memory(image_tokens)
        self._like = image_tokens
        self._encode = encode
        self._tokens: dict[str, torch.Tensor] = {}

    def memory(self, captions: Sequence[str]) -> Memory:
        """captions: N strings -> the N pictures, each followed by its caption."""
        distinct = list(dict.fromkeys(captions))
        new = [caption for caption in distinct if caption not in self._tokens]
        if new:
            self._tokens.update(zip(new, self._encode(new), strict=True))
        tokens = [self._tokens[caption] for caption in distinct]
        projected = self._project(torch.cat(tokens).to(self._like))
        # Where each caption's tokens stand in a row of all; a shorter caption is filled up with the first of them.
        lengths = [len(one) for one in tokens]
        starts = dict(zip(distinct, _starts(lengths), strict=True))
        own = [(starts[caption], len(self._tokens[caption])) for caption in captions]
        longest = max(lengths)
        places = [[start + place if place < count else 0 for place in range(longest)] for start, count in own]
        texts = projected[torch.tensor(places).to(projected.device)]
        hidden = None
        if min(lengths) < longest:
            ends = torch.tensor([count for _, count in own]) + self._images.shape[1]
            pad = torch.arange(self._images.shape[1] + longest) >= ends[:, None]
            hidden = pad[:, None, None].to(projected.device)
        return Memory(torch.cat([self._images, texts], dim=1), hidden)


class Branch:
    """One decoder's drafts and refinements, over memories that are projected already."""

    def __init__(self, decoder: ProjectingDecoder, charset: Charset, length: int) -> None:
        self.decoder = decoder
        self._queries = decoder.queries()
        self._charset = charset
        self._length = length
        self.eos = charset.eos

    def draft_to_eos(self, memory: Memory) -> torch.Tensor:
        """Symbol by symbol until every word has met EOS -> (N, length, V + 1)."""
        return self._spell_out(memory, self._begin(memory), 0)

    def draft_on(self, memory: Memory, draft: torch.Tensor) -> torch.Tensor:
        """A draft (N, L, V + 1) -> (N, L' >= L, V + 1), with the words that have no EOS there spelled on to theirs."""
        ids, first = draft.argmax(-1), draft.shape[1]
        left = (~(ids == self.eos).any(dim=1)).nonzero()[:, 0]
        if len(left) == 0 or first == self._length:
            return draft
        begun = torch.cat([self._bos(len(left), ids.device), ids[left]], dim=1)
        added = self._spell_out(memory[left], self.decoder.project_content(begun), first)[:, first:]
        added = added[:, : int(rows_to_eos(added, self.eos).max())]
        end = lengthen(draft, first + added.shape[1], self.eos)[:, first:]
        return torch.cat([draft, end.index_copy(0, left, added)], dim=1)

    def _spell_out(self, memory: Memory, content: torch.Tensor, first: int) -> torch.Tensor:
        """Step by step from step `first` on, content (N, first + 1, 2 d) being there, to EOS -> (N, length, V + 1).

        Rows before `first` say EOS.
        """
        count, device = memory.projected.shape[0], memory.projected.device
        patience = _steps_between_questions(device)
        out: torch.Tensor | None = None
        ended = torch.zeros(count, dtype=torch.bool, device=device)
        words: torch.Tensor | None = None
        for step in range(first, self._length):
            logits = self._ask(slice(step, step + 1), content, memory)
            out = self._closed(count, logits[0, 0]) if out is None else out
            out[slice(None) if words is None else words, step] = logits[:, 0]
            ids = logits.argmax(-1)
            if step + 1 == self._length:
                break
            ended = ended | (ids[:, 0] == self._charset.eos)
            if (step + 1 - first) % patience == 0:
                left = (~ended).nonzero()[:, 0]
                if len(left) == 0:
                    break
                # Leaving costs a copy of the memory: worth it once a quarter has ended.
                if len(left) <= 0.75 * len(ended):
                    words = left if words is None else words[left]
                    memory, content, ids, ended = memory[left], content[left], ids[left], ended[left]
            content = torch.cat([content, self.decoder.project_content(ids, step + 1)], dim=1)
        assert out is not None
        return out

    def draft_at_once(self, memory: Memory) -> torch.Tensor:
        """All queries together, each having seen BOS only -> (N, length, V + 1)."""
        return self._ask(slice(self._length), self._begin(memory), memory)

    def draft(self, memory: Memory, guess: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """What L greedy steps give, found without taking them one by one -> (N, L, V + 1).

        guess: (N, L) ids. rows: (N,) how many steps of each word matter; None: those up to its EOS. All steps are taken
        at once with the guess as context, and again with their own answers, until they repeat themselves: then every
        step has seen the answers before it. The first k + 1 answers are right after k rounds whatever the guess, and
        one round is enough if it was right.
        """
        count, length = guess.shape
        step = torch.arange(length, device=guess.device)
        later = (step > step[:, None])[None, None]
        out: torch.Tensor | None = None
        words = torch.arange(count, device=guess.device)
        for _ in range(length):
            ids = torch.cat([self._bos(len(guess), guess.device), guess[:, :-1]], dim=1)
            logits = self._ask(slice(length), self.decoder.project_content(ids), memory, later)
            out = logits if out is None else out.index_copy(0, words, logits)
            answers = logits.argmax(-1)
            # The last answer of a word is no context of its own.
            ends = rows_to_eos(logits, self.eos) if rows is None else rows
            open_steps = (answers != guess) & (step < ends[:, None] - 1)
            left = open_steps.any(dim=1).nonzero()[:, 0]
            if len(left) == 0:
                break
            words, memory, guess = words[left], memory[left], answers[left]
            rows = None if rows is None else rows[left]
        assert out is not None
        return out

    def refine(
        self, memory: Memory, previous: torch.Tensor, rows: torch.Tensor, expected: Sequence[str] | None = None
    ) -> torch.Tensor:
        """As `decoding.refine` -> (N, length, V + 1).

        expected: what the words will be, more or less: only so many rows are computed as have been when every word has
        met EOS; None: all are.
        """
        answers = previous[:, :-1].argmax(-1)
        ids = torch.cat([self._bos(answers.shape[0], answers.device), answers], dim=1)
        slot = torch.arange(ids.shape[1], device=ids.device)
        unseen = ((ids == self._charset.eos).cumsum(1) > 0) | (slot >= rows[:, None])
        hidden = cloze_mask(self._length, ids.shape[1], ids.device) | unseen[:, None, None]
        content = self.decoder.project_content(ids)
        # Where asking whether words have ended is dear, it costs more than the rows.
        if expected is None or _steps_between_questions(ids.device) > 1:
            return self._ask(slice(self._length), content, memory, hidden)
        first = min(max(map(len, expected)) + 1, self._length)
        logits = self._ask(slice(first), content, memory, hidden[:, :, :first])
        if first == self._length or bool((logits.argmax(-1) == self.eos).any(dim=1).all()):
            return logits
        return torch.cat([logits, self._ask(slice(first, None), content, memory, hidden[:, :, first:])], dim=1)

    def spell(self, logits: torch.Tensor) -> list[str]:
        """(N, L, V + 1) -> N strings, each cut at its first EOS."""
        return [self._charset.decode(word) for word in logits.argmax(-1).tolist()]

    def _ask(
        self, steps: slice, content: torch.Tensor, memory: Memory, hidden: torch.Tensor | None = None
    ) -> torch.Tensor:
        queries, asked = self._queries
        return self.decoder.answer(
            (queries[:, steps], asked[:, steps]), content, memory.projected, hidden, memory.hidden
        )

    def _begin(self, memory: Memory) -> torch.Tensor:
        """The content that every word begins with (N, 1, 2 d)."""
        bos = self.decoder.project_content(self._bos(1, memory.projected.device))
        return bos.expand(memory.projected.shape[0], -1, -1)

    def _bos(self, count: int, device: torch.device) -> torch.Tensor:
        return torch.full((count, 1), self._charset.bos, dtype=torch.int64, device=device)

    def _closed(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """(count, length, V + 1) of rows that say EOS, of the type of the logits (V + 1,) given."""
        return certain_end(like, self._charset.eos).expand(count, self._length, -1).clone()


def _steps_between_questions(device: torch.device) -> int:
    return _STEPS_BETWEEN_QUESTIONS.get(device.type, _STEPS_BETWEEN_QUESTIONS_ELSEWHERE)


def _symbols(word: list[int], eos: int) -> int:
    """How many symbols stand before the first EOS."""
    return word.index(eos) if eos in word else len(word)


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each of several stretches begins, if they follow each other."""
    return list(chain([0], torch.tensor(lengths).cumsum(0)[:-1].tolist()))
