"""`mom`: oVirt's Memory Overcommitment Manager, its balloon and KSM rules.

github.com/oVirt/mom, doc/balloon.rules and doc/ksm.rules (last changed 2013-11). Every 10 s: with
less than 20 % of the host free all guests shrink, by 5 % at most, towards what they use and a part
that they keep free; that part falls with the host's free memory and is negative below 5 % (the
guest then swaps). Otherwise all grow, by 5 % or to what they use and a fifth free. What the host
has free and what a guest uses are means of the last 10 samples, one every 5 s; the size that a step
is taken from is the balloon's now. By its own comment it neither treats idle guests harder nor
notices that it balloons too much. KSM's pages go on from the host's own number; what is committed
is the VMs' virtual size (mom/Collectors/HostKSM.py). Its sleep is not kept: see `paces.Ksm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from memlab.control.paces import Every, Ksm, not_mine, share, sharing_rests
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


@dataclass(frozen=True, slots=True)
class MomSettings:
    """The constants of the rules, and the intervals of its configuration."""

    interval: float = duration(10, "between two rounds of the policy (policy-engine-interval)")
    monitor: float = duration(5, "between two samples (host- and guest-monitor-interval)")
    samples: float = number(10, "samples that a mean is of (sample-history-length)")
    pressure: float = percent(0.20, "free part of the budget below which guests shrink")
    critical: float = percent(0.05, "free part below which they are pressed into their own swap")
    guest_free: float = percent(0.20, "part of a guest's memory that stays free in it")
    change: float = percent(0.05, "largest change of a guest in one round")
    smallest: float = percent(0.0025, "changes up to this are left alone")
    maximum: float = percent(0.65, "largest balloon, of the configured size")
    boost: float = number(300, "KSM pages more a wake-up while short")
    decay: float = number(50, "KSM pages fewer a wake-up else")
    fewest: float = number(64, "least KSM pages a wake-up")
    most: float = number(1250, "most KSM pages a wake-up")


@dataclass(frozen=True, slots=True)
class _Guest:
    """A guest as a rule sees it, bytes: its size now, what it uses in the mean, its own bounds."""

    size: int
    used: float
    least: float
    most: int


class Mom:
    """The policy object; its memory are the last samples of the host and of each guest, bytes."""

    name: ClassVar[str] = "mom"
    settings_type: ClassVar[type] = MomSettings

    def __init__(self, settings: MomSettings | None = None) -> None:
        self.settings = settings or MomSettings()
        self.scales = Scales()
        self._round, self._monitor = Every(), Every()
        self._free: list[int] = []
        self._used: dict[str, list[int]] = {}

    def decide(self, view: View) -> Decision:
        """Take a sample every monitor interval; act every interval."""
        self._sample(view)
        mine = (Mechanism.SHARING, Mechanism.BALLOON)
        out = not_mine(mine, "left to the kernel: MOM turns balloons and KSM")
        if not self._round.due(view.time, self.settings.interval / self.scales.time):
            waits = LeftAlone(Mechanism.BALLOON, "its next round is due later")
            return Decision("waits", left_alone=(waits, *out))
        free = fmean(self._free)
        part = free / view.budget
        found = [self._ksm(view, free), *(self._guest(vm, part, view) for vm in view.vms)]
        return Decision(
            "shrink" if part < self.settings.pressure else "grow",
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *out),
        )

    def _sample(self, view: View) -> None:
        due = self._monitor.due(view.time, self.settings.monitor / self.scales.time)
        if due:
            self._keep(self._free, view.free)
        for vm in view.vms:
            if vm.ballooned is None or vm.free is None:
                self._used.pop(vm.name, None)  # what comes back is another guest
            elif due or vm.name not in self._used:
                seen = self._used.setdefault(vm.name, [])
                self._keep(seen, vm.configured - vm.ballooned - vm.free)

    def _keep(self, seen: list[int], value: int) -> None:
        seen.append(value)
        del seen[: -max(1, int(self.settings.samples))]

    def _ksm(self, view: View, free: float) -> Action | LeftAlone:
        s = self.settings
        threshold = s.pressure * view.budget
        running = [vm for vm in view.vms if vm.resident is not None]
        committed = sum(vm.configured + (vm.overhead or 0) for vm in running)
        why = f"the VMs' size {format_size(committed)}, free {format_size(free)} in the mean"
        if sharing_rests(committed=committed, free=free, threshold=threshold, budget=view.budget):
            return share(view, None, why)
        law = Ksm(s.boost, s.decay, s.fewest, s.most)
        return share(view, law.next_pages(view.pages_to_scan or 0, short=free < threshold), why)

    def _guest(self, vm: VmView, free: float, view: View) -> Action | LeftAlone:
        if Mechanism.BALLOON not in view.mechanisms:
            return LeftAlone(Mechanism.BALLOON, "switched off in the lab file", vm.name)
        if vm.ballooned is None or vm.name not in self._used:
            return LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
        least = max(vm.reservation, vm.configured * (1 - self.settings.maximum))
        size = vm.configured - vm.ballooned
        guest = _Guest(size, fmean(self._used[vm.name]), least, vm.configured)
        if free < self.settings.pressure:
            wanted, why = self._shrink(guest, free), "the host is short"
        else:
            wanted, why = self._grow(guest), "the host has enough"
        if abs(wanted - size) <= self.settings.smallest * size:
            return LeftAlone(Mechanism.BALLOON, f"{why}, the guest is where it should be", vm.name)
        target = min(vm.configured, max(0, int(vm.configured - wanted))) // PAGE * PAGE
        reason = f"{why} ({free:.0%} free); the guest uses {format_size(guest.used)}"
        return Balloon(vm.name, target, reason)

    def _shrink(self, guest: _Guest, free: float) -> float:
        s = self.settings
        keep = free - s.critical if free <= s.critical else s.guest_free * (free / s.pressure)
        floor = max(guest.least, guest.used + keep * guest.size)
        return min(guest.size, max(guest.size * (1 - s.change), floor))

    def _grow(self, guest: _Guest) -> float:
        s = self.settings
        floor = max(guest.least, guest.used + s.guest_free * guest.size)
        return min(guest.most, max(guest.size * (1 + s.change), floor))
