"""The workloads of the guest agent and their settings, as data.

The loader of lab files validates with this table and sends plain numbers (bytes, seconds, per
second) on the wire; `docs/workloads.md` is held against it by a test, and so are the defaults of
`agent/workload.c`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a setting is, and so how a lab file writes it."""

    SIZE = "size"  # bytes; `64MiB`
    SIZE_PER_SECOND = "size-per-second"  # bytes; `1MiB` means 1 MiB a second
    DURATION = "duration"  # seconds; `4s`
    FRACTION = "fraction"  # 0…1; a number or a percentage
    NUMBER = "number"  # a plain number
    COUNT = "count"  # a whole number
    RATE = "rate"  # operations per second; a plain number
    LEVELS = "levels"  # list of sizes


@dataclass(frozen=True, slots=True)
class Arg:
    """One setting of a workload. `default` None means that it follows from `size`."""

    name: str
    kind: Kind
    default: float | None
    meaning: str
    minimum: float = 0
    maximum: float = 1e15


@dataclass(frozen=True, slots=True)
class WorkloadInfo:
    """One workload: what it does, what its `size` is, what an operation is, its settings."""

    name: str
    does: str
    size: str
    operation: str
    args: tuple[Arg, ...] = ()

    def arg(self, name: str) -> Arg | None:
        """The setting of this name, None if there is none."""
        return next((arg for arg in self.args if arg.name == name), None)


def _writes(default: float) -> Arg:
    return Arg("writes", Kind.FRACTION, default, "part of the operations that write", maximum=1)


def _zipf() -> Arg:
    meaning = "exponent of Zipf's law over the pages; 0 = all pages alike"
    return Arg("zipf", Kind.NUMBER, 0.99, meaning, maximum=4)


_RATE: Final = Arg("rate", Kind.RATE, 0, "operations per second; 0 = as fast as it can")
_PERIOD: Final = Arg(
    "period",
    Kind.DURATION,
    1,
    "time of one round over the pages in use; 0 = as fast as it can",
    maximum=1e6,
)

WORKLOADS: Final = {
    info.name: info
    for info in (
        WorkloadInfo(
            "idle",
            "fills its memory once and never uses it again: cold memory",
            "memory that it fills; 0 = nothing at all",
            "none",
        ),
        WorkloadInfo(
            "toucher",
            "touches the pages of its working set in turn; the set follows a staircase",
            "virtual memory; no level may be larger",
            "a page is read, or its first 64 bytes are written",
            (
                Arg("levels", Kind.LEVELS, None, "sizes of the working set, in turn; [size]"),
                Arg("step", Kind.DURATION, 10, "time that each level lasts", 0.01, 1e6),
                _PERIOD,
                _writes(0.5),
            ),
        ),
        WorkloadInfo(
            "keyvalue",
            "reads and writes records, a few pages often and most seldom (Zipf's law)",
            "memory of all records, filled first",
            "one record of a page is read and checked, or written",
            (
                _zipf(),
                _writes(0.1),
                _RATE,
                Arg("think", Kind.DURATION, 0, "CPU time after each operation", maximum=1),
            ),
        ),
        WorkloadInfo(
            "scan",
            "goes through its memory from the first page to the last, and again",
            "memory that it goes through, filled first",
            "a page is read and checked, or written",
            (_writes(0), _RATE),
        ),
        WorkloadInfo(
            "cache",
            "reads a file of the guest's disk through the guest's page cache",
            "part of the file that it reads; needs a cache file of at least that size",
            "a page is read, from the cache or from the disk",
            (_zipf(), _RATE),
        ),
        WorkloadInfo(
            "burst",
            "allocates its memory, uses it, frees it, pauses, and again: the maker of ghosts",
            "memory that it allocates each time",
            "a page is read or written while it holds the memory",
            (
                Arg("hold", Kind.DURATION, 2, "time from full to freed", maximum=1e6),
                Arg("pause", Kind.DURATION, 8, "time from freed to the next time", maximum=1e6),
                Arg("rounds", Kind.COUNT, 0, "how many times; 0 = until it is ended", maximum=1e9),
                _PERIOD,
                _writes(0.5),
            ),
        ),
        WorkloadInfo(
            "leak",
            "allocates more and more, and frees nothing",
            "where it ends",
            "a page is allocated and filled",
            (Arg("rate", Kind.SIZE_PER_SECOND, 1 << 20, "growth; 0 = as fast as it can"),),
        ),
    )
}
"""All workloads by name, in the order of `wire.Workload`."""
