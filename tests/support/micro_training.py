"""Training runs of a micro model on words drawn as random blocks."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip4str_doctr.training.recipe import Recipe, load_recipe

SYMBOLS = "aáàâbđe"
RECIPE = Path(__file__).parents[2] / "configs" / "clip4str_vn_tiny.yaml"
MICRO = {
    "symbols": SYMBOLS,
    "image_tower": {
        "image_size": [16, 64],
        "stem_widths": [16, 32],
        "width": 32,
        "layers": 1,
        "heads": 2,
        "output_dim": 32,
    },
    "text_tower": {"width": 32, "layers": 1, "heads": 2, "output_dim": 32},
    "decoder": {"width": 32, "heads": 2, "mlp_width": 64},
    "decode": {"max_symbols": 6},
}


class Blocks:
    """A word as a row of random 12 x 8 blocks, one pattern a symbol."""

    def __init__(self, style: str, split: str, seed: int) -> None:
        self.key = f"{style} {split} {seed}"
        self.patterns = np.random.default_rng(0).integers(0, 256, (len(SYMBOLS), 12, 8, 3), dtype=np.uint8)

    def draw(self, label: str) -> npt.NDArray[np.uint8]:
        canvas = np.full((16, 64, 3), 255, np.uint8)
        for place, symbol in enumerate(label):
            canvas[2:14, 10 * place + 2 : 10 * place + 10] = self.patterns[SYMBOLS.index(symbol)]
        return canvas

    def sample(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        drawn = random.Random(f"{self.key} {index}")
        label = "".join(drawn.choice(SYMBOLS) for _ in range(drawn.randint(1, 6)))
        return self.draw(label), label


def micro_recipe(**run: Any) -> Recipe:
    recipe = load_recipe(RECIPE)
    return replace(
        recipe,
        model=replace(recipe.model, overrides=MICRO),
        data=replace(recipe.data, batch_size=4, pool_batches=3, workers=0, val_words=4),
        schedule=replace(recipe.schedule, total_samples=48, max_hours=None),
        run=replace(recipe.run, threads=1, precision="float32", **{"log_every": 1, "validate_every": 24, **run}),
    )
