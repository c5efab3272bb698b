"""/proc/meminfo: the host's machine memory, swap and compressed pool. 6 µs a read, kept open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.kernel.files import HOST, Roots, parse_pairs, read_bytes
from memlab.units import KIB


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
    "total": b"MemTotal:",
    "free": b"MemFree:",
    "available": b"MemAvailable:",
    "buffers": b"Buffers:",
    "cached": b"Cached:",
    "swap_cached": b"SwapCached:",
    "swap_total": b"SwapTotal:",
    "swap_free": b"SwapFree:",
    "zswap": b"Zswap:",
    "zswapped": b"Zswapped:",
    "anonymous": b"AnonPages:",
    "anon_huge": b"AnonHugePages:",
    "shmem": b"Shmem:",
    "slab": b"Slab:",
    "page_tables": b"PageTables:",
}


def path(roots: Roots = HOST) -> Path:
    """The file, for a reader that keeps it open."""
    return roots.proc / "meminfo"


def lines(fields: Iterable[str]) -> tuple[bytes, ...]:
    """How the file names these fields, for a reader that picks few of them: mem_total is total."""
    return tuple(_NAMES[field.removeprefix("mem_")] for field in fields)


def parse(raw: bytes) -> Meminfo:
    """Figures by name from the file's bytes."""
    found = parse_pairs(raw.replace(b" kB", b""))  # all that is named here is kB
    return Meminfo(
        **{field: int(found[name]) * KIB for field, name in _NAMES.items() if name in found}
    )


def read(roots: Roots = HOST) -> Meminfo:
    """The host's memory now; HostError without /proc."""
    raw = read_bytes(path(roots))
    if raw is None:
        raise HostError(f"there is no {path(roots)}", hint="Mount /proc: mount -t proc proc /proc")
    return parse(raw)
