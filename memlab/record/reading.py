"""What the sampler reads of the host and of the lab: files kept open, figures by raw column.

A file that this kernel lacks gives None for its columns. VMs are read in `record.vmreader`.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel import meminfo, procs, psi, vmstat
from memlab.kernel.cgroup import GroupFiles, files_of, stat_names
from memlab.kernel.files import KeptFile, Roots, parse_names
from memlab.kernel.picker import Numbers, Picker
from memlab.kernel.swap import parse_areas
from memlab.record.sample import HOST_FAST, MEMORY_STAT
from memlab.units import KIB

Values = dict[str, int | None]
"""Figures by the names of raw columns."""

_KSM_FILES: Final = {
    "pages_shared": "pages_shared",
    "pages_sharing": "pages_sharing",
    "ksm_zero_pages": "ksm_zero_pages",
    "pages_scanned": "pages_scanned",
    "general_profit": "general_profit",
    "full_scans": "full_scans",
    "ksm_run": "run",
}
_VMSTAT: Final = tuple(
    column.name for column in HOST_FAST.columns if column.source == "/proc/vmstat"
)
_MEMINFO: Final = tuple(
    column.name for column in HOST_FAST.columns if column.source == "/proc/meminfo"
)
_STAT: Final = (*(name.removeprefix("workingset_") for name in MEMORY_STAT), "kernel")
_COLUMNS: Final = (*MEMORY_STAT, "kernel")
_SWAP: Final = MEMORY_STAT.index("swap")
_UNLIMITED: Final = 2**62
"""v1 prints no limit as the largest whole number of pages."""


def cpu_ns(pid: int | None) -> int | None:
    """CPU time that a process has used, all its threads, ns; None if it is gone.

    By the process's CPU clock (clock_getcpuclockid(3)); /proc/PID/schedstat has one thread's.
    """
    if pid is None:
        return None
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def number(file: KeptFile) -> int | None:
    """The one number of a file; None if it is absent or says `max`."""
    raw = file.read()
    return None if raw is None or raw == b"max\n" else int(raw)


class HostReader:
    """The host's own figures: meminfo, vmstat, KSM, pressure, ksmd."""

    def __init__(self, stack: ExitStack, roots: Roots) -> None:
        def keep(path: Path) -> KeptFile:
            return stack.enter_context(KeptFile(path))

        self._meminfo = keep(meminfo.path(roots))
        self._vmstat = keep(vmstat.path(roots))
        self._pick_meminfo = Picker(meminfo.lines(_MEMINFO))
        self._pick_vmstat = Picker([name.encode() for name in _VMSTAT])
        self._ksm = {name: keep(roots.ksm / file) for name, file in _KSM_FILES.items()}
        self._pressure = keep(psi.host_path(roots))
        self._ksmd = procs.ksmd_pid(roots)

    def fast(self) -> Values:
        """A row of host_fast by name."""
        values = self.memory()
        values |= zip(_VMSTAT, self._pick_vmstat(self._vmstat.read()), strict=True)
        values["ksmd_cpu_ns"] = cpu_ns(self._ksmd)
        values["stall_some_us"], values["stall_full_us"] = stalls(self._pressure)
        return values

    def medium(self) -> Values:
        """A row of host_medium by name."""
        return {
            name: int(raw) if (raw := file.read()) else None for name, file in self._ksm.items()
        }

    def memory(self) -> Values:
        """What meminfo says, by the names of the raw columns."""
        kib = self._pick_meminfo(self._meminfo.read())
        return {
            name: None if value is None else value * KIB
            for name, value in zip(_MEMINFO, kib, strict=True)
        }


def stalls(file: KeptFile | None) -> tuple[int | None, int | None]:
    """Both totals of a pressure file, µs; absent where there is none."""
    raw = file.read() if file else None
    return (None, None) if raw is None else psi.totals(raw)


