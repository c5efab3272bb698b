"""Which mechanisms work on this host, found by doing; for each missing one, reason and repair.

`probe` takes well under a second, turns no knob and leaves nothing behind. What only a turned knob
can show (which compressors load, whether equal pages really merge) needs `probe_deep`: it becomes
the owner of the host for a moment, with journal and guard, exactly as a lab does.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

from memlab.errors import KernelError
from memlab.kernel import zswap
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, Roots, read_int
from memlab.kernel.finding import Feature, Finding
from memlab.kernel.kvm import DEVICE
from memlab.kernel.owner import Owner, acquire
from memlab.kernel.probe_host import (
    has_root,
    probe_cgroup,
    probe_kvm,
    probe_machine,
    probe_memory,
    probe_root,
)
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

_MERGE_PAGES = 64
_MERGE_SECONDS = 5.0


def probe(
    roots: Roots = HOST, *, folder: Path | None = None, kvm: Path = DEVICE
) -> tuple[Finding, ...]:
    """Everything there is to know without turning a knob. `folder`: where a swap file would lie."""
    root = has_root(roots)
    return (
        probe_machine(roots),
        probe_root(roots),
        probe_memory(roots),
        *probe_cgroup(roots, root=root),
        probe_ksm(roots, root=root),
        probe_zswap(roots, root=root),
        probe_compressors(roots),
        probe_swap_file(roots, folder or Path.cwd(), root=root),
        probe_zram(roots, root=root),
        probe_thp(roots),
        probe_psi(roots),
        probe_delays(roots, root=root),
        probe_pagemap_scan(root=root),
        probe_frame_numbers(root=root),
        probe_pageout(root=root),
        probe_kvm(kvm),
        others_at_work(roots),
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
