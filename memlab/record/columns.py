"""The documented columns: what can be asked of a lab, in one list.

These are *derived* series, computed from a recording's raw samples by `record.derive`; conditions
(`expect`, `when`, checks), policies, tables and charts all use these names and no others. A column
that this kernel or this kind of VM cannot tell is absent (None), never 0. Words are those of
`docs/words.md`; bytes and seconds unless the unit says otherwise; rates are over the time since
the sample before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Entity(StrEnum):
    """What a column belongs to. In a condition: `host.x`, `lab.x`, `web-1.x` or `vm.x` (all VMs)."""

    HOST = "host"
    LAB = "lab"
    VM = "vm"


class Tier(StrEnum):
    """How often a column is read: `docs/measuring.md` has what each costs."""

    FAST = "fast"
    MEDIUM = "medium"
    DEEP = "deep"


class Unit(StrEnum):
    """How a value is printed."""

    BYTES = "bytes"
    SECONDS = "seconds"
    FRACTION = "fraction"
    PER_SECOND = "per_second"
    BYTES_PER_SECOND = "bytes_per_second"
    COUNT = "count"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Column:
    """One derived series: its name, unit and tier, what it means, and where it comes from."""

    entity: Entity
    name: str
    unit: Unit
    tier: Tier
    meaning: str
    source: str


def _columns(entity: Entity, *rows: tuple[str, Unit, Tier, str, str]) -> tuple[Column, ...]:
    return tuple(Column(entity, *row) for row in rows)


_B, _S, _F, _N = Unit.BYTES, Unit.SECONDS, Unit.FRACTION, Unit.COUNT
_R, _BR = Unit.PER_SECOND, Unit.BYTES_PER_SECOND
_FAST, _MEDIUM, _DEEP = Tier.FAST, Tier.MEDIUM, Tier.DEEP

VM_COLUMNS: Final = _columns(
    Entity.VM,
    ("configured", _B, _FAST, "guest physical memory the VM was given", "lab file"),
    ("used", _B, _FAST, "guest used: image and applications, by the guest's own count", "guest"),
    ("cache", _B, _FAST, "guest cache: clean pages of files", "guest"),
    ("free", _B, _FAST, "guest free: its free list, which the host cannot see", "guest"),
    ("ballooned", _B, _FAST, "pages that the balloon driver holds", "guest"),
    ("reserved", _B, _FAST, "what the guest kernel kept back at boot", "guest"),
    ("balloon_target", _B, _FAST, "what the balloon was asked to hold", "guest"),
    ("balloon_backed", _B, _FAST, "ballooned pages that had been backed when taken", "guest"),
    ("mapped", _B, _FAST, "virtual memory that the guest's applications have mapped", "guest"),
    ("touched", _B, _FAST, "of the mapped pages: written or read at least once", "guest"),
    ("active", _B, _MEDIUM, "what is in use, estimated from random pages; fast up, slow down", "guest"),
    ("active_referenced", _B, _MEDIUM, "what was used in the last period, by the accessed bits", "smaps Referenced"),
    ("active_pressure", _B, _MEDIUM, "what it keeps when it is pressed: what was pushed out and "
     "is used comes back", "statm, pressing"),
    ("active_damon", _B, _MEDIUM, "regions in which used pages were found in the last period", "DAMON"),
    ("active_guest", _B, _FAST, "what the guest itself calls in use: used + cache", "guest"),
    ("referenced_cpu", _F, _MEDIUM, "what looking at the accessed bits takes, part of one core", "sampler"),
    ("pressure_cpu", _F, _MEDIUM, "what pressing takes, part of one core", "thread CPU clock"),
    ("damon_cpu", _F, _MEDIUM, "what DAMON takes for it, part of one core", "CPU clock of the kdamond"),
    ("pressure_pushed", _BR, _MEDIUM, "pushed out by pressing", "statm, pressing"),
    ("pressure_back", _BR, _MEDIUM, "of what is out: came back, while the VM is pressed", "VmSwap, pressing"),
    ("working_set", _B, _MEDIUM, "what the workload uses now: ground truth", "guest"),
    ("shareable", _B, _MEDIUM, "pages that are zero, or equal in all VMs of the image: ground truth", "guest"),
    ("guest_swapped", _B, _FAST, "application pages in the guest's own swap", "guest"),
    ("guest_swap_in", _BR, _FAST, "read back from the guest's own swap", "guest"),
    ("operations", _R, _FAST, "operations of the workload per second", "guest"),
    ("cpu", _F, _MEDIUM, "CPU time of the VM's processes, part of one core", "cpu.stat, or CPU clock"),
    ("p50", _S, _MEDIUM, "median latency of an operation", "guest histogram"),
    ("p99", _S, _MEDIUM, "99th percentile of the latency of an operation", "guest histogram"),
    ("p999", _S, _MEDIUM, "99.9th percentile of the latency of an operation", "guest histogram"),
    ("major_faults", _R, _FAST, "faults of the host that had to wait for swap or a disk", "agent, /proc"),
    ("minor_faults", _R, _FAST, "faults of the host served from memory", "agent, /proc"),
    ("consumed", _B, _FAST, "machine memory charged to the VM's cgroup", "cgroup usage"),
    ("resident", _B, _FAST, "guest pages with a machine frame, the VM's own memory included",
     "statm; of a program memory.stat"),
    ("merged", _B, _MEDIUM, "pages that KSM says are merged (lags until its next scan)", "ksm_stat"),
    ("private", _B, _DEEP, "guest pages with a frame of their own", "pagemap"),
    ("shared", _B, _DEEP, "guest pages whose frame others map too, zero pages apart", "pagemap"),
    ("zero", _B, _DEEP, "guest pages that KSM has merged with the kernel's zero page", "pagemap, ksm_stat"),
    ("out", _B, _DEEP, "guest pages in swap: compressed, zero-in-swap or on the device", "pagemap"),
    ("not_backed", _B, _DEEP, "no frame and no swap slot", "pagemap"),
    ("common", _B, _DEEP, "the VM's fair part of the frames that it shares", "pagemap"),
    ("saved_common", _B, _DEEP, "pages of it that stand in another's frame: shared − common", "pagemap"),
    ("ghost", _B, _DEEP, "what the host keeps for pages that the guest has freed", "private + "
     "shared + zero + out − used − cache − reserved"),
    ("overhead", _B, _DEEP, "the VM's own memory that is not guest memory", "statm − pagemap"),
    ("compressed", _B, _MEDIUM, "original size of its pages in zswap (cgroup v2 only)", "memory.stat"),
    ("pool", _B, _MEDIUM, "length of its compressed pages in zswap (cgroup v2 only)", "memory.stat"),
    ("swapped", _B, _MEDIUM, "swap charged to the VM's cgroup", "memory.stat"),
    ("stall_some", _F, _MEDIUM, "part of the time in which some task waited for memory", "PSI"),
    ("stall_full", _F, _MEDIUM, "part of the time in which all tasks waited for memory", "PSI"),
    ("delay_swapin", _F, _MEDIUM, "part of the time waiting for swap-in", "taskstats"),
    ("delay_thrashing", _F, _MEDIUM, "part of the time waiting for refaults", "taskstats"),
    ("delay_copy", _F, _MEDIUM, "part of the time copying merged pages on write", "taskstats"),
    ("delay_reclaim", _F, _MEDIUM, "part of the time in direct reclaim", "taskstats"),
    ("residual_guest", _B, _DEEP, "configured − (used + cache + free + ballooned + reserved)", "ledger"),
    ("residual_host", _B, _DEEP, "configured − (private + shared + zero + out + not backed)", "ledger"),
    ("frames_differ", _B, _DEEP, "frames on which the guest's list and the page tables disagree",
     "board, pagemap"),
)  # fmt: skip

LAB_COLUMNS: Final = _columns(
    Entity.LAB,
    ("configured", _B, _FAST, "sum of the configured sizes of the running VMs", "lab file"),
    ("budget", _B, _FAST, "machine memory that all VMs may use together, the pool included", "lab file"),
    ("limit", _B, _FAST, "limit of the lab's memory cgroup", "cgroup"),
    ("overcommitment", Unit.RATIO, _FAST, "configured ÷ budget", "lab file"),
    ("consumed", _B, _FAST, "machine memory charged to the lab's cgroup", "cgroup usage"),
    ("pool", _B, _FAST, "machine memory that the compressed copies take", "meminfo Zswap, cgroup"),
    ("used", _B, _FAST, "machine memory used: consumed, and the pool where that leaves it out", "cgroup"),
    ("free", _B, _FAST, "budget − used", "cgroup"),
    ("compressed", _B, _FAST, "original size of the pages in zswap", "meminfo Zswapped"),
    ("swap_slots", _B, _FAST, "slots of the lab's swap device in use, compressed ones too", "/proc/swaps"),
    ("swapped", _B, _FAST, "slots whose page is not in zswap: on the device, or zero", "/proc/swaps"),
    ("ballooned", _B, _FAST, "sum over the VMs", "guest"),
    ("private", _B, _DEEP, "sum over the VMs", "pagemap"),
    ("shared", _B, _DEEP, "sum over the VMs: pages, not frames", "pagemap"),
    ("zero", _B, _DEEP, "sum over the VMs", "pagemap"),
    ("out", _B, _DEEP, "sum over the VMs", "pagemap"),
    ("not_backed", _B, _DEEP, "sum over the VMs", "pagemap"),
    ("unique_frames", _B, _DEEP, "distinct frames behind the shared pages", "pagemap"),
    ("unique_slots", _B, _DEEP, "distinct swap slots behind the pages that are out", "/proc/swaps − mapped swap cache"),
    ("ghost", _B, _DEEP, "sum over the VMs", "ledger"),
    ("overhead", _B, _DEEP, "the VMs' memory that is not guest memory, in frames or out, and the kernel's for them", "statm, memory.stat, VmSwap"),
    ("swap_cache", _B, _MEDIUM, "pages of the swap cache that no page table maps", "memory.stat"),
    ("saved_sharing", _B, _DEEP, "Σ shared + Σ zero − unique frames, and Σ out − unique slots", "ledger"),
    ("saved_balloon", _B, _DEEP, "ballooned pages that had been backed", "ledger"),
    ("saved_compression", _B, _DEEP, "what is compressed and out − pool", "ledger"),
    ("saved_swap", _B, _DEEP, "unique slots + overhead that is out − what of it is compressed: on the device, and zero-in-swap", "ledger"),
    ("never_touched", _B, _DEEP, "Σ not backed − what the balloon took of backed pages", "ledger"),
    ("accounted", _B, _DEEP, "Σ private + unique frames + unmapped swap cache + overhead + pool", "ledger"),
    ("residual", _B, _DEEP, "used − accounted", "ledger"),
    ("operations", _R, _FAST, "operations per second, all VMs", "guest"),
    ("ksmd_cpu", _F, _FAST, "ksmd's part of one core", "CPU clock of ksmd"),
    ("observer_cpu", _F, _FAST, "memlab's own part of one core, all its processes", "CPU clocks"),
    ("swap_in", _BR, _FAST, "read from the swap device (whole host)", "vmstat pswpin"),
    ("swap_out", _BR, _FAST, "written to the swap device (whole host)", "vmstat pswpout"),
    ("decompressed", _BR, _FAST, "read back from zswap (whole host)", "vmstat zswpin"),
    ("copied", _BR, _FAST, "copied because a merged page was written (whole host)", "vmstat cow_ksm"),
    ("stall_some", _F, _FAST, "part of the time in which some task waited for memory", "PSI"),
    ("stall_full", _F, _FAST, "part of the time in which all tasks waited for memory", "PSI"),
    ("oom_kills", _N, _MEDIUM, "VMs that the kernel has killed for memory so far", "cgroup, events"),
)  # fmt: skip

HOST_COLUMNS: Final = _columns(
    Entity.HOST,
    ("total", _B, _FAST, "machine memory of the host", "meminfo MemTotal"),
    ("available", _B, _FAST, "what could be had without swapping", "meminfo MemAvailable"),
    ("free", _B, _FAST, "frames on the host's free list", "meminfo MemFree"),
    ("swap_free", _B, _FAST, "free slots over all swap areas", "meminfo SwapFree"),
    ("pool", _B, _FAST, "machine memory of the compressed pool in whole pages, of everybody on the host", "meminfo Zswap"),
    ("compressed", _B, _FAST, "original size of the pages in it", "meminfo Zswapped"),
    ("ksm_saved", _B, _MEDIUM, "pages_sharing + zero pages, of everybody on the host", "ksm"),
    ("ksm_profit", _B, _MEDIUM, "general_profit: saved − rmap items; can be negative", "ksm"),
    ("ksm_scanned", _R, _MEDIUM, "pages that ksmd has looked at per second", "ksm pages_scanned"),
    ("ksm_foreign", _B, _MEDIUM, "merged pages of processes that are not this lab's (lags as merged does)", "ksm, ksm_stat"),
    ("stall_some", _F, _FAST, "part of the time in which some task waited for memory", "PSI"),
    ("stall_full", _F, _FAST, "part of the time in which all tasks waited for memory", "PSI"),
)  # fmt: skip

COLUMNS: Final = {
    (column.entity, column.name): column for column in (*HOST_COLUMNS, *LAB_COLUMNS, *VM_COLUMNS)
}


def column(entity: Entity, name: str) -> Column | None:
    """The column of that name, or None if nothing is called so."""
    return COLUMNS.get((entity, name))
