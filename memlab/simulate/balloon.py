"""The balloons: what each was asked to hold, and what it takes or gives back in a tick."""

from __future__ import annotations

import numpy as np

from memlab.simulate.arrays import APP, FREED, Flags, Floats, over
from memlab.simulate.costs import COSTS
from memlab.simulate.demand import Demand
from memlab.simulate.fleet import Fleet
from memlab.simulate.guestswap import make_room
from memlab.simulate.pages import Pages


class Balloons:
    """Targets in pages. A guest gives what it has freed first, then what it never touched, then its
    cache, and what its applications use only if it has a swap of its own."""

    def __init__(self, fleet: Fleet, demand: Demand) -> None:
        self.target = np.zeros(fleet.count)
        self._fleet = fleet
        self._files = demand.reads_files
        self._floor = np.maximum(32.0, fleet.configured / 256)

    def move(self, pages: Pages, runs: Flags, dt: float) -> None:
        """`dt` seconds of inflating and deflating."""
        if not self.target.any() and not pages.ballooned.any():
            return
        missing = (self.target - pages.ballooned) * runs
        if (missing < 0).any():
            _deflate(pages, np.minimum(-missing, COSTS.deflate * dt) * (missing < 0))
        if (missing > 0).any():
            self._inflate(pages, np.minimum(missing, COSTS.inflate * dt) * (missing > 0))

    def _inflate(self, pages: Pages, wanted: Floats) -> None:
        self._swap_out(pages, wanted)
        touched = pages.touched
        freed, cache = touched[FREED], touched[APP].sum(axis=0) * self._files
        wanted = np.minimum(wanted, np.maximum(freed + pages.untouched + cache - self._floor, 0))
        of_freed = np.minimum(wanted, freed)
        of_untouched = np.clip(wanted - of_freed, 0, np.maximum(pages.untouched, 0))
        of_cache = np.clip(wanted - of_freed - of_untouched, 0, cache)
        _give(pages, slice(FREED, FREED + 1), over(of_freed, freed))
        _give(pages, APP, over(of_cache, cache))
        pages.untouched -= of_untouched
        pages.ballooned += of_freed + of_untouched + of_cache
        pages.backed += of_freed + of_cache

    def _swap_out(self, pages: Pages, wanted: Floats) -> None:
        """What a guest has neither free nor cached it pushes into its own swap, if it has any."""
        free = pages.untouched + pages.touched_in(FREED) - self._floor
        cache = pages.touched[APP].sum(axis=0) * self._files
        make_room(pages, self._fleet, wanted - free - cache, self._files.astype(np.float64))


def _give(pages: Pages, which: slice, part: Floats) -> None:
    """The host forgets this part of these strata."""
    if not part.any():
        return
    for rows in pages.by_stratum:
        rows[which] *= 1 - part


def _deflate(pages: Pages, wanted: Floats) -> None:
    """Last taken, first given back; the guest then has pages that nothing backs."""
    unbacked = np.minimum(wanted, pages.ballooned - pages.backed)
    pages.backed -= wanted - unbacked
    pages.ballooned -= wanted
    pages.untouched += wanted
