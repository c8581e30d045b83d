"""Links between the documents lead somewhere, and the README's tables say what the reports say."""

import json
import re
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(REPO).as_posix()
    for path in (*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("pretrained/**/*.md"))
)
README = (REPO / "README.md").read_text(encoding="utf-8")


def _without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def _anchors(path: Path) -> set[str]:
    """As GitHub makes them: lower case, spaces become dashes, all else but letters, digits, `-` and `_` goes."""
    heads = re.findall(r"^#+ (.+)$", _without_code(path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w-]", "", head.lower().replace(" ", "-")) for head in heads}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = REPO / name
    links = re.findall(r"\]\(([^)\s]+)\)", _without_code(document.read_text(encoding="utf-8")))
    for link in (link for link in links if not re.match(r"[a-z]+:", link)):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


def test_the_documents_are_those_that_there_are() -> None:
    assert {"README.md", "docs/pages.md", "docs/training/README.md", "pretrained/README.md"} <= set(DOCUMENTS)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_readme_tells_what_was_measured_of_boxes() -> None:
    suites = json.loads((REPO / "docs" / "boxes.json").read_text(encoding="utf-8"))["suites"]
    told = {
        "ends where the ink does": "as drawn",
        "a tenth of its height cut off every side": "margin -0.1 heights",
        "0.15 heights cut off every side": "margin -0.15 heights",
        "a tenth of its height wider on every side": "margin +0.1 heights",
        "0.4 heights wider on every side": "margin +0.4 heights",
        "empty ground to the right, 0.6 times as wide as the word": "right +0.6 widths",
        "as wide as the word": "right +1 widths",
    }
    for words, box in told.items():
        row = re.search(rf"^\| {re.escape(words)} \|.*$", README, re.M)
        assert row is not None, words
        measured = [f"{100 * suites[suite][box]['cased']:.0f} %" for suite in ("clean", "page", "sign")]
        assert _cells(row[0])[1:] == measured, words


def test_the_readme_tells_what_was_measured_of_pages() -> None:
    rows = json.loads((REPO / "docs" / "benchmarks" / "pages.json").read_text(encoding="utf-8"))["rows"]
    readers = ("rapidocr + clip4str_vn_tiny", "tesseract + clip4str_vn_tiny", "tesseract -l vie")
    right = {(row["kind"], row["reader"]): row["word_accuracy"] for row in rows}
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    measured = [[f"{100 * right[kind, reader]:.1f} %" for reader in readers] for kind in kinds]
    table = README.split("| page | RapidOCR", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    assert len(table) == len(kinds) > 5
    assert sorted(_cells(row)[1:] for row in table) == sorted(measured)
