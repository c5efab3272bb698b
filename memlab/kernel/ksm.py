"""Kernel same-page merging: its counters, its knobs, a process's share, and leaving no merges.

`/sys/kernel/mm/ksm/*` (2.6.32; files were added until 6.8) is host-wide and includes everybody's
processes; `/proc/PID/ksm_stat` (6.1; profit 6.4, zero pages 6.6, mergeable 6.15) is one process's.
Both lag until ksmd's next scan: a VM that has rewritten its merged pages still shows them.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from memlab.errors import HostError, KernelError
from memlab.kernel.child import in_child, write_once
from memlab.kernel.files import (
    HOST,
    Roots,
    chosen,
    parse_names,
    read_bytes,
    read_int,
    read_text,
    write_text,
)
from memlab.units import PAGE

KNOBS: Final = (
    "run",
    "pages_to_scan",
    "sleep_millisecs",
    "use_zero_pages",
    "max_page_sharing",
    "merge_across_nodes",
    "smart_scan",
    "stable_node_chains_prune_millisecs",
    "advisor_mode",
    "advisor_max_cpu",
    "advisor_min_pages_to_scan",
    "advisor_max_pages_to_scan",
    "advisor_target_scan_time",
)
"""Names that can be written. `max_page_sharing` and `merge_across_nodes` answer EBUSY while any
page of the host is merged; `pages_to_scan` refuses while `advisor_mode` is scan-time."""

_PR_GET_MEMORY_MERGE: Final = 68

_LOOK_EVERY: Final = 0.25
"""Seconds between two looks at all processes, which take milliseconds."""

PRUNING: Final = {"pages_to_scan": "20000", "sleep_millisecs": "10", "run": "1"}


@dataclass(frozen=True, slots=True)
class KsmCounters:
    """All files of the directory by name; None where this kernel has no such file.

    Pages unless the name says otherwise. `general_profit` is bytes and can be negative: saved
    minus 64 B for each scanned page. Sample: pages_shared 4096, pages_sharing 12288.
    """

    run: int | None = None
    pages_to_scan: int | None = None
    sleep_millisecs: int | None = None
    use_zero_pages: int | None = None
    max_page_sharing: int | None = None
    merge_across_nodes: int | None = None
    smart_scan: int | None = None
    stable_node_chains_prune_millisecs: int | None = None
    advisor_mode: str | None = None
    advisor_max_cpu: int | None = None
    advisor_min_pages_to_scan: int | None = None
    advisor_max_pages_to_scan: int | None = None
    advisor_target_scan_time: int | None = None
    full_scans: int | None = None
    general_profit: int | None = None
    ksm_zero_pages: int | None = None
    pages_scanned: int | None = None
    pages_shared: int | None = None
    pages_sharing: int | None = None
    pages_skipped: int | None = None
    pages_unshared: int | None = None
    pages_volatile: int | None = None
    stable_node_chains: int | None = None
    stable_node_dups: int | None = None

    @property
    def saved(self) -> int | None:
        """Bytes not needed because of merging, by everybody on the host."""
        if self.pages_sharing is None:
            return None
        # Zero pages are counted apart since 6.6; before that use_zero_pages was not counted.
        return (self.pages_sharing + (self.ksm_zero_pages or 0)) * PAGE


FILES: Final = tuple(field.name for field in dataclasses.fields(KsmCounters))
"""Names of the 24 files, for a reader that keeps them open."""


def parse_counters(raw: Mapping[str, bytes | None]) -> KsmCounters:
    """Counters from the files' bytes by name; a missing or None file is absent."""
    values = {name: text for name, text in raw.items() if text is not None and name in FILES}
    mode = values.pop("advisor_mode", None)
    numbers = {name: int(text) for name, text in values.items()}
    return KsmCounters(advisor_mode=chosen(mode.decode()) if mode else None, **numbers)


def read_counters(roots: Roots = HOST) -> KsmCounters | None:
    """All counters and knobs of KSM now; None if this kernel is built without KSM."""
    if not present(roots):
        return None
    return parse_counters({name: read_bytes(roots.ksm / name) for name in FILES})


def present(roots: Roots = HOST) -> bool:
    """Whether this kernel has KSM (CONFIG_KSM)."""
    return (roots.ksm / "run").exists()


def knobs(roots: Roots = HOST) -> tuple[str, ...]:
    """Those of KNOBS that this kernel has."""
    return tuple(name for name in KNOBS if (roots.ksm / name).exists())


@dataclass(frozen=True, slots=True)
class ProcessKsm:
    """`/proc/PID/ksm_stat`. `merging_pages` counts the kept frame too, so that their sum over
    all processes is pages_shared + pages_sharing; `process_profit` is bytes, signed."""

    rmap_items: int | None = None
    zero_pages: int | None = None
    merging_pages: int | None = None
    process_profit: int | None = None
    merge_any: bool | None = None
    mergeable: bool | None = None


def parse_process(raw: bytes) -> ProcessKsm:
    """A process's KSM figures by name; names that this kernel does not print are None."""
    found = parse_names(raw)
    merge_any, mergeable = found.get("ksm_merge_any"), found.get("ksm_mergeable")
    return ProcessKsm(
        rmap_items=found.get("ksm_rmap_items"),
        zero_pages=found.get("ksm_zero_pages"),
        merging_pages=found.get("ksm_merging_pages"),
        process_profit=found.get("ksm_process_profit"),
        merge_any=None if merge_any is None else bool(merge_any),
        mergeable=None if mergeable is None else bool(mergeable),
    )