class GroupReader:
    """The memory cgroup of a VM or of the lab, of either version. `stack` closes its files."""

    def __init__(self, memory: Path, unified: Path | None, stack: ExitStack) -> None:
        def keep(path: Path) -> KeptFile:
            return stack.enter_context(KeptFile(path))

        files: GroupFiles = files_of(memory, unified)
        self.is_v2 = files.usage.name == "memory.current"
        self.usage = keep(files.usage)
        self.pressure = keep(files.pressure) if files.pressure else None
        self.stat_file = files.stat
        self._cpu = keep(files.cpu) if files.cpu else None
        self._stat = keep(files.stat)
        self._swap = keep(files.swap) if self.is_v2 and files.swap else None
        self._pick: Picker | None = None

    def stat(self) -> Numbers | None:
        """memory.stat: MEMORY_STAT of the raw columns, then kernel; None if the group is gone.

        The read makes the kernel flush its per-CPU counters, without which reclaim decides by
        stale figures. That needs ≥ 5 Hz; the lab's keeper does it, this read only helps.
        """
        raw = self._stat.read()
        if raw is None:
            return None
        if self._pick is None:
            self._pick = Picker(stat_names(_STAT, raw))
        found = self._pick(raw)
        if self._swap is None:
            return found
        return (*found[:_SWAP], number(self._swap), *found[_SWAP + 1 :])

    def cpu_ns(self) -> int | None:
        """CPU time of all processes that are or were in it, ns; None without cgroup2 (4.15).

        `usage_usec`, the first line of cpu.stat: there without the controller too
        (kernel/cgroup/rstat.c, cgroup_base_stat_cputime_show).
        """
        raw = self._cpu.read() if self._cpu else None
        return None if raw is None else int(raw.split(None, 2)[1]) * 1000


@dataclass(frozen=True, slots=True)
class LabTarget:
    """Where the lab as a whole is found. `swap_device` as /proc/swaps names it."""

    memory_group: Path
    unified_group: Path | None
    budget: int
    swap_device: Path | None = None


class LabReader:
    """The lab's group, its swap device, and memlab's own cost."""

    def __init__(
        self, lab: LabTarget, main: int, guard: int | None, stack: ExitStack, roots: Roots
    ) -> None:
        def keep(path: Path) -> KeptFile:
            return stack.enter_context(KeptFile(path))

        self._lab = lab
        self._group = GroupReader(lab.memory_group, lab.unified_group, stack)
        limit = "memory.max" if self._group.is_v2 else "memory.limit_in_bytes"
        self._limit = keep(lab.memory_group / limit)
        self._zswap = keep(lab.memory_group / "memory.zswap.current")
        v1_kernel = lab.memory_group / "memory.kmem.usage_in_bytes"
        self._kernel = None if self._group.is_v2 else keep(v1_kernel)
        kills = "memory.events" if self._group.is_v2 else "memory.oom_control"
        self._kills = keep(lab.memory_group / kills)
        self._swaps = keep(roots.proc / "swaps")
        self._statm = keep(roots.proc / "self/statm")
        self._main, self._guard = main, guard

    def fast(self, vms: int, configured: int) -> Values:
        """A row of lab_fast by name."""
        statm = self._statm.read()
        some, full = stalls(self._group.pressure)
        return {
            "vms": vms,
            "configured": configured,
            "budget": self._lab.budget,
            "zswap": number(self._zswap),
            "main_cpu_ns": cpu_ns(self._main),
            "guard_cpu_ns": cpu_ns(self._guard),
            "sampler_cpu_ns": time.process_time_ns(),
            "sampler_resident_pages": int(statm.split()[1]) if statm else None,
            **self.levels(),
            "stall_some_us": some,
            "stall_full_us": full,
        }

    def levels(self) -> Values:
        """Usage, limit and swap slots now."""
        limit = number(self._limit)
        return {
            "usage": number(self._group.usage),
            "limit_bytes": None if limit is None or limit >= _UNLIMITED else limit,
            "swap_used": self._swap_used(),
        }

    def _swap_used(self) -> int | None:
        if self._lab.swap_device is None:
            return None
        areas = parse_areas(self._swaps.read() or b"")
        used = [area.used for area in areas if area.path == self._lab.swap_device]
        return used[0] if used else None

    def medium(self) -> Values:
        """A row of lab_medium by name."""
        stat = self._group.stat()
        values = Values() if stat is None else Values(zip(_COLUMNS, stat, strict=True))
        values["oom_kill"] = parse_names(self._kills.read() or b"").get("oom_kill")
        if self._kernel is not None:
            values["kernel"] = number(self._kernel)
        return values
