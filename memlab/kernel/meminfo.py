"""/proc/meminfo: the host's machine memory, swap and compressed pool. 6 µs a read, kept open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.kernel.files import HOST, Roots, parse_names, read_bytes


@dataclass(frozen=True, slots=True)
class Meminfo:
    """What memlab uses of it, bytes; None where this kernel has no such line.

    `zswap` is the machine memory of the compressed pool, `zswapped` the original size of what is
    in it (5.19); zero-filled pages are in neither since 6.12.
    """

    total: int | None = None
    free: int | None = None
    available: int | None = None
    buffers: int | None = None
    cached: int | None = None
    swap_cached: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None
    zswap: int | None = None
    zswapped: int | None = None
    anonymous: int | None = None
    anon_huge: int | None = None
    shmem: int | None = None
    slab: int | None = None
    page_tables: int | None = None


_NAMES: Final = {
    "total": "MemTotal",
    "free": "MemFree",
    "available": "MemAvailable",
    "buffers": "Buffers",
    "cached": "Cached",
    "swap_cached": "SwapCached",
    "swap_total": "SwapTotal",
    "swap_free": "SwapFree",
    "zswap": "Zswap",
    "zswapped": "Zswapped",
    "anonymous": "AnonPages",
    "anon_huge": "AnonHugePages",
    "shmem": "Shmem",
    "slab": "Slab",
    "page_tables": "PageTables",
}


def path(roots: Roots = HOST) -> Path:
    """The file, for a reader that keeps it open."""
    return roots.proc / "meminfo"


def parse(raw: bytes) -> Meminfo:
    """Figures by name from the file's bytes."""
    found = parse_names(raw)
    return Meminfo(**{field: found.get(name) for field, name in _NAMES.items()})


def read(roots: Roots = HOST) -> Meminfo:
    """The host's memory now; HostError without /proc."""
    raw = read_bytes(path(roots))
    if raw is None:
        raise HostError(f"there is no {path(roots)}", hint="Mount /proc: mount -t proc proc /proc")
    return parse(raw)
