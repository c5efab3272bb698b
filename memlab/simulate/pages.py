"""Where every guest page is: the state of the model, and the two identities that it keeps.

    configured = Σ over strata (private + merged + merged, out + pooled + on the device)
                 + untouched + ballooned
    machine memory used = Σ private + frames of the merged + overhead + swap cache + pool

A merged frame is counted once for all VMs of the image on its host that have the page, and it is
taken that what one of them has merged is part of what the one with most has (contents are dealt out
by page number, and ksmd goes by address). Zero pages take a frame for each 256. The same holds for
the slots of merged pages that are out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from memlab.simulate.arrays import LAYERS, REGIONS, STRATA, Floats, by_region, over
from memlab.simulate.costs import SHARERS
from memlab.simulate.fleet import Fleet

BY_STRATUM: Final = ("private", "merged", "merged_out", "pooled", "device", "cached", "equal")


@dataclass(slots=True)
class Pages:
    """Pages by stratum (rows) and VM, then one entry a VM, an image's group, or a host.

    `cached`: of the pages on the device, those that still have a frame, in the swap cache.
    `equal`: of the pages that are not merged, in a frame or out, those whose content others have
    too. `seen`: how many times ksmd has looked at a VM's pages, 2 at most. `in_pool`: the part of a
    group's merged pages that are out which is in the pool. `stored`: what the pool holds, by the
    density of its pages; `pool` is larger, by the holes in it. `backed` is the part of `ballooned`
    that had a frame or a slot when the balloon took it. `guest_swapped` are the application's pages
    in the guest's own swap, by stratum of the application: they are no guest pages now.
    """

    private: Floats
    merged: Floats
    merged_out: Floats
    pooled: Floats
    device: Floats
    cached: Floats
    equal: Floats
    untouched: Floats
    ballooned: Floats
    backed: Floats
    seen: Floats
    in_pool: Floats
    pool: Floats
    stored: Floats
    pool_closed: Floats
    guest_swapped: Floats

    @classmethod
    def fresh(cls, fleet: Fleet) -> Self:
        """Before any VM has started: nothing is touched."""
        hosts = fleet.hosts.count
        strata = {name: np.zeros((STRATA, fleet.count)) for name in BY_STRATUM}
        vms = {name: np.zeros(fleet.count) for name in ("ballooned", "backed", "seen")}
        of_hosts = ("pool", "stored", "pool_closed")
        return cls(
            untouched=fleet.configured.copy(),
            in_pool=np.zeros((REGIONS, fleet.images.count)),
            guest_swapped=np.zeros((LAYERS, fleet.count)),
            **strata,
            **vms,
            **{name: np.zeros(hosts) for name in of_hosts},
        )

    @property
    def by_stratum(self) -> tuple[Floats, ...]:
        """All states that have a row for each stratum: what moves when pages change hands."""
        return (
            self.private, self.merged, self.merged_out, self.pooled, self.device, self.cached,
            self.equal,
        )  # fmt: skip

    @property
    def held(self) -> tuple[Floats, ...]:
        """The states of which a touched page is in exactly one."""
        return self.private, self.merged, self.merged_out, self.pooled, self.device

    @property
    def touched(self) -> Floats:
        """Pages of a stratum that have a frame, a merged frame, or a slot."""
        return self.private + self.merged + self.out

    def touched_in(self, which: int) -> Floats:
        """The same of one stratum."""
        found: Floats = np.sum([rows[which] for rows in self.held], axis=0)
        return found

    @property
    def swap_cache(self) -> Floats:
        """Frames of the swap cache, by VM."""
        found: Floats = self.cached.sum(axis=0)
        return found

    @property
    def out(self) -> Floats:
        """Those that no guest can use at once, by stratum."""
        return self.merged_out + self.pooled + self.device

    def residual(self, fleet: Fleet) -> Floats:
        """What the guest pages' identity leaves over, by VM; 0 but for rounding."""
        held = self.touched.sum(axis=0) + self.untouched + self.ballooned
        left: Floats = fleet.configured - held
        return left


@dataclass(frozen=True, slots=True)
class Shared:
    """What the merged pages take, by region and group of an image on a host."""

    pages: Floats
    frames: Floats
    pages_out: Floats
    slots: Floats
    by_vm: Floats
    """Merged pages by region and VM."""

    @classmethod
    def of(cls, pages: Pages, fleet: Fleet) -> Self:
        """From the state as it is."""
        merged, out = by_region(pages.merged), by_region(pages.merged_out)
        (all_merged, frames), (all_out, slots) = _distinct(merged, fleet), _distinct(out, fleet)
        return cls(all_merged, frames, all_out, slots, merged)

    def common(self, fleet: Fleet) -> Floats:
        """Each VM's fair part of the frames, by region."""
        return self.by_vm * fleet.images.spread(over(self.frames, self.pages))

    def on_hosts(self, values: Floats, fleet: Fleet) -> Floats:
        """Sums over the regions and groups of each host."""
        found = np.bincount(fleet.image_host, values.sum(axis=0), fleet.hosts.count)
        return found.astype(np.float64)


def _distinct(merged: Floats, fleet: Fleet) -> tuple[Floats, Floats]:
    """All pages, and the different ones among them."""
    common = merged * fleet.common
    pages = fleet.images.sum(merged)
    zero = pages - fleet.images.sum(common)
    return pages, fleet.images.max(common) + np.maximum(zero, 0) / SHARERS


def machine_used(pages: Pages, shared: Shared, fleet: Fleet) -> Floats:
    """Machine memory that each host's VMs use, pages: the second identity."""
    own = pages.private.sum(axis=0) + pages.swap_cache + fleet.overhead * started(pages, fleet)
    return fleet.hosts.sum(own) + shared.on_hosts(shared.frames, fleet) + pages.pool


def started(pages: Pages, fleet: Fleet) -> Floats:
    """1 for each VM that has touched anything, else 0."""
    return (pages.untouched + pages.ballooned < fleet.configured).astype(np.float64)


def slots_used(pages: Pages, shared: Shared, fleet: Fleet) -> Floats:
    """Slots of the swap device in use on each host; compressed pages have one too."""
    single = fleet.hosts.sum((pages.pooled + pages.device).sum(axis=0))
    return single + shared.on_hosts(shared.slots, fleet)
