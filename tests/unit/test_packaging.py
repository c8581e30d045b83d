"""What pyproject.toml repeats from the code, and what README repeats from examples/."""

import tomllib
from pathlib import Path

import pytest

from clip4str_doctr.config import PRESETS
from clip4str_doctr.training.synth.families import STREET_PACKAGES
from clip4str_doctr.training.synth.fonts import FONT_PACKAGES

REPO = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_train_extra_brings_the_fonts_and_no_others() -> None:
    train = PROJECT["optional-dependencies"]["train"]
    assert [package for package in train if package.startswith("fontpkg-")] == [*FONT_PACKAGES, *STREET_PACKAGES]


def test_every_preset_has_a_name_in_doctr() -> None:
    assert set(PROJECT["entry-points"]["clip4str_doctr.recognition"]) == set(PRESETS)


@pytest.mark.parametrize("name", ["read_words.py", "read_page.py"])
def test_readme_shows_the_examples_as_they_are(name: str) -> None:
    example = (REPO / "examples" / name).read_text(encoding="utf-8")
    assert f"```python\n{example}```" in (REPO / "README.md").read_text(encoding="utf-8")
