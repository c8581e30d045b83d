"""The published checkpoint -> one of our folders, tensor by tensor."""

from pathlib import Path

import torch
from tqdm import tqdm

from clip4str_doctr.lookup import terms_of_published
from clip4str_doctr.modeling.text_tower import MClipTextTower
from clip4str_doctr.published import read_published
from clip4str_doctr.tensor_file import stored_bytes
from clip4str_doctr.weight_card import WeightCard
from clip4str_doctr.weight_folder import check_target, empty_model, own_tensors, write_folder

__all__ = ["convert_checkpoint"]


def convert_checkpoint(
    ckpt: str | Path,
    mclip: str | Path | None,
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
    *,
    overwrite: bool = False,
) -> WeightCard:
    """Convert the published `.ckpt`; returns the card of the new folder.

    mclip: the M_clip folder (tokenizer and config); None: the one in the layout around the file. out: the folder to
    write, which appears complete or not at all. dtype: float32, float16 or bfloat16. progress: show a bar on stderr.
    The checkpoint is mapped and one piece converted at a time, so memory stays small.
    Raises ValueError for another dtype, WeightsError for a checkpoint that cannot be used, FileExistsError for a
    non-empty folder that is not ours, unless `overwrite`.
    """
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    source, folder = Path(ckpt).expanduser(), Path(out).expanduser()
    # Before 2.6 GB are read for nothing; `write_folder` asks again.
    check_target(folder, overwrite)
    published = read_published(source, None if mclip is None else Path(mclip).expanduser())
    model = empty_model(published.config)
    assert isinstance(model.text_tower, MClipTextTower)
    model.text_tower.tokenizer = published.tokenizer
    tensors = published.tensors(own_tensors(model))
    card = WeightCard(published.config.arch, *terms_of_published(source))
    bar = tqdm(total=stored_bytes(tensors, dtype), unit="B", unit_scale=True, desc="convert", disable=not progress)
    with bar:
        return write_folder(folder, model, tensors, card, dtype=dtype, overwrite=overwrite, advance=bar.update)
