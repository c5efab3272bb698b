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
from collections.abc import Iterator
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
"""Runs an answer may have; more are fetched by another call."""


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


class Scanner:
    """Scans the address space behind an open pagemap, whose descriptor stays the caller's."""

    def __init__(self, fd: int, *, vector: int = VECTOR) -> None:
        self._fd = fd
        self._vector = vector
        self._answer = array("Q", bytes(8 * _RUN_WORDS * vector))

    def runs(self, start: int, end: int, any_of: Category) -> list[PageRun]:
        """Runs between two addresses that are in any of the categories."""
        return [
            PageRun(first, stop, Category(what))
            for words in self._answers(start, end, any_of)
            for first, stop, what in zip(words[0::3], words[1::3], words[2::3], strict=True)
        ]

    def count(self, start: int, end: int, any_of: Category) -> int:
        """Pages between two addresses that are in any of the categories."""
        words = self._answers(start, end, any_of)
        return sum(sum(each[1::3]) - sum(each[0::3]) for each in words) // PAGE

    def _answers(self, start: int, end: int, any_of: Category) -> Iterator[array[int]]:
        """Runs as the kernel wrote them, three words each.

        With more runs than the vector holds, 6.18 leaves a stale `walk_end`: going on from it
        counted 36,161 instead of 30,685 pages. So the end of the last run is where the next call
        begins, and fewer runs than the vector holds mean that the piece is done.
        """
        while start < end:
            count = self._scan(start, end, any_of)
            words = self._answer[: count * _RUN_WORDS]
            yield words
            if count < self._vector:
                return
            if words[0] < start or words[-2] <= start:
                raise KernelError("/proc/PID/pagemap", "trust PAGEMAP_SCAN of", errno.EIO)
            start = words[-2]

    def _scan(self, start: int, end: int, any_of: Category) -> int:
        vector = self._answer.buffer_info()[0]
        # size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any, return
        words = (96, 0, start, end, 0, vector, self._vector, 0, 0, 0, int(any_of), int(any_of))
        try:
            return int(fcntl.ioctl(self._fd, REQUEST, bytearray(_ARGUMENT.pack(*words))))
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
                raise Unsupported from error
            if error.errno == errno.ESRCH:
                return 0
            raise KernelError("/proc/PID/pagemap", "scan", error.errno or 0) from error
