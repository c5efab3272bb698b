"""PAGEMAP_SCAN: runs of pages by category, without an entry for each page.

An ioctl on /proc/PID/pagemap since 6.7 (52526ca7fdb9 "fs/proc/task_mmu: implement IOCTL to get and
optionally clear info about PTEs"). It knows present, swapped, zero and huge pages, but not merged
ones. Older kernels answer ENOTTY.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from array import array
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from memlab.errors import KernelError
from memlab.units import PAGE

REQUEST: Final = 0xC0606610
"""_IOWR('f', 16, struct pm_scan_arg), which is 96 bytes: twelve u64."""

_ARGUMENT: Final = struct.Struct("=12Q")
_RUN_WORDS: Final = 3  # struct page_region: start, end, categories
VECTOR: Final = 512
"""Runs an answer may have: as many as a piece of 2 MiB has pages, so one call does a piece."""


class Category(IntFlag):
    """PAGE_IS_… of the kernel's header."""

    FILE = 1 << 2
    PRESENT = 1 << 3
    SWAPPED = 1 << 4
    PFNZERO = 1 << 5
    HUGE = 1 << 6


@dataclass(frozen=True, slots=True)
class PageRun:
    """Pages in a row that are alike in the categories asked for. Addresses are bytes."""

    start: int
    end: int
    categories: Category

    @property
    def pages(self) -> int:
        """Pages of the run."""
        return (self.end - self.start) // PAGE


class Unsupported(Exception):  # noqa: N818  # an answer, not a fault: the caller goes another way
    """This kernel has no PAGEMAP_SCAN."""


def scan_piece(
    fd: int, start: int, end: int, any_of: Category, *, vector: int = VECTOR
) -> list[PageRun]:
    """Runs between two addresses that are in any of the categories.

    With more runs than the vector holds, 6.18 leaves a stale `walk_end`: going on from it counted
    36,161 instead of 30,685 pages. So the end of the last run is where the next call begins, and
    fewer runs than the vector holds mean that the piece is done. Runs ascend, or it is an error.
    """
    runs: list[PageRun] = []
    answer = array("Q", bytes(8 * _RUN_WORDS * vector))
    while start < end:
        count = _scan(fd, (start, end), any_of, answer)
        for at in range(0, count * _RUN_WORDS, _RUN_WORDS):
            run = PageRun(answer[at], answer[at + 1], Category(answer[at + 2]))
            if run.start < start or run.end <= run.start:
                raise KernelError("/proc/PID/pagemap", "trust PAGEMAP_SCAN of", errno.EIO)
            runs.append(run)
            start = run.end
        if count < vector:
            break
    return runs


def _scan(fd: int, bounds: tuple[int, int], any_of: Category, answer: array[int]) -> int:
    address, words = answer.buffer_info()
    # size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any of, return
    argument = bytearray(
        _ARGUMENT.pack(
            *(_ARGUMENT.size, 0, *bounds, 0, address, words // _RUN_WORDS),
            *(0, 0, 0, any_of, any_of),
        )
    )
    try:
        return int(fcntl.ioctl(fd, REQUEST, argument))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
            raise Unsupported from error
        if error.errno == errno.ESRCH:
            return 0
        raise KernelError("/proc/PID/pagemap", "scan", error.errno or 0) from error
