"""Every room against the reference implementation, one image at a time, then in batches."""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from clip4str_doctr import CLIP4STR, load_model
from clip4str_doctr.decoding import Reading
from clip4str_doctr.modeling.clip4str import Decoding
from clip4str_doctr.preprocess import Preprocess, resize_crop

# The README says 1e-5: with AVX-512 the largest difference is 7.4e-6 in logits, 2.9e-6 in tokens and 1.6e-6 in
# confidences. Other CPUs add in other orders, so a few times as much is allowed; mistakes are larger by far.
LOGIT_TOLERANCE = 5e-5
TOKEN_TOLERANCE = CONFIDENCE_TOLERANCE = 2e-5
MODES = [(decode_ar, refine_iters) for decode_ar in (True, False) for refine_iters in (0, 1, 2)]
STAGES = 3  # the draft and two refinements
ARRAYS_OF_IMAGES = {26: 5, 32: 32}  # of the trimmed and of the full set: how many images have arrays


@dataclass(frozen=True)
class Golden:
    """The reference's answers and our model of the same weights."""

    folder: Path
    images: dict[str, dict[str, Any]]
    arrays: dict[str, npt.NDArray[np.float32]]
    model: CLIP4STR
    crops: dict[str, npt.NDArray[np.uint8]]
    pixels: dict[str, torch.Tensor]

    @property
    def with_arrays(self) -> int:
        """How many of the images have logits and tokens."""
        return ARRAYS_OF_IMAGES[len(self.images)]

    def array(self, image: str, stage: str) -> npt.NDArray[np.float32] | None:
        return self.arrays.get(f"{image.replace('.', '_')}/{stage}")

    def read(self, image: str, decode_ar: bool, refine_iters: int = 2) -> Reading:
        self.model.config = self.model.config.with_decode(decode_ar=decode_ar, refine_iters=refine_iters)
        with torch.inference_mode():
            return self.model.read(self.pixels[image])


