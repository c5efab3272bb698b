"""The estimate of active memory, as the guest agent makes it: random pages, three averages.

Each period n pages of a VM are watched and those counted that are used: here a number drawn from
the part of its pages that were (docs/active.md; the draw is the model's only chance). A slow
average, a fast one, and the fast one with the unfinished period folded in; the estimate is the
largest (Waldspurger, OSDI 2002, §5.3).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from memlab.simulate.arrays import APP, LAYERS, Floats, over
from memlab.simulate.fleet import Fleet
from memlab.simulate.flows import Flows
from memlab.simulate.pages import Pages

SLOW: Final = 0.25
FAST: Final = 0.7


class Active:
    """Estimates of all VMs."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._watched, self._period = fleet.lab.active.watched
        self._configured = fleet.configured
        self._random = np.random.default_rng(seed)
        self._accesses = np.zeros((LAYERS, fleet.count))
        self._filled = np.zeros(fleet.count)
        self._used = np.zeros(fleet.count)
        """The part of a VM's pages that was used in this period, when it was last looked at."""
        self._found = np.zeros(fleet.count)
        """Of the watched pages: used in this period, by then."""
        self._slow = np.zeros(fleet.count)
        self._fast = np.zeros(fleet.count)
        self._elapsed = 0.0
        self._any = False

    def look(self, found: Flows, pages: Pages, dt: float) -> None:
        """Take in one tick."""
        if not self._watched:
            return
        self._accesses += found.rates[APP] * dt
        self._filled += found.fill.sum(axis=0)
        self._elapsed += dt
        if self._elapsed >= self._period * 0.999:
            self._finish(pages)

    def estimate(self, pages: Pages) -> Floats | None:
        """Pages in use by VM, now; None until the first period is over.

        Asking draws: which of the watched pages were used since it was last asked.
        """
        if not self._any:
            return None
        now = FAST * self._count(pages) + (1 - FAST) * self._fast
        return np.maximum(np.maximum(self._slow, self._fast), now) * self._configured

    def _count(self, pages: Pages) -> Floats:
        """The part of the watched pages that was used in this period so far.

        A page that had not been used by the last look has been since with the chance
        (used now − used then) ÷ (1 − used then): so drawn, the count has the same law however
        often it is asked for.
        """
        used = (pages.touched[APP] * (1 - np.exp(-self._accesses))).sum(axis=0) + self._filled
        part = np.clip(used / self._configured, self._used, 1)
        fresh = np.minimum(1, over(part - self._used, 1 - self._used))
        missing = (self._watched - self._found).astype(np.int64)
        self._found += self._random.binomial(missing, fresh)
        self._used = part
        return self._found / self._watched

    def _finish(self, pages: Pages) -> None:
        found = self._count(pages)
        self._slow = SLOW * found + (1 - SLOW) * self._slow if self._any else found
        self._fast = FAST * found + (1 - FAST) * self._fast if self._any else found
        self._any = True
        for sums in (self._accesses, self._filled, self._used, self._found):
            sums[:] = 0
        self._elapsed = 0.0
