"""Processes from outside: CPU time, resident memory, ksmd, and the clock that sleeps count in."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel.files import HOST, Roots, read_bytes, read_text
from memlab.units import KIB, PAGE

_KTHREADD: Final = 2


@dataclass(frozen=True, slots=True)
class Statm:
    """/proc/PID/statm, bytes: `resident` counts merged pages in full, in every VM."""

    size: int
    resident: int
    shared: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a process has in frames (`resident`) and in swap (`out`), its own memory too, bytes."""

    resident: int
    out: int


def boottime_ns() -> int:
    """CLOCK_BOOTTIME: it goes on while the host sleeps, and nobody can set it back."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id(roots: Roots = HOST) -> str | None:
    """The name of this boot, another one after each (`/proc/sys/kernel/random/boot_id`)."""
    return read_text(roots.proc / "sys/kernel/random/boot_id")


def release_of(roots: Roots = HOST) -> tuple[int, int]:
    """The running kernel's version and patch level, (6, 1) of 6.1.0-38-amd64; (0, 0) if unknown.

    For what a kernel shows only to whom has turned a knob; what can be looked for is looked for.
    """
    found = re.match(r"(\d+)\.(\d+)", read_text(roots.proc / "sys/kernel/osrelease") or "")
    return (int(found[1]), int(found[2])) if found else (0, 0)


def parse_cpu_ns(raw: bytes) -> int:
    """CPU time of a task from the bytes of its schedstat: user and system, nanoseconds."""
    return int(raw.split(None, 1)[0])


def cpu_ns(pid: int, roots: Roots = HOST) -> int | None:
    """CPU time that the main thread of `pid` has used; None if it has ended.

    `/proc/PID/schedstat`; of a process with threads only the first, as for ksmd.
    """
    raw = read_bytes(schedstat_path(pid, roots))
    return parse_cpu_ns(raw) if raw else None


def schedstat_path(pid: int, roots: Roots = HOST) -> Path:
    """The file of `cpu_ns`, for a reader that keeps it open."""
    return roots.proc / str(pid) / "schedstat"


def parse_statm(raw: bytes) -> Statm:
    """Size, resident and shared from the bytes of statm, where they are pages."""
    size, resident, shared = (int(word) * PAGE for word in raw.split()[:3])
    return Statm(size, resident, shared)


def parse_swapped(status: bytes) -> int | None:
    """Bytes in swap, zswap too, from the bytes of status: `VmSwap:   1234 kB`."""
    _, found, rest = status.partition(b"\nVmSwap:")
    return int(rest.split(None, 1)[0]) * KIB if found else None


def held(pid: int, roots: Roots = HOST) -> Held | None:
    """Memory of `pid` in frames and in swap; None if it has ended, or there is no swap here."""
    statm = read_bytes(roots.proc / str(pid) / "statm")
    out = parse_swapped(read_bytes(roots.proc / str(pid) / "status") or b"")
    return Held(parse_statm(statm).resident, out) if statm and out is not None else None


def ksmd_pid(roots: Roots = HOST) -> int | None:
    """Process number of ksmd; None without KSM, or where kernel threads cannot be seen.

    Looked for among the children of kthreadd, so that no process may pose as it by its name.
    """
    path = roots.proc / str(_KTHREADD)
    if read_text(path / "comm") != "kthreadd":
        return None  # in a container, number 2 is somebody else
    children = read_text(path / f"task/{_KTHREADD}/children") or ""
    found = (pid for pid in children.split() if read_text(roots.proc / pid / "comm") == "ksmd")
    pid = next(found, None)
    return None if pid is None else int(pid)
