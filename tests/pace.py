"""How much longer than on the machines that its figures are for a test waits on this one.

An emulated CPU (`tests/box/test_kernel.py`) runs Python about 16 times slower than those. So what
is a time, be it a deadline or the CPU that something may take, is multiplied by `slowness()`; what
is asserted otherwise stays.
"""

from __future__ import annotations

import mmap
import time
from functools import cache
from statistics import median
from typing import Final

ROUNDS: Final = 100_000
REFERENCE: Final = 0.0065
"""Seconds of CPU for the loop below, Python 3.11 on the machine that the figures are from."""
FILL: Final = 64 << 20
FILL_REFERENCE: Final = 0.0195
"""Seconds of CPU to back these bytes, a page at a time (3.2 GiB/s, docs/measuring.md)."""
_POPULATE_WRITE: Final = 23
"""uapi/asm-generic/mman-common.h, since 5.14; `mmap` does not name it."""
NOISE: Final = 3.0
"""A machine that is slower by less is held to the figures as they are."""


@cache
def slowness() -> float:
    """The factor, measured once: 1 on a machine of the usual kind."""
    found = min(_loop() for _ in range(5)) / REFERENCE
    return found if found > NOISE else 1.0


def core() -> float:
    """How many times slower than that machine this one is at the moment, 1 if it is faster.

    The worse of two: running Python, and giving pages to a process, which the kernel's work on
    memory goes with. Neighbours on a shared machine can make the second half as fast for hours.
    """
    loops = median(_loop() for _ in range(50)) / REFERENCE
    fills = median(_fill() for _ in range(20)) / FILL_REFERENCE
    return max(1.0, loops, fills)


def slow_motion(by: float = 2.0) -> float:
    """By what a lab's times are multiplied here: `by` where the CPU is emulated, as `up --box` does
    it by itself."""
    return by if slowness() > 1 else 1.0


def _loop() -> float:
    began, total = time.process_time(), 0
    for number in range(ROUNDS):
        total += number
    return time.process_time() - began


def _fill() -> float:
    with mmap.mmap(-1, FILL, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
        room.madvise(mmap.MADV_NOHUGEPAGE)
        began = time.process_time()
        room.madvise(_POPULATE_WRITE)
        return time.process_time() - began
