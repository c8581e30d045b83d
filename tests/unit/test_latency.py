"""The benchmark's own parts: models that say what they are told, the stream of words, cases in turn, stages."""

from dataclasses import replace

import pytest
import torch

from clip4str_doctr.benchmark import memory, precision
from clip4str_doctr.benchmark.latency import to_image_tower
from clip4str_doctr.benchmark.page_stream import page_words, render_words
from clip4str_doctr.benchmark.scripted import Script, put_to_script
from clip4str_doctr.benchmark.timing import Case, interleave, stopwatch
from clip4str_doctr.config import PRESETS, CharTextTowerConfig, ConvImageTowerConfig, DecoderConfig
from clip4str_doctr.modeling.clip4str import build_model
from clip4str_doctr.training.synth import fonts_installed

MICRO = replace(
    PRESETS["clip4str_vn_tiny"],
    image_tower=ConvImageTowerConfig((16, 32), stem_widths=(8, 16), width=32, layers=1, heads=2, output_dim=32),
    text_tower=CharTextTowerConfig(width=16, layers=1, heads=2, output_dim=32),
    decoder=DecoderConfig(width=32, heads=4, mlp_width=64),
)


@pytest.mark.parametrize("decoding", ["plain", "fast"])
def test_a_scripted_model_says_what_it_is_told(decoding: str) -> None:
    model = build_model(MICRO).eval()
    put_to_script(model)
    vars(model)["decoding"] = decoding
    script = Script(model, seed=3)
    misread = 0
    for words in (["phở"], page_words(30, seed=1), page_words(30, seed=2)):
        script.dictate(words)
        with torch.inference_mode():
            reading = model.read(torch.randn(len(words), 3, 16, 32))
        ids = reading.answer(model.charset.eos).argmax(-1).tolist()
        assert [model.charset.decode(one) for one in ids] == words
        misread += sum(caption != word for caption, word in zip(reading.stages[0].captions, words, strict=True))
    assert 1 <= misread <= 15


def test_the_stream_repeats_its_words() -> None:
    words = page_words(500, seed=0)
    assert words == page_words(500, seed=0) and len(set(words)) < 400
    crops = render_words(words[:3], seed=0)
    assert len(crops) == 3 and all(crop.shape[2] == 3 and crop.size for crop in crops)


def test_cases_take_turns_and_the_first_round_does_not_count() -> None:
    read: list[tuple[str, int]] = []

    def case(name: str, every: int) -> Case:
        def one(number: int) -> tuple[float, int]:
            read.append((name, number))
            return 0.002 * (number + 1), 2

        return Case(name, "mode", 2, one, every)

    cases = [case("a", 1), case("b", 2)]
    interleave(cases, 3)
    assert read == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 3)]
    assert cases[0].summary()["ms_per_word"] == 3.0 and cases[0].summary()["range"] == [2.0, 4.0]
    assert cases[1].summary()["rounds"] == 2


def test_stages_do_not_count_what_is_within_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("clip4str_doctr.benchmark.timing.clock", lambda device: now[0])

    class Inner:
        def work(self) -> None:
            now[0] += 3

    class Outer(Inner):
        def both(self) -> None:
            now[0] += 1
            self.work()

    with stopwatch(torch.device("cpu"), (Outer, "both", "outer"), (Outer, "work", "inner")) as spent:
        Outer().both()
    assert spent == {"outer": 1.0, "inner": 3.0}
    assert "work" not in vars(Outer) and Outer.both.__name__ == "both"


def test_ratios_to_the_image_tower() -> None:
    cases = [
        Case("a", mode, batch, lambda number: (0.0, 1), 1, times)
        for mode, batch, times in (
            ("image tower alone", 1, [2.0, 4.0, 3.0]),
            ("fast", 1, [6.0, 3.3, 3.0]),
            ("fast", 8, [1.0]),  # whose tower was not timed
        )
    ]
    assert to_image_tower([*cases, Case("peer", "docTR", 1, lambda number: (0.0, 1), 1, [5.0])]) == {
        "a": {"fast, batch 1": 1.1}
    }


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="--peak nobody --precision float32 ended with status 2: .*invalid choice"):
        memory.peak_memory_elsewhere("nobody")


@pytest.mark.skipif(not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]")
def test_memory_is_told_at_every_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PICTURES", 3)
    monkeypatch.setattr(memory, "_PAGE", 4)
    figures = memory.archive_memory([6, 3])
    assert list(figures) == ["3", "6"]
    for one in figures.values():
        assert 0 < one["of_that_captions_mb"] < 1 < one["resident_mb"]
    with pytest.raises(ValueError, match="1 crop or more, got 0"):
        memory.archive_memory([0])


@pytest.mark.skipif(not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]")
@pytest.mark.parametrize("int8", [False, True])
def test_less_precision_changes_few_strings(int8: bool) -> None:
    if int8:
        pytest.importorskip("torchao", reason="int8 is quantised by torchao: pip install torchao")
    figures = precision.changed_strings(("clean",), 8, int8)
    assert set(figures) == {"running text", "clean"}
    for shares in figures.values():
        right = shares.pop("right_float32")
        assert right >= 0.75 and set(shares) == {"bfloat16", memory.MIXED, *(["int8"] if int8 else [])}
        for one in shares.values():
            assert one["same"] >= 0.75 and one["same_of_right"] >= 0.75
            assert abs(right - one["right"]) <= 1 - one["same"] + 1e-9