def read_process(pid: int, roots: Roots = HOST) -> ProcessKsm | None:
    """KSM figures of one process; None if it has ended or the kernel has no such file."""
    raw = read_bytes(roots.proc / str(pid) / "ksm_stat")
    if raw is None:
        return None
    found = parse_process(raw)
    if found.merging_pages is None:  # before 6.4 it has a file of its own
        found = dataclasses.replace(found, merging_pages=ksm_merging_pages(pid, roots))
    return found


def ksm_merging_pages(pid: int, roots: Roots = HOST) -> int | None:
    """`/proc/PID/ksm_merging_pages` (5.19): merged pages of one process, in pages.

    None if it has ended, or is a kernel thread (whose file is empty).
    """
    text = read_text(roots.proc / str(pid) / "ksm_merging_pages")
    return int(text) if text else None


@dataclass(frozen=True, slots=True)
class Scanned:
    """A process whose pages ksmd looks at in each of its rounds. `size` is in bytes."""

    pid: int
    name: str
    size: int


def scanned_beside(ours: Collection[int], roots: Roots = HOST) -> tuple[Scanned, ...]:
    """Who else's pages ksmd has scanned, most pages first (`ksm_rmap_items`, 6.1): each of them
    makes its rounds longer, and so the lab's sharing later."""
    pids = (int(entry.name) for entry in roots.proc.iterdir() if entry.name.isdecimal())
    found = []
    for pid in pids:
        items = None if pid in ours else read_process(pid, roots)
        if items is not None and items.rmap_items:
            name = (read_text(roots.proc / str(pid) / "comm") or "?").strip()
            found.append(Scanned(pid, name, items.rmap_items * PAGE))
    return tuple(sorted(found, key=lambda one: -one.size))


def merges_whole_processes() -> bool:
    """Whether a process can ask for the merging of all that it has: PR_SET_MEMORY_MERGE, 6.4.

    (d7597f59d1d3 "mm: add new api to enable ksm per process".)
    """
    return bool(ctypes.CDLL(None).prctl(_PR_GET_MEMORY_MERGE, 0, 0, 0, 0) >= 0)


def prune(roots: Roots = HOST, *, until_pages_shared: int, timeout: float = 5.0) -> bool:
    """Let ksmd forget processes that have ended, until pages_shared is back to what it was.

    A merged process that ends while `run` is 0 leaves its pages counted for ever, because only
    ksmd's scan takes them off its lists. So ksmd scans at 20000 pages / 10 ms, usually < 0.5 s;
    then the knobs turned for it have their old values again. Call it after the VMs have ended.
    True if the count was reached. False if not in time, or if what is left belongs to living
    processes (`merged_by_living`): other mergeable ones of the host are merged meanwhile.
    """
    shared = roots.ksm / "pages_shared"
    if (now := read_int(shared)) is None or now <= until_pages_shared:
        return True
    before = {name: read_int(roots.ksm / name) for name in PRUNING}
    try:
        for name, value in PRUNING.items():
            _turn(roots.ksm / name, value)
        return _wait_until(roots, until_pages_shared, time.monotonic() + timeout)
    finally:
        for name, old in reversed(before.items()):
            if old is not None:
                _turn(roots.ksm / name, str(old))


def _wait_until(roots: Roots, most: int, deadline: float) -> bool:
    looked = time.monotonic()
    while (read_int(roots.ksm / "pages_shared") or 0) > most:
        now = time.monotonic()
        if now > deadline:
            return False
        if now > looked + _LOOK_EVERY:
            looked = now
            if merged_by_living(roots):
                return False
        time.sleep(0.02)
    return True


def merged_by_living(roots: Roots = HOST) -> bool:
    """Whether every merged page of the host belongs to a process that lives.

    Their merging pages then add up to pages_shared + pages_sharing; those of ended processes, and
    of processes that this PID namespace hides, are missing from the sum.
    """
    shared, sharing = (read_int(roots.ksm / name) for name in ("pages_shared", "pages_sharing"))
    pids = (int(entry.name) for entry in roots.proc.iterdir() if entry.name.isdecimal())
    living = sum(ksm_merging_pages(pid, roots) or 0 for pid in pids)
    return living >= (shared or 0) + (sharing or 0)


def _turn(knob: Path, value: str) -> None:
    try:
        write_text(knob, value)
    except KernelError as error:
        # advisor_mode=scan-time owns pages_to_scan and refuses it; ksmd then keeps its own pace.
        if error.errno != errno.EINVAL:
            raise


def unmerge(
    roots: Roots = HOST, *, shared_before_lab: int, timeout: float = 30.0, tries: int = 3
) -> bool:
    """Write `run` = 2 in a child: every merged page of the host gets a frame of its own again.

    Allowed only if nobody's pages were merged before the lab (`shared_before_lab` == 0), since it
    unmerges the pages of all processes. It needs as much free memory as was saved. True if
    pages_shared is 0 afterwards; the write alone proves nothing, as a signal stops it half-way.
    """
    if shared_before_lab:
        raise HostError(
            f"{shared_before_lab} pages of other processes were merged before the lab began",
            hint="memlab leaves merges alone that are not its own: ksm/run=2 would undo all.",
        )
    write = partial(write_once, str(roots.ksm / "run"), b"2")
    for _ in range(tries):
        in_child(write, timeout=timeout)
        if read_int(roots.ksm / "pages_shared") == 0:
            return True
    return False
