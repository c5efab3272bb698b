"""The schema of a recording, on one page: what a sample is made of.

A recording is one SQLite file. Raw counters are recorded as the kernel and the guest gave them,
and everything else (rates, sums, the ledger) is derived later by `record.derive`. Each raw column
is declared once, here; the tables, the insert statements and `docs/recording.md` come from this
declaration. Every value is a 64-bit integer, or NULL where this kernel or this kind of VM cannot
tell. Times are microseconds since the run began (CLOCK_BOOTTIME).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from memlab.guest.wire import BOARD_FIELDS
from memlab.record.columns import Entity, Tier

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x6D6C6162  # "mlab", shown by file(1)


Row = tuple[int | None, ...]
"""Values of one row in the order of its table's `names`."""


@dataclass(frozen=True, slots=True)
class RawColumn:
    """One recorded counter: its unit, the file it is read from, and what the kernel must have."""

    name: str
    unit: str
    source: str
    needs: str = ""


@dataclass(frozen=True, slots=True)
class RawTable:
    """The raw columns of one entity that are read in one tier: one row a sample (and VM)."""

    entity: Entity
    tier: Tier
    columns: tuple[RawColumn, ...]
    names: tuple[str, ...] = field(init=False)
    """Names of the raw columns, in the order of a row's values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(column.name for column in self.columns))

    @property
    def name(self) -> str:
        """`host_fast`, `lab_deep`, `vm_medium`, …"""
        return f"{self.entity}_{self.tier}"

    @property
    def keys(self) -> tuple[str, ...]:
        """What a row belongs to: its sample, and its VM if it is a VM's."""
        return ("sample", "vm") if self.entity is Entity.VM else ("sample",)

    @property
    def ddl(self) -> str:
        """The statement that creates the table."""
        keys = [f"{key} INTEGER NOT NULL" for key in self.keys]
        return _ddl(self.name, *keys, *(f"{name} INTEGER" for name in self.names))

    @property
    def insert(self) -> str:
        """The statement that appends one row: keys, then values in the order of `names`."""
        marks = ", ".join("?" * (len(self.keys) + len(self.columns)))
        return f"INSERT INTO {self.name} VALUES ({marks})"

    def row(self, values: Mapping[str, int | None]) -> Row:
        """The values of one row in the table's order; what is not in `values` is absent."""
        return tuple(map(values.get, self.names))


def _ddl(name: str, *columns: str) -> str:
    return f"CREATE TABLE {name} ({', '.join(columns)}) STRICT"


def _raw(source: str, unit: str, *names: str, needs: str = "") -> tuple[RawColumn, ...]:
    return tuple(RawColumn(name, unit, source, needs) for name in names)


def _guest(prefix: str, fields: Sequence[str]) -> tuple[RawColumn, ...]:
    return tuple(
        RawColumn(prefix + name, _guest_unit(name), f"board {name}", "an agent, or a guest driver")
        for name in fields
    )


def _guest_unit(name: str) -> str:
    if name.endswith("_ns"):
        return "ns"
    whole = ("inflated", "deflated", "swap_in", "swap_out", "read", "evicted", "pages")
    return "pages" if name.endswith(whole) else "count"


GUEST_FAST: Final = (
    "published_ns",
    "used_pages",
    "cache_pages",
    "free_pages",
    "ballooned_pages",
    "reserved_pages",
    "balloon_target_pages",
    "balloon_backed_pages",
    "app_mapped_pages",
    "app_touched_pages",
    "guest_swap_pages",
    "guest_swap_in",
    "operations",
    "minor_faults",
    "major_faults",
)
"""The board's counters that are recorded at every fast sample."""

GUEST_MEDIUM: Final = tuple(name for name in BOARD_FIELDS if name not in GUEST_FAST)
"""The others: half the width of a fast row, and a third of what storing it costs."""

BALANCE: Final = (
    "published_ns",
    "configured_pages",
    "used_pages",
    "cache_pages",
    "free_pages",
    "ballooned_pages",
    "reserved_pages",
    "balloon_backed_pages",
)
"""The board's counters that the ledger needs, read directly before and after a page walk."""

