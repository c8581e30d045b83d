"""What a training run may teach: CLIP4STR, or docTR's PARSeq behind the same image tower, to compare with it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clip4str_doctr.config import ModelConfig
from clip4str_doctr.modeling.clip4str import CLIP4STR, build_model
from clip4str_doctr.training.export import export
from clip4str_doctr.training.losses import BranchLosses, plm_loss
from clip4str_doctr.training.metrics import Scores
from clip4str_doctr.training.recipe import LossRecipe
from clip4str_doctr.training.validate import score

__all__ = ["Clip4strPupil", "Pupil", "find_pupil"]


class Pupil(ABC):
    """A kind of reader: how it is built, what it learns from, how it is examined and handed on."""

    @abstractmethod
    def build(self, config: ModelConfig) -> Any:
        """A reader with random weights, a torch module."""

    @abstractmethod
    def losses(
        self,
        model: Any,
        pixels: Tensor,
        encoded: Sequence[Sequence[int]],
        recipe: LossRecipe,
        generator: torch.Generator,
    ) -> BranchLosses:
        """Losses of a batch: pixels (N, 3, H, W), normalised; encoded: N labels as ids of the config's alphabet."""

    @abstractmethod
    def score(self, model: Any, crops: Sequence[npt.NDArray[np.uint8]], labels: Sequence[str]) -> Scores:
        """Examine a model in eval mode on crops of any size."""

    @abstractmethod
    def export(self, checkpoint: Path, folder: Path) -> None:
        """Write the averaged weights of a checkpoint as a folder that can be loaded."""


class Clip4strPupil(Pupil):
    """The recogniser of this package, both branches."""

    def build(self, config: ModelConfig) -> CLIP4STR:
        return build_model(config)

    def losses(
        self,
        model: CLIP4STR,
        pixels: Tensor,
        encoded: Sequence[Sequence[int]],
        recipe: LossRecipe,
        generator: torch.Generator,
    ) -> BranchLosses:
        return plm_loss(model, pixels, encoded, recipe, generator)

    def score(self, model: CLIP4STR, crops: Sequence[npt.NDArray[np.uint8]], labels: Sequence[str]) -> Scores:
        return score(model, crops, labels)

    def export(self, checkpoint: Path, folder: Path) -> None:
        export(checkpoint, folder)


def find_pupil(reader: str) -> Pupil:
    """reader: "clip4str" or "parseq", as a recipe says. Raises ValueError for another."""
    if reader == "clip4str":
        return Clip4strPupil()
    if reader == "parseq":
        # docTR takes seconds to import.
        from clip4str_doctr.training.parseq import ParseqPupil

        return ParseqPupil()
    raise ValueError(f'model.reader must be "clip4str" or "parseq", got {reader!r}')
