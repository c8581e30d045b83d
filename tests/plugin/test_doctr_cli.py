"""docTR's own command line with our architecture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doctr.models import detection
from doctr.models.detection.differentiable_binarization.pytorch import default_cfgs
from PIL import Image

DETECTOR = "db_mobilenet_v3_large"

# doctr-cli as it is, but for one check: the cached detector is a stand-in, whose hash is not the published one.
DOCTR_CLI = """
import sys
import doctr.utils.data
doctr.utils.data._check_integrity = lambda *_: True
from doctr.cli.main import main
main(sys.argv[1:])
"""


def test_doctr_cli_reads_with_our_architecture(run_python: Any, tmp_path: Path) -> None:
    pytest.importorskip("doctr.cli", reason="doctr-cli came with docTR 1.1")
    torch.manual_seed(0)
    stand_in = getattr(detection, DETECTOR)(pretrained=False, pretrained_backbone=False)
    (tmp_path / "models").mkdir()
    file_name = default_cfgs[DETECTOR]["url"].rpartition("/")[-1].partition("&")[0]
    torch.save(stand_in.state_dict(), tmp_path / "models" / file_name)
    page = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(page).save(tmp_path / "page.png")

    # Untrained, it finds words anywhere if asked to believe everything.
    options = ["--det_arch", DETECTOR, "--bin_thresh", "0.1", "--box_thresh", "0", "--device", "cpu"]
    command = ["-c", DOCTR_CLI, "--input_path", "page.png", "--reco_arch", "clip4str_vn_tiny", *options]
    done = run_python(*command, DOCTR_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (exported,) = json.loads((tmp_path / "results.json").read_text())["pages"]
    words = [word["value"] for block in exported["blocks"] for line in block["lines"] for word in line["words"]]
    assert words, done.stderr
