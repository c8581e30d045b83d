"""Crops to pixels; bit-exactness against the reference is in tests/parity."""

import numpy as np
import pytest
import torch
from PIL import Image

from clip4str_doctr.config import CLIP_NORMALIZATION, HALF_NORMALIZATION
from clip4str_doctr.preprocess import Preprocess, normalize, resize_crop, to_uint8


def test_squash_is_pils_bicubic_without_letterbox() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (40, 200, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(crop).resize((48, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(resize_crop(crop, (32, 48)), expected)


def test_views_and_read_only_arrays_are_fine() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    view = crop[::-1, :, ::-1]
    view.flags.writeable = False
    assert np.array_equal(resize_crop(view, (32, 48)), resize_crop(np.ascontiguousarray(view), (32, 48)))


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_shapes_are_refused_with_what_came(crop: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="crop must"):
        resize_crop(crop, (32, 128))


def test_one_pixel_and_no_crops() -> None:
    preprocess = Preprocess((32, 128), HALF_NORMALIZATION)
    white = preprocess([np.full((1, 1, 3), 255, np.uint8)])
    assert torch.equal(white, torch.ones(1, 3, 32, 128))
    assert preprocess([]).shape == (0, 3, 32, 128)


def test_normalisation_belongs_to_the_weights() -> None:
    grey = torch.full((1, 3, 2, 2), 0.5)
    assert torch.equal(normalize(grey, HALF_NORMALIZATION), torch.zeros(1, 3, 2, 2))
    expected = (0.5 - torch.tensor(CLIP_NORMALIZATION.mean)) / torch.tensor(CLIP_NORMALIZATION.std)
    torch.testing.assert_close(normalize(grey, CLIP_NORMALIZATION)[0, :, 0, 0], expected)


def test_what_resampling_leaves_beyond_white_and_black_is_cut_off() -> None:
    crop = np.linspace(0, 1, 8 * 9 * 3, dtype=np.float32).reshape(8, 9, 3)
    over = crop.copy()
    over[0, 0], over[-1, -1] = -0.08, 1.0000001
    np.testing.assert_array_equal(to_uint8(over)[1:-1], to_uint8(crop)[1:-1])
    assert to_uint8(over)[0, 0].max() == 0 and to_uint8(over)[-1, -1].min() == 255
    for wrong in (1.3, -0.3, float("nan"), 200.0):
        over[0, 0] = wrong
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            to_uint8(over)
