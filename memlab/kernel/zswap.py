"""zswap, the compressed pool in front of the swap device: parameters, pool size, a cap for it.

`/sys/module/zswap/parameters/*` (3.11; shrinker_enabled 6.8; zpool gone in 6.18) holds for the
whole host. `enabled` = N flushes nothing: what is stored stays and faults in from zswap until
swapoff. Zero-filled pages never reach zswap since 6.12 (a bitmap of the swap area has them).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from memlab.errors import HostError, KernelError
from memlab.kernel.files import (
    ABSENT,
    HOST,
    Applied,
    Roots,
    parse_names,
    read_int,
    read_text,
    write_text,
)

PARAMETERS: Final = (
    "enabled",
    "compressor",
    "max_pool_percent",
    "accept_threshold_percent",
    "shrinker_enabled",
    "zpool",  # gone in 6.18
    "same_filled_pages_enabled",  # gone in 6.12
    "non_same_filled_pages_enabled",  # gone in 6.12
    "exclusive_loads",  # 6.5 only
)
"""Every parameter that some kernel has had. All can be written."""

COMPRESSORS: Final = ("lzo", "lzo-rle", "lz4", "lz4hc", "zstd", "deflate", "842")
"""Names under which kernels have compressors; which are built in, only writing them tells."""


@dataclass(frozen=True, slots=True)
class Pool:
    """meminfo `Zswap` and `Zswapped` (5.19): machine memory of the pool, and the original size."""

    pool_bytes: int
    stored_bytes: int


def parameters(roots: Roots = HOST) -> dict[str, str]:
    """The parameters that this kernel has, as it prints them (`Y`, `20`, `lzo`).

    Empty if the kernel is built without zswap (CONFIG_ZSWAP).
    """
    found = {name: read_text(roots.zswap / name) for name in PARAMETERS}
    return {name: text for name, text in found.items() if text is not None}


def present(roots: Roots = HOST) -> bool:
    """Whether this kernel has zswap."""
    return (roots.zswap / "enabled").exists()


def is_enabled(roots: Roots = HOST) -> bool | None:
    """Whether zswap takes new pages; None without zswap."""
    text = read_text(roots.zswap / "enabled")
    return None if text is None else text == "Y"


def read_pool(meminfo: bytes) -> Pool | None:
    """Size of the pool from the bytes of /proc/meminfo; None where it has no such lines."""
    found = parse_names(meminfo)
    if "Zswap" not in found or "Zswapped" not in found:
        return None
    return Pool(found["Zswap"], found["Zswapped"])


def set_compressor(name: str, roots: Roots = HOST) -> Applied:
    """Choose the compressor of pages stored from now on; HostError if this kernel lacks it.

    While zswap has never been enabled since boot the kernel takes *any* word here, and only
    `enabled` = Y finds out (it then falls back to its default). So enable first.
    """
    try:
        applied = write_text(roots.zswap / "compressor", name)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        raise _no_compressor(name, roots) from error
    if not applied.took:
        raise _no_compressor(name, roots)
    return applied


def _no_compressor(name: str, roots: Roots) -> HostError:
    now = read_text(roots.zswap / "compressor")
    return HostError(
        f"this kernel has no zswap compressor called {name!r}",
        hint=f"Leave the compressor as it is ({now}); `memlab doctor` lists those that work here.",
    )


def available_compressors(
    roots: Roots = HOST, *, candidates: Iterable[str] = COMPRESSORS
) -> tuple[str, ...]:
    """Compressors of this kernel, found by writing each and reading it back; the old one returns.

    Each one tried leaves an empty pool behind until reboot (a few KiB). Meaningful only after
    zswap has been enabled once, as for `set_compressor`.
    """
    before = read_text(roots.zswap / "compressor")
    if before is None:
        return ()
    found = []
    try:
        for name in candidates:
            try:
                set_compressor(name, roots)
            except HostError:
                continue
            found.append(name)
    finally:
        write_text(roots.zswap / "compressor", before)
    return tuple(found)


class PoolGate:
    """The pool's door: keeps it near a cap where the kernel has none of that size (cgroup v1).

    `max_pool_percent` is in whole percents of the *host's* memory: 1 % of 24 GiB is 240 MiB, which
    a small lab never fills. So at the cap `enabled` is turned to N, and new pages go straight to
    the swap device while what is stored stays and faults in from zswap; below 98 % of the cap to Y
    again (the pool shrinks only as whole zspages get empty, and new pages fill the holes). With
    `max_pool_percent` 0 the kernel's shrinker would believe the pool to be full and write what is
    stored to the device: 33–205 MiB a run under load.
    On v2 `MemoryGroup.set_zswap_max` caps one group, and `cap_bytes` is None: the door is closed
    only while pages are to go past the pool. `memory.zswap.max` = 0 would not do that: it writes
    one stored page to the device and then stores the new one (shrink_memcg in zswap_store, 6.8).
    """

    REOPEN = 0.98

    def __init__(self, roots: Roots, cap_bytes: int | None) -> None:
        self._file = roots.zswap / "enabled"
        self.cap_bytes = cap_bytes
        self.closed = False

    @property
    def has_cap(self) -> bool:
        """Whether the pool's size has to be watched; on v2 the group's own cap does that."""
        return self.cap_bytes is not None

    def tick(self, pool_bytes: int) -> Applied | None:
        """Close or open the pool if its size now asks for it; None if it may stay as it is."""
        if self.cap_bytes is None:
            return self.open()
        if not self.closed and pool_bytes >= self.cap_bytes:
            return self._turn(closed=True)
        if self.closed and pool_bytes < self.cap_bytes * self.REOPEN:
            return self._turn(closed=False)
        return None

    def open(self) -> Applied | None:
        """Let the pool take pages, if the gate is closed."""
        return self._turn(closed=False) if self.closed else None

    def close(self) -> Applied | None:
        """Send new pages past zswap, whatever the size of the pool; None if it is so already."""
        return None if self.closed else self._turn(closed=True)

    def _turn(self, *, closed: bool) -> Applied:
        self.closed = closed
        return write_text(self._file, "N" if closed else "Y")


def read_debug(roots: Roots = HOST) -> dict[str, int] | None:
    """debugfs `zswap/*` by file name; None where debugfs is not mounted. No stable interface.

    Opened anew at each call: on 6.18 a second read gives nothing and pread ESPIPE. 45 µs, so at
    most once a second. Sample: stored_pages 41259, pool_total_size 78000128.
    """
    folder = roots.sys / "kernel/debug/zswap"
    try:
        names = sorted(file.name for file in folder.iterdir())
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise KernelError(folder, "list", error.errno or 0) from error
    found = {name: read_int(folder / name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
