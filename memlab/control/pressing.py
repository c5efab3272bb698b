"""How hard to press a VM to find what it needs: the law of the estimate `active: {pressure: on}`.

Each period a step of the VM is pushed out, and then it is seen what that did: how long the VM
waited for memory, and how much came back. What came back is used; what stays out is idle; and what
is resident when the period is over is the estimate. As senpai (facebookincubator/senpai, 2019) it
presses while little is felt and eases off when much is. Senpai's step falls with the square of the
pressure, which swings between all and nothing once nearly every page comes back; here the step is
divided by what was felt, so that in balance the VM feels just what it is allowed to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memlab.units import MIB

LEAST: Final = MIB
"""The smallest step, bytes: without one a VM that needs less than before would not be noticed."""
GROWTH: Final = 2.0
"""The step grows by so much at most from one period to the next."""
TOO_MUCH: Final = 4.0
"""So many times the allowed, and nothing is pushed out for a period."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How far it may go: `step` and `back` are parts of the VM's memory in one period, `stall` a
    part of the time."""

    step: float
    stall: float
    back: float


@dataclass(frozen=True, slots=True)
class Felt:
    """What one period did to the VM: its seconds, those in which the VM waited for memory (None:
    this kernel does not tell), and the bytes that came back."""

    seconds: float
    waited: float | None
    back: int


class Press:
    """One VM's step, from period to period."""

    def __init__(self, pace: Pace, configured: int) -> None:
        self._pace = pace
        self._configured = configured
        self._step = float(LEAST)

    def felt(self, seen: Felt) -> float:
        """How much was felt, in units of what is allowed: by waiting or by what came back."""
        came_back = seen.back / (self._pace.back * self._configured)
        waited = (seen.waited or 0.0) / (self._pace.stall * seen.seconds)
        return max(came_back, waited)

    def step(self, seen: Felt, *, room: int) -> int:
        """Bytes to push out now, `room` at most (what the VM holds above its reservation)."""
        felt = self.felt(seen)
        most = max(float(LEAST), self._pace.step * self._configured)
        factor = GROWTH if felt <= 1 / GROWTH else 1 / felt
        self._step = min(most, max(float(LEAST), self._step * factor))
        if felt > TOO_MUCH:
            return 0
        return max(0, min(int(self._step), room))
