"""What is wanted of a host's pages in one tick, and at what price: numbers that steps hand on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memlab.simulate.arrays import Floats


@dataclass(frozen=True, slots=True)
class Pace:
    """What the host makes of a need for frames now, by VM.

    `frame` is the seconds that it takes to get one, for somebody may have to be pushed out first,
    `queue` how many times longer a read takes than on a device that is not busy.
    """

    frame: Floats
    queue: Floats


@dataclass(slots=True)
class Flows:
    """What is wanted of pages in one tick: pages by stratum (fill), of the application, or by VM.

    `guest_in` is the part of `fill` that comes from the guest's own swap, `guest_wants` the free
    pages that a guest needs for all that it wants from disk. `reuse` is the part of what the guest
    has freed that is filled again, `written` the part of the application's pages that is written.
    `rates` are accesses a second and page, by stratum. `stalled` is the part of the tick spent
    waiting for memory. `cached` and `zero` are the parts of `device` that are in the swap cache
    and, zero pages, nowhere. `cpu` is seconds of CPU time.
    """

    fill: Floats
    reuse: Floats
    guest_in: Floats
    guest_wants: Floats
    pooled: Floats
    device: Floats
    merged_out: Floats
    copies: Floats
    written: Floats
    rates: Floats
    operations: Floats
    cpu: Floats
    stalled: Floats
    cached: Floats
    zero: Floats

    @property
    def major(self) -> Floats:
        """Faults of the host that had to wait for the pool or the device, by VM: a guest reads
        its own swap by itself."""
        waited = self.device - self.cached + self.pooled + self.merged_out
        found: Floats = waited.sum(axis=0)
        return found

    @property
    def read(self) -> Floats:
        """Pages read from the device, by VM."""
        found: Floats = np.maximum(self.device - self.cached - self.zero, 0).sum(axis=0)
        return found

    def scale(self, part: Floats) -> None:
        """Only `part` of it could be had, by VM."""
        for rows in (
            *(self.fill, self.reuse, self.pooled, self.device, self.cached, self.zero),
            *(self.merged_out, self.copies, self.operations, self.cpu, self.guest_in),
        ):
            np.multiply(rows, part, out=rows)
