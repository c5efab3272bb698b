"""Every file and call of the kernel that memlab reads or turns, and which of them a kernel has.

Presence decides, never the version: `census` looks, each run keeps what it has found in its
manifest, and `docs/kernel-support.md` is made from such manifests.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel import ksm, zswap
from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.files import HOST, Roots, read_bytes
from memlab.kernel.finding import Feature


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface: who needs it, how it is written down, its parts, what it tells, its module.

    A part is `proc:meminfo#Zswap`: a tree (`proc`, `sys`, `group` for the lab's memory cgroup,
    `unified` for its cgroup2 directory), a file in it, and a line of that file if it is one line.
    `call:pagemap-scan` is a call that doctor has tried, by the name of its feature.
    """

    name: str
    serves: str
    shown: str
    parts: tuple[str, ...]
    since: str
    """The releases in which it came, by the kernel's sources; for orientation."""
    tells: str
    module: str


def label(part: str) -> str:
    """What a part is called: its line, or its file."""
    return part.rpartition("#" if "#" in part else "/" if "/" in part else ":")[2]


def _of(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in names.split())


_V2: Final = (
    "current swap.current max high min events peak reclaim zswap.current zswap.max zswap.writeback"
)

INTERFACES: Final = (
    Interface(
        "KSM counters and knobs", "sharing", "`/sys/kernel/mm/ksm/*`",
        _of("sys:kernel/mm/ksm/", " ".join(ksm.FILES)),
        "2.6.32; general_profit 6.4, pages_scanned and ksm_zero_pages 6.6, smart_scan "
        "6.7, advisor_* 6.8",
        "pages merged and saved, of everybody on the host", "ksm",
    ),
    Interface(
        "merged pages of a process", "sharing", "`/proc/PID/ksm_merging_pages`",
        ("proc:self/ksm_merging_pages",), "5.19",
        "pages of this process that are merged", "ksm",
    ),
    Interface(
        "KSM of a process", "sharing", "`/proc/PID/ksm_stat`",
        _of("proc:self/ksm_stat#", "ksm_rmap_items ksm_zero_pages ksm_merging_pages "
         "ksm_process_profit ksm_merge_any ksm_mergeable"),
        "6.1; profit and merging pages 6.4, zero pages 6.6, mergeable 6.15",
        "pages of this process that are merged; lags until ksmd's next scan; empty for kernel "
        "threads", "ksm",
    ),
    Interface(
        "zswap parameters", "compression", "`/sys/module/zswap/parameters/*`",
        _of("sys:module/zswap/parameters/", " ".join(zswap.PARAMETERS)),
        "3.11; shrinker_enabled 6.8; zpool gone 6.18",
        "whether, with what and how far the host compresses", "zswap",
    ),
    Interface(
        "compressed pool", "compression", "`/proc/meminfo` `Zswap`, `Zswapped`",
        _of("proc:meminfo#", "Zswap Zswapped"),
        "5.19",
        "machine memory of the pool in whole pages, original size", "zswap, meminfo",
    ),
    Interface(
        "zswap's rejects and limits", "compression", "debugfs `zswap/*`",
        ("sys:kernel/debug/zswap/stored_pages",),
        "3.11",
        "why a page was not stored; no stable interface, and there where debugfs is mounted; "
        "opened anew at each read", "zswap",
    ),
    Interface(
        "swap areas", "swap", "`/proc/swaps`, swapon(2), swapoff(2)", ("proc:swaps",),
        "old",
        "slots in use, those of compressed pages too", "swap",
    ),
    Interface(
        "zram", "swap", "`/sys/class/zram-control/*`, `/sys/block/zramN/*`",
        ("sys:class/zram-control/hot_add",),
        "4.2",
        "a swap device in memory, where the module is loaded", "swap",
    ),
    Interface(
        "pushing memory out", "compression, swap",
        "process_madvise(2), `MADV_PAGEOUT`, `MADV_COLD`",
        ("call:pageout",),
        "5.10",
        "reclaim of a chosen part of a chosen VM, at once or as it is wanted; merged pages stay",
        "madvise",
    ),
    Interface(
        "huge pages", "all", "`/sys/kernel/mm/transparent_hugepage/*`",
        _of("sys:kernel/mm/transparent_hugepage/", "enabled hpage_pmd_size"),
        "2.6.38",
        "where the kernel makes huge pages", "thp",
    ),
    Interface(
        "memory cgroup v1", "budget", "`memory.usage_in_bytes` and its like",
        _of("group:memory.", "usage_in_bytes limit_in_bytes memsw.usage_in_bytes "
         "memsw.limit_in_bytes oom_control kmem.usage_in_bytes"),
        "2.6.25",
        "charged memory and swap; no zswap lines: per-VM compressed is absent", "cgroup_v1",
    ),
    Interface(
        "memory cgroup v2", "budget", "`memory.current` and its like", _of("group:memory.", _V2),
        "4.5; zswap, reclaim, peak 5.19, zswap.writeback 6.8",
        "the same, and zswap per group; the pool is charged", "cgroup_v2",
    ),
    Interface(
        "compressed pages of a group", "compression", "cgroup2 `memory.stat`",
        _of("group:memory.stat#", "zswap zswapped zswpin zswpout zswpwb"),
        "5.19; zswpwb 6.8",
        "length of its compressed pages, their original size", "cgroup_v2",
    ),
    Interface(
        "ending and freezing a group", "budget", "cgroup2 `cgroup.kill`, `cgroup.freeze`",
        _of("unified:cgroup.", "kill freeze"),
        "5.14, 5.2",
        "on hybrid hosts by a directory beside the v1 one", "cgroup_tree",
    ),
    Interface(
        "host memory", "measuring", "`/proc/meminfo`",
        _of("proc:meminfo#", "MemTotal MemFree MemAvailable SwapTotal SwapFree SwapCached"),
        "old; MemAvailable 3.14",
        "machine memory, free, available, swap", "meminfo",
    ),
    Interface(
        "host flows", "measuring", "`/proc/vmstat`",
        _of("proc:vmstat#", "pswpin pswpout zswpin zswpout zswpwb swpin_zero swpout_zero cow_ksm "
         "ksm_swpin_copy oom_kill"),
        "old; cow_ksm, zswpin/out 5.19, zswpwb 6.8, swpin/out_zero 6.12",
        "pages swapped, compressed, copied since boot", "vmstat",
    ),
    Interface(
        "pressure", "measuring", "`/proc/pressure/memory`, cgroup2 `memory.pressure`",
        ("proc:pressure/memory", "unified:memory.pressure"),
        "4.20, 5.2; psi=1 at boot where it is off by default",
        "time in which some or all tasks waited for memory", "psi",
    ),
    Interface(
        "page tables", "measuring", "`/proc/PID/pagemap` (root)",
        ("proc:self/pagemap", "call:frame-numbers"),
        "2.6.25; exclusive bit 4.2",
        "of each page: private, shared, zero, out, not backed; its frame", "pagemap",
    ),
    Interface(
        "page tables in runs", "measuring", "`PAGEMAP_SCAN` ioctl", ("call:pagemap-scan",),
        "6.7",
        "present, swapped, zero, huge; not merged. The second way to count", "pagemap_scan",
    ),
    Interface(
        "frames", "measuring", "`/proc/kpageflags`, `/proc/kpagecount` (root)",
        _of("proc:", "kpageflags kpagecount"),
        "2.6.25",
        "merged, zero, huge; how many map it. A witness, too dear for sampling", "kpage",
    ),
    Interface(
        "mappings", "measuring", "`/proc/PID/smaps`, `smaps_rollup`",
        ("proc:self/smaps", *_of("proc:self/smaps_rollup#", "Rss Pss Swap KSM")),
        "old, rollup 4.14; `KSM:` 6.7",
        "Rss, Pss, swap, merged; holds up the VM, so for checks only", "smaps",
    ),
    Interface(
        "accessed bits", "measuring", "`/proc/PID/clear_refs`, smaps `Referenced`",
        ("proc:self/clear_refs", "proc:self/smaps_rollup#Referenced"),
        "2.6.22",
        "what was used in the last period; asked for by `active.referenced`", "referenced",
    ),
    Interface(
        "resident", "measuring", "`/proc/PID/statm`", ("proc:self/statm",),
        "old",
        "resident pages; merged ones in full in every VM", "procs",
    ),
    Interface(
        "CPU time", "measuring", "`/proc/PID/schedstat`", ("proc:self/schedstat",),
        "2.6.9",
        "of ksmd, of a VM, of memlab itself", "procs",
    ),
    Interface(
        "task delays", "measuring", "taskstats (generic netlink), `kernel.task_delayacct`",
        ("call:delays", "proc:sys/kernel/task_delayacct"),
        "2.6.18; thrashing 4.20, the switch 5.14, compact 5.17, wpcopy 5.19; version 15 "
        "(6.14) cannot be read",
        "time waited for swap-in, refaults, reclaim, compaction, copies of merged pages",
        "taskstats",
    ),
    Interface(
        "multi-generational LRU", "`needs:`", "`/sys/kernel/mm/lru_gen/enabled`",
        ("sys:kernel/mm/lru_gen/enabled",), "6.1",
        "how pages are aged", "probe_extra",
    ),
    Interface(
        "DAMON", "measuring", "`/sys/kernel/mm/damon/admin/kdamonds/*`",
        ("sys:kernel/mm/damon/admin/kdamonds/nr_kdamonds",),
        "5.18; fvaddr 5.19; filters by target 6.6, which answers at the end of a period; 6.12 "
        "within one",
        "of each VM: bytes in regions that were found used, for `active.damon`; one user at a time",
        "damon",
    ),
)  # fmt: skip
"""All of them, in the order of the page."""


def census(
    group: MemoryGroup, works: Collection[Feature], roots: Roots = HOST
) -> dict[str, dict[str, list[str]]]:
    """By interface the labels of the parts that this kernel has, and of those that it lacks.

    `group` is an existing group of memlab's own, `works` are the features that doctor found to
    work. It only looks.
    """
    trees = {"proc": roots.proc, "sys": roots.sys, "group": group.path}
    if group.unified_path is not None:
        trees["unified"] = group.unified_path
    found = {}
    for interface in INTERFACES:
        have = [part for part in interface.parts if _is_there(part, trees, works)]
        lack = [part for part in interface.parts if part not in have]
        found[interface.name] = {"have": [*map(label, have)], "lack": [*map(label, lack)]}
    return found


def _is_there(part: str, trees: dict[str, Path], works: Collection[Feature]) -> bool:
    tree, _, rest = part.partition(":")
    if tree == "call":
        return Feature(rest) in works
    if tree not in trees:
        return False
    name, _, line = rest.partition("#")
    path = trees[tree] / name
    if not line:
        return path.exists()
    words = (row.split(None, 1) for row in (read_bytes(path) or b"").splitlines())
    return any(row and row[0].rstrip(b":").decode() == line for row in words)
