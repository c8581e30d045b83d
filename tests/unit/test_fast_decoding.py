"""The fast path against the plain one: same strings, same rows, logits to within rounding; and what it leaves out."""

import copy
import pickle
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_weights import CHECKPOINT, M_CLIP

from clip4str_doctr import CLIP4STR, fast_decoding, load_model
from clip4str_doctr.caption_cache import CaptionCache
from clip4str_doctr.config import CrossLength, CrossModal, DecodeConfig
from clip4str_doctr.decoding import Reading, Stage, draft_certainty
from clip4str_doctr.modeling.clip4str import CERTAIN_FROM
from clip4str_doctr.modeling.text_tower import CharTextTower, MClipTextTower, TextTower
from clip4str_doctr.preprocess import Preprocess
from clip4str_doctr.training.synth import Renderer
from clip4str_doctr.weight_state import WeightState

MODES = [(decode_ar, refine_iters) for decode_ar in (True, False) for refine_iters in (0, 1, 2)]
EMBEDDED = Path(__file__).parents[2] / "pretrained" / "clip4str_vn_tiny"


def golden_model() -> CLIP4STR:
    return load_model(CHECKPOINT, tokenizer=M_CLIP)


@pytest.fixture(scope="module", params=["published", "embedded"])
def model_and_pixels(request: pytest.FixtureRequest) -> tuple[CLIP4STR, torch.Tensor]:
    """A model and 32 pictures for it: noise for the random golden weights, rendered words for the trained ones."""
    if request.param == "published":
        noise = torch.randn(32, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        # Of many strengths, so that drafts are of many lengths.
        model = golden_model()
        return model, noise[:, :, : model.config.image_tower.image_size[0]] * torch.linspace(0.1, 3, 32).view(
            -1, 1, 1, 1
        )
    model = load_model(EMBEDDED)
    crops = [Renderer(style, "val", 29).sample(index)[0] for index in range(16) for style in ("clean", "photo")]
    return model, Preprocess(model.config.image_tower.image_size, model.config.preprocess)(crops)


@torch.inference_mode()
def readings(model: CLIP4STR, pixels: torch.Tensor) -> tuple[Reading, Reading]:
    """Plain and fast."""
    model.decoding = "plain"
    plain = model.read(pixels)
    model.decoding = "fast"
    return plain, model.read(pixels)


def difference(plain: Reading, fast: Reading) -> float:
    """Of the logits that count, at most; all else must be equal. NaN if one is."""
    differences: list[float] = []
    for one, other in zip(plain.stages, fast.stages, strict=True):
        assert one.captions == other.captions and torch.equal(one.rows, other.rows)
        assert torch.equal(one.cross_rows, other.cross_rows)
        for ours, theirs, rows in ((one.visual, other.visual, one.rows), (one.cross, other.cross, one.cross_rows)):
            longest = int(rows.max())  # a word that was left at its draft may have had more rows
            ours, theirs = ours[:, :longest], theirs[:, :longest]
            assert ours.shape == theirs.shape
            counts = torch.arange(longest) < rows[:, None]
            assert torch.equal(ours.argmax(-1)[counts], theirs.argmax(-1)[counts])
            differences.append(float((ours - theirs)[counts].detach().abs().max()))
    return float(torch.tensor(differences).max())


@pytest.fixture(params=["as on a CPU", "as on a GPU"])
def as_elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on a CPU it is asked less often whether words have ended."""
    if request.param == "as on a GPU":
        monkeypatch.setattr(fast_decoding, "_STEPS_BETWEEN_QUESTIONS", {})


@pytest.mark.parametrize("cross_length", ["visual", "own"])
@pytest.mark.parametrize(("decode_ar", "refine_iters"), MODES)
def test_as_the_plain_algorithm(
    model_and_pixels: Any, decode_ar: bool, refine_iters: int, cross_length: CrossLength, as_elsewhere: None
) -> None:
    model, pixels = model_and_pixels
    model.config = replace(model.config, decode=DecodeConfig(25, decode_ar, refine_iters, cross_length=cross_length))
    model.text_tower.cache.clear()
    shuffled = pixels[random.Random(refine_iters).sample(range(len(pixels)), len(pixels))]
    lengths: set[int] = set()
    for batch in (shuffled, shuffled[:5], shuffled[:1]):
        plain, fast = readings(model, batch)
        assert difference(plain, fast) < 2e-5
        lengths |= set(fast.stages[0].rows.tolist())
        # Where nobody asks for rows behind the words' ends, fewer are computed, and the words are the same.
        with torch.inference_mode():
            short = model.read(batch, all_rows=False).answer(model.charset.eos)
        words, shorter = model.postprocessor(fast.answer(model.charset.eos)), model.postprocessor(short)
        assert [text for text, _ in shorter] == [text for text, _ in words]
        assert [sure for _, sure in shorter] == pytest.approx([sure for _, sure in words], abs=1e-5)
    assert len(lengths) > 2 or not decode_ar
    # Of one word; the random weights' may have no end.
    if refine_iters and not fast_decoding._STEPS_BETWEEN_QUESTIONS:
        assert short.shape[1] == 26
    elif refine_iters and not isinstance(model.text_tower, MClipTextTower):
        assert short.shape[1] < 26


@pytest.mark.parametrize(("decode_ar", "refine_iters"), [(True, 1), (False, 2)])
def test_certain_words_are_left_at_their_draft(
    model_and_pixels: Any, decode_ar: bool, refine_iters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pixels = model_and_pixels
    batch, eos = pixels[:8], model.charset.eos
    with torch.inference_mode():
        model.config = model.config.with_decode(decode_ar, refine_iters, "always")
        always = model.read(batch)
        assert always.certain is None
        certainty = draft_certainty(always.stages[0].visual, eos)
        model.config = model.config.with_decode(cross_modal="auto")
        # Between two words: rounding decides about none.
        middle = float(certainty.sort().values[3:5].mean())
        for model.certain_from, count in ((middle, 4), (0.0, 8), (1.1, 0)):
            plain, fast = readings(model, batch)
            assert difference(plain, fast) < 2e-5 and fast.certain is not None
            assert torch.equal(plain.certain, fast.certain) and int(fast.certain.sum()) == count
            settled = fast.answer(eos).argmax(-1)
            for number, sure in enumerate(fast.certain.tolist()):
                kept = always.stages[0].visual if sure else always.answer(eos)
                assert spelled(model, settled[number]) == spelled(model, kept[number].argmax(-1))
            if isinstance(model.text_tower, CharTextTower):
                unrolled = model.read_unrolled(batch)
                assert float((unrolled[:, : settled.shape[1]] - fast.answer(eos)).abs().max()) < 2e-5
        # Alone as in company, and nothing that is not asked for is computed.
        model.certain_from = middle
        model.text_tower.cache.clear()
        encoded = count_encodings(model, monkeypatch)
        together = model.read(batch)
        left = [caption for caption, sure in zip(always.stages[0].captions, together.certain, strict=True) if not sure]
        assert set(left) <= set(encoded) and len(encoded) <= len(set(left)) * (refine_iters + 1)
        for number in (0, 5):
            alone = model.read(batch[number : number + 1])
            assert alone.certain.tolist() == [together.certain[number].item()]
            assert spelled(model, alone.answer(eos)[0].argmax(-1)) == spelled(
                model, together.answer(eos)[number].argmax(-1)
            )
    model.config = model.config.with_decode(cross_modal="always")


def spelled(model: CLIP4STR, ids: torch.Tensor) -> str:
    return model.charset.decode(ids.tolist())


@pytest.mark.parametrize("cross_modal", ["always", "auto"])
def test_a_cross_branch_that_goes_on(cross_modal: CrossModal) -> None:
    """Where it wants longer words than the visual branch, its draft gets an end of its own, or the longest word's."""
    model = load_model(EMBEDDED)
    crops = [Renderer("clean", "val", 29).sample(index)[0] for index in range(12)]
    pixels = Preprocess(model.config.image_tower.image_size, model.config.preprocess)(crops)
    with torch.no_grad():
        model.cross_decoder.head.bias[model.charset.eos] -= 9
    for cross_length in ("own", "visual"):
        decode = DecodeConfig(25, refine_iters=1, cross_modal=cross_modal, cross_length=cross_length)
        model.config = replace(model.config, decode=decode)
        plain, fast = readings(model, pixels)
        assert difference(plain, fast) < 2e-5
        longer = fast.stages[0].cross_rows > fast.stages[0].rows
        assert bool(longer.any()) == (cross_length == "own")
        if cross_length == "own":
            # Some go on, some do not: of the former, no row is left out.
            assert int(fast.stages[0].cross_rows.max()) > int(fast.stages[0].rows.max())
            assert cross_modal == "always" or not longer.all()
            alone = model.read(pixels[longer][:1])
            own = int(fast.stages[0].cross_rows[longer][0])
            assert alone.stages[0].cross_rows.tolist() == [own]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision(dtype: torch.dtype) -> None:
    model = load_model(EMBEDDED).to(dtype)
    crops = [Renderer("clean", "val", 31).sample(index)[0] for index in range(12)]
    pixels = Preprocess(model.config.image_tower.image_size, model.config.preprocess)(crops).to(dtype)
    plain, fast = readings(model, pixels)
    eos = model.charset.eos
    words = [[text for text, _ in model.postprocessor(reading.answer(eos))] for reading in (plain, fast)]
    assert sum(one == other for one, other in zip(*words, strict=True)) >= 11
    assert fast.stages[-1].cross.dtype == torch.float32


@pytest.mark.gpu
def test_on_a_gpu(model_and_pixels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's plain answers, and in less precision nearly all of its words."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    # Convolutions are rounded to ten bits by default.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, pixels = copy.deepcopy(model_and_pixels[0]), model_and_pixels[1]
    eos = model.charset.eos
    model.config = replace(model.config, decode=DecodeConfig(25, True, 1, cross_length="own"))
    plain, _ = readings(model, pixels)
    words = [text for text, _ in model.postprocessor(plain.answer(eos))]
    model.cuda()
    with torch.inference_mode():
        fast = model.read(pixels.cuda())
        on_cpu = [
            Stage(*(part.cpu() for part in (s.visual, s.cross, s.rows, s.cross_rows)), s.captions) for s in fast.stages
        ]
        assert difference(plain, Reading(on_cpu)) < 2e-4
        for dtype in (torch.float16, torch.bfloat16):
            for lower in (copy.deepcopy(model).to(dtype), copy.deepcopy(model).mixed_precision(dtype)):
                read = lower(pixels.to("cuda", next(lower.parameters()).dtype), return_preds=True)["preds"]
                same = sum(text == word for (text, _), word in zip(read, words, strict=True))
                # Random weights are certain of nothing.
                assert same >= 28 or isinstance(model.text_tower, MClipTextTower)


def test_a_wrong_guess_costs_rounds_and_changes_nothing(model_and_pixels: Any) -> None:
    """The cross draft starts from the visual branch's answers; here from nonsense."""
    from clip4str_doctr.fast_decoding import Branch, Memory

    model, pixels = model_and_pixels
    with torch.inference_mode():
        memory = Memory(model.cross_decoder.project_memory(model.image_tower(pixels[:6])))
        branch = Branch(model.cross_decoder, model.charset, 26)
        rows = torch.tensor([26, 1, 2, 9, 26, 4])
        nonsense = torch.randint(0, model.charset.eos, (6, 26), generator=torch.Generator().manual_seed(1))
        first = branch.draft(memory, nonsense, rows)
        again = branch.draft(memory, first.argmax(-1), rows)
    counts = torch.arange(26) < rows[:, None]
    torch.testing.assert_close(first[counts], again[counts], atol=2e-5, rtol=0)


def test_gradients_pass(model_and_pixels: Any) -> None:
    """Reading with gradients on gives the same, remembers nothing, and can be differentiated."""
    model, pixels = model_and_pixels
    model.config = model.config.with_decode(True, 1)
    model.text_tower.cache.clear()
    reading = model.read(pixels[:3])
    assert model.text_tower.cache.info().captions == 0
    reading.stages[-1].cross.sum().backward()
    grads = [parameter.grad for parameter in model.cross_decoder.parameters()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)
    model.zero_grad(set_to_none=True)
    assert difference(readings(model, pixels[:3])[0], reading) < 2e-5


def count_encodings(model: CLIP4STR, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every caption that is really encoded from now on."""
    encoded: list[str] = []
    original = type(model.text_tower)._encode

    def spy(tower: TextTower, captions: Sequence[str]) -> list[torch.Tensor]:
        encoded.extend(captions)
        return original(tower, captions)

    monkeypatch.setattr(type(model.text_tower), "_encode", spy)
    return encoded


def test_a_caption_is_encoded_once(model_and_pixels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = model_and_pixels
    model.config = model.config.with_decode(True, 2)
    cache = model.text_tower.cache
    cache.clear()
    cache.reset_info()
    encoded = count_encodings(model, monkeypatch)
    with torch.inference_mode():
        reading = model.read(pixels.repeat(2, 1, 1, 1))
        captions = {caption for stage in reading.stages for caption in stage.captions}
        assert sorted(encoded) == sorted(captions)
        model.read(pixels)
        assert len(encoded) == len(captions) == cache.info().captions
        assert cache.info().hit_rate > 0
        # Switched off, a batch still encodes each caption once.
        cache.max_bytes = 0
        encoded.clear()
        model.read(pixels)
        assert len(encoded) == len(set(encoded)) > 0 and cache.info().captions == 0
    cache.max_bytes = CaptionCache().max_bytes


def test_defaults_that_the_readme_tells() -> None:
    assert CaptionCache().max_bytes == 64 * 2**20
    assert CERTAIN_FROM == 0.99


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.text_tower.load_state_dict(
            {k: v * 1.5 if v.is_floating_point() else v for k, v in model.text_tower.state_dict().items()}
        ),
        lambda model: torch.optim.AdamW(with_gradients(model), lr=0.1, fused=True).step(),
        lambda model: torch.optim.SGD(with_gradients(model), lr=0.5).step(),
        lambda model: model.half().float(),
        lambda model: model.double().float().train().eval(),
        lambda model: setattr(
            model, "text_tower", load_model(CHECKPOINT, tokenizer=M_CLIP).double().float().text_tower
        ),
        lambda model: setattr(model.text_tower, "linear", copy.deepcopy(model.text_tower.linear)),
        lambda model: setattr(model.text_tower, "tokenizer", copy.copy(model.text_tower.tokenizer)),
    ],
    ids=["load_state_dict", "adamw", "sgd", "half", "train", "other tower", "other layer", "other tokenizer"],
)
def test_changed_weights_are_asked_again(change: Any) -> None:
    model = golden_model()
    with torch.no_grad():
        model.text_tower.encode(["phở", "bò"])
        assert model.text_tower.cache.info().captions == 2
    change(model)
    with torch.no_grad():
        tokens = model.text_tower.encode(["phở"])[0]
        assert model.text_tower.cache.info().captions == 1, "what was kept is of other weights"
        torch.testing.assert_close(tokens[None], model.text_tower(["phở"])[0], atol=1e-5, rtol=0)


def with_gradients(model: CLIP4STR) -> list[torch.nn.Parameter]:
    parameters = list(model.text_tower.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return parameters


def test_autocast_has_tokens_of_its_own() -> None:
    model = golden_model()
    with torch.no_grad():
        (plain,) = model.text_tower.encode(["phở"])
        with torch.autocast("cpu", torch.bfloat16):
            cast = model.text_tower.encode(["phở", "bò"])
        assert cast[0].dtype == torch.bfloat16 and torch.equal(model.text_tower.encode(["phở"])[0], plain)


def test_eval_of_a_model_in_eval_mode_forgets_nothing() -> None:
    """docTR's predictors call it when they are made."""
    model = golden_model()
    with torch.no_grad():
        model.text_tower.encode(["phở"])
    assert model.eval().text_tower.cache.info().captions == 1
    assert model.to(device="cpu", dtype=torch.float32).text_tower.cache.info().captions == 1


def test_training_remembers_nothing() -> None:
    model = golden_model().train()
    with torch.no_grad():
        model.text_tower.encode(["phở"])
    assert model.text_tower.cache.info().captions == 0


def test_captions_in_a_row_see_themselves_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed into one sequence, each caption's tokens are what it has alone, special tokens in its text included."""
    tower = golden_model().text_tower
    assert isinstance(tower, MClipTextTower)
    captions = ["phở", "", "<pad>a", "nghiêng", "a<pad>", "x[E]y", "</s>", "25.000đ"]
    for tokens_at_once in (512, 9, 1):
        monkeypatch.setattr("clip4str_doctr.modeling.text_tower._PACKED_TOKENS", tokens_at_once)
        with torch.inference_mode():
            for caption, tokens in zip(captions, tower._encode(captions), strict=True):
                torch.testing.assert_close(tokens[None], tower([caption])[0], atol=1e-5, rtol=0)


def test_copies_and_pickles_start_empty() -> None:
    model = golden_model()
    model.text_tower.cache.max_bytes = 12345
    with torch.no_grad():
        model.text_tower.encode(["phở"])
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            info = other.text_tower.cache.info()
            assert (info.captions, info.hits, info.max_bytes) == (0, 0, 12345)
            assert other.decoding == "fast"
            other.text_tower.encode(["phở"])


def test_the_cache_keeps_within_its_bytes() -> None:
    module, other_module = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    state = WeightState(module)
    cache = CaptionCache(max_bytes=400)
    cache.find([], state)
    batch = torch.zeros(3, 10, 4)
    cache.keep({name: batch[index] for index, name in enumerate("abc")}, state)
    # 160 bytes each, own memory; the oldest has left.
    assert cache.info()[2:] == (2, 320, 400) and set(cache.find(["a", "b", "c"], state)) == {"b", "c"}
    cache.find(["b"], state)
    cache.keep({"d": torch.zeros(10, 4)}, state)
    assert set(cache.find(["b", "c", "d"], state)) == {"b", "d"}
    cache.keep({"too big": torch.zeros(1000)}, state)
    assert cache.info().captions == 2
    assert all(one.untyped_storage().nbytes() == 160 for one in cache.find(["b", "d"], state).values())
    cache.max_bytes = 200
    assert cache.info().captions == 1
    # A straggler that began before the weights changed.
    other = WeightState(other_module)
    cache.find([], other)
    cache.keep({"e": torch.zeros(1)}, state)
    assert cache.info().captions == 0
    with pytest.raises(ValueError, match="max_bytes must be 0"):
        cache.max_bytes = -1


def test_weights_made_in_inference_mode_are_never_remembered() -> None:
    with torch.inference_mode():
        module = torch.nn.Linear(2, 2)
        assert not WeightState(module).same_as(WeightState(module))


def test_a_module_without_tensors_is_never_the_same() -> None:
    """The replicas of torch.nn.DataParallel: their parameters are no longer theirs, and their cache is shared."""
    module = torch.nn.Identity()
    assert not WeightState(module).same_as(WeightState(module))


def test_another_stream_does_not_see_what_the_first_still_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(2, 2)
    states = []
    for stream in (1, 1, 2):
        monkeypatch.setattr("clip4str_doctr.weight_state._stream", lambda device, stream=stream: stream)
        states.append(WeightState(module))
    assert states[0].same_as(states[1]) and not states[1].same_as(states[2])


def test_threads_share_the_cache() -> None:
    model = golden_model()
    model.text_tower.cache.max_bytes = 20_000
    words = [f"{syllable}{number}" for number in range(10) for syllable in ("phở", "bò", "nghiêng")]

    def encode(seed: int) -> list[torch.Tensor]:
        drawn = random.Random(seed).sample(words, 8)
        with torch.inference_mode():
            return [
                one for one, alone in zip(model.text_tower.encode(drawn), drawn, strict=True) if differs(one, alone)
            ]

    def differs(tokens: torch.Tensor, caption: str) -> bool:
        return not torch.allclose(tokens[None], model.text_tower([caption])[0], atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(encode, range(12)))
    info = model.text_tower.cache.info()
    assert info.size <= 20_000 and info.hits > 0
