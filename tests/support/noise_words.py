"""Samples for training runs whose words do not matter."""

import numpy as np
import numpy.typing as npt


class Noise:
    """Words nobody could read, as quick to make as can be."""

    def __init__(self, style: str, split: str, seed: int) -> None:
        self.seed = seed

    def sample(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        drawn = np.random.default_rng([self.seed, index])
        return drawn.integers(0, 256, (32, 128, 3), dtype=np.uint8), "phở"[: 1 + index % 3]