MEMORY_STAT: Final = (
    *("anon", "file", "shmem", "active_anon", "inactive_anon", "swapcached", "swap"),
    *("zswap", "zswapped", "pgfault", "pgmajfault", "workingset_refault_anon"),
)
"""Raw columns of a group's memory.stat, in the order of every table that has them."""

PRESSURE: Final = (
    *("pressure_pages", "pressure_pushed_pages", "pressure_back_pages", "pressure_cpu_us"),
)
"""Raw columns of the estimate by pressing, which the session tells the sampler."""

DAMON: Final = ("damon_pages", "damon_cpu_us")
"""Raw columns of the estimate by DAMON, which the session tells the sampler."""

TOLD: Final = (*PRESSURE, *DAMON)
"""Raw columns that the session tells the sampler."""

_V2 = "memory controller on cgroup v2"
_V1 = "memory controller on cgroup v1"
_PRESSES = "active.pressure"
_DAMON = "active.damon"
_FAULTS = "/proc/PID/stat; of a program memory.stat; of a process VM its agent's, guest_…"
_PSI = "CONFIG_PSI; psi=1 where it is off by default"

_MEMORY_STAT = (
    *_raw("memory.stat", "bytes", "anon", "file", "shmem", "active_anon", "inactive_anon"),
    *_raw("memory.stat", "bytes", "swapcached", needs="5.12 or later, on v1 6.6"),
    *_raw("memory.stat swap (v1), memory.swap.current (v2)", "bytes", "swap"),
    *_raw("memory.stat", "bytes", "zswap", "zswapped", needs=_V2 + ", zswap"),
    *_raw("memory.stat", "count", "pgfault", "pgmajfault"),
    *_raw("memory.stat", "pages", "workingset_refault_anon", needs="5.9 or later"),
)
_LAB_STAT = (
    *_MEMORY_STAT,
    *_raw("memory.kmem.usage_in_bytes (v1), memory.stat kernel (v2)", "bytes", "kernel"),
    *_raw("memory.oom_control (v1), memory.events (v2)", "count", "oom_kill"),
)
_PRESSURE = _raw("memory.pressure", "us", "stall_some_us", "stall_full_us", needs=_PSI)

HOST_FAST: Final = RawTable(
    Entity.HOST,
    Tier.FAST,
    (
        *_raw("/proc/meminfo", "bytes", "mem_total", "mem_free", "mem_available"),
        *_raw("/proc/meminfo", "bytes", "swap_total", "swap_free", "swap_cached"),
        *_raw("/proc/meminfo", "bytes", "zswap", "zswapped", needs="5.19 or later, zswap"),
        *_raw("/proc/vmstat", "pages", "pswpin", "pswpout"),
        *_raw("/proc/vmstat", "pages", "zswpin", "zswpout", needs="5.19 or later, zswap"),
        *_raw("/proc/vmstat", "pages", "zswpwb", needs="6.8 or later, zswap"),
        *_raw("/proc/vmstat", "pages", "swpin_zero", "swpout_zero", needs="6.12 or later"),
        *_raw("/proc/vmstat", "pages", "cow_ksm", "ksm_swpin_copy", needs="5.19 or later, KSM"),
        *_raw("/proc/vmstat", "count", "oom_kill", needs="4.13 or later"),
        *_raw("CPU clock of ksmd", "ns", "ksmd_cpu_ns", needs="CONFIG_KSM"),
        *_raw("/proc/pressure/memory", "us", "stall_some_us", "stall_full_us", needs=_PSI),
    ),
)

HOST_MEDIUM: Final = RawTable(
    Entity.HOST,
    Tier.MEDIUM,
    (
        *_raw("/sys/kernel/mm/ksm", "pages", "pages_shared", "pages_sharing", needs="CONFIG_KSM"),
        *_raw("/sys/kernel/mm/ksm", "pages", "ksm_zero_pages", "pages_scanned", needs="6.6"),
        *_raw("/sys/kernel/mm/ksm", "bytes", "general_profit", needs="6.4 or later"),
        *_raw("/sys/kernel/mm/ksm", "count", "full_scans", "ksm_run", needs="CONFIG_KSM"),
    ),
)

