"""The committed tables are those of the shipped weights and of this code: a small part of each is made again."""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from clip4str_doctr.benchmark.page_stream import page_words, render_words
from clip4str_doctr.benchmark.page_tables import page_tables
from clip4str_doctr.benchmark.results import read_report
from clip4str_doctr.benchmark.tables import Table, tables_of
from clip4str_doctr.cli import main
from clip4str_doctr.training.synth import fonts_installed
from clip4str_doctr.weight_card import TENSOR_FILE, read_card

REPO = Path(__file__).parents[2]
WEIGHTS = REPO / "pretrained" / "clip4str_vn_tiny"
DOCS = REPO / "docs"
REPORTS = DOCS / "benchmarks"

MODELS = ("clip4str_vn_tiny", "clip4str_vn_tiny#visual")
# Where both branches and the ends of words count, and where most is uncertain.
SUITES = ("long_words", "sign")
WORDS = 40
KIND = "table 150 dpi"
# What makes each file of figures anew.
WORDS_ANEW = (
    f"{read_report(REPORTS / 'rendered-suites.json')['command']} -o NEW && cp NEW/* docs/benchmarks && "
    "clip4str-doctr bench docs"
)
PAGES_ANEW = (
    f"{read_report(REPORTS / 'pages.json')['command']} -o docs/benchmarks/pages.json && clip4str-doctr bench docs"
)
ANEW = {
    "benchmarks/rendered-suites.json": WORDS_ANEW,
    "benchmarks/pages.json": PAGES_ANEW,
    "wide-crops.json": "python -m clip4str_doctr.benchmark.wide_crops --count 600 --seed 5 -o docs/wide-crops.json",
    "boxes.json": "python -m clip4str_doctr.benchmark.boxes -o docs/boxes.json",
    "speed/adaptive.json": "python -m clip4str_doctr.benchmark.adaptive -o docs/speed/adaptive.json",
}

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]"
)


@pytest.mark.parametrize("name", ANEW)
def test_committed_figures_are_of_the_shipped_weights(name: str) -> None:
    """Reports hold other trainings under names of their own (clip4str-320k, parseq-320k): those are not shipped."""
    report = json.loads((DOCS / name).read_text(encoding="utf-8"))
    # Of reports without models, one model's figures.
    facts = report.get("models") or {MODELS[0]: report.get("protocol", report)}
    measured = {model: facts[model]["weights_sha256"] for model in facts if model.partition("#")[0] == MODELS[0]}
    assert measured and set(measured.values()) == {read_card(WEIGHTS).sha256[TENSOR_FILE]}, (
        f"docs/{name} was measured with other weights than pretrained/clip4str_vn_tiny: {measured}; measure anew: "
        f"{ANEW[name]}"
    )


@needs_fonts
@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "name"),
    [
        ("wide_crops", ["--count", "3", "--seed", "5"], "wide-crops.json"),
        ("adaptive", ["--words", "4"], "speed/adaptive.json"),
        ("boxes", ["--words", "2"], "boxes.json"),
    ],
)
def test_modules_write_what_is_committed(
    module: str, arguments: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [module, *arguments, "-o", str(tmp_path / "new.json")])
    import_module(f"clip4str_doctr.benchmark.{module}").main()
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (DOCS / name, tmp_path / "new.json"))
    assert new.keys() == old.keys()
    for part in ("protocol", "suites"):
        assert new.get(part, {}).keys() == old.get(part, {}).keys()
    facts = new.get("protocol", new)
    assert facts["weights_sha256"] == read_card(WEIGHTS).sha256[TENSOR_FILE]


@needs_fonts
@pytest.mark.slow
def test_words_are_read_and_told_as_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench accuracy --models` on the first words of two suites, costs and diagrams with it, and `bench docs`."""
    crops = render_words(page_words(12, seed=5), seed=5)
    monkeypatch.setattr("clip4str_doctr.benchmark.cost.cost_words", lambda: crops)
    out = tmp_path / "benchmarks"
    names = [str(WEIGHTS) + name.removeprefix(MODELS[0]) for name in MODELS]
    suites = ["--suite", SUITES[0], "--suite", SUITES[1], "--words", str(WORDS), "--title", "Rendered suites"]
    assert main(["bench", "accuracy", "--models", *names, *suites, "--device", "cpu", "-o", str(out)]) == 0
    old, new = (read_report(folder / "rendered-suites.json") for folder in (REPORTS, out))
    assert [table.title.partition(":")[0] for table in tables_of(new)] == [
        table.title.partition(":")[0] for table in tables_of(old)
    ]
    assert tables_of(new)[0].head == tables_of(old)[0].head
    assert_on_the_page(out, tables_of(new))
    if drawn_otherwise := [name for name in SUITES if not new["sets"][name]["as_defined"]]:
        pytest.skip(f"pictures of {', '.join(drawn_otherwise)} are drawn otherwise here: other fonts, Pillow or OpenCV")
    changed = []
    for name in SUITES:
        before, now = old["sets"][name], new["sets"][name]
        assert now["labels"] == before["labels"][:WORDS]
        for model in MODELS:
            answers = zip(before["answers"][model][:WORDS], now["answers"][model], strict=True)
            changed += [(name, model, *pair) for pair in answers if pair[0] != pair[1]]
    # Another CPU rounds otherwise, which tells between two answers that are equally likely.
    assert len(changed) <= 2, f"{changed}: the tables in docs/benchmarks are stale; measure anew: {WORDS_ANEW}"


@needs_fonts
@pytest.mark.slow
def test_pages_are_read_and_told_as_committed(tmp_path: Path) -> None:
    """`bench page` on one kind of pages, and `bench docs`."""
    out = tmp_path / "benchmarks"
    seeds = ["--seeds", "2", "--first-seed", "20", "--kinds", KIND, "--device", "cpu"]
    models = ["--detectors", "rapidocr", "--models", str(WEIGHTS)]
    assert main(["bench", "page", *models, *seeds, "-o", str(out / "pages.json")]) == 0
    old, new = (read_report(folder / "pages.json") for folder in (REPORTS, out))
    assert page_tables(new)[0].head == page_tables(old)[0].head
    assert_on_the_page(out, page_tables(new))
    (row,) = new["rows"]
    (before,) = (one for one in old["rows"] if (one["kind"], one["reader"]) == (row["kind"], row["reader"]))
    shares = {key: before[key] for key in ("recall", "precision", "word_accuracy", "hmean", "cer", "cer_rows")}
    # Another release of RapidOCR may find other words.
    assert {key: row[key] for key in shares} == pytest.approx(shares, abs=0.02), f"measure anew: {PAGES_ANEW}"
    assert row["words"] == before["words"]


def assert_on_the_page(reports: Path, tables: Sequence[Table]) -> None:
    assert main(["bench", "docs", str(reports)]) == 0
    page = reports.with_suffix(".md").read_text(encoding="utf-8")
    assert all(table.markdown() in page for table in tables)
