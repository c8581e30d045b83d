"""Which file each output of a folder was made from.

Outputs are named by the stems of what was read, and scan.png of another folder has the same: without a record its text
would be taken for done, or written over the other's.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clip4str_doctr.weight_card import sha256_of

__all__ = ["RECORD", "Origins"]

RECORD = ".clip4str-doctr-page.jsonl"


@dataclass(frozen=True)
class _Origin:
    source: str
    unread: tuple[int, ...] = ()
    how: str | None = None
    sha256: str | None = None
    pending: str | None = None

    @classmethod
    def of(cls, entry: Any) -> "_Origin":
        if isinstance(entry, str):
            return cls(entry)
        further = (entry.get(key) for key in ("how", "sha256", "pending"))
        return cls(entry["source"], tuple(entry.get("unread", ())), *further)

    def entry(self) -> Any:
        further: dict[str, Any] = {"unread": list(self.unread)} if self.unread else {}
        further |= {key: value for key in ("how", "sha256", "pending") if (value := getattr(self, key)) is not None}
        return {"source": self.source, **further} if further else self.source


class Origins:
    """The record of one folder, kept within it as `RECORD`: a line for each output and the source it is made from,
    relative to the folder, so that both may be moved together; the last line of an output counts.

    An output says more, once it is written: {"source": ..., "unread": [numbers of pages that it lacks, from 1 on],
    "how": options, "sha256": of what was written, "pending": of what is about to take its place}.
    Lines are only added, so runs beside each other lose none. What is no line, torn off by a crash, says nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError for a record that cannot be read."""
        self.folder = folder
        self._made: dict[str, _Origin] = {}
        path = folder / RECORD
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    self._made.update({name: _Origin.of(entry) for name, entry in json.loads(line).items()})
                except (ValueError, AttributeError, KeyError, TypeError):
                    continue

    def is_from(self, output: Path, source: Path) -> bool:
        """Whether the output, there or not, was last made from this source, or was to be."""
        return self.source_of(output) == self._relative(source)

    def source_of(self, output: Path) -> str | None:
        """Relative to the folder; None for what is not ours."""
        origin = self._made.get(output.name)
        return None if origin is None else origin.source

    def lacks_pages(self, output: Path) -> bool:
        """Whether some pages of the source could not be read when the output was made."""
        origin = self._made.get(output.name)
        return origin is not None and bool(origin.unread)

    def how(self, output: Path) -> str | None:
        """The options that the output was made with; None if that is not known."""
        origin = self._made.get(output.name)
        return None if origin is None else origin.how

    def changed(self, output: Path) -> bool:
        """Whether an output is there, but is not what was written: somebody corrected it. False if that is not known.

        Raises OSError."""
        origin = self._made.get(output.name)
        known = set() if origin is None else {origin.sha256, origin.pending} - {None}
        return bool(known) and output.exists() and sha256_of(output) not in known

    def expect(self, output: Path, source: Path, part: Path) -> None:
        """Record what is in `part`, which takes the place of the output: if we are stopped before `add`, it must not be
        taken for corrected by hand. Raises OSError."""
        # Where it replaces another's file, nothing is ours before it is there.
        if not self.is_from(output, source):
            return
        origin = self._made[output.name]
        if origin.pending is not None and output.exists() and sha256_of(output) == origin.pending:
            origin = replace(origin, sha256=origin.pending)  # an earlier run was stopped here
        self._record({output.name: replace(origin, pending=sha256_of(part))})

    def add(
        self,
        made: Iterable[tuple[Path, Path]],
        unread: Iterable[int] = (),
        how: str | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Record (output, source) pairs, the numbers of pages that they lack, and the options. whole: they are written,
        and stay known by what is in them. Raises OSError."""
        lacking, new = tuple(unread), {}
        for output, source in made:
            origin = _Origin(self._relative(source), lacking, how)
            if whole:
                origin = replace(origin, sha256=sha256_of(output))
            elif self.is_from(output, source):
                # What was written before is known until it is replaced.
                was = self._made[output.name]
                origin = replace(origin, sha256=was.sha256, pending=was.pending)
            new[output.name] = origin
        self._record(new)

    def _record(self, new: dict[str, _Origin]) -> None:
        new = {name: origin for name, origin in new.items() if self._made.get(name) != origin}
        if not new:
            return
        self._made |= new
        # In ASCII, for names need be no valid UTF-8, and may hold what else ends a line.
        lines = "".join(json.dumps({name: origin.entry()}) + "\n" for name, origin in new.items())
        with open(self.folder / RECORD, "ab") as file:
            # A line that was torn off is ended first. One write: another run may add lines at the same time.
            file.write(("\n" + lines).encode())

    def make(self) -> None:
        """The record's file, where there is none: whether the folder can be written to is better known before reading.
        Raises OSError."""
        with open(self.folder / RECORD, "ab"):
            pass

    def _relative(self, source: Path) -> str:
        try:
            return Path(os.path.relpath(source.resolve(), self.folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return source.resolve().as_posix()
