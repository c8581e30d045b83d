"""Recognisers beside each other on the same words: one protocol, a report that keeps every answer.

From the answers all figures, intervals and tests can be made again (`refigured`), so a report can be checked.
"""

import logging
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import torch

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.recognisers import Recogniser, versions
from clip4str_doctr.benchmark.report import device_name, package_commit
from clip4str_doctr.benchmark.statistics import RESAMPLES, compare_pair, figures_of, intervals
from clip4str_doctr.benchmark.word_sets import ALL, WordSet
from clip4str_doctr.charset import plain
from clip4str_doctr.training.metrics import judge, nfc

__all__ = ["ALL", "as_word", "compare", "merged", "refigured"]

logger = logging.getLogger(__name__)

_SEED = 0
_BATCH = 256
# What reports that are merged may differ in, and what stands between several; a device's name has commas in it.
_MADE_WITH = {"package": ", ", "commit": ", ", "device": "; "}

PROTOCOL = {
    "normalisation": "NFC; plain quotes, dashes and ellipses for typographic ones; white space is taken out of labels "
    "and answers, for a crop is one word",
    "dropped": 0,
    "cased": "share of words that are right, case, marks and punctuation included",
    "uncased": "the same without regard to case",
    "tone": "cased, HÒA and HOÀ being the same",
    "bare": "cased, all marks taken away from both, đ being d",
    "ned": "mean of 1 - edit distance / length of the longer string; two empty strings: 1",
    "cer": "edit distances over all symbols of the labels",
    "interval": f"95 %, percentiles of a bootstrap over words, {RESAMPLES} times, seed {_SEED}",
    "p": "McNemar's exact test of cased accuracy, two-sided, not corrected for the number of pairs",
    "difference": f"in cased accuracy, with the 95 % interval of a paired bootstrap over words, {RESAMPLES} times",
}


def compare(
    recognisers: Sequence[Recogniser],
    sets: Iterable[WordSet],
    *,
    title: str,
    command: str | None = None,
    device: torch.device | str = "cpu",
    tell: Callable[[str], object] = logger.info,
    save: Callable[[dict[str, Any]], object] = lambda report: None,
) -> dict[str, Any]:
    """Every recogniser reads every word -> a JSON-ready report: protocol, models, sets with answers and figures.

    title, command: what the report is called and how it can be made again. device: where the recognisers were asked to
    read. tell: is told each set's figures. save: is given the report whenever a recogniser has read a set, and with the
    set's figures: reading takes hours, and a later set may be one that cannot be read.
    Raises ValueError for no recognisers, two of one name, no sets, or an empty set.
    """
    names = [one.name for one in recognisers]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"recognisers need different names, at least one, got {names}")
    report: dict[str, Any] = {
        "kind": "words",
        "title": title,
        "command": command,
        "protocol": PROTOCOL,
        "made": _made(device),
        "models": {one.name: dict(one.facts) for one in recognisers},
        "sets": {},
    }
    for words in sets:
        if not words.labels:
            raise ValueError(f"the set {words.name} holds no words")
        if words.name in report["sets"]:
            raise ValueError(f"two sets are called {words.name}")
        if words.name == ALL:
            raise ValueError(f"a set may not be called {ALL}, as all sets together are; rename it")
        answers: dict[str, list[str]] = {}
        labels = [as_word(label) for label in words.labels]
        told = {"about": words.about, "n": len(labels), **words.checks, "labels": labels, "answers": answers}
        report["sets"][words.name] = told
        for one in recognisers:
            answers[one.name] = _read(one, words)
            save(report)
        refigured(report, [words.name])
        for name, figures in report["sets"][words.name]["figures"].items():
            tell(f"{words.name}: {name}: {100 * figures['cased']['value']:.1f} % of {len(words.labels)}")
        save(report)
    if not report["sets"]:
        raise ValueError("there are no words to read; name a suite or a data set")
    return report


def as_word(text: str) -> str:
    """A string as it is compared: NFC, with plain quotes, dashes and ellipses, without white space."""
    return plain(nfc(["".join(text.split())])[0])


