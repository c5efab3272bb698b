"""How frames are had when there are none: where what is pushed out goes, and what that frees.

Into the pool goes what compresses, while the pool has room; zero pages go nowhere, since the kernel
keeps no more of them than a note (mm/page_io.c, 6.12); all others go to the device. Whose pages
they are is in `victims`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from memlab.simulate.arrays import APP, IMAGE, REGIONS, Floats, over
from memlab.simulate.costs import TO_A_FRAME
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages, Shared, slots_used
from memlab.simulate.victims import Frames, Victims

_NOT_WORTH: Final = 0.95
"""A page that is as dense as this in the pool goes to the device."""
_MOST_MORE: Final = 10.0
"""Pages pushed out for one frame, at most: what goes into the pool takes room there."""
_REOPEN: Final = 0.98
"""Of its cap: below it a pool that was full takes pages again (kernel/zswap.py, PoolGate)."""


class WayOut(NamedTuple):
    """Where pages go that lose their frames: the part into the pool by host, and the pages of it;
    frames that are free then, and pages written to the device, by host."""

    into_pool: Floats
    pooled: Floats
    freed: Floats
    written: Floats


class Reclaim:
    """Pushes pages out. `density` is the room that a page takes in the pool, pages by stratum."""

    def __init__(self, fleet: Fleet, density: Floats) -> None:
        self._fleet = fleet
        self._density = density
        self.victims = Victims(fleet)
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
        count = np.minimum(np.minimum(need, room), there)
        wanted = self.victims.shares(frames, count, dt)
        if limited:
            above = np.minimum(np.maximum(frames.own - self._fleet.limit, wanted), frames.own)
            wanted = np.where(hosts.spread(room - count) > 0, above, wanted)
        freed = self._push(pages, shared, frames, self.victims.oldest(frames, wanted), count)
        return freed, np.maximum(np.minimum(need, there) - room, 0)

    def poolable(self, pages: Pages, taken: Floats) -> Floats:
        """Those of the pages pushed out that the pool takes if it has room, by stratum."""
        return taken * ((self._density < _NOT_WORTH) * (1 - zero_part(pages, self._fleet)))

    def _push(
        self, pages: Pages, shared: Shared, frames: Frames, taken: Floats, count: Floats
    ) -> Floats:
        """Push out the rows `taken`, and as many more as it takes to free `count` frames."""
        poolable = self.poolable(pages, taken[:-REGIONS])
        freed = self._way_out(pages, taken, poolable).freed
        more = self._fleet.hosts.spread(np.clip(over(count, freed), 1, _MOST_MORE))
        taken = np.minimum(taken * more, frames.rows)
        way = self._way_out(pages, taken, np.minimum(poolable * more, taken[:-REGIONS]))
        push(pages, taken[:-REGIONS], way.pooled)
        _push_merged(pages, taken[-REGIONS:], shared, self._fleet, way.into_pool)
        left = self._fleet.hosts.sum(taken.sum(axis=0))
        self.written = way.written
        self.written_part = np.where(left > 0, over(way.written, left), self.written_part)
        return way.freed

    def _way_out(self, pages: Pages, taken: Floats, poolable: Floats) -> WayOut:
        """Where these rows would go."""
        hosts = self._fleet.hosts
        wants = hosts.sum((poolable * self._density).sum(axis=0))
        part = np.minimum(1, over(pool_room(pages, self._fleet), wants))
        by_vm = poolable.sum(axis=0) * hosts.spread(part)
        left = hosts.sum(taken.sum(axis=0))
        return WayOut(
            part, poolable * hosts.spread(part), left - wants * part, left - hosts.sum(by_vm)
        )


def zero_part(pages: Pages, fleet: Fleet) -> Floats:
    """The part of each stratum's pages that is zero, merged ones left out."""
    part: Floats = np.minimum(1, over(pages.equal, pages.private + pages.pooled + pages.device))
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
    part = np.minimum(1, over(equal, pages.private[APP] + out)) * (1 - fleet.common[1])
    found: Floats = np.minimum(part * out, device - pages.cached[APP])
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
