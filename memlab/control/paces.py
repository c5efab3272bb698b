"""What several policies do alike: act every so often, and pace ksmd by ksmtuned's and MOM's law."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memlab.control.policy import Action, LeftAlone, Mechanism, Share, View
from memlab.units import format_size


class Every:
    """A policy's own period, which may be longer than the lab's tick. Due at once at first."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def due(self, now: float, period: float) -> bool:
        """Whether it is time again. Missed periods are not made up for."""
        if now < self._next:
            return False
        # A tick that comes a little early would otherwise wait for the next one.
        self._next = now + period * 0.999
        return True


def not_mine(mine: Iterable[Mechanism], why: str) -> tuple[LeftAlone, ...]:
    """Why a policy leaves every mechanism alone that is none of its own."""
    own = set(mine)
    return tuple(LeftAlone(mechanism, why) for mechanism in Mechanism if mechanism not in own)


def balloons_wait(view: View, every: Every, period: float) -> LeftAlone | None:
    """Why a policy of balloons does nothing at this tick; None if its round is due."""
    if Mechanism.BALLOON not in view.mechanisms:
        return LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
    if not every.due(view.time, period):
        return LeftAlone(Mechanism.BALLOON, "its next round is due later")
    return None


def way_out(view: View) -> Mechanism | None:
    """Where pages can be pushed to now: the pool while it has room, else the device; or nowhere."""
    ways_out = (Mechanism.COMPRESSION, Mechanism.SWAP)
    return next((way for way in ways_out if not why_shut(view, way)), None)


def why_shut(view: View, way: Mechanism) -> str:
    """Why no page can be pushed to the pool or to the device now; empty if it can."""
    if way not in view.mechanisms:
        return "switched off in the lab file"
    if way is Mechanism.COMPRESSION and view.pool_is_full:
        return f"the pool is full ({format_size(view.pool)} of {format_size(view.pool_cap)})"
    if way is Mechanism.SWAP and view.swap_is_full:
        return f"no swap slots are left ({format_size(view.swap_used)} in use)"
    return ""


@dataclass(frozen=True, slots=True)
class Ksm:
    """ksmtuned's and MOM's law: more pages a wake-up while the host is short, fewer else.

    Both also set ksmd's sleep, 10 ms on a host of 16 GiB and longer in proportion on smaller ones.
    A `Share` sets no sleep: the lab's stays. By that law a budget of 400 MiB would sleep for 0.4 s.
    """

    boost: float
    decay: float
    fewest: float
    most: float

    def next_pages(self, pages: float, *, short: bool) -> int:
        """`pages_to_scan` for the next period, after `pages` in this one."""
        changed = pages + self.boost if short else pages - self.decay
        return max(1, round(min(self.most, max(self.fewest, changed))))


def sharing_rests(*, committed: float, free: float, threshold: float, budget: float) -> bool:
    """Whether page sharing is switched off: enough is left, by what is promised and by what is."""
    return committed + threshold < budget and free > threshold


def share(view: View, pages: int | None, why: str) -> Action | LeftAlone:
    """Page sharing at `pages` a wake-up; None: off, and what is merged stays merged."""
    if Mechanism.SHARING not in view.mechanisms:
        return LeftAlone(Mechanism.SHARING, "switched off in the lab file")
    if pages is None:
        return Share(False, why) if view.sharing_on else LeftAlone(Mechanism.SHARING, why)
    if view.sharing_on and pages == view.pages_to_scan:
        return LeftAlone(Mechanism.SHARING, f"on, at its bound of {pages} pages: {why}")
    return Share(True, why, pages)
