"""`bench accuracy`: figures with their protocol, as a table and as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from clip4str_doctr.benchmark.accuracy import markdown_table
from clip4str_doctr.cli import main
from clip4str_doctr.training.synth import fonts_installed
from clip4str_doctr.weight_card import read_card

needs_fonts = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[bench]"
)


@needs_fonts
def test_figures_come_with_their_protocol(micro_folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "folder"
    suites = ["--suite", "clean", "--suite", "tiny", "--words", "5"]
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *suites, "-o", str(out)]) == 0
    table = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in table.splitlines()] == ["suite", "---", "clean", "tiny"]
    assert (out / "accuracy.md").read_text(encoding="utf-8") == table
    report = json.loads((out / "accuracy.json").read_text(encoding="utf-8"))
    assert set(report["suites"]) == {"clean", "tiny"}
    row = report["suites"]["clean"]
    assert row["n"] == 5 and 0 <= row["cased"] <= row["uncased"] <= 1
    assert len(row["labels_crc"]) == len(row["pixels_crc"]) == 8
    assert report["protocol"]["weights_sha256"] == read_card(micro_folder).sha256["model.safetensors"]
    assert report["protocol"]["dropped"] == 0 and report["protocol"]["device"]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "dirty"], "no suite 'dirty'; there are clean, photo"),
        (["--words", "1001"], "has 1000 words, cannot give 1001"),
    ],
)
def test_what_cannot_be_measured_is_said(micro_folder: Path, arguments: list[str], message: str, capsys: Any) -> None:
    assert main(["bench", "accuracy", "--weights", str(micro_folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_table() -> None:
    row = {"cased": 0.5, "uncased": 0.75, "tone": 0.5, "cer": 0.125, "ned": 0.8751, "visual": 0.0, "n": 4}
    assert markdown_table({"clean": row}).splitlines()[2] == (
        "| clean | 4 | 50.0 % | 75.0 % | 50.0 % | 12.5 % | 87.5 % | 0.0 % |"
    )
