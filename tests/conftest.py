"""What all rooms' tests share: a small random model on disk, and fresh Python processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip4str_doctr.config import PRESETS, CharTextTowerConfig, ConvImageTowerConfig, DecoderConfig, ModelConfig
from clip4str_doctr.modeling.clip4str import build_model
from clip4str_doctr.weights import save_model

REPO = Path(__file__).parents[1]

# Weights and fonts of whoever runs the tests would be read, and drawn with, instead of the package's.
for variable in ("CLIP4STR_DOCTR_HOME", "CLIP4STR_DOCTR_FONTS"):
    os.environ.pop(variable, None)

# Workers of pytest-xdist share the cores; processes that tests start inherit their share.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // int(workers), 1)))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

MICRO: ModelConfig = replace(
    PRESETS["clip4str_vn_tiny"],
    image_tower=ConvImageTowerConfig((32, 128), stem_widths=(8, 8, 16), width=16, layers=1, heads=2, output_dim=16),
    text_tower=CharTextTowerConfig(width=16, layers=1, heads=2, output_dim=16),
    decoder=DecoderConfig(width=16, heads=2, mlp_width=32),
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    """A training run sets them for the process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(threads_as_they_were: None) -> None:
    """As the recipes of small runs ask for, whose sums would be others with more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder of the tiny architecture with random weights of a few thousand parameters."""
    torch.manual_seed(3)
    model = build_model(MICRO).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # As initialised it answers the same to every picture; so it answers differently, at different lengths.
                parameter.mul_(8)
    folder = tmp_path_factory.mktemp("weights") / "clip4str_vn_tiny"
    save_model(model, folder, card={"source": "random, for tests", "licence": "Apache-2.0"})
    return folder


@pytest.fixture
def run_python(tmp_path: Path, micro_folder: Path) -> Run:
    """run_python(*args, **environment): Python in a fresh process in an empty folder, where `pretrained=True` finds
    the random model. A value of None removes a variable."""

    def run(*args: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        variables: dict[str, str | None] = {
            **os.environ,
            "CLIP4STR_DOCTR_HOME": str(micro_folder.parent),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "CLIP4STR_DOCTR_AUTOLOAD": None,
            "TORCH_DEVICE_BACKEND_AUTOLOAD": None,
            **environment,
        }
        return subprocess.run(
            [sys.executable, *args],
            env={name: value for name, value in variables.items() if value is not None},
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )

    return run