@pytest.fixture(scope="module")
def golden(golden_dir: Path, golden_checkpoint: Path) -> Golden:
    images = json.loads((golden_dir / "golden.json").read_text(encoding="utf-8"))["images"]
    with np.load(golden_dir / "golden.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    model = load_model(golden_checkpoint, tokenizer=golden_dir / "M_clip")
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    # The reference's own way of opening: EXIF ignored, alpha dropped.
    crops = {name: np.asarray(Image.open(golden_dir / "images" / name).convert("RGB")) for name in images}
    return Golden(golden_dir, images, arrays, model, crops, {name: preprocess([crop]) for name, crop in crops.items()})


def published_order(logits: torch.Tensor) -> npt.NDArray[np.float32]:
    """(L, V + 1) with EOS last -> EOS first, as the reference has it."""
    return torch.cat([logits[:, -1:], logits[:, :-1]], dim=1).numpy()


def largest(differences: list[float]) -> float:
    """NaN if one of them is: `max` would overlook it, and NaN is below no tolerance."""
    return float(np.max(differences))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_pixels_bit_for_bit(golden: Golden) -> None:
    size = golden.model.config.image_tower.image_size
    for name, expected in golden.images.items():
        crop = golden.crops[name]
        assert sha256(crop.tobytes()) == expected["decoded_rgb_sha256"], f"{name}: another JPEG decoder"
        assert sha256(resize_crop(crop, size).tobytes()) == expected["resized_uint8_hwc_sha256"], name
        assert sha256(golden.pixels[name][0].numpy().tobytes()) == expected["input_float32_chw_sha256"], name


def test_the_other_normalisation(golden: Golden, golden_checkpoint: Path) -> None:
    """CLIP's own mean and std, with which training was configured, though the reference's script reads without."""
    model = load_model(golden_checkpoint, tokenizer=golden.folder / "M_clip", normalization="clip")
    preprocess = Preprocess(model.config.image_tower.image_size, model.config.preprocess)
    for name, expected in golden.images.items():
        total = preprocess([golden.crops[name]]).double().sum().item()
        assert total == pytest.approx(expected["input_openai_norm_sum"], rel=1e-5, abs=1.0), name


def test_image_tokens(golden: Golden) -> None:
    differences: list[float] = []
    for name in golden.images:
        expected = golden.array(name, "memory_first8")
        if expected is not None:
            with torch.inference_mode():
                tokens = golden.model.image_tower(golden.pixels[name])[0, :, :8].numpy()
            differences.append(float(np.abs(tokens - expected).max()))
    print(f"image tokens: max difference {largest(differences):.2e} over {len(differences)} images")
    assert len(differences) == golden.with_arrays and largest(differences) < TOKEN_TOLERANCE


def captions_of(record: dict[str, Any], mode: str) -> Iterator[tuple[str, list[int]]]:
    """(caption, token ids) per text encoding, from either form of golden.json."""
    if "captions" in record:
        yield from ((caption, ids) for caption, ids in record["captions"][mode])
    else:
        yield from ((encode["caption"], encode["input_ids"]) for encode in record[f"text_encodes_{mode}"])


@pytest.mark.parametrize("mode", ["ar", "nar"])
def test_captions_and_text_tokens(golden: Golden, mode: str) -> None:
    tower = golden.model.text_tower
    differences: list[float] = []
    for name, record in golden.images.items():
        stages = golden.read(name, decode_ar=mode == "ar").stages
        captions = list(captions_of(record, mode))
        assert len(captions) == len(stages) == STAGES
        for index, (caption, ids) in enumerate(captions):
            # The reference records what it encodes, which ends at a literal "[E]".
            assert stages[index].captions[0].split("[E]", 1)[0] == caption, name
            assert tower.tokenize([stages[index].captions[0]]) == [ids], name
            expected = golden.array(name, f"text_{mode}_{index}_first8")
            if expected is not None:
                with torch.inference_mode():
                    tokens, pad = tower([stages[index].captions[0]])
                assert not pad.any()
                differences.append(float(np.abs(tokens[0, :, :8].numpy() - expected).max()))
    print(f"text tokens ({mode}): max difference {largest(differences):.2e} over {len(differences)} captions")
    assert len(differences) == golden.with_arrays * STAGES and largest(differences) < TOKEN_TOLERANCE


@pytest.mark.parametrize("decoding", ["fast", "plain"])
@pytest.mark.parametrize("mode", ["ar", "nar"])
def test_logits_of_both_branches(golden: Golden, mode: str, decoding: Decoding) -> None:
    differences: list[float] = []
    golden.model.decoding = decoding
    for name in golden.images:
        for index, stage in enumerate(golden.read(name, decode_ar=mode == "ar").stages):
            for branch, logits in (("vis", stage.visual), ("crs", stage.cross)):
                assert logits.shape[1] == golden.images[name]["runs"][f"{mode}_r{index}"][branch]["n_rows"], name
                expected = golden.array(name, f"{branch}_{mode}_r{index}")
                if expected is not None:
                    ours = published_order(logits[0])[: len(expected)]
                    differences.append(float(np.abs(ours - expected).max()))
    golden.model.decoding = "fast"
    print(f"logits ({mode}, {decoding}): max difference {largest(differences):.2e} over {len(differences)} arrays")
    assert len(differences) == golden.with_arrays * STAGES * 2 and largest(differences) < LOGIT_TOLERANCE


@pytest.mark.parametrize(("decode_ar", "refine_iters"), MODES)
def test_strings_and_confidences(golden: Golden, decode_ar: bool, refine_iters: int) -> None:
    eos = golden.model.charset.eos
    run = f"{'ar' if decode_ar else 'nar'}_r{refine_iters}"
    differences: list[float] = []
    for name, record in golden.images.items():
        reading = golden.read(name, decode_ar, refine_iters)
        for branch, logits in (("vis", reading.visual_answer(eos)), ("crs", reading.answer(eos))):
            ((text, confidence),) = golden.model.postprocessor(logits)
            expected = record["runs"][run][branch]
            assert text == expected["string"], f"{name} {branch}"
            # Two symbols of the published alphabet are written alike: only their ids tell them apart.
            ids = published_order(logits[0]).argmax(-1).tolist()
            assert ids[: len(expected["ids"])] == expected["ids"], f"{name} {branch}"
            differences.append(abs(confidence - expected["confidence"]))
    print(f"confidences ({run}): max difference {largest(differences):.2e} over {len(golden.images)} images")
    assert len(differences) == 2 * len(golden.images) and largest(differences) < CONFIDENCE_TOLERANCE


@pytest.mark.parametrize(("decode_ar", "refine_iters"), MODES)
def test_what_predictors_ask_for(golden: Golden, decode_ar: bool, refine_iters: int) -> None:
    """Only the words, alone and together: fewer rows are computed then."""
    run = f"{'ar' if decode_ar else 'nar'}_r{refine_iters}"
    golden.model.config = golden.model.config.with_decode(decode_ar=decode_ar, refine_iters=refine_iters)
    expected = [record["runs"][run]["crs"] for record in golden.images.values()]
    with torch.inference_mode():
        alone = [golden.model(pixels, return_preds=True)["preds"][0] for pixels in golden.pixels.values()]
        together = golden.model(torch.cat(list(golden.pixels.values())), return_preds=True)["preds"]
    for answers in (alone, together):
        assert [text for text, _ in answers] == [one["string"] for one in expected]
        confidences = [confidence for _, confidence in answers]
        assert confidences == pytest.approx([one["confidence"] for one in expected], abs=CONFIDENCE_TOLERANCE)


@pytest.mark.parametrize(("decode_ar", "refine_iters"), MODES)
def test_batch_mates_change_nothing(golden: Golden, decode_ar: bool, refine_iters: int) -> None:
    golden.model.config = golden.model.config.with_decode(decode_ar=decode_ar, refine_iters=refine_iters)
    names = list(golden.images)
    random.Random(0).shuffle(names)
    differences: list[float] = []
    with torch.inference_mode():
        alone = {name: golden.model(golden.pixels[name], return_model_output=True) for name in names}
        for size in (5, 32):
            for start in range(0, len(names), size):
                batch = names[start : start + size]
                out = golden.model(torch.cat([golden.pixels[name] for name in batch]), return_model_output=True)
                for row, name in enumerate(batch):
                    ((text, confidence),) = alone[name]["preds"]
                    assert out["preds"][row][0] == text, name
                    assert out["preds"][row][1] == pytest.approx(confidence, abs=CONFIDENCE_TOLERANCE), name
                    own = alone[name]["out_map"][0]
                    differences.append(float((out["out_map"][row, : len(own)] - own).abs().max()))
    worst = largest(differences)
    print(f"batches of 5 and 32 (ar={decode_ar}, refine={refine_iters}): max logit difference {worst:.2e}")
    # Below 1e-5 in the design, for a batch that hides caption padding and keeps each row's own draft length.
    assert worst < LOGIT_TOLERANCE
