"""Which file each output of a folder was made from.

Outputs are named by the stems of what was read, and scan.png of another folder has the same: without a record its text
would be taken for done, or written over the other's.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from clip4str_doctr.atomic import written

__all__ = ["RECORD", "DamagedRecordError", "Origins"]

RECORD = ".clip4str-doctr-page.json"


class DamagedRecordError(ValueError):
    """The record of a folder cannot be read."""


class Origins:
    """The record of one folder, kept within it as `RECORD`: name of the output -> source, relative to the folder, so
    that both may be moved together."""

    def __init__(self, folder: Path) -> None:
        """Raises DamagedRecordError, OSError."""
        self.folder = folder
        self._sources = self._read()

    def is_from(self, output: Path, source: Path) -> bool:
        """Whether the output, there or not, was last made from this source, or was to be."""
        return self._sources.get(output.name) == self._relative(source)

    def source_of(self, output: Path) -> str | None:
        """Relative to the folder; None for what is not ours."""
        return self._sources.get(output.name)

    def add(self, made: Iterable[tuple[Path, Path]]) -> None:
        """Record (output, source) pairs. Raises DamagedRecordError, OSError."""
        new = {output.name: self._relative(source) for output, source in made}
        if new.items() <= self._sources.items():
            return
        # Another run may write to the same folder.
        self._sources = {**self._read(), **new}
        with written(self.folder / RECORD) as part:
            part.write_text(json.dumps(self._sources, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")

    def _read(self) -> dict[str, str]:
        path = self.folder / RECORD
        try:
            sources = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DamagedRecordError(f"{path} cannot be read: {error}; delete it and use --overwrite") from error
        if not isinstance(sources, dict) or not all(isinstance(source, str) for source in sources.values()):
            raise DamagedRecordError(f"{path} must map outputs to sources; delete it and use --overwrite")
        return sources

    def _relative(self, source: Path) -> str:
        try:
            return Path(os.path.relpath(source.resolve(), self.folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return source.resolve().as_posix()
