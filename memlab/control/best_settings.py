"""The settings of `best`, for all its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memlab.control.settings import duration, number, percent
from memlab.units import MIB

SMALLEST: Final = 1 * MIB
"""Less than this is not worth an action."""


@dataclass(frozen=True, slots=True)
class BestSettings:
    """What `best` may do, and how soon."""

    reserve: float = percent(0.30, "part of the budget that is freed ahead of need")
    trim: float = percent(0.02, "part of a VM that goes in a tick at first, of its size")
    step: float = percent(0.15, "largest part of a VM that goes in a tick")
    headroom: float = percent(0.06, "free part of the budget below which the host is short")
    waiting: float = number(500, "major faults a second of a VM that waits for its memory")
    coming_back: float = percent(0.02, "part of what is out that may come back in a second")
    patience: float = duration(2, "how long a VM that fetched pages back is left alone at first")
    ghosts_below: float = percent(0.50, "free part of the budget below which ghosts are taken")
    guest_floor: float = percent(0.04, "part of a VM that stays free in its guest")
    growth: float = percent(0.005, "of the budget: sharing pays while it gains so much a second")
    slow: float = number(10, "ksmd's pace is divided by this while sharing gains nothing")
    fast: float = number(3, "and multiplied by this while it does")
    maximum: float = percent(0.65, "largest balloon, of the configured size")
