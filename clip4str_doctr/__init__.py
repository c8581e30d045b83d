"""CLIP4STR for Vietnamese, as a recognition model of docTR.

torch imports this package at the end of `import torch` (see `_autoload`), so nothing here may import torch, docTR or
transformers: public names are looked up when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip4str_doctr.factories import clip4str_vn, clip4str_vn_tiny
    from clip4str_doctr.modeling.clip4str import CLIP4STR
    from clip4str_doctr.plugin import register
    from clip4str_doctr.weights import load_model

__all__ = ["CLIP4STR", "__version__", "clip4str_vn", "clip4str_vn_tiny", "load_model", "register"]

__version__ = "0.1.0"

_ROOM_OF = {
    "CLIP4STR": "clip4str_doctr.modeling.clip4str",
    "clip4str_vn": "clip4str_doctr.factories",
    "clip4str_vn_tiny": "clip4str_doctr.factories",
    "load_model": "clip4str_doctr.weights",
    "register": "clip4str_doctr.plugin",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    from importlib import import_module

    value = getattr(import_module(_ROOM_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
