"""How frames are had when there are none: where what is pushed out goes, and what that frees.

Into the pool goes what compresses, while the pool has room; zero pages go nowhere, since the kernel
keeps no more of them than a note (mm/page_io.c, 6.12); all others go to the device. Whose pages
they are is in `victims`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from memlab.simulate.arrays import APP, IMAGE, REGIONS, Floats, over
from memlab.simulate.costs import TO_A_FRAME
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages, Shared, slots_used
from memlab.simulate.victims import Frames, Victims

_NOT_WORTH: Final = 0.95
"""A page that is as dense as this in the pool goes to the device."""
_REOPEN: Final = 0.98
"""Of its cap: below it a pool that was full takes pages again (kernel/zswap.py, PoolGate)."""


class Reclaim:
    """Pushes pages out. `density` is the room that a page takes in the pool, pages by stratum."""

    def __init__(self, fleet: Fleet, density: Floats) -> None:
        self._fleet = fleet
        self._density = density
        self.victims = Victims(fleet)
        self._dense = np.zeros(fleet.hosts.count)
        """Room in the pool that a page pushed out takes, were there any: what left last says it."""
        self.written = np.zeros(fleet.hosts.count)
        """Pages that the last `take` wrote to the device."""
        self.written_part = np.zeros(fleet.hosts.count)
        """The part of what the last `take` with any pushed out that it wrote there."""

    def take(
        self, pages: Pages, shared: Shared, rates: Floats, need: Floats, dt: float
    ) -> tuple[Floats, Floats]:
        """Free `need` frames on each host, as far as can be: those freed, and those for which there
        was no slot.

        `rates` are accesses a second and page by stratum. VMs above their own limit pay for that
        besides.
        """
        self.victims.go_on(dt)
        self.written = np.zeros_like(need)
        limited = bool(np.isfinite(self._fleet.limit).any())
        if not need.any() and not limited:
            return need, need
        hosts = self._fleet.hosts
        frames = Frames.of(pages, shared, rates, self._fleet)
        there = hosts.sum(frames.own)
        room = np.maximum(self._fleet.slots - slots_used(pages, shared, self._fleet), 0)
        count = np.minimum(np.minimum(self._enough(pages, need), room), there)
        wanted = self.victims.shares(frames, count, dt)
        if limited:
            above = np.minimum(np.maximum(frames.own - self._fleet.limit, wanted), frames.own)
            wanted = np.where(hosts.spread(room - count) > 0, above, wanted)
        freed = self._push(pages, shared, self.victims.oldest(frames, wanted))
        return freed, np.maximum(np.minimum(need, there) - room, 0)

    def poolable(self, pages: Pages, taken: Floats) -> Floats:
        """Those of the pages pushed out that the pool takes if it has room, by stratum."""
        return taken * ((self._density < _NOT_WORTH) * (1 - zero_part(pages, self._fleet)))

    def _enough(self, pages: Pages, need: Floats) -> Floats:
        """Pages to push out for `need` frames: more than those, as long as the pool has room and
        what it takes is charged."""
        if not self._fleet.pool_charged:
            return need
        room = pool_room(pages, self._fleet)
        found: Floats = np.minimum(need / (1 - self._dense), need + room)
        return found

    def _push(self, pages: Pages, shared: Shared, taken: Floats) -> Floats:
        """Push out these rows; the frames that are free then, by host."""
        hosts = self._fleet.hosts
        pooled = self.poolable(pages, taken[:-REGIONS])
        wants = hosts.sum((pooled * self._density).sum(axis=0))
        part = np.minimum(1, over(pool_room(pages, self._fleet), wants))
        pooled *= hosts.spread(part)
        push(pages, taken[:-REGIONS], pooled)
        _push_merged(pages, taken[-REGIONS:], shared, self._fleet, part)
        left = hosts.sum(taken.sum(axis=0))
        self.written = left - hosts.sum(pooled.sum(axis=0))
        some = left > 1
        self.written_part = np.where(some, over(self.written, left), self.written_part)
        self._dense = np.where(some, np.minimum(over(wants, left), _NOT_WORTH), self._dense)
        freed: Floats = left - wants * part if self._fleet.pool_charged else left
        return freed


def zero_part(pages: Pages, fleet: Fleet) -> Floats:
    """The part of each stratum's pages that is zero, merged ones left out."""
    there = pages.private + pages.pooled + pages.device
    part: Floats = np.clip(over(pages.equal, there), 0, 1)
    part[IMAGE] *= 1 - fleet.common[0]
    part[1:] *= 1 - fleet.common[1]
    return part


def zero_on_device(pages: Pages, fleet: Fleet) -> Floats:
    """Zero pages that count as on the device, by stratum of the application: none is in the pool,
    so all of those that are out."""
    device, equal = pages.device[APP], pages.equal[APP]
    if not equal.any():
        return np.zeros_like(equal)
    out = pages.pooled[APP] + device
    part = np.clip(over(equal, pages.private[APP] + out), 0, 1) * (1 - fleet.common[1])
    found: Floats = np.clip(part * out, 0, np.maximum(device - pages.cached[APP], 0))
    return found


def _push_merged(
    pages: Pages, taken: Floats, shared: Shared, fleet: Fleet, into_pool: Floats
) -> None:
    """A merged frame leaves for all that have it, and takes one slot."""
    frames = fleet.images.sum(taken)
    part = fleet.images.spread(np.minimum(1, over(frames, shared.frames)))
    where = into_pool[fleet.image_host]
    pages.in_pool = over(pages.in_pool * shared.slots + where * frames, shared.slots + frames)
    leaving = np.empty_like(pages.merged)
    leaving[IMAGE] = pages.merged[IMAGE] * part[0]
    leaving[1:] = pages.merged[1:] * part[1]
    pages.merged -= leaving
    pages.merged_out += leaving


def pool_room(pages: Pages, fleet: Fleet) -> Floats:
    """Pages that each host's pool has room for, compressed."""
    room: Floats = np.maximum(fleet.pool_cap - pages.stored, 0) * (pages.pool_closed == 0)
    return room


def push(pages: Pages, taken: Floats, pooled: Floats) -> None:
    """`taken` leave their frames, `pooled` of them for the pool."""
    pages.private -= taken
    pages.pooled += pooled
    pages.device += taken - pooled


def settle_pool(pages: Pages, shared: Shared, fleet: Fleet, density: Floats) -> None:
    """Bring the pool in line with what is in it: it grows at once, and shrinks as frames get empty.

    Shut at its cap, it takes pages again below 98 % of that.
    """
    merged = shared.slots * pages.in_pool * fleet.images.max(fleet.density)
    stored = fleet.hosts.sum((pages.pooled * density).sum(axis=0))
    stored = stored + shared.on_hosts(merged, fleet)
    occupied = np.minimum(1, over(stored, pages.pool))
    emptied = np.maximum(pages.stored - stored, 0) * TO_A_FRAME * (1 - occupied) ** (TO_A_FRAME - 1)
    pages.pool = np.maximum(pages.pool - emptied, stored)
    pages.stored = stored
    full = pages.pool >= fleet.pool_cap
    pages.pool_closed = np.where(
        full, 1.0, pages.pool_closed * (pages.pool >= _REOPEN * fleet.pool_cap)
    )
