"""What torch calls at the end of `import torch` (entry point group `torch.backends`): docTR shall learn our names.

docTR has no plugin mechanism of its own, torch (from 2.5 on) has one, and docTR imports torch. The call installs an
import hook that waits for docTR's recognition zoo, registers into it once it has been executed, and leaves.

It must be harmless: standard library only, well under 2 ms, and any failure becomes one warning, never a broken
`import torch` or `import doctr`. CLIP4STR_DOCTR_AUTOLOAD=0 switches it off, as does torch's own
TORCH_DEVICE_BACKEND_AUTOLOAD=0; `clip4str_doctr.register()` then does the same by hand.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["autoload"]

ZOO = "doctr.models.recognition.zoo"


def autoload() -> None:
    """Register with docTR now if its zoo is there, or as soon as it has been imported. Never raises."""
    try:
        if os.environ.get("CLIP4STR_DOCTR_AUTOLOAD", "1") == "0":
            return
        zoo = sys.modules.get(ZOO)
        if zoo is not None:
            _register(zoo)
        elif not any(isinstance(finder, _ZooFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _ZooFinder())
    except Exception as error:
        _warn(error)


class _ZooFinder(MetaPathFinder):
    """Finds docTR's zoo with the other finders' help, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != ZOO:
            return None
        # It stays until the zoo has been executed: a search need not be followed by an import.
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        for finder in others:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _ZooLoader(spec.loader, self)
                return spec
        return None


class _ZooLoader(Loader):
    """Executes the zoo with its own loader, and then registers."""

    def __init__(self, loader: Loader, finder: _ZooFinder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # inspect, importlib.resources and reload look at the module's loader: it gets its own back.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        try:
            if self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)
            _register(module)
        except Exception as error:
            _warn(error)


def _register(zoo: ModuleType) -> None:
    # By now torch and docTR are loaded, so the plugin may use them.
    from clip4str_doctr.plugin import register_into

    register_into(zoo)


def _warn(error: Exception) -> None:
    import warnings

    message = (
        f"clip4str-doctr could not add its names to docTR: {type(error).__name__}: {error}. torch and docTR work as "
        "usual. Call clip4str_doctr.register() for the whole error, or set CLIP4STR_DOCTR_AUTOLOAD=0 to silence this."
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        # Under `python -W error` a warning is an exception, which must not reach torch either.
        import logging

        logging.getLogger(__name__).warning(message)
