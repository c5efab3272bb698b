"""The error tree. Every error keeps its facts as attributes and ends in something to do.

MemlabError                      exit 1
├── LabFileError                 exit 2   faults of a lab file, all at once, with positions
├── UsageError                   exit 2   a word of the command line that cannot be meant
├── HostError                    exit 3   this host cannot run it: what is missing, the repair
│   ├── AdmissionError                    it would not fit; the sums
│   └── OwnedError                        another lab holds the host; who, since when
├── KernelError                           a file of the kernel refused: path, operation, errno
├── VmError                               a VM failed: its command line and last words
│   └── GuestError                        the guest agent refused a command, or is silent
├── RecordingError                        a recording cannot be read or written
└── RestoreError                          something of the host could not be given back
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class MemlabError(Exception):
    """What went wrong in one sentence; `hint` says what the reader can do about it."""

    exit_code: int = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a lab file: where it stands, what is wrong, what would be right.

    `line` and `column` count from 1; 0 means that the fault has no single place.
    """

    code: str
    message: str
    fix: str
    line: int = 0
    column: int = 0
    path: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


class LabFileError(MemlabError):
    """All faults of one lab file. `source` is its text, to show the lines."""

    exit_code = 2

    def __init__(self, name: str, faults: Sequence[Fault], *, source: str = "") -> None:
        count = len(faults)
        super().__init__(f"{name}: {count} {'fault' if count == 1 else 'faults'}")
        self.name = name
        self.faults = tuple(faults)
        self.source = source


class UsageError(MemlabError):
    """A word of the command line that cannot be meant."""

    exit_code = 2


class HostError(MemlabError):
    """This host cannot run it; the hint is the repair."""

    exit_code = 3


class AdmissionError(HostError):
    """The lab would not fit into this host; the message prints the sums."""


class OwnedError(HostError):
    """Another lab holds this host."""


class KernelError(MemlabError):
    """The kernel refused `operation` on `path` with `errno`."""

    def __init__(self, path: Path | str, operation: str, errno: int, *, hint: str = "") -> None:
        super().__init__(f"cannot {operation} {path}: {os.strerror(errno)}", hint=hint)
        self.path = Path(path)
        self.operation = operation
        self.errno = errno


class VmError(MemlabError):
    """A VM failed; its command line and the last it said are kept."""

    def __init__(
        self, vm: str, message: str, *, argv: Sequence[str] = (), last: str = "", hint: str = ""
    ) -> None:
        words = f"VM {vm}: {message}"
        if last:
            words += f"\n  its last words: {last.strip()}"
        super().__init__(words, hint=hint)
        self.vm = vm
        self.argv = tuple(argv)
        self.last = last


class GuestError(VmError):
    """The guest agent refused a command, or did not answer in time."""


class RecordingError(MemlabError):
    """A recording cannot be read or written; the hint says which part is safe."""


class RestoreError(MemlabError):
    """Something of the host could not be given back; the message names each thing left."""
