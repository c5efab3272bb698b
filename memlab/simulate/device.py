"""The swap device: it serves one page at a time, so a read waits longer when many want one.

A device that is asked for more than it can do makes everybody wait until they ask for no more: the
queue is how many times longer a read takes then. It follows the load by the square root of what it
is off by, or it would swing. That the lab's device has no parallelism is an assumption; a host of a
fleet has as many of them as it has the lab's VMs.
"""

from __future__ import annotations

import numpy as np

from memlab.simulate.arrays import Floats
from memlab.simulate.costs import COSTS
from memlab.simulate.fleet import Fleet
from memlab.simulate.flows import Flows


class Device:
    """The queues of all hosts' devices, 1 when nobody waits for another."""

    def __init__(self, fleet: Fleet) -> None:
        self.queue: Floats = np.ones(fleet.hosts.count)
        self._fleet = fleet
        self._pushed = np.zeros(fleet.hosts.count)

    def write(self, pages: Floats) -> None:
        """A policy has pushed out so many pages of each host since the last step."""
        self._pushed = self._pushed + pages

    def serve(self, found: Flows, written: Floats, dt: float) -> None:
        """One tick: what was read, and what reclaim and the policies wrote."""
        reads = self._fleet.hosts.sum(found.read)
        busy = reads * COSTS.device + (written + self._pushed) * COSTS.write
        self._pushed = np.zeros_like(self._pushed)
        self.queue = np.maximum(
            1, self.queue * np.sqrt(np.maximum(busy, 0) / (dt * self._fleet.devices))
        )