LAB_FAST: Final = RawTable(
    Entity.LAB,
    Tier.FAST,
    (
        *_raw("session", "count", "vms"),
        *_raw("session", "bytes", "configured", "budget"),
        *_raw("memory.usage_in_bytes (v1), memory.current (v2)", "bytes", "usage"),
        *_raw("memory.limit_in_bytes (v1), memory.max (v2)", "bytes", "limit_bytes"),
        *_raw("memory.zswap.current", "bytes", "zswap", needs=_V2 + ", zswap"),
        *_raw("/proc/swaps, the lab's device", "bytes", "swap_used"),
        *_PRESSURE,
        *_raw("CPU clock of the process", "ns", "main_cpu_ns", "guard_cpu_ns"),
        *_raw("CLOCK_PROCESS_CPUTIME_ID", "ns", "sampler_cpu_ns"),
        *_raw("/proc/PID/statm", "pages", "sampler_resident_pages"),
    ),
)

LAB_MEDIUM: Final = RawTable(Entity.LAB, Tier.MEDIUM, _LAB_STAT)

LAB_DEEP: Final = RawTable(
    Entity.LAB,
    Tier.DEEP,
    (
        *_raw("pagemap", "pages", "unique_frames"),
        *_raw("CLOCK_PROCESS_CPUTIME_ID", "us", "walk_cpu_us"),
        *_raw("as lab_fast, before the walk", "bytes", "usage_before"),
        *_raw("as lab_fast, after the walk", "bytes", "usage_after", "limit_bytes"),
        *_raw("as lab_fast, after the walk", "bytes", "swap_used"),
        *_raw("/proc/meminfo Zswap, after the walk", "bytes", "host_zswap"),
        *_raw("/proc/meminfo Zswapped, after the walk", "bytes", "host_zswapped"),
        *_LAB_STAT,
    ),
)

VM_FAST: Final = RawTable(
    Entity.VM,
    Tier.FAST,
    (
        *_raw("memory.usage_in_bytes (v1), memory.current (v2)", "bytes", "usage"),
        *_raw("/proc/PID/statm; of a program memory.stat", "pages", "resident_pages", "file_pages"),
        *_raw(_FAULTS, "count", "minor_faults", "major_faults"),
        *_guest("guest_", GUEST_FAST),
    ),
)

VM_MEDIUM: Final = RawTable(
    Entity.VM,
    Tier.MEDIUM,
    (
        *_MEMORY_STAT,
        *_PRESSURE,
        *_raw("/proc/PID/ksm_merging_pages", "pages", "ksm_merging_pages", needs="5.19 or later"),
        *_raw("/proc/PID/ksm_stat", "pages", "ksm_zero_pages", needs="6.6 or later"),
        *_raw("/proc/PID/ksm_stat", "count", "ksm_rmap_items", needs="6.1 or later"),
        *_guest("guest_", GUEST_MEDIUM),
        *_raw("taskstats", "ns", "swapin_delay_ns", "thrashing_delay_ns", needs="delayacct on"),
        *_raw("taskstats", "ns", "reclaim_delay_ns", needs="delayacct on"),
        *_raw("taskstats", "ns", "copy_delay_ns", needs="delayacct on, 5.19 or later"),
        *_raw("cpu.stat (cgroup2), else CPU clock of the process", "ns", "cpu_ns"),
        *_raw(
            "clear_refs, smaps Referenced", "pages", "referenced_pages", needs="active.referenced"
        ),
        *_raw("thread CPU clock", "us", "referenced_cpu_us", needs="active.referenced"),
        *_raw("session: statm at the end of a period", "pages", PRESSURE[0], needs=_PRESSES),
        *_raw("session: statm, VmSwap", "pages", *PRESSURE[1:3], needs=_PRESSES),
        *_raw("session: thread CPU clock", "us", PRESSURE[3], needs=_PRESSES),
        *_raw("session: DAMON, sz_tried", "pages", DAMON[0], needs=_DAMON),
        *_raw("session: CPU clocks of kdamond and thread", "us", DAMON[1], needs=_DAMON),
    ),
)

