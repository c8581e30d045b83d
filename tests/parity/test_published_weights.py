"""The published weights themselves, where they are found: read, converted, read again."""

from pathlib import Path

import numpy as np
import pytest
from golden_weights import GOLDEN
from PIL import Image

from clip4str_doctr import load_model
from clip4str_doctr.convert import convert_checkpoint
from clip4str_doctr.plugin import recognition_predictor_of
from clip4str_doctr.weights import WeightsNotFoundError, find_weights, locate, save_model


@pytest.mark.weights
@pytest.mark.slow
def test_published_weights_read_the_same_once_converted(tmp_path: Path) -> None:
    try:
        place = locate(find_weights("clip4str_vn"))
    except WeightsNotFoundError as error:
        pytest.skip(f"the published weights are not in the repository: {str(error).splitlines()[0]}")
    crops = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((GOLDEN / "images").iterdir())]
    model = load_model(place)
    read = [text for text, _ in recognition_predictor_of(model)(crops)]
    print(read)
    assert len(set(read)) > len(read) / 2
    if place.is_dir():
        save_model(model, tmp_path / "again", {})
    else:
        # From `pretrained/clip4str/`, whose parent holds the tokenizer.
        convert_checkpoint(place, None, tmp_path / "again", progress=False)
    again = recognition_predictor_of(load_model(tmp_path / "again"))(crops)
    assert [text for text, _ in again] == read
