"""Which memory a process has used lately, by the accessed bits of its page tables.

Writing 1 to /proc/PID/clear_refs takes the bits away, and after a while smaps adds up as
`Referenced` what was used since (fs/proc/task_mmu.c; both since 2.6). It sees any process from
outside, and every page; but both walk the page tables under the process's mmap_lock, and reclaim,
which looks at the same bits, takes the pages for older than they are. Clearing does not flush the
TLB, so what stays in it is missed: a little too low, by the reach of the TLB at most (some MiB).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from memlab.errors import KernelError
from memlab.kernel import smaps
from memlab.kernel.files import HOST, Roots, write_text
from memlab.units import PAGE

_CLEAR_ALL = "1"
_SLACK = 0.05
"""Part of a period by which a look may be early or late and still counts as on time: without it a
caller that asks every quarter of a period, and is a hair early once, would wait for a quarter."""


@dataclass(slots=True)
class Looks:
    """What the looks at one process have found: pages used in the last whole period (None before
    the first is over), and the CPU time of all looks so far, µs."""

    pages: int | None = None
    cpu_us: int = 0


class Referenced:
    """Looks at a mapping of a process once a period."""

    def __init__(
        self, pid: int, start: int, length: int, period: float, *, roots: Roots = HOST
    ) -> None:
        """`start` and `length` are the mapping's, bytes; `period` seconds."""
        self.found = Looks()
        self._pid, self._span = pid, (start, start + length)
        self._period, self._slack = period, _SLACK * period
        self._roots = roots
        self._due: float | None = None

    def look(self) -> Looks:
        """Look again if the period is over; what is known now."""
        now = time.monotonic()
        if self._due is None or now >= self._due - self._slack:
            began = time.thread_time_ns()
            # Of the first look only the clearing counts: its bits are as old as the process.
            if self._due is not None:
                self.found.pages = self._read()
            self._clear()
            self.found.cpu_us += (time.thread_time_ns() - began) // 1000
            self._due = self._next(now, self._due)
        return self.found

    def _next(self, now: float, due: float | None) -> float:
        """When the next look is due: by the timetable, or anew from one that was late."""
        if due is None or now > due + self._slack:
            return now + self._period
        return due + self._period

    def _read(self) -> int | None:
        start, end = self._span
        mappings = smaps.read(self._pid, self._roots)
        if mappings is None:
            return None
        inside = [one.referenced for one in mappings if start <= one.start and one.end <= end]
        known = [size for size in inside if size is not None]
        return sum(known) // PAGE if known else None

    def _clear(self) -> None:
        try:
            write_text(self._roots.proc / str(self._pid) / "clear_refs", _CLEAR_ALL)
        except KernelError:
            self.found.pages = None  # it has ended
