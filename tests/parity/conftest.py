"""The golden data: our trimmed copy always, the full set too where it lies beside the checkout."""

from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
TRIMMED = Path(__file__).parent / "golden"
FULL = REPO.parent / "shared" / "golden" / "A"


@pytest.fixture(scope="session", params=["trimmed", "full"])
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """Folder with golden.json, golden.npz, images/, the checkpoint and M_clip/."""
    if request.param == "full" and not FULL.is_dir():
        pytest.skip("the full golden set (32 images, all logits) does not lie beside this checkout")
    return TRIMMED if request.param == "trimmed" else FULL


@pytest.fixture(scope="session")
def golden_checkpoint(golden_dir: Path) -> Path:
    return golden_dir / "clip4str-large-tiny-A.ckpt"
