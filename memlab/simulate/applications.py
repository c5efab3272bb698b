"""The applications over time: which have started, what they want filled now, which have freed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memlab.simulate.arrays import APP, FREED, Flags, Floats, over
from memlab.simulate.demand import Demand
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages
from memlab.units import PAGE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What applications want in one tick, one column a VM.

    `goal` are the pages of each stratum that should be touched by now, `parts` the part of the
    accesses that each stratum of the application gets, `rate` operations a second. `runs`: the VM
    has started and is not blocked.
    """

    goal: Floats
    parts: Floats
    rate: Floats
    runs: Flags


class Applications:
    """Phases of all VMs. A burst fills, holds, frees, pauses; the others fill and go on."""

    def __init__(self, fleet: Fleet, demand: Demand) -> None:
        self.demand = demand
        self._fleet = fleet
        sizes = {id(p.spec): -(-p.spec.image.size // PAGE) for p in fleet.places}
        self._image = np.array([sizes[id(p.spec)] for p in fleet.places]) + fleet.reserved
        self._begun = fleet.start.copy()
        self._until = np.full(fleet.count, np.inf)
        self._paused = np.zeros(fleet.count, dtype=bool)
        self._rounds = np.zeros(fleet.count)

    def restart(self, which: Sequence[int], time: float, pages: Pages) -> None:
        """The applications of these VMs end and free all; `demand` has the next ones."""
        ends = np.zeros(self._fleet.count, dtype=bool)
        ends[which] = True
        free(pages, ends)
        self._begun[which] = np.maximum(self._fleet.start[which], time)
        self._until[which] = np.inf
        self._paused[which] = False
        self._rounds[which] = 0

    def at(self, time: float, pages: Pages, blocked: Flags) -> Wanted:
        """What is wanted at `time`, seconds; a burst whose time is over has freed its pages."""
        age = time - self._begun
        alive = time >= self._fleet.start
        bursts = np.isfinite(self.demand.pause)
        if bursts.any():
            self._burst(time, pages, bursts)
        level = self.demand.level(age)
        in_use = (self.demand.ends <= level) & ~self._paused & alive
        sizes = np.minimum(self.demand.sizes, self.demand.growth * np.maximum(age, 0))
        goal = self._fleet.filled(self._image * alive, sizes * in_use)
        goal[APP, self.demand.reads_files] = 0
        working = alive & self.demand.works & ~self._paused & ~blocked
        return Wanted(goal, self._parts(in_use), self._rate(level) * working, alive & ~blocked)

    def _parts(self, in_use: Flags) -> Floats:
        if len(self.demand.levels) == 1:
            return self.demand.parts
        parts = self.demand.parts * in_use
        return over(parts, parts.sum(axis=0))

    def _rate(self, level: Floats) -> Floats:
        """Operations a second; a very large number where nothing sets a pace."""
        by_round = self.demand.by_round
        found: Floats = np.where(by_round > 0, by_round * level, self.demand.rate)
        return found

    def _burst(self, time: float, pages: Pages, bursts: Flags) -> None:
        """Full: hold it from now on. Held long enough: free it all. Paused long enough: again."""
        busy = np.flatnonzero(bursts & ~self._paused & np.isinf(self._until))
        full = np.zeros_like(bursts)
        held = sum(rows[APP, busy] for rows in pages.held) + pages.guest_swapped[:, busy]
        full[busy] = held.sum(axis=0) >= self.demand.sizes[:, busy].sum(axis=0) * (1 - 1e-6)
        self._until[full] = time + self.demand.hold[full]
        over_now = time >= self._until
        frees, again = over_now & ~self._paused, over_now & self._paused
        self._rounds += frees
        if frees.any():
            free(pages, frees)
        done = self._rounds >= self.demand.rounds
        self._until[frees] = np.where(done, np.inf, time + self.demand.pause)[frees]
        self._until[again] = np.inf
        self._paused = (self._paused | frees) & ~again


def free(pages: Pages, which: Flags) -> None:
    """The applications of these VMs free all their pages: the guest has them, the host backs them
    still."""
    for rows in pages.by_stratum:
        rows[FREED, which] += rows[APP, which].sum(axis=0)
        rows[APP, which] = 0
    pages.guest_swapped[:, which] = 0
