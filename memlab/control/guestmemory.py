"""The hands on a guest's memory from outside: push a part of it out, or make it old.

All by process_madvise on the VM's mapping, piece by piece, so that no call is long. Where the
kernel is to choose the pages, the VM's cgroup is asked instead (`MemoryGroup.reclaim`), for little
at a time: to lower the limit of a busy v1 cgroup by much blocks for seconds or is refused
(kernel-notes §3).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from memlab.errors import KernelError
from memlab.kernel.files import HOST, Roots, read_text
from memlab.kernel.madvise import cold, pageout
from memlab.units import MIB, PAGE
from memlab.vm.base import Target

PIECE: Final = 1 * MIB
PATIENCE: Final = 0.5
"""A round is cut off after so many seconds: the loop has other VMs to look after."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a squeeze went over (`passed`), pushed out of its frames, and took in the end (`net`:
    less what came back meanwhile), bytes."""

    passed: int = 0
    pushed: int = 0
    net: int = 0


class GuestMemory:
    """Of all VMs of a lab. `patience` is how many seconds one of its deeds may take.

    VMs without guest memory of their own (programs) are left alone.
    """

    def __init__(self, patience: float = PATIENCE, roots: Roots = HOST) -> None:
        self._patience = patience
        self._roots = roots
        self._cursors: dict[str, int] = {}

    def squeeze(
        self, target: Target, enough: Callable[[Swept], bool], look: Callable[[], None]
    ) -> Swept:
        """Go round the guest's memory, from where we last were, until it is enough.

        `look` is called after each piece. A fast machine compresses more in 20 ms than a small
        pool holds: between two looks of the keeper 14 MiB went into a pool of 8.
        """
        swept = Swept()
        if target.ram_start is None or target.ram_bytes is None:
            return swept
        deadline = time.monotonic() + self._patience
        first = now = self._resident(target.pid)
        with _pidfd(target.pid) as pidfd:
            for address, length in self._round(target.name, target.ram_bytes):
                was = now
                pageout(pidfd, target.ram_start + address, length)
                now = self._resident(target.pid)
                swept = Swept(swept.passed + length, swept.pushed + max(0, was - now), first - now)
                look()
                if enough(swept) or time.monotonic() > deadline:
                    break
        return swept

    def _round(self, name: str, size: int) -> Iterator[tuple[int, int]]:
        """Once round a memory of `size` bytes, in pieces, from where the last round ended."""
        for _ in range(-(-size // PIECE)):
            address = self._cursors.get(name, 0)
            length = min(PIECE, size - address)
            self._cursors[name] = (address + length) % size
            yield address, length

    def _resident(self, pid: int) -> int:
        text = read_text(self._roots.proc / str(pid) / "statm")
        return int(text.split()[1]) * PAGE if text else 0

    def age(self, target: Target) -> int:
        """Have the kernel take all of it for old: bytes gone over."""
        if target.ram_start is None or target.ram_bytes is None:
            return 0
        deadline = time.monotonic() + self._patience
        with _pidfd(target.pid) as pidfd:
            return cold(pidfd, target.ram_start, target.ram_bytes, deadline=deadline)


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        raise KernelError(f"pid:{pid}", "open a descriptor of", error.errno or 0) from error
    try:
        yield fd
    finally:
        os.close(fd)
