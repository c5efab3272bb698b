"""What a VM has in frames, and its faults: by its process, or by the cgroup of a program.

A guest is one process. A program of a `command:` VM may start others, and what these hold and do
is the VM's as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from memlab.kernel.cgroup import stat_names
from memlab.kernel.files import KeptFile
from memlab.kernel.picker import Picker
from memlab.units import PAGE

Keep = Callable[[Path], KeptFile]
"""Opens a file that its owner closes."""
_STAT: Final = ("anon", "mapped", "pgfault", "pgmajfault")


class Held(NamedTuple):
    """Pages in frames, those of them that are a file's, and faults since the VM began."""

    resident: int | None
    files: int | None
    minor: int | None
    major: int | None


class HeldReader(Protocol):
    """Of one VM; None once it has ended."""

    def read(self) -> Held | None:
        """Now."""


class OfProcess:
    """By statm, and with `faults` by fields 10 and 12 of stat: where no agent counts these."""

    def __init__(self, process: Path, keep: Keep, *, faults: bool) -> None:
        self._statm = keep(process / "statm")
        self._stat = keep(process / "stat") if faults else None

    def read(self) -> Held | None:
        """Now; None once the process has ended."""
        statm = self._statm.read()
        if statm is None:
            return None
        _, resident, files, _ = statm.split(None, 3)
        return Held(int(resident), int(files), *self._faults())

    def _faults(self) -> tuple[int | None, int | None]:
        if self._stat is None or (raw := self._stat.read()) is None:
            return None, None
        words = raw.rpartition(b")")[2].split()  # the name may have blanks and brackets
        return int(words[7]), int(words[9])


class OfGroup:
    """By memory.stat of `group`, while its first process runs.

    A page of a file is charged to whoever read it first: what a program maps of a library that
    others had before it is not here.
    """

    def __init__(self, process: Path, stat: Path, keep: Keep) -> None:
        self._life = keep(process / "statm")
        self._stat = keep(stat)
        self._pick: Picker | None = None

    def read(self) -> Held | None:
        """Now; None once the first process has ended."""
        raw = self._stat.read()
        if raw is None or self._life.read() is None:
            return None
        if self._pick is None:
            self._pick = Picker(stat_names(_STAT, raw))
        anon, mapped, faults, major = self._pick(raw)
        return Held(
            None if anon is None or mapped is None else (anon + mapped) // PAGE,
            None if mapped is None else mapped // PAGE,
            None if faults is None or major is None else faults - major,
            major,
        )