def refigured(report: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """The report itself, its figures and pairs made anew from the answers that it keeps.

    names: of sets, None for all; what all sets give together is made in any case.
    """
    for name in report["sets"] if names is None else names:
        one = report["sets"][name]
        one["figures"], one["pairs"] = _figures(one["labels"], one["answers"])
    sets = list(report["sets"].values())
    labels = [label for one in sets for label in one["labels"]]
    answers = {name: [text for one in sets for text in one["answers"][name]] for name in report["models"]}
    figures, pairs = _figures(labels, answers)
    report[ALL] = {"n": len(labels), "figures": figures, "pairs": pairs}
    return report


def merged(reports: Sequence[Mapping[str, Any]], title: str | None = None) -> dict[str, Any]:
    """One report of several, made with other recognisers or of other sets under the same protocol.

    Each recogniser must have read each set, and sets of one name must hold the same words. Where several reports have a
    recogniser's answers, the last counts; its weights may be others than before if no answers of those are left. Costs
    are left out: they are to be measured together. Raises ValueError for reports that do not fit, naming what does not.
    """
    first = reports[0]
    if other := [one["title"] for one in reports if one["protocol"] != first["protocol"] or one["kind"] != "words"]:
        raise ValueError(f"reports of one protocol can be merged, that of {other[0]!r} is another")
    # Nothing of what was given may change with what is made of it.
    whole = {key: first[key] for key in ("kind", "protocol", "made")}
    commands = dict.fromkeys(line for one in reports for line in (one.get("command") or "").splitlines())
    specs = dict.fromkeys(spec for one in reports for spec in one.get("specs", one["models"]))
    models: dict[str, Any] = {}
    read_by: dict[str, set[str]] = {}
    for one in reports:
        for name, facts in one["models"].items():
            # A name alone does not tell: weights are trained anew under it.
            if _identity(models.get(name, facts)) != _identity(facts) and not read_by[name] <= set(one["sets"]):
                raise ValueError(
                    f"{name} has other weights or settings in {one['title']!r} than in a report before it, and did not "
                    f"read {', '.join(sorted(read_by[name] - set(one['sets'])))} with them"
                )
            models[name] = facts
            read_by.setdefault(name, set()).update(one["sets"])
    whole |= {"title": title or first["title"], "command": "\n".join(commands), "specs": list(specs), "models": models}
    made = [one["made"] for one in reports]
    joined: dict[str, Any] = {key: _joined([one.get(key) for one in made], mark) for key, mark in _MADE_WITH.items()}
    if kept := [one["versions"] for one in made if "versions" in one]:
        joined["versions"] = {
            name: _joined([one.get(name) for one in kept], ", ") for name in dict.fromkeys(chain(*kept))
        }
    whole["made"] = {**first["made"], **joined}
    if notes := dict.fromkeys(one["note"] for one in reports if one.get("note")):
        whole["note"] = " ".join(notes)
    sets: dict[str, dict[str, Any]] = {}
    for one in reports:
        for name, words in one["sets"].items():
            if "labels" not in words:
                raise ValueError(f"the report {one['title']!r} keeps no answers of {name} to be merged")
            known = sets.setdefault(name, {**words, "answers": {}})
            facts = (known.keys() | words.keys()) - {"answers", "figures", "pairs"}
            if any(known.get(key) != words.get(key) for key in facts):
                raise ValueError(f"the words of {name} are others in {one['title']!r}; they must be the same in all")
            known["answers"].update(words["answers"])
    for name, words in sets.items():
        if lacking := [model for model in models if model not in words["answers"]]:
            raise ValueError(f"{', '.join(lacking)} did not read {name}; every recogniser must have read every set")
        words["answers"] = {model: words["answers"][model] for model in models}
    return refigured({**whole, "sets": sets})


def _joined(told: Sequence[str | None], mark: str) -> str | None:
    """Each once, None where none tells; reports that were merged before tell several in one."""
    return mark.join(dict.fromkeys(part for one in told if one is not None for part in one.split(mark))) or None


def _identity(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(facts.get(key) for key in ("weights_sha256", "settings", "parameters"))


def _figures(labels: Sequence[str], answers: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any], list[Any]]:
    judged = {name: judge(texts, labels) for name, texts in answers.items()}
    figures = {}
    for name, one in judged.items():
        values, spans = figures_of(one), intervals(one, _SEED)
        figures[name] = {
            key: {"value": round(value, 4), "interval": _rounded(spans[key])} for key, value in values.items()
        }
    pairs = []
    for one_name, other_name in combinations(judged, 2):
        pair = compare_pair(judged[one_name], judged[other_name], _SEED)
        pair = {**pair, "difference": round(pair["difference"], 4), "interval": _rounded(pair["interval"])}
        pairs.append({"one": one_name, "other": other_name, **pair, "p": float(f"{pair['p']:.3g}")})
    return figures, pairs


def _rounded(span: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in span]


def _read(one: Recogniser, words: WordSet) -> list[str]:
    answers: list[str] = []
    begin = time.perf_counter()
    for start in range(0, len(words.crops), _BATCH):
        answers += map(as_word, one(words.crops[start : start + _BATCH]))
    logger.info("%s read %d words of %s in %.1f s", one.name, len(answers), words.name, time.perf_counter() - begin)
    return answers


def _made(device: torch.device | str) -> dict[str, Any]:
    return {
        "package": __version__,
        "commit": package_commit(),
        "device": f"{device_name(device)}, Python {platform.python_version()}",
        "versions": versions("python-doctr", "torch", "numpy", "pillow", "opencv-python"),
    }
