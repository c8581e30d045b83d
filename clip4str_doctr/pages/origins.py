"""Which file each output of a folder was made from.

Outputs are named by the stems of what was read, and scan.png of another folder has the same: without a record its text
would be taken for done, or written over the other's.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["RECORD", "Origins"]

RECORD = ".clip4str-doctr-page.jsonl"


class Origins:
    """The record of one folder, kept within it as `RECORD`: a line for each output and the source it is made from,
    relative to the folder, so that both may be moved together; the last line of an output counts.

    Lines are only added, so runs beside each other lose none. What is no line, torn off by a crash, says nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError for a record that cannot be read."""
        self.folder = folder
        self._sources: dict[str, str] = {}
        path = folder / RECORD
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    self._sources.update(json.loads(line))
                except ValueError:
                    continue

    def is_from(self, output: Path, source: Path) -> bool:
        """Whether the output, there or not, was last made from this source, or was to be."""
        return self._sources.get(output.name) == self._relative(source)

    def source_of(self, output: Path) -> str | None:
        """Relative to the folder; None for what is not ours."""
        return self._sources.get(output.name)

    def add(self, made: Iterable[tuple[Path, Path]]) -> None:
        """Record (output, source) pairs. Raises OSError."""
        new = {output.name: self._relative(source) for output, source in made}
        new = {name: source for name, source in new.items() if self._sources.get(name) != source}
        if not new:
            return
        self._sources |= new
        # In ASCII, for names need be no valid UTF-8, and may hold what else ends a line.
        lines = "".join(json.dumps({name: source}) + "\n" for name, source in new.items())
        with open(self.folder / RECORD, "ab") as file:
            # A line that was torn off is ended first. One write: another run may add lines at the same time.
            file.write(("\n" + lines).encode())

    def _relative(self, source: Path) -> str:
        try:
            return Path(os.path.relpath(source.resolve(), self.folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return source.resolve().as_posix()
