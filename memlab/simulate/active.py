"""The estimate of active memory, as the guest agent makes it: random pages, three averages.

Each period n pages of a VM are watched and those counted that are used: here a number drawn from
the part of its pages that were (docs/active.md; the draw is the model's only chance).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from memlab.simulate.access import Flows
from memlab.simulate.arrays import APP, LAYERS, Floats
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages

SLOW: Final = 0.25
FAST: Final = 0.7


class Active:
    """Estimates of all VMs. `pages` is the estimate, None until the first period is over."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._watched, self._period = fleet.lab.active.watched
        self._configured = fleet.configured
        self._random = np.random.default_rng(seed)
        self._accesses = np.zeros((LAYERS, fleet.count))
        self._filled = np.zeros(fleet.count)
        self._slow = np.zeros(fleet.count)
        self._fast = np.zeros(fleet.count)
        self._elapsed = 0.0
        self.pages: Floats | None = None

    def look(self, found: Flows, pages: Pages, dt: float) -> None:
        """Take in one tick."""
        if not self._watched:
            return
        self._accesses += found.rates[APP] * dt
        self._filled += found.fill.sum(axis=0)
        self._elapsed += dt
        if self._elapsed >= self._period * 0.999:
            self._finish(pages)

    def _finish(self, pages: Pages) -> None:
        used = (pages.touched[APP] * (1 - np.exp(-self._accesses))).sum(axis=0) + self._filled
        part = np.clip(used / self._configured, 0, 1)
        found = self._random.binomial(self._watched, part) / self._watched
        first = self.pages is None
        self._slow = found if first else SLOW * found + (1 - SLOW) * self._slow
        self._fast = found if first else FAST * found + (1 - FAST) * self._fast
        self.pages = np.maximum(self._slow, self._fast) * self._configured
        self._accesses[:] = 0
        self._filled[:] = 0
        self._elapsed = 0.0
