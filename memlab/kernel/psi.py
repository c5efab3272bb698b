"""Pressure stall information: how long tasks have waited for memory, in total.

`/proc/pressure/memory` (4.20) for the host, `memory.pressure` of a cgroup2 directory (5.2) for a
VM, on hybrid hosts too. Only `total` is used: avg10 is a decaying mean that no later reading can
undo. A kernel with CONFIG_PSI_DEFAULT_DISABLED answers "not supported" (absent) until it is booted
with psi=1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel.files import HOST, Roots, read_bytes

_TOTAL: Final = re.compile(rb"^(some|full) .*\btotal=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Microseconds since boot (or since the cgroup was made) in which tasks waited for memory.

    `some`: at least one task waited; `full`: all that could run did. Sample: 18203, 12044.
    """

    some_total_us: int | None = None
    full_total_us: int | None = None


def parse(raw: bytes) -> Pressure:
    """Both totals from the bytes of a pressure file; a line that is not there is None."""
    return Pressure(*totals(raw))


def totals(raw: bytes) -> tuple[int | None, int | None]:
    """The same as a bare pair, for what is read at every sample."""
    found = dict(_TOTAL.findall(raw))
    some, full = found.get(b"some"), found.get(b"full")
    return None if some is None else int(some), None if full is None else int(full)


def read(path: Path) -> Pressure | None:
    """Pressure now; None if this kernel has none, or has it switched off."""
    raw = read_bytes(path)
    return None if raw is None else parse(raw)


def host_path(roots: Roots = HOST) -> Path:
    """The host's memory pressure file."""
    return roots.proc / "pressure/memory"


def read_host(roots: Roots = HOST) -> Pressure | None:
    """The whole host's memory pressure now."""
    return read(host_path(roots))
