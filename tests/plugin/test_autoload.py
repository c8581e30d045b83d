"""The import hook: it registers by itself, it can be switched off, and it never breaks `import torch` or docTR."""

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest

from clip4str_doctr import _autoload

FRESH = """
import sys
from doctr.models import recognition_predictor
assert "clip4str_doctr.weights" not in sys.modules, "docTR's import should stay as cheap as it is"
import numpy as np
crops = [np.full((40, 200, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8)]
for pretrained in (True, False):
    predictor = recognition_predictor("clip4str_vn_tiny", pretrained=pretrained)
    assert type(predictor.pre_processor).__name__ == "CropPreProcessor", "docTR's own letterboxes"
    preds = predictor(crops)
    assert len(preds) == 2 and all(isinstance(text, str) and 0 <= conf <= 1 for text, conf in preds), preds
left = [finder for finder in sys.meta_path if type(finder).__module__.startswith("clip4str_doctr")]
assert not left, left
print("fine")
"""

# Run with torch's own autoload switched off, so that the hook is called here for the first time.
FIRST_CALL = """
import sys, torch
before = set(sys.modules)
from clip4str_doctr._autoload import autoload
autoload()
print(*sorted(set(sys.modules) - before), len([one for one in sys.meta_path if type(one).__name__ == "_ZooFinder"]))
"""

EXPLICIT = """
import sys, doctr.models
from doctr.models.recognition import zoo
assert "clip4str_vn" not in zoo.ARCHS
assert not any("clip4str" in name for name in sys.modules) or {unloaded}
import clip4str_doctr
clip4str_doctr.register()
wrapped = zoo._predictor
clip4str_doctr.register()
assert zoo._predictor is wrapped and zoo.ARCHS.count("clip4str_vn") == zoo.ARCHS.count("clip4str_vn_tiny") == 1
assert doctr.models.clip4str_vn is doctr.models.recognition.clip4str_vn
from doctr.models import recognition_predictor
recognition_predictor("clip4str_vn_tiny")
print("fine")
"""


def test_fresh_process_with_nothing_of_ours_imported(run_python: Any) -> None:
    done = run_python("-W", "error::RuntimeWarning", "-c", FRESH)
    assert done.stdout == "fine\n", done.stderr


def test_the_first_call_imports_nothing_but_the_hook(run_python: Any) -> None:
    """What keeps it within 2 ms, and can be told on any machine: torch's import has brought all else that it needs."""
    done = run_python("-c", FIRST_CALL, TORCH_DEVICE_BACKEND_AUTOLOAD="0")
    assert done.stdout == "clip4str_doctr clip4str_doctr._autoload 1\n", done.stdout + done.stderr


@pytest.mark.parametrize("switch", ["TORCH_DEVICE_BACKEND_AUTOLOAD", "CLIP4STR_DOCTR_AUTOLOAD"])
def test_switched_off_and_registered_by_hand(run_python: Any, switch: str) -> None:
    unloaded = switch == "CLIP4STR_DOCTR_AUTOLOAD"  # then torch has called us, and we have done nothing
    done = run_python("-c", EXPLICIT.format(unloaded=unloaded), **{switch: "0"})
    assert done.stdout == "fine\n", done.stderr


def test_a_broken_hook_is_one_warning_and_nothing_else(run_python: Any) -> None:
    broken = """
import clip4str_doctr._autoload as hook
hook._ZooFinder.__init__ = lambda self: 1 / 0
import torch
assert torch.ones(2).sum() == 2
from doctr.models.recognition import zoo
assert "clip4str_vn" not in zoo.ARCHS
"""
    done = run_python("-c", broken)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning") == 1 and "ZeroDivisionError" in done.stderr, done.stderr


def test_a_broken_plugin_leaves_doctr_working_with_one_warning(run_python: Any) -> None:
    broken = """
import sys
sys.modules["clip4str_doctr.plugin"] = None
from doctr.models import recognition_predictor
from doctr.models.recognition import zoo
assert "clip4str_vn" not in zoo.ARCHS and zoo.__spec__.loader is zoo.__loader__
recognition_predictor("crnn_mobilenet_v3_small", pretrained=False, pretrained_backbone=False)
"""
    done = run_python("-c", broken)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning") == 1 and "clip4str_doctr.register()" in done.stderr, done.stderr


def test_the_warning_stays_a_message_where_warnings_are_errors(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _autoload._warn(ValueError("no zoo"))
    assert "ValueError: no zoo" in caplog.text


def test_works_when_the_plugin_is_imported_before_doctr(run_python: Any) -> None:
    """As in a spawned worker that unpickles our preprocessor first."""
    code = """
import clip4str_doctr.plugin
from doctr.models.recognition import zoo
assert "clip4str_vn" in zoo.ARCHS
print("fine")
"""
    done = run_python("-W", "error::RuntimeWarning", "-c", code)
    assert done.stdout == "fine\n", done.stderr


@pytest.fixture
def without_zoo(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if docTR's zoo, and only that, had not been imported yet; and with finders that may be changed."""
    importlib.import_module(_autoload.ZOO)
    monkeypatch.delitem(sys.modules, _autoload.ZOO)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, _autoload._ZooFinder)])
    monkeypatch.delenv("CLIP4STR_DOCTR_AUTOLOAD", raising=False)
    return monkeypatch


def finders() -> int:
    return sum(isinstance(finder, _autoload._ZooFinder) for finder in sys.meta_path)


def test_one_finder_however_often_it_is_called(without_zoo: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        _autoload.autoload()
        assert finders() == 1


def test_opt_out_installs_nothing(without_zoo: pytest.MonkeyPatch) -> None:
    without_zoo.setenv("CLIP4STR_DOCTR_AUTOLOAD", "0")
    _autoload.autoload()
    assert finders() == 0


def test_registers_at_once_where_the_zoo_is_already_there(without_zoo: pytest.MonkeyPatch) -> None:
    zoo = ModuleType(_autoload.ZOO)
    seen: list[ModuleType] = []
    without_zoo.setitem(sys.modules, _autoload.ZOO, zoo)
    without_zoo.setattr(_autoload, "_register", seen.append)
    _autoload.autoload()
    assert seen == [zoo] and finders() == 0


def test_a_search_without_import_does_not_use_the_hook_up(without_zoo: pytest.MonkeyPatch) -> None:
    _autoload.autoload()
    spec = importlib.util.find_spec(_autoload.ZOO)
    assert spec is not None and finders() == 1
