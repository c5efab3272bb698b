"""Which mechanisms work on this host, found by doing; for each missing one, reason and repair.

`probe` takes well under a second, turns no knob and leaves nothing behind. What only a turned knob
can show (which compressors load, whether equal pages really merge) needs `probe_deep`: it becomes
the owner of the host for a moment, with journal and guard, exactly as a lab does.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from memlab.errors import KernelError
from memlab.kernel import zswap
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, Roots, read_int
from memlab.kernel.finding import Feature, Finding
from memlab.kernel.kvm import DEVICE
from memlab.kernel.owner import Owner, acquire
from memlab.kernel.probe_extra import (
    probe_cgroup_v2,
    probe_damon,
    probe_mglru,
    probe_vm_zswap,
)
from memlab.kernel.probe_host import (
    has_root,
    probe_cgroup,
    probe_kvm,
    probe_machine,
    probe_memory,
    probe_root,
)
from memlab.kernel.probe_network import probe_network
from memlab.kernel.probe_store import (
    others_at_work,
    probe_compressors,
    probe_ksm,
    probe_swap_file,
    probe_thp,
    probe_zram,
    probe_zswap,
)
from memlab.kernel.probe_view import (
    probe_delays,
    probe_frame_numbers,
    probe_pagemap_scan,
    probe_pageout,
    probe_psi,
)
from memlab.kernel.qemu import probe_qemu

_MERGE_PAGES = 64
_MERGE_SECONDS = 5.0


def probe(
    roots: Roots = HOST,
    *,
    folder: Path | None = None,
    kvm: Path = DEVICE,
    only: Collection[Feature] = tuple(Feature),
) -> tuple[Finding, ...]:
    """What there is to know without turning a knob: of `only`, else everything.

    `folder` is where a swap file would lie.
    """
    root, place = has_root(roots), folder or Path.cwd()
    probes: tuple[tuple[set[Feature], Callable[[], Iterable[Finding]]], ...] = (
        ({Feature.MACHINE}, lambda: [probe_machine(roots)]),
        ({Feature.ROOT}, lambda: [probe_root(roots)]),
        ({Feature.MEMORY}, lambda: [probe_memory(roots)]),
        (
            {Feature.MEMORY_CGROUP, Feature.CGROUP_KILL},
            lambda: probe_cgroup(roots, root=root),
        ),
        ({Feature.KSM}, lambda: [probe_ksm(roots, root=root)]),
        ({Feature.ZSWAP}, lambda: [probe_zswap(roots, root=root)]),
        ({Feature.COMPRESSORS}, lambda: [probe_compressors(roots)]),
        ({Feature.SWAP_FILE}, lambda: [probe_swap_file(roots, place, root=root)]),
        ({Feature.ZRAM}, lambda: [probe_zram(roots, root=root)]),
        ({Feature.THP}, lambda: [probe_thp(roots)]),
        ({Feature.PSI}, lambda: [probe_psi(roots)]),
        ({Feature.DELAYS}, lambda: [probe_delays(roots, root=root)]),
        ({Feature.PAGEMAP_SCAN}, lambda: [probe_pagemap_scan(root=root)]),
        ({Feature.FRAME_NUMBERS}, lambda: [probe_frame_numbers(root=root)]),
        ({Feature.PAGEOUT}, lambda: [probe_pageout(root=root)]),
        ({Feature.CGROUP_V2}, lambda: [probe_cgroup_v2(roots)]),
        ({Feature.VM_ZSWAP}, lambda: [probe_vm_zswap(roots)]),
        ({Feature.MGLRU}, lambda: [probe_mglru(roots)]),
        ({Feature.DAMON}, lambda: [probe_damon(roots, root=root)]),
        ({Feature.KVM}, lambda: [probe_kvm(kvm)]),
        ({Feature.QEMU}, lambda: [probe_qemu()]),
        ({Feature.NETWORK}, lambda: [probe_network(root=root)]),
        ({Feature.OTHERS}, lambda: [others_at_work(roots)]),
    )
    wanted = frozenset(only)
    return tuple(
        found
        for names, work in probes
        if names & wanted
        for found in work()
        if found.feature in wanted
    )


def probe_deep(roots: Roots = HOST, *, run: Path | None = None) -> tuple[Finding, ...]:
    """What only turned knobs can show; all is given back. Needs root, and OwnedError beside a lab.

    zswap's pools that were tried stay in the kernel until the next boot, a few KiB each.
    """
    header = Header.of_this_process("doctor", f"doctor-{os.getpid()}", Path.cwd(), roots=roots)
    with acquire(header, path=run, roots=roots) as owner:
        found = (_merge(owner, roots), _try_compressors(owner, roots))
    owner.close().check()
    return found


def _merge(owner: Owner, roots: Roots) -> Finding:
    """Let KSM merge equal pages of our own, and see its counter rise."""
    how = f"switched KSM on and let it merge {_MERGE_PAGES} equal pages"
    affects = ("page sharing (mechanisms.tps)",)
    size = _MERGE_PAGES * mmap.PAGESIZE
    try:
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
            pages.madvise(mmap.MADV_MERGEABLE)
            pages.write(b"memlab doctor..." * (size // 16))
            for name, value in (("pages_to_scan", "20000"), ("sleep_millisecs", "10")):
                with suppress(KernelError):  # an advisor owns it
                    owner.journal.turn(roots.ksm / name, value)
            owner.journal.turn(roots.ksm / "run", "1")
            seconds = _wait_until_merged(roots, at_least=_MERGE_PAGES // 2)
        # ksmd forgets unmapped pages at its next pass; this process lives on, so wait for that.
        _wait_until_merged(roots, at_most=0)
    except (KernelError, OSError) as error:
        return Finding(Feature.KSM, False, how, str(error), "see the finding above", affects)
    if seconds is None:
        reason = f"none was merged within {_MERGE_SECONDS:.0f} s"
        return Finding(Feature.KSM, False, how, reason, "look at ksmd: top -H", affects)
    return Finding(Feature.KSM, True, how, f"merged after {seconds:.2f} s", "", affects)


def _wait_until_merged(
    roots: Roots, *, at_least: int = 0, at_most: int = _MERGE_PAGES
) -> float | None:
    """Seconds until so many of our pages are merged; None if that does not come."""
    begin = time.monotonic()
    while time.monotonic() - begin < _MERGE_SECONDS:
        if at_least <= (read_int(roots.proc / "self/ksm_merging_pages") or 0) <= at_most:
            return time.monotonic() - begin
        time.sleep(0.01)
    return None


def _try_compressors(owner: Owner, roots: Roots) -> Finding:
    """Write each name and read it back; every write is journalled."""
    how = "switched zswap on, wrote each compressor's name and read it back"
    affects = ("compression (mechanisms.compression)",)
    if not zswap.present(roots):
        reason = "this kernel is built without zswap"
        return Finding(Feature.COMPRESSORS, False, how, reason, "", affects)
    # Before it was enabled once, the kernel takes any word for a compressor.
    owner.journal.turn(roots.zswap / "enabled", "1")
    have = []
    for name in zswap.COMPRESSORS:
        with suppress(KernelError):
            if owner.journal.turn(roots.zswap / "compressor", name).took:
                have.append(name)
    repair = "" if {"lz4", "zstd"} & set(have) else "modprobe lz4 zstd, where the kernel has them"
    return Finding(Feature.COMPRESSORS, bool(have), how, ", ".join(have), repair, affects)
