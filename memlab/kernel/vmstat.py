"""/proc/vmstat: flows of the whole host since boot, in pages or events. 19 µs a read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel.files import HOST, Roots, parse_pairs, read_bytes


@dataclass(frozen=True, slots=True)
class Vmstat:
    """What memlab uses of it, by the kernel's names; None where this kernel has no such line.

    A page stored in zswap is `zswpout`, never `pswpout`; `zswpwb` (6.8) was written back to the
    device. A zero-filled page is `swpout_zero` (6.13) and reaches neither. `cow_ksm` (5.19): a
    merged page was copied because it was written; `ksm_swpin_copy`: copied at swap-in.
    """

    pgfault: int | None = None
    pgmajfault: int | None = None
    pswpin: int | None = None
    pswpout: int | None = None
    zswpin: int | None = None
    zswpout: int | None = None
    zswpwb: int | None = None
    swpin_zero: int | None = None
    swpout_zero: int | None = None
    cow_ksm: int | None = None
    ksm_swpin_copy: int | None = None
    pgscan_direct: int | None = None
    pgscan_kswapd: int | None = None
    pgsteal_direct: int | None = None
    pgsteal_kswapd: int | None = None
    oom_kill: int | None = None
    balloon_inflate: int | None = None
    balloon_deflate: int | None = None


_FIELDS: Final = tuple(field.name.encode() for field in dataclasses.fields(Vmstat))


def path(roots: Roots = HOST) -> Path:
    """The file, for a reader that keeps it open."""
    return roots.proc / "vmstat"


def parse(raw: bytes) -> Vmstat:
    """Counters by name from the file's bytes."""
    found = parse_pairs(raw)
    return Vmstat(*[int(found[name]) if name in found else None for name in _FIELDS])


def read(roots: Roots = HOST) -> Vmstat:
    """The host's counters now; all None without the file."""
    return parse(read_bytes(path(roots)) or b"")
