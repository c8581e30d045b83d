"""docTR's PARSeq (arXiv:2207.06966) behind the image tower of clip4str_vn_tiny, trained by the same loop.

What differs from CLIP4STR is then the reader alone: one branch, no text tower, docTR's own decoder, loss and decoding.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from doctr.models.recognition.parseq.pytorch import PARSeq
from torch import Tensor, nn

from clip4str_doctr.charset import Charset
from clip4str_doctr.config import ModelConfig, PreprocessConfig, model_config_from_dict
from clip4str_doctr.modeling.image_tower import build_image_tower
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.tensor_file import read_tensors, write_tensors
from clip4str_doctr.training.losses import IGNORE, BranchLosses, context_and_targets
from clip4str_doctr.training.metrics import Scores, score_strings
from clip4str_doctr.training.pupils import Pupil
from clip4str_doctr.training.recipe import LossRecipe
from clip4str_doctr.weight_card import CONFIG_FILE, TENSOR_FILE, read_json, sha256_of
from clip4str_doctr.weight_folder import new_folder

__all__ = ["ParseqPupil", "build_parseq", "load_parseq", "read_whole_crops"]

BATCH_SIZE = 128


class Features(nn.Module):
    """An image tower as docTR's PARSeq wants its backbone: the first token is dropped, as that of a ViT's class."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.tokens: Tensor | None = None  # of the last batch, for the auxiliary head

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """pixels (N, 3, H, W) -> {"features": (N, 1 + M, d)}."""
        self.tokens = self.tower(pixels)
        return {"features": torch.cat([self.tokens[:, :1], self.tokens], dim=1)}


def build_parseq(config: ModelConfig) -> PARSeq:
    """docTR's PARSeq of the config's tower, decoder width and heads, alphabet and longest word; no text tower."""
    height, width = config.image_tower.image_size
    vocab = "".join(dict.fromkeys(config.symbols))
    shape = (3, height, width)
    return PARSeq(
        Features(build_image_tower(config.image_tower)),
        vocab,
        config.decoder.width,
        # Targets of docTR's are cut to this, beginning and end included.
        max_length=config.decode.max_symbols + 2,
        dec_num_heads=config.decoder.heads,
        dec_ff_dim=config.decoder.width,
        dec_ffd_ratio=config.decoder.mlp_width // config.decoder.width,
        input_shape=shape,
        cfg={"mean": config.preprocess.mean, "std": config.preprocess.std, "input_shape": shape, "vocab": vocab},
    )


class ParseqPupil(Pupil):
    """Trains, examines and exports `build_parseq`."""

    def build(self, config: ModelConfig) -> PARSeq:
        self.config, self.charset = config, Charset(config.symbols)
        return build_parseq(config)

    def losses(
        self,
        model: PARSeq,
        pixels: Tensor,
        encoded: Sequence[Sequence[int]],
        recipe: LossRecipe,
        generator: torch.Generator,
    ) -> BranchLosses:
        """docTR's own loss, over three reading orders and their mirrors, as the visual branch's; none of a cross one.

        Shares of characters right are those of the last order, without ends.
        """
        # docTR draws orders and dropout from generators that no checkpoint holds as they were.
        seed = int(torch.randint(2**62, (), generator=generator))
        torch.manual_seed(seed)
        model.rng = np.random.default_rng(seed)
        labels = [self.charset.decode(list(ids)) for ids in encoded]
        out = model(pixels, labels, return_model_output=True)
        tokens = model.feat_extractor.tokens
        targets = context_and_targets([[model.vocab.index(one) for one in label] for label in labels], self.charset)[1]
        targets = targets.to(pixels.device)
        counted = (targets != IGNORE) & (targets != self.charset.eos)
        answers = out["out_map"].argmax(-1).view(targets.shape)
        right = answers == targets
        return BranchLosses(
            visual=out["loss"],
            cross=torch.zeros_like(out["loss"]),
            image_tokens=tokens,
            characters=right[counted].float().mean(),
            words=(right | ~counted).all(1).float().mean(),
        )

    def score(self, model: PARSeq, crops: Sequence[npt.NDArray[np.uint8]], labels: Sequence[str]) -> Scores:
        texts = read_whole_crops(model, crops)
        return score_strings(texts, texts, labels)

    def export(self, checkpoint: Path, folder: Path) -> None:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        save_parseq(folder, state["config"], state["average"]["weights"], state["recipe"])


@torch.inference_mode()
def read_whole_crops(model: PARSeq, crops: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
    """Read crops (H, W, 3) uint8 RGB, squashed as in training; docTR's predictor would pad and cut them."""
    cfg: dict[str, Any] = model.cfg or {}
    _, height, width = cfg["input_shape"]
    preprocess = Preprocess((height, width), PreprocessConfig(cfg["mean"], cfg["std"]))
    device = next(model.parameters()).device
    texts: list[str] = []
    for start in range(0, len(crops), BATCH_SIZE):
        pixels = preprocess(list(crops[start : start + BATCH_SIZE])).to(device)
        texts += [text for text, _ in model(pixels)["preds"]]
    return texts


def save_parseq(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], recipe: Mapping[str, Any]
) -> None:
    """Write config.json and model.safetensors, float16; those of an earlier run in this folder are replaced."""
    with new_folder(folder, overwrite=True) as partial:
        sha256 = write_tensors(partial / TENSOR_FILE, dict(weights), dtype=torch.float16)
        about = {
            "reader": "parseq",
            "model": dict(config),
            "recipe": dict(recipe),
            "sha256": {TENSOR_FILE: sha256},
        }
        (partial / CONFIG_FILE).write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def load_parseq(folder: str | Path) -> PARSeq:
    """The reader that `save_parseq` wrote, float32, in eval mode.

    Raises ValueError for another folder or a damaged one.
    """
    folder = Path(folder)
    about = read_json(folder / CONFIG_FILE)
    if about.get("reader") != "parseq":
        raise ValueError(f"{folder} holds no PARSeq trained here; give the weights/ folder of such a run")
    if about["sha256"][TENSOR_FILE] != sha256_of(folder / TENSOR_FILE):
        raise ValueError(f"{folder / TENSOR_FILE} is not what {CONFIG_FILE} was written for; export the run again")
    model = build_parseq(model_config_from_dict(about["model"]))
    model.load_state_dict(read_tensors(folder / TENSOR_FILE, torch.float32))
    return model.eval()
