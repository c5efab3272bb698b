"""ksmd: how many pages it looks at in a tick, and what it merges.

A page merges at the first look if its content is merged already (a merged frame of it exists), else
at the second, when its checksum has not changed. ksmd goes through all pages of the host in turn,
so a VM's first merges wait for a whole pass over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from memlab.control.policy import Mechanism
from memlab.simulate.arrays import IMAGE, Floats, by_region, over
from memlab.simulate.costs import COSTS
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages, Shared

_NEARLY_ALL: Final = 1e-9
"""No VM is taken to miss less of the pages than this: a logarithm must be taken of it."""


@dataclass(slots=True)
class Ksmd:
    """Each host's ksmd: whether it runs, pages of one wake-up, seconds between two of them."""

    on: Floats
    pages_to_scan: Floats
    sleep: float

    def rate(self) -> Floats:
        """Pages a second that it looks at: its own work is between the pauses."""
        return self.on * self.pages_to_scan / (self.sleep + self.pages_to_scan * COSTS.scan)

    def cpu(self) -> Floats:
        """Its part of one core."""
        return self.rate() * COSTS.scan


def ksmd(fleet: Fleet) -> Ksmd:
    """As the lab file has it; only under `static` it runs from the start."""
    tps = fleet.lab.mechanisms.tps
    hosts = fleet.hosts.count
    on = Mechanism.SHARING in fleet.mechanisms and fleet.lab.policy.name == "static"
    return Ksmd(np.full(hosts, float(on)), np.full(hosts, float(tps.pages_to_scan)), tps.sleep)


def merge(pages: Pages, shared: Shared, daemon: Ksmd, fleet: Fleet, dt: float) -> None:
    """Let ksmd look at pages for `dt` seconds."""
    present = pages.private.sum(axis=0) + pages.merged.sum(axis=0)
    part = np.minimum(1, over(daemon.rate() * dt, fleet.hosts.sum(present)))
    if not part.any():
        return
    looked = fleet.hosts.spread(part)
    candidates = over(pages.equal * pages.private, pages.private + pages.pooled + pages.device)
    universe = _universe(pages, fleet)
    first = _merged_before(universe, shared, fleet)
    ready = np.where(pages.seen < 1, first, 1.0)
    flow = candidates.copy()
    chance = ready * _looked_at(pages.seen, looked) * _partners(candidates, universe, shared, fleet)
    flow[IMAGE] *= chance[0]
    flow[1:] *= chance[1]
    pages.seen = np.minimum(pages.seen + looked, 2)
    pages.private -= flow
    pages.equal -= flow
    pages.merged += flow


def _looked_at(seen: Floats, looked: Floats) -> Floats:
    """The part of a VM's pages not merged yet at which ksmd looks now. In its first two passes it
    comes to them in turn; later on those that are left, or come anew, lie anywhere."""
    left = np.where(seen < 1, 1 - seen, np.where(seen < 2, 2 - seen, 1.0))
    found: Floats = np.minimum(1, over(looked, left))
    return found


def _by_others(rows: Floats, universe: Floats, fleet: Fleet) -> Floats:
    """The part of the common pages that one of the others has, if each VM has `rows` of them.

    Which it has is taken to be chance, as each VM has other favourites: of r₁, r₂, … of the pages
    the others have 1 − (1 − r₁)·(1 − r₂)·… together.
    """
    missing = np.log(np.maximum(1 - over(rows, universe), _NEARLY_ALL))
    found: Floats = 1 - np.exp(fleet.images.spread(fleet.images.sum(missing)) - missing)
    return found


def _universe(pages: Pages, fleet: Fleet) -> Floats:
    """The different common pages of each region that VMs of an image have, wherever they are."""
    every = by_region(pages.equal + pages.merged + pages.merged_out) * fleet.common
    return fleet.images.spread(fleet.images.max(every))


def _merged_before(universe: Floats, shared: Shared, fleet: Fleet) -> Floats:
    """The part of each region's candidates whose content has a merged frame already."""
    common = _by_others(shared.by_vm * fleet.common, universe, fleet)
    zero = fleet.images.spread(shared.pages) > 0
    found: Floats = fleet.common * common + (1 - fleet.common) * zero
    return found


def _partners(candidates: Floats, universe: Floats, shared: Shared, fleet: Fleet) -> Floats:
    """The part of each region's candidates that can find an equal page in a frame.

    A zero page always can. A common page needs another VM of the image that has it in a frame,
    merged or not: what has been pushed out there cannot be merged with.
    """
    free = by_region(candidates)
    there = (free + shared.by_vm) * fleet.common
    others = _by_others(there, universe, fleet)
    zero = (free + shared.by_vm) * (1 - fleet.common)
    found: Floats = np.clip(over(there * others + zero - shared.by_vm, free), 0, 1)
    return found
