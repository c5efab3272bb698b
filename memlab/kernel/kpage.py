"""What the kernel says of a machine frame: the second witness of a pagemap walk. Root only.

`/proc/kpageflags` (2.6.25) and `/proc/kpagecount` have a u64 a frame, to be read at 8 × its
number. 270 ns a frame, so for checks and tests, not for sampling; racy by nature. Map counts may
become vague with large folios.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memlab.errors import KernelError
from memlab.kernel.files import HOST, Roots

KPF_ANON: Final = 1 << 12
KPF_SWAPCACHE: Final = 1 << 13
KPF_KSM: Final = 1 << 21
KPF_THP: Final = 1 << 22
KPF_ZERO_PAGE: Final = 1 << 24

_ENTRY: Final = 8


def read_flags(frames: Iterable[int], roots: Roots = HOST) -> list[int]:
    """Flags (KPF_…) of each frame, in the order given; 0 beyond the end of memory."""
    return _read_entries(roots.proc / "kpageflags", frames)


def read_counts(frames: Iterable[int], roots: Roots = HOST) -> list[int]:
    """How often each frame is mapped; KSM's frames by all their sharers."""
    return _read_entries(roots.proc / "kpagecount", frames)


def _read_entries(path: Path, frames: Iterable[int]) -> list[int]:
    found: array[int] = array("Q")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for frame in frames:
                found.frombytes(os.pread(fd, _ENTRY, frame * _ENTRY) or bytes(_ENTRY))
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(path, "read", error.errno or 0) from error
    return found.tolist()
