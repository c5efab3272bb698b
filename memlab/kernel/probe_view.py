"""Finding out, by doing, what this host lets memlab see: page tables, delays, pressure, frames."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from pathlib import Path

from memlab.errors import HostError
from memlab.kernel import psi, taskstats
from memlab.kernel.files import Roots
from memlab.kernel.finding import Feature, Finding, tried
from memlab.kernel.madvise import pageout
from memlab.kernel.pagemap_scan import Category, Scanner, Unsupported
from memlab.kernel.taskstats import Taskstats
from memlab.units import PAGE, format_duration

_TOUCHED = 3
_PAGES = 8
_FRAME = (1 << 55) - 1


def probe_psi(roots: Roots) -> Finding:
    """Whether the kernel tells how long tasks wait for memory."""

    def work() -> str:
        pressure = psi.read_host(roots)
        if pressure is None or pressure.some_total_us is None:
            raise HostError("pressure stall information is off or not built")
        return f"{format_duration(pressure.some_total_us / 1e6)} of stalls since boot"

    repair = "boot with psi=1 on the kernel command line"
    return tried(
        Feature.PSI, "read /proc/pressure/memory", work, repair=repair, affects=("stall columns",)
    )


def probe_delays(roots: Roots, *, root: bool) -> Finding:
    """Whether taskstats answers, and delay accounting can be switched on."""
    how = "asked taskstats about this very process"

    def work() -> str:
        with Taskstats() as stats:
            delays = stats.of_group(os.getpid())
        if delays is None:
            raise HostError("taskstats does not know this process")
        on = taskstats.delayacct(roots)
        if on is None:
            raise HostError("this kernel counts no delays (CONFIG_TASK_DELAY_ACCT)")
        state = "on" if on else "off, a lab switches it on"
        return f"taskstats version {delays.version}; counting is {state}"

    repair = "use a kernel with CONFIG_TASKSTATS and CONFIG_TASK_DELAY_ACCT; before 5.14 boot with"
    return tried(
        Feature.DELAYS,
        how,
        work,
        repair=f"{repair} delayacct",
        affects=("what sharing and swapping cost in time",),
        root=root,
    )


def probe_pagemap_scan(*, root: bool) -> Finding:
    """Whether the kernel can list runs of pages by state, counted on pages of our own."""
    how = f"touched {_TOUCHED} of {_PAGES} pages and let the kernel find them"

    def work() -> str:
        with _Pages() as pages, Path("/proc/self/pagemap").open("rb", buffering=0) as file:
            try:
                found = Scanner(file.fileno()).count(pages.start, pages.end, Category.PRESENT)
            except Unsupported as error:
                raise HostError("this kernel has no PAGEMAP_SCAN (it came with 6.7)") from error
        if found != _TOUCHED:
            raise HostError(f"it found {found} pages")
        return f"it found all {_TOUCHED}"

    return tried(
        Feature.PAGEMAP_SCAN,
        how,
        work,
        repair="none needed: memlab reads pagemap instead, at 2 to 3 times the cost",
        affects=("cheap deep samples",),
        root=root,
    )


def probe_frame_numbers(*, root: bool) -> Finding:
    """Whether pagemap shows frame numbers, which unique frames are counted by."""
    how = "read the frame number of a page of its own"
    affects = ("machine memory of shared pages, counted frame by frame",)

    def work() -> str:
        with _Pages() as pages, Path("/proc/self/pagemap").open("rb", buffering=0) as file:
            file.seek(pages.start // PAGE * 8)
            (entry,) = struct.unpack("=Q", file.read(8))
        if not entry & _FRAME:
            raise PermissionError(errno.EPERM, "they read as 0: CAP_SYS_ADMIN is missing")
        return "they are shown"

    repair = "start the container with CAP_SYS_ADMIN (docker run --privileged)"
    return tried(Feature.FRAME_NUMBERS, how, work, repair=repair, affects=affects, root=root)


def probe_pageout(*, root: bool) -> Finding:
    """Whether pages of a chosen process can be pushed out."""
    how = "asked the kernel to push out a page of its own"

    def work() -> str:
        pidfd = os.pidfd_open(os.getpid())
        try:
            with _Pages() as pages:
                advised = pageout(pidfd, pages.start, PAGE)
        finally:
            os.close(pidfd)
        if advised != PAGE:
            raise HostError("process_madvise did not take it")
        return "process_madvise works" + ("" if root else "; on VMs of a lab it needs root")

    affects = ("policies that compress or swap a VM of their choice",)
    repair = "use Linux 5.10 or later; in a container, allow process_madvise"
    return tried(Feature.PAGEOUT, how, work, repair=repair, affects=affects, root=root)


class _Pages:
    """A few private pages of which the first are touched."""

    def __enter__(self) -> _Pages:
        self._map = mmap.mmap(-1, _PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        for number in range(_TOUCHED):
            self._map[number * PAGE] = 1
        anchor = ctypes.c_char.from_buffer(self._map)
        self.start = ctypes.addressof(anchor)
        self.end = self.start + _PAGES * PAGE
        del anchor
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()
