"""Logits -> (text, confidence)."""

from typing import Literal, get_args

import torch

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import is_number
from clip4str_doctr.eager import eager

__all__ = ["Confidence", "PostProcessor"]

Confidence = Literal["product", "mean", "min"]


class PostProcessor:
    """Argmax per row, cut at the first EOS.

    confidence: how the rows' probabilities become one number in 0..1.
      "product" (default): of all symbols and EOS, the reference's: the probability of the whole word.
      "mean": of the symbols without EOS, docTR's; 0 for an empty word. A mean hides one bad letter.
      "min": the least certain row, EOS included: one bad letter shows, and long words are not punished.
    temperature: what logits are divided by before they become probabilities; above 1 for weights that are surer than
    they are right. It changes confidences, not what is read in a crop; where `wide_crops` has two readings, of the
    whole and of its parts, the more certain is taken, so confidence and temperature have a say.
    Both may be changed at any time. Raises ValueError for another name and for a temperature that is not above 0.
    """

    def __init__(self, vocab: str, confidence: Confidence = "product", temperature: float = 1.0) -> None:
        self.vocab = vocab
        self.confidence = confidence
        self.temperature = temperature
        self._charset = Charset(vocab)

    @property
    def confidence(self) -> Confidence:
        return self._confidence

    @confidence.setter
    def confidence(self, name: Confidence) -> None:
        if name not in get_args(Confidence):
            raise ValueError(f"confidence must be one of {get_args(Confidence)}, got {name!r}")
        self._confidence: Confidence = name

    @property
    def temperature(self) -> float:
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not is_number(value) or not 0 < value < float("inf"):
            raise ValueError(f"temperature must be a number above 0, got {value!r}")
        self._temperature: float = float(value)

    # Strings and numbers of Python come out: nothing for torch.compile.
    @eager
    def __call__(self, logits: torch.Tensor) -> list[tuple[str, float]]:
        """logits: (N, L, V + 1) -> N pairs (text, confidence)."""
        logits = logits.detach().float()
        probabilities, ids = logits.softmax(-1).cpu().max(-1)
        if self.temperature != 1.0:
            # The symbols above stay: a division could round two almost equal logits to the same number.
            warmed = (logits / self.temperature).softmax(-1)
            probabilities = warmed.gather(-1, ids[..., None].to(warmed.device))[..., 0].cpu()
        eos = self._charset.eos
        words: list[tuple[str, float]] = []
        for word, probability in zip(ids.tolist(), probabilities, strict=True):
            count = word.index(eos) if eos in word else len(word)
            words.append((self._charset.decode(word[:count]), self._score(probability, count)))
        return words

    def _score(self, probabilities: torch.Tensor, symbols: int) -> float:
        with_eos = probabilities[: symbols + 1]
        if self.confidence == "product":
            return float(with_eos.prod())
        if self.confidence == "min":
            return float(with_eos.min())
        return float(probabilities[:symbols].mean()) if symbols else 0.0

    def __repr__(self) -> str:
        return (
            f"PostProcessor(vocab_size={len(self.vocab)}, confidence={self.confidence!r}, "
            f"temperature={self.temperature:g})"
        )