VM_DEEP: Final = RawTable(
    Entity.VM,
    Tier.DEEP,
    (
        *_raw("CLOCK_BOOTTIME", "us", "began", "ended"),
        *_raw("PAGEMAP_SCAN, pagemap", "pages", "private", "shared", "zero", "out", "not_backed"),
        *_raw("pagemap, of the lab's VMs", "bytes", "common_bytes"),
        *_raw("as vm_fast, after the walk", "pages", "resident_pages", "file_pages"),
        *_raw("/proc/PID/status VmSwap, after the walk", "pages", "swap_entries"),
        *_raw("board's frame list, pagemap", "pages", "frames_differ", "frames_moving"),
        *_raw("board's frame list", "pages", "frames_touched"),
        *_guest("before_", BALANCE),
        *_guest("after_", BALANCE),
    ),
)

TABLES: Final = (
    HOST_FAST, HOST_MEDIUM, LAB_FAST, LAB_MEDIUM, LAB_DEEP, VM_FAST, VM_MEDIUM, VM_DEEP,
)  # fmt: skip
"""All tables of raw columns."""

FIXED: Final = {
    "meta": _ddl("meta", "key TEXT PRIMARY KEY", "value TEXT NOT NULL"),
    "vm": _ddl(
        "vm", "id INTEGER PRIMARY KEY", "name TEXT NOT NULL UNIQUE", "owner INTEGER NOT NULL",
        "backend TEXT NOT NULL", "configured INTEGER NOT NULL",
    ),
    "sample": _ddl(
        "sample", "id INTEGER PRIMARY KEY", "tier TEXT NOT NULL", "began INTEGER NOT NULL",
        "ended INTEGER NOT NULL", "cpu_us INTEGER NOT NULL", "missed INTEGER NOT NULL",
    ),
    "latency": _ddl(
        "latency", "sample INTEGER NOT NULL", "vm INTEGER NOT NULL", "bucket INTEGER NOT NULL",
        "count INTEGER NOT NULL",
    ),
    "event": _ddl(
        "event", "id INTEGER PRIMARY KEY", "time INTEGER NOT NULL", "kind TEXT NOT NULL",
        "vm TEXT NOT NULL", "data TEXT NOT NULL",
    ),
    "choice": _ddl(
        "choice", "id INTEGER PRIMARY KEY", "time INTEGER NOT NULL", "policy TEXT NOT NULL",
        "state TEXT NOT NULL", "action TEXT NOT NULL", "mechanism TEXT NOT NULL",
        "vm TEXT NOT NULL", "reason TEXT NOT NULL", "asked TEXT", "got TEXT", "seconds REAL",
    ),
    "tick": _ddl(
        "tick", "id INTEGER PRIMARY KEY", "time INTEGER NOT NULL", "policy TEXT NOT NULL",
        "state TEXT NOT NULL", "seconds REAL NOT NULL", "view TEXT NOT NULL",
    ),
}  # fmt: skip
"""The tables that are not rows of raw columns, and how each is created."""

LATER: Final = frozenset({"tick"})
"""Tables that came after the first recordings were made: those open without them."""


@dataclass(frozen=True, slots=True)
class VmInfo:
    """A VM of a recording. `configured` is bytes; `owner` counts from 1 in the lab file's order."""

    name: str
    owner: int
    backend: str
    configured: int


@dataclass(slots=True)
class Sample:
    """One sample of one tier, to be stored. Times are microseconds since the run began.

    `missed` counts the deadlines of this tier that passed unserved since the sample before: a gap.
    `latency` has the (vm, bucket, cumulative count) of the buckets that changed.
    """

    tier: Tier
    began: int
    ended: int = 0
    cpu_us: int = 0
    missed: int = 0
    host: Row | None = None
    lab: Row | None = None
    vms: list[tuple[str, Row]] = field(default_factory=list)
    latency: list[tuple[str, int, int]] = field(default_factory=list)
