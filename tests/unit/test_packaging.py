"""What pyproject.toml repeats from the code, README from examples/, and both READMEs from the weights' card."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from clip4str_doctr.config import PRESETS
from clip4str_doctr.training.synth.families import STREET_PACKAGES
from clip4str_doctr.training.synth.fonts import FONT_PACKAGES

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_train_extra_brings_the_fonts_and_no_others() -> None:
    train = PROJECT["optional-dependencies"]["train"]
    assert [package for package in train if package.startswith("fontpkg-")] == [*FONT_PACKAGES, *STREET_PACKAGES]


def test_every_preset_has_a_name_in_doctr() -> None:
    assert set(PROJECT["entry-points"]["clip4str_doctr.recognition"]) == set(PRESETS)


@pytest.mark.parametrize("name", ["read_words.py", "read_page.py"])
def test_readme_shows_the_examples_as_they_are(name: str) -> None:
    example = (REPO / "examples" / name).read_text(encoding="utf-8")
    assert f"```python\n{example}```" in README


def test_the_readme_names_the_options_that_there_are() -> None:
    """Of every command of its synopsis, none that is not there and, but for `bench`, none left out."""
    from clip4str_doctr.cli import _parser

    synopsis = README.split("## Command line", 1)[1].split("```", 2)[1]
    told: dict[str, set[str]] = {}
    for line in synopsis.strip().splitlines():
        if found := re.match(r"clip4str-doctr (bench \w+|\w+)", line):
            command = found[1]
        told.setdefault(command, set()).update(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", line))
    assert len(told) > 10
    for command, options in told.items():
        parser = _parser()
        for word in command.split():
            (choices,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
            parser = choices[word]
        there = {option for action in parser._actions for option in action.option_strings}
        assert options <= there, command
        if "bench" not in command:
            left_out = [
                action.option_strings for action in parser._actions if action.option_strings and action.dest != "help"
            ]
            assert not [names for names in left_out if not options & set(names)], command


def test_what_is_written_of_the_weights_is_what_was_measured() -> None:
    folder = REPO / "pretrained" / "clip4str_vn_tiny"
    suites = json.loads((folder / "card.json").read_text(encoding="utf-8"))["metrics"]["suites"]

    def share(value: float) -> str:
        return f"{100 * value:.1f} %"

    told = (folder / "README.md").read_text(encoding="utf-8")
    for name, one in suites.items():
        row = re.search(rf"^\| {name} \|.*\|$", told, re.M)
        assert row is not None, name
        figures = [share(one[key]) for key in ("cased", "uncased", "ned", "visual")]
        unsaid = one.get("unsaid")
        figures.append(f"{share(unsaid['cased'])} ({unsaid['n']})" if unsaid else "")
        assert [cell.strip() for cell in row[0].split("|")[3:-1]] == figures, name
    signs = sorted(suites[name]["cased"] for name in ("photo", "sign", "hand"))
    said = (
        f"reads {share(suites['clean']['cased'])} of rendered document print of 16 pixels and more, "
        f"{share(signs[0])[:-2]} to {share(signs[-1])} of three suites of rendered street signs and "
        f"{share(suites['long_words']['cased'])} of words of 12 to 25 symbols"
    )
    assert said in " ".join(README.split())
