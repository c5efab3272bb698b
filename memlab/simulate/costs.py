"""What things cost on the modelled host: seconds, and where each figure was measured.

They are of one machine (Linux 6.18, 2 cores, virtual disk). Some were read off the bundled
recording, as it says there. `device` and `to_device` were chosen among values that recordings of
the contention labs allow, with the model's totals for these labs in view (docs/simulate.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memlab.units import MIB, PAGE


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for one page or operation, pages a second for what has a speed."""

    operation: float = 0.7e-6
    """An operation on a resident page: the median of keyvalue in the bundled recording."""
    fill: float = 4e-6
    """The first touch of a page, content included: 1 GiB/s (kernel-notes §3, keeper)."""
    decompress: float = 3e-6
    """A page read back from the compressed pool, reclaim apart."""
    device: float = 35e-6
    """Time of the device for a page read: what is left of a second in which it wrote 16,000 pages
    and read 26,000, the most of the contention labs' recordings."""
    disk: float = 55e-6
    """A page that a guest reads from its own disk, p50 (kernel-notes, "Compressed and swapped")."""
    write: float = PAGE / (600 * MIB)
    """Time of the device for a page written to it: about 600 MiB/s (kernel-notes, "Compressed")."""
    cached: float = 1e-6
    """A page that was on its way to the device and is still in the swap cache."""
    copy: float = 2.6e-6
    """Copy-on-write of a merged page: p50 of the first write (kernel-notes §3, KSM)."""
    to_pool: float = 8e-6
    """Direct reclaim of a frame by whoever needs one while the host is full, if what leaves it goes
    into the pool: delays of the bundled recording."""
    to_device: float = 27e-6
    """The same if it is written to the device: median of the contention labs' recordings."""
    scan: float = 4e-6
    """A page that ksmd looks at: 5000 pages every 20 ms take half a core, and 4 × 128 MiB merge
    in 40 s, 3.5 s and 1.0 s at 100, 1000 and 5000 pages (kernel-notes §3)."""
    inflate: float = 573 * MIB / PAGE
    """Pages a second that a balloon takes from its guest (kernel-notes, QEMU)."""
    deflate: float = 2038 * MIB / PAGE
    """Pages a second that it gives back."""


COSTS: Final = Costs()
POOL_LOSS: Final = 0.9
"""Part of the pool that holds content: 235.8 MiB of 3:1 went into 75.3, 108.3 into 42.2."""
TO_A_FRAME: Final = 3
"""Compressed pages whose frames are freed only together (zspages): a pool that is emptied at random
keeps 1 − (1 − o)³ of its frames at occupancy o."""
SHARERS: Final = 256
"""Sharers of one merged frame at most (max_page_sharing)."""
OVERHEAD: Final = 0.4 * MIB
"""A process VM's own memory, bytes: lab.overhead of the recorded runs, by VM."""
QEMU_OVERHEAD: Final = 32 * MIB
"""A QEMU VM's, as admission has it."""
RESERVED: Final = 0.0032
"""Part of guest memory that the guest's kernel keeps for itself (guest_reserved_pages)."""
