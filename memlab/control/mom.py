"""`mom`: oVirt's Memory Overcommitment Manager, its balloon and KSM rules.

github.com/oVirt/mom, doc/balloon.rules and doc/ksm.rules (last changed 2013-11). Every 10 s, on
means of 10 samples: with less than 20 % of the host free all guests shrink, by 5 % at most, towards
what they use and a part that they keep free; that part falls with the host's free memory and is
negative below 5 % (the guest then swaps). Otherwise all grow by 5 %. By its own comment it neither
treats idle guests harder nor notices that it balloons too much.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import ClassVar, Final

from memlab.control.paces import Every, Ksm, not_mine
from memlab.control.policy import (
    Action,
    Balloon,
    Decision,
    LeftAlone,
    Mechanism,
    View,
    VmView,
)
from memlab.control.settings import Scales, duration, number, percent
from memlab.units import PAGE, format_size

_SAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class MomSettings:
    """The constants of the rules."""

    interval: float = duration(10, "between two rounds of the policy")
    pressure: float = percent(0.20, "free part of the budget below which guests shrink")
    critical: float = percent(0.05, "free part below which they are pressed into their own swap")
    guest_free: float = percent(0.20, "part of a guest's memory that stays free in it")
    change: float = percent(0.05, "largest change of a guest in one round")
    smallest: float = percent(0.0025, "changes below this are left alone")
    maximum: float = percent(0.65, "largest balloon, of the configured size")
    boost: float = number(300, "KSM pages more a wake-up while short")
    decay: float = number(50, "KSM pages fewer a wake-up else")
    fewest: float = number(64, "least KSM pages a wake-up")
    most: float = number(1250, "most KSM pages a wake-up")


@dataclass(frozen=True, slots=True)
class _Guest:
    """Means over the last samples, bytes: the size the balloon leaves, and what is free in it."""

    size: float
    unused: float

    @property
    def used(self) -> float:
        return self.size - self.unused


class Mom:
    """The policy object; its memory are the last samples of each guest."""

    name: ClassVar[str] = "mom"
    settings_type: ClassVar[type] = MomSettings

    def __init__(self, settings: MomSettings | None = None) -> None:
        self.settings = settings or MomSettings()
        self.scales = Scales()
        self._every = Every()
        self._seen: dict[str, deque[tuple[int, int]]] = defaultdict(lambda: deque(maxlen=_SAMPLES))

    def decide(self, view: View) -> Decision:
        """Remember each tick; act every interval."""
        for vm in view.vms:
            if vm.ballooned is not None and vm.free is not None:
                self._seen[vm.name].append((vm.configured - vm.ballooned, vm.free))
        mine = (Mechanism.SHARING, Mechanism.BALLOON)
        out = not_mine(mine, "left to the kernel: MOM turns balloons and KSM")
        if not self._every.due(view.time, self.settings.interval / self.scales.time):
            waits = LeftAlone(Mechanism.BALLOON, "its next round is due later")
            return Decision("waits", left_alone=(waits, *out))
        free = view.free / view.budget
        found = [self._ksm(view), *(self._guest(vm, free, view) for vm in view.vms)]
        return Decision(
            "shrink" if free < self.settings.pressure else "grow",
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *out),
        )

    def _ksm(self, view: View) -> Action | LeftAlone:
        s = self.settings
        committed = sum(vm.resident or 0 for vm in view.vms)
        short = view.free < s.pressure * view.budget
        needed = short or committed + s.pressure * view.budget > view.budget
        law = Ksm(s.boost, s.decay, s.fewest, s.most)
        why = f"committed {format_size(committed)}, free {format_size(view.free)}"
        return law.act(view, needed=needed, short=short, why=why)

    def _guest(self, vm: VmView, free: float, view: View) -> Action | LeftAlone:
        if Mechanism.BALLOON not in view.mechanisms:
            return LeftAlone(Mechanism.BALLOON, "switched off in the lab file", vm.name)
        samples = self._seen.get(vm.name)
        if not samples:
            return LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
        sizes, unused = zip(*samples, strict=True)
        guest = _Guest(sum(sizes) / len(sizes), sum(unused) / len(unused))
        least = max(vm.reservation, vm.configured * (1 - self.settings.maximum))
        if free < self.settings.pressure:
            wanted, why = self._shrink(guest, least, free), "the host is short"
        else:
            wanted, why = self._grow(guest, least, vm.configured), "the host has enough"
        change = wanted - guest.size
        if abs(change) < self.settings.smallest * guest.size:
            return LeftAlone(Mechanism.BALLOON, f"{why}, the guest is where it should be", vm.name)
        target = min(vm.configured, max(0, int(vm.configured - wanted))) // PAGE * PAGE
        reason = f"{why} ({free:.0%} free); the guest uses {format_size(guest.used)}"
        return Balloon(vm.name, target, reason)

    def _shrink(self, guest: _Guest, least: float, free: float) -> float:
        s = self.settings
        keep = free - s.critical if free <= s.critical else s.guest_free * (free / s.pressure)
        floor = max(least, guest.used + keep * guest.size)
        return min(guest.size, max(guest.size * (1 - s.change), floor))

    def _grow(self, guest: _Guest, least: float, most: float) -> float:
        s = self.settings
        floor = max(least, guest.used + s.guest_free * guest.size)
        return min(most, max(guest.size * (1 + s.change), floor))
