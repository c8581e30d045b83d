"""Several processes, as docTR's training script runs them: they learn together, one validates."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clip4str_doctr import load_model

TRAINING = """
import sys
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from doctr.models import recognition

WORDS = ["PHỞ", "bò", "a", "xin"]

def train(rank, meeting):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model = DistributedDataParallel(recognition.clip4str_vn_tiny(pretrained=True))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for step in range(3):
        model.train()
        pixels = torch.randn(4, 3, 32, 128, generator=torch.Generator().manual_seed(2 * step + rank))
        optimizer.zero_grad()
        model(pixels, WORDS)["loss"].backward()
        optimizer.step()
        if rank == 0:
            model.eval()
            with torch.inference_mode():
                assert model(pixels, WORDS, return_preds=True)["loss"] > 0
    mine = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    both = [torch.empty_like(mine) for _ in range(2)]
    distributed.all_gather(both, mine)
    assert torch.equal(*both)
    if rank == 0:
        print("fine")

if __name__ == "__main__":
    multiprocessing.spawn(train, (sys.argv[1],), nprocs=2)
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_one_process_validates_while_the_other_goes_on(run_python: Any, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING, encoding="utf-8")
    done = run_python("train.py", str(tmp_path / "meeting"))
    assert done.stdout == "fine\n", done.stderr


def test_a_compiled_model_keeps_its_buffers_to_itself(micro_folder: Path) -> None:
    """`DistributedDataParallel` asks the compiled model, and compares with the names that it has there."""
    model = load_model(micro_folder)
    for one in (model, torch.compile(model)):
        names = {name for name, _ in one.named_buffers()}
        assert names and names <= set(one._ddp_params_and_buffers_to_ignore)
