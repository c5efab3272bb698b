"""The four releases of ESX as data: their states, thresholds, and what acts in each.

Sources: Waldspurger, OSDI 2002, §6.3 for `esx15` (thresholds
and actions as course notes give them); the white papers on ESX 4.1 and vSphere 5; Denneman
2011-07-26 and yellow-bricks 2013-06-14 for minFree's sliding scale; yellow-bricks for the five
states of 6.0. They disagree by release, so each is its own profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from memlab.units import GIB


class State(IntEnum):
    """How short the host is of free memory; `clear` came with ESXi 6.0."""

    HIGH = 0
    CLEAR = 1
    SOFT = 2
    HARD = 3
    LOW = 4


class Act(StrEnum):
    """What a state may do."""

    SHARE = "share"  # page sharing at the lab's pace
    SHARE_NOW = "share now"  # and faster
    BALLOON = "balloon"
    PAGE_WITHOUT_BALLOON = "page if no balloon"
    COMPRESS = "compress"
    SWAP = "swap"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Profile:
    """One release. `enter` has the part of minFree (of the budget, where `of_budget`) below which
    a state is entered, `leave` the part above which it is left where that is printed."""

    name: str
    enter: Mapping[State, float]
    acts: Mapping[State, frozenset[Act]]
    leave: Mapping[State, float]
    min_free: float | None = None
    """minFree as a part of the budget; None: the sliding scale."""
    share_below: float | None = None
    """Part of minFree below which pages are shared even in the state high."""

    def left_above(self, state: State, hysteresis: float) -> float:
        """Part of minFree above which `state` is left: as printed, else `hysteresis` above its own
        threshold."""
        return self.leave.get(state, self.enter[state] * (1 + hysteresis))

    def next_state(self, now: State, part: float, hysteresis: float) -> State:
        """The state after `now` while `part` of minFree is free: down at once, up one at a time."""
        wanted = max((state for state, below in self.enter.items() if part < below), default=now)
        if wanted > now:
            return wanted
        if now is State.HIGH or part <= self.left_above(now, hysteresis):
            return now
        return max(state for state in (State.HIGH, *self.enter) if state < now)


def min_free(memory: int) -> int:
    """ESXi 5's minFree for a host of `memory` bytes: 6 % of the first 4 GiB, 4 % of what lies
    between 4 and 12, 2 % between 12 and 28, 1 % of the rest."""
    pieces = ((4 * GIB, 0.06), (8 * GIB, 0.04), (16 * GIB, 0.02))
    total, rest = 0.0, memory
    for piece, part in pieces:
        total += part * min(rest, piece)
        rest = max(0, rest - piece)
    return int(total + 0.01 * rest)


def _acts(**acts: str) -> dict[State, frozenset[Act]]:
    words = {State[name.upper()]: text.split(", ") for name, text in acts.items()}
    return {state: frozenset(Act(word) for word in text if word) for state, text in words.items()}


_PARTS: Final = {State.SOFT: 0.64, State.HARD: 0.32, State.LOW: 0.16}

ESX15: Final = Profile(
    name="esx15",
    enter={State.SOFT: 4 / 6, State.HARD: 2 / 6, State.LOW: 1 / 6},
    leave={State.SOFT: 1.0, State.HARD: 4 / 6, State.LOW: 2 / 6},
    acts=_acts(
        high="share",
        soft="share, balloon, page if no balloon",
        hard="share, swap",
        low="share, swap, block",
    ),
    min_free=0.06,
)
ESX41: Final = Profile(
    name="esx41",
    enter=_PARTS,
    leave={},
    acts=_acts(high="", soft="balloon, compress", hard="balloon, compress, swap", low="swap"),
    min_free=0.06,
)
ESXI5: Final = Profile(
    name="esxi5",
    enter=_PARTS,
    leave={},
    acts=_acts(high="", soft="balloon", hard="balloon, compress", low="balloon, compress, swap"),
)
ESXI6: Final = Profile(
    name="esxi6",
    enter={State.CLEAR: 1.0, **_PARTS},
    leave={},
    acts=_acts(
        high="",
        clear="share now",
        soft="share now, balloon",
        hard="share now, compress, swap",
        low="compress, swap, block",
    ),
    share_below=4.0,
)
