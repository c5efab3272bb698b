"""What each mechanism saves on each host, by the ledger's own formulas (record/ledger.py)."""

from __future__ import annotations

from dataclasses import dataclass

from memlab.simulate.arrays import Floats
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages, Shared, slots_used


@dataclass(frozen=True, slots=True)
class Savings:
    """Pages by host. `compressed` is the original size of what is in the pool."""

    sharing: Floats
    balloon: Floats
    compression: Floats
    swap: Floats
    compressed: Floats
    never_touched: Floats


def saved(pages: Pages, shared: Shared, fleet: Fleet) -> Savings:
    """Frames and slots not needed because pages are merged; ballooned pages that had been backed;
    compressed − pool; what is on the device."""
    hosts = fleet.hosts
    merged = shared.pages - shared.frames + shared.pages_out - shared.slots
    compressed = hosts.sum(pages.pooled.sum(axis=0))
    compressed = compressed + shared.on_hosts(shared.slots * pages.in_pool, fleet)
    return Savings(
        sharing=shared.on_hosts(merged, fleet),
        balloon=hosts.sum(pages.backed),
        compression=compressed - pages.pool,
        swap=slots_used(pages, shared, fleet) - compressed,
        compressed=compressed,
        never_touched=hosts.sum(pages.untouched + pages.ballooned - pages.backed),
    )
