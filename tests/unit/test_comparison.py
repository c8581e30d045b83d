"""`bench accuracy --models`: recognisers beside each other, the report, its tables, and a recogniser in ten lines."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clip4str_doctr.benchmark import cost
from clip4str_doctr.benchmark.comparison import as_word, compare, merged, refigured
from clip4str_doctr.benchmark.cost import measure_cost, measure_costs
from clip4str_doctr.benchmark.recognisers import Crops, Recogniser, as_path
from clip4str_doctr.benchmark.results import files_of, page_of_results, read_report, write_page, write_report
from clip4str_doctr.benchmark.tables import csv_of, tables_of
from clip4str_doctr.benchmark.word_sets import WordSet
from clip4str_doctr.cli import main

REPO = Path(__file__).parents[2]
DOCS = REPO / "docs"
LABELS = ["Phở", "HÒA", "đường", "xe"]


def words(name: str = "signs", labels: list[str] = LABELS) -> WordSet:
    """Crops that tell which word they are by their brightness."""
    crops = [np.full((8, 20, 3), number, np.uint8) for number in range(len(labels))]
    return WordSet(name, "no words at all", crops, labels, {"labels_crc": "0"})


def says(*answers: str, name: str = "one") -> Recogniser:
    return Recogniser(name, lambda crops: [answers[int(crop[0, 0, 0])] for crop in crops], {"parameters": 1_500_000})


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    models = [says("Phở", "H Ò\nA", "đường", "xe"), says("phở", "HOÀ", "duong", "", name="two & co")]
    report = compare(models, [words(), words("print", LABELS[:2])], title="Two readers", command="type this")
    cost = {"ms_per_word": 1.25, "memory_mb": 10.4, "load": 0.5}
    protocol, made = {"ms_per_word": "measured"}, {"device": "a CPU"}
    report["cost"] = {
        "protocol": protocol,
        "made": made,
        "models": {"one": cost, "two & co": {**cost, "ms_per_word": 20.0}},
    }
    return report


def test_every_word_is_read_by_all(report: dict[str, Any]) -> None:
    signs = report["sets"]["signs"]
    assert signs["answers"] == {"one": LABELS, "two & co": ["phở", "HOÀ", "duong", ""]}
    figures = {key: told["value"] for key, told in signs["figures"]["two & co"].items()}
    assert figures == {"cased": 0.0, "uncased": 0.25, "tone": 0.25, "bare": 0.5, "ned": 0.35, "cer": 0.6154}
    assert signs["figures"]["one"]["cased"] == {"value": 1.0, "interval": [1.0, 1.0]}
    (pair,) = signs["pairs"]
    assert (pair["one"], pair["other"], pair["only_one"], pair["p"]) == ("one", "two & co", 4, 0.125)
    assert report["all"]["n"] == 6 and report["all"]["pairs"][0]["only_one"] == 6
    assert "commit" in report["made"] and report["protocol"]["dropped"] == 0


def test_figures_follow_from_the_answers(report: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(report))
    for one in kept["sets"].values():
        del one["figures"], one["pairs"]
    del kept["all"]
    assert json.loads(json.dumps(refigured(kept))) == json.loads(json.dumps(report))


def test_reports_are_merged(report: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    one, two = says("Phở", "H Ò\nA", "đường", "xe"), says("phở", "HOÀ", "duong", "", name="two & co")
    parts = [
        compare([model], [words(), words("print", LABELS[:2])], title=model.name, command="a") for model in (one, two)
    ]
    for number, part in enumerate(parts):
        write_report(part, tmp_path, f"part{number}")
    files = [str(tmp_path / f"part{number}.json") for number in (0, 1)]
    assert main(["bench", "merge", *files, "--title", "Both", "--note", "so", "-o", str(tmp_path)]) == 0
    both = read_report(tmp_path / "both.json")
    assert both["note"] == "so" and both["command"] == "a" and both["specs"] == list(report["models"])
    plain = json.loads(json.dumps(report))
    assert both["sets"] == plain["sets"] and both["all"] == plain["all"] and both["models"] == plain["models"]
    # On whatever they were made.
    elsewhere = {**parts[1], "made": {**parts[1]["made"], "device": "a GPU"}}
    assert merged([both, elsewhere])["made"]["device"] == f"{both['made']['device']}; a GPU"
    made = [{**part["made"], "package": version, "commit": None} for part, version in zip(parts, "12", strict=True)]
    made[1]["versions"] = {**made[1]["versions"], "torch": "0.1", "numpy": None}
    noted = [{**part, "made": one, "note": "so"} for part, one in zip(parts, made, strict=True)]
    told = merged(noted)
    assert told["note"] == "so" and told["made"]["package"] == "1, 2" and told["made"]["commit"] is None
    versions = parts[0]["made"]["versions"]
    assert told["made"]["versions"] == {**versions, "torch": f"{versions['torch']}, 0.1"}
    # By sets.
    parts = [compare([one, two], [each], title="a") for each in (words(), words("print", LABELS[:2]))]
    assert merged(parts)["all"] == report["all"]
    lonely, changed = compare([two], [words("other")], title=""), compare([two], [words(labels=["a"] * 4)], title="b")
    one_more = compare([two], [replace(words(), checks={"labels_crc": "0", "words": 4})], title="b")
    hidden = {**parts[0], "sets": {"signs": {}}}
    pages = {**parts[0], "kind": "pages"}
    for other, message in (
        (lonely, "one did not read other; every recogniser"),
        (changed, "the words of signs are others in 'b'"),
        (one_more, "the words of signs are others in 'b'"),
        (hidden, "keeps no answers of signs"),
        (pages, "of one protocol"),
    ):
        with pytest.raises(ValueError, match=message):
            merged([parts[0], other])
    with pytest.raises(ValueError, match="the words of signs are others"):
        merged([one_more, parts[0]])


def test_answers_of_other_weights_are_not_mixed() -> None:
    def trained(weights: str, *sets: str) -> dict[str, Any]:
        facts = {"weights_sha256": weights, "versions": {"torch": weights}}
        one = Recogniser("tiny", lambda crops: [weights] * len(crops), facts)
        return compare([one], [words(name) for name in sets], title=weights)

    with pytest.raises(ValueError, match="tiny has other weights or settings in 'new' .*did not read print with them"):
        merged([trained("old", "signs", "print"), trained("new", "signs")])
    whole = merged([trained("old", "signs"), trained("new", "signs", "print")])
    assert whole["models"]["tiny"]["weights_sha256"] == "new"
    assert {answer for one in whole["sets"].values() for answer in one["answers"]["tiny"]} == {"new"}


def test_what_was_read_is_kept_if_a_later_set_cannot_be(tmp_path: Path) -> None:
    def sets() -> Iterator[WordSet]:
        yield words()
        raise ValueError("1 of 3 pictures cannot be read")

    saved: list[str] = []
    with pytest.raises(ValueError, match="cannot be read"):
        compare([says(*LABELS)], sets(), title="a", save=lambda report: saved.append(json.dumps(report)))
    answers, whole = map(json.loads, saved)
    assert answers["sets"]["signs"]["answers"] == {"one": LABELS} and "figures" not in answers["sets"]["signs"]
    assert whole == json.loads(json.dumps(compare([says(*LABELS)], [words()], title="a")))

    def fails(crops: Crops) -> list[str]:
        raise RuntimeError("no more")

    saved.clear()
    with pytest.raises(RuntimeError, match="no more"):
        compare(
            [says(*LABELS), Recogniser("two", fails)], [words()], title="a", save=lambda r: saved.append(json.dumps(r))
        )
    assert json.loads(saved[-1])["sets"]["signs"]["answers"] == {"one": LABELS}


def test_what_cannot_be_compared_is_said() -> None:
    for models, sets, message in (
        ([], [words()], "different names, at least one, got"),
        ([says("a"), says("b")], [words()], r"different names.*\['one', 'one'\]"),
        ([says(*LABELS)], [], "there are no words to read"),
        ([says(*LABELS)], [words(labels=[])], "the set signs holds no words"),
        ([says(*LABELS)], [words(), words()], "two sets are called signs"),
        ([says(*LABELS)], [words("all")], "a set may not be called all"),
        (
            [Recogniser("short", lambda crops: ["a"])],
            [words()],
            "short must give one string a crop, gave 1 answers to 4",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            compare(models, sets, title="")
    assert as_word(" a\u0300 \n") == "à"
    assert as_word("\u201cPhở\u201d 25\u2026") == '"Phở"25...'  # whoever answers or labels so
    assert as_word("25.000\u20ab") != as_word("25.000đ")  # a reader may tell them apart


def test_tables(report: dict[str, Any]) -> None:
    tables = tables_of(report)
    assert [table.title.split(":")[0].split(",")[0] for table in tables] == [
        "All words together",
        "Words right",
        "Words right",
        "Cased accuracy beside one",
    ]
    first = tables[0].markdown().splitlines()
    assert first[0].startswith(
        "| recogniser | parameters, M | weights, MB | ms a word | memory, MB | cased | uncased |"
    )
    assert first[2].startswith("| one | 1.5 |  | 1.2 | 10 | 100.0 (100.0–100.0) | 100.0 |")
    # No word of the second reader is right, so no resample has one.
    assert tables[1].rows[1] == ("two & co", "0.0 (0.0–0.0)", "0.0 (0.0–0.0)")
    assert tables[3].rows == (("two & co", "−100.0, p = 0.125", "−100.0, p = 0.500", "−100.0, p = 0.031"),)
    latex = tables[3].latex()
    assert r"two \& co & $-$100.0, p = 0.125" in latex and latex.count(r"\\") == 2 and "toprule" in latex
    rows = list(csv.DictReader(io.StringIO(csv_of(report))))
    assert len(rows) == 3 * 2 * 6
    row = {"set": "signs", "n": "4", "model": "two & co", "figure": "uncased", "value": "0.25", "low": "0.0"}
    assert [one for one in rows if row.items() <= one.items()]


def test_a_report_as_files_and_a_page_of_it(
    report: dict[str, Any], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "benchmarks"
    write_report(report, folder, "two")
    names = {"two.json", "two.md", "two.csv", "two.tex", "two-bars.png", "two-speed.png"}
    assert {path.name for path in folder.iterdir()} == names
    for name in ("two-bars.png", "two-speed.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    (folder / "two-bars.png").unlink()
    assert main(["bench", "docs", str(folder)]) == 0
    page = tmp_path / "benchmarks.md"
    assert capsys.readouterr().out.strip() == str(page) and (folder / "two-bars.png").exists()
    text = page.read_text(encoding="utf-8")
    assert text == page_of_results({"two": read_report(folder / "two.json")}, "benchmarks")
    for part in (
        "## Two readers",
        "![Words right, by set](benchmarks/two-bars.png)",
        "```sh\ntype this\n```",
        "| two & co |",
    ):
        assert part in text
    # Whatever the folder is called and wherever one stands.
    dotted = tmp_path / "bench.v2"
    write_report(report, dotted, "two")
    monkeypatch.chdir(dotted)
    assert main(["bench", "docs", "."]) == 0
    assert "(bench.v2/two-bars.png)" in (tmp_path / "bench.v2.md").read_text(encoding="utf-8")
    assert not (tmp_path / "bench.md").exists()
    with pytest.raises(ValueError, match="must lie beside the folder"):
        write_page(folder, folder / "page.md")
    (folder / "two.json").write_text("{}")
    assert main(["bench", "docs", str(folder)]) == 2
    assert "is no report of `bench accuracy --models`" in capsys.readouterr().err


def test_the_committed_page_is_that_of_the_committed_reports() -> None:
    """`clip4str-doctr bench docs` makes it; and every figure in a report is that of its answers."""
    reports = {path.stem: read_report(path) for path in sorted((DOCS / "benchmarks").glob("*.json"))}
    assert reports and page_of_results(reports, "benchmarks") == (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for name, report in reports.items():
        if report["kind"] == "words":
            for suffix, text in files_of(report).items():
                assert (DOCS / "benchmarks" / f"{name}.{suffix}").read_text(encoding="utf-8") == text
            again = refigured(json.loads(json.dumps(report)))
            for place, one in [*report["sets"].items(), ("all", report["all"])]:
                remade = again["all"] if place == "all" else again["sets"][place]
                # Another numpy may draw other words, so intervals are only nearly the same.
                for model, figures in one["figures"].items():
                    for key, told in figures.items():
                        assert told["value"] == remade["figures"][model][key]["value"], (name, place, model, key)
                        assert told["interval"] == pytest.approx(remade["figures"][model][key]["interval"], abs=0.02)
                assert [pair["p"] for pair in one["pairs"]] == [pair["p"] for pair in remade["pairs"]]


def test_a_recogniser_takes_ten_lines(
    micro_folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in docs/benchmarking.md, whose program is replaced by one that everybody has."""
    text = (DOCS / "benchmarking.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "def read(" in block)
    assert len([line for line in code.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "gocr"
    program.write_text('#!/bin/sh\ntest "$1" = - && head -c 4 | tail -c 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    Path("my_reader.py").write_text(code, encoding="utf-8")
    (tmp_path / "words").mkdir()
    Image.fromarray(np.zeros((9, 30, 3), np.uint8)).save("words/a.png")
    Image.fromarray(np.zeros((9, 30, 3), np.uint8)).save("words/b.png")
    Path("words/labels.json").write_text(json.dumps({"a.png": "PNG", "b.png": "phở"}), encoding="utf-8")
    command = ["bench", "accuracy", "--models", str(micro_folder), "my_reader:read", "--data", "words", "--no-cost"]
    assert main([*command, "--title", "Mine, too", "-o", "out", "--device", "cpu"]) == 0
    report = read_report(Path("out/mine-too.json"))
    assert report["sets"]["words"]["answers"]["my_reader:read"] == ["PNG", "PNG"]
    assert report["specs"] == [str(micro_folder), "my_reader:read"] and "--words 1000" in report["command"]
    assert report["models"]["clip4str_vn_tiny"]["weights_sha256"] and str(tmp_path) not in report["command"]
    out = capsys.readouterr().out
    assert "| my_reader:read |  |  | 50.0 (0.0–100.0) | 50.0 |" in out


def test_costs_are_measured(micro_folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own; the report keeps all else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("clip4str_doctr.benchmark.cost.cost_words", lambda: words().crops * 3)
    report = compare([Recogniser("clip4str_vn_tiny", lambda crops: LABELS)], [words()], title="")
    write_report({**report, "specs": [str(micro_folder)]}, tmp_path, "mine")
    assert main(["bench", "cost", "mine.json", "--device", "cpu", "--note", "beside others"]) == 0
    measured = read_report(tmp_path / "mine.json")
    told = measured["cost"]["models"]["clip4str_vn_tiny"]
    assert told["ms_per_word"] > 0 and told["range"][0] <= told["ms_per_word"] <= told["range"][1]
    assert told["memory_mb"] is None or 0 < told["memory_mb"] < 2000
    assert measured["sets"] == report["sets"] and measured["cost"]["note"] == "beside others"
    # One that cannot be measured takes nothing from the others.
    write_report({**report, "specs": ["no_such_module:read", str(micro_folder)]}, tmp_path, "two")
    capsys.readouterr()
    assert main(["bench", "cost", "two.json", "--device", "cpu"]) == 1
    assert list(read_report(tmp_path / "two.json")["cost"]["models"]) == ["clip4str_vn_tiny"]
    monkeypatch.setattr("sys.executable", "false")
    assert main(["bench", "cost", "mine.json"]) == 2
    assert f"measuring {micro_folder} failed with status 1" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "name"), [("cpu", "cpu ("), ("cuda:1", "card at cuda:1, cuda:1 (")])
def test_the_device_that_was_asked_for_is_named(
    device: str, name: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with several GPUs, where the one in use may be another, or none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"card at {device}")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: 5e6 * (str(device) == "cuda:1"))
    report = compare([says(*LABELS)], [words()], title="", device=device)
    assert report["made"]["device"].startswith(name)
    # As the process that measures costs is called, and what it says.
    monkeypatch.chdir(tmp_path)
    Path("reader_of_nothing.py").write_text("print('hello')\ndef read(crops):\n    return [''] * len(crops)\n")
    np.savez("crops.npz", *words().crops * 3)
    monkeypatch.setattr("sys.argv", ["cost", "reader_of_nothing:read", "crops.npz", "told.json", "--device", device])
    cost.main()
    told = Path("told.json").read_text()
    assert json.loads(told).get("gpu_mb") == (5.0 if device == "cuda:1" else None)

    def ran(command: list[str], **_: Any) -> Any:
        if "--device" in command:  # else it is git
            Path(command[command.index("--device") - 1]).write_text(told)
        return subprocess.CompletedProcess(command, 0, "hello", "")

    monkeypatch.setattr(subprocess, "run", ran)
    assert measure_costs(["a:b"], device, words().crops)["made"]["device"].startswith(name)


def test_a_round_is_warmed_up_and_not_counted() -> None:
    calls: list[list[int]] = []

    def read(crops: Crops) -> list[str]:
        calls.append([int(crop[0, 0, 0]) for crop in crops])
        return [""] * len(crops)

    crops = [np.full((8, 20, 3), number, np.uint8) for number in range(13)]
    told = measure_cost(Recogniser("a", read), crops, rounds=2, batch=3)
    # Each round has words of its own.
    assert calls == [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9, 10], [11]] and told["ms_per_word"] >= 0
    with pytest.raises(ValueError, match="3 rounds need a crop each at least, got 2"):
        measure_cost(Recogniser("a", read), crops[:2], rounds=2)


def test_a_folder_by_its_bare_name_is_known_for_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "parseq", "clip4str_vn_tiny"):
        (tmp_path / name).mkdir()
    specs = ["mine", "mine#visual", "parseq", "clip4str_vn_tiny", "tesseract", "my_reader:read", "./mine"]
    assert [as_path(spec) for spec in specs] == ["./mine", "./mine#visual", *specs[2:]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "trueocr", "--weights", "a"], "--models name weights and options themselves"),
        (["--models", "no_such_thing"], "no recogniser is called 'no_such_thing'; give clip4str_vn"),
        (["--models", "json:loads", "--suite", "dirty"], "no suite 'dirty'"),
        (["--models", "json:loads", "--suite", "clean", "--suite", "clean"], "a suite can be read once"),
        (["--models", "json:loads", "--data", "a/all"], "the name that all sets together have in tables"),
        (["--data", "a", "b"], "several --data need --models"),
        (["--title", "Ours"], "--title, --note and --no-cost go with --models"),
        (["--models", "json:loads", "--data", "a/b", "c/b"], "bears the name of another data set, b"),
    ],
)
def test_what_cannot_be_asked_is_said(arguments: list[str], message: str, capsys: Any) -> None:
    assert main(["bench", "accuracy", *arguments]) == 2
    assert message in capsys.readouterr().err
