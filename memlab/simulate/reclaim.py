"""How frames are had when there are none: which VMs pay, which of their pages, and where to.

Every VM pays in proportion to what it has in frames, as the kernel takes from cgroups; but what a
policy has made old goes first, unless it was used since. Within a VM the pages that have not been
used for longest go first: with T the age of the oldest, a stratum of R pages used λ times a second
and page reaches that age at R·λ ÷ (e^λT − 1) pages a second (the characteristic time of an LRU
list: Che, Tung, Wang, IEEE JSAC 2002). What has not been used since it was filled is older than all
of that. T grows with the clock and falls by what is taken. Linux's two lists are a coarse form of
this order.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from memlab.simulate.arrays import APP, IMAGE, REGIONS, Floats, over
from memlab.simulate.costs import TO_A_FRAME
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages, Shared, slots_used

_OLDEST: Final = 1e6
_STEEPEST: Final = 60.0
_IDLE: Final = 1e-6
_MERGED: Final = slice(-1, None)
"""The row of the application's merged frames, after the strata and those of the images."""
_FIRST: Final = 1e6
"""How much sooner a page goes that has not been used since it was filled: it is the oldest."""
_NOT_WORTH: Final = 0.95
"""A page that is as dense as this in the pool goes to the device."""
_REOPEN: Final = 0.98
"""Of its cap: below it a pool that was full takes pages again (kernel/zswap.py, PoolGate)."""


class Reclaim:
    """Pushes pages out. It remembers how old the oldest page of each VM is, seconds."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._age = np.ones(fleet.count)
        self._since_aged = np.full(fleet.count, np.inf)
        self.written = np.zeros(fleet.hosts.count)
        """Pages that the last `take` wrote to the device."""

    def age(self, vm: int) -> None:
        """All pages of the VM are old from now on, until they are used."""
        self._since_aged[vm] = 0.0

    def oldest(self, private: Floats, rates: Floats, count: Floats) -> Floats:
        """Of each VM `count` of its own pages, by their age: pages by stratum."""
        return self._oldest_first(private, ((APP, rates[APP]),), count)

    def take(
        self, pages: Pages, shared: Shared, rates: Floats, need: Floats, dt: float
    ) -> tuple[Floats, Floats]:
        """Free `need` frames on each host, as far as can be: those freed, and those for which there
        was no slot.

        `rates` are accesses a second and page by stratum. VMs above their own limit pay for that
        besides.
        """
        self._age = np.minimum(self._age + dt, _OLDEST)
        self._since_aged += dt
        self.written = np.zeros_like(need)
        limited = bool(np.isfinite(self._fleet.limit).any())
        if not need.any() and not limited:
            return need, need
        fleet = self._fleet
        common = shared.common(fleet)
        own = pages.private.sum(axis=0) + common.sum(axis=0)
        there = fleet.hosts.sum(own)
        room = np.maximum(fleet.slots - slots_used(pages, shared, fleet), 0)
        into_pool, gain = _way_out(pages, fleet, need)
        count = np.minimum(np.minimum(need / gain, room), there)
        first = self._from_the_aged(pages, rates, count)
        rest = own - first
        left = np.maximum(count - fleet.hosts.sum(first), 0)
        wanted = first + rest * fleet.hosts.spread(over(left, fleet.hosts.sum(rest)))
        if limited:
            above = np.minimum(np.maximum(own - fleet.limit, wanted), own)
            wanted = np.where(fleet.hosts.spread(room - count) > 0, above, wanted)
        rows = np.concatenate((pages.private, common))
        merged = _shared_rates(pages, shared, rates, fleet)
        taken = self._oldest_first(rows, ((APP, rates[APP]), (_MERGED, merged)), wanted)
        _push_private(pages, taken[:-REGIONS], fleet.hosts.spread(into_pool))
        _push_merged(pages, taken[-REGIONS:], shared, fleet, into_pool)
        self.written = (1 - into_pool) * count
        return count * gain, np.maximum(np.minimum(need / gain, there) - room, 0) * gain

    def _from_the_aged(self, pages: Pages, rates: Floats, count: Floats) -> Floats:
        """What VMs give before all others: pages not used since they were made old. By VM."""
        aged = np.isfinite(self._since_aged)
        if not aged.any():
            return np.zeros_like(self._age)
        since = np.where(aged, self._since_aged, 0.0)
        unused = pages.private * aged
        unused[APP] *= np.exp(-np.minimum(rates[APP] * since, _STEEPEST))
        cold: Floats = unused.sum(axis=0)
        on_hosts = self._fleet.hosts.sum(cold)
        return cold * self._fleet.hosts.spread(over(np.minimum(count, on_hosts), on_hosts))

    def _oldest_first(
        self, rows: Floats, used: tuple[tuple[slice, Floats], ...], wanted: Floats
    ) -> Floats:
        """Pages of each row, `wanted` in all, by their age. `used` are the accesses a second and
        page of the rows that can have any."""
        weight = rows * (_FIRST / self._age)
        for which, rates in used:
            x = np.minimum(np.maximum(rates * self._age, _IDLE), _STEEPEST)
            weight[which] *= np.where(x > _IDLE, x / (np.exp(x) - 1) / _FIRST, 1.0)
        total = weight.sum(axis=0)
        taken: Floats = np.minimum(weight * over(wanted, total), rows)
        rest = rows - taken
        taken += rest * np.minimum(1, over(wanted - taken.sum(axis=0), rest.sum(axis=0)))
        self._age = np.maximum(self._age - over(wanted, total), 0.3 * self._age)
        return taken


def _way_out(pages: Pages, fleet: Fleet, need: Floats) -> tuple[Floats, Floats]:
    """Which part goes into the pool, and what a page pushed out gains in frames, by host."""
    density = fleet.hosts.sum(fleet.density[1]) / fleet.hosts.sum(np.ones(fleet.count))
    open_now = (pages.pool_closed == 0) & (density < _NOT_WORTH)
    room = np.maximum(fleet.pool_cap - pages.stored, 0) * open_now
    gain = 1 - np.minimum(density, _NOT_WORTH)
    part = np.minimum(1, over(room / np.maximum(density, 1e-3), need / gain))
    return part, 1 - part * density


def _shared_rates(pages: Pages, shared: Shared, rates: Floats, fleet: Fleet) -> Floats:
    """Accesses a second of a merged frame of the application, by VM: those of all that have it."""
    used = (rates[APP] * pages.merged[APP]).sum(axis=0)
    return fleet.images.spread(fleet.images.sum(over(used, shared.by_vm[1])))


def _push_private(pages: Pages, taken: Floats, into_pool: Floats) -> None:
    compressed = taken * into_pool
    pages.private -= taken
    pages.pooled += compressed
    pages.device += taken - compressed


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
