"""`squeezed`: XenServer's daemon: every VM at the same part of its range.

xapi-project squeezed, its design document: each domain has a dynamic minimum and maximum; every
10 s targets are set so that (target − min)/(max − min) is the same for all and the host keeps its
reserve. A domain that makes no progress towards its target for 5 s is inactive: it is left where it
is, and the others share the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memlab.control.paces import Every, balloons_wait, not_mine
from memlab.control.policy import Balloon, Decision, LeftAlone, Mechanism, View, VmView
from memlab.control.settings import Scales, duration, percent
from memlab.units import MIB, PAGE, format_size


@dataclass(frozen=True, slots=True)
class SqueezedSettings:
    """The constants of the design document; the reserve is ours (Xen's is of a few MiB)."""

    interval: float = duration(10, "between two rounds")
    patience: float = duration(5, "without progress for so long a VM is inactive")
    reserve: float = percent(0.02, "part of the budget that is kept free")
    maximum: float = percent(0.65, "largest balloon: what is left is the dynamic minimum")


@dataclass(slots=True)
class _Progress:
    """Where a VM's balloon was when it last moved, and what it was asked."""

    size: int
    since: float
    asked: int | None = None


class Squeezed:
    """The policy object; its memory is how far each balloon has come."""

    name: ClassVar[str] = "squeezed"
    settings_type: ClassVar[type] = SqueezedSettings

    def __init__(self, settings: SqueezedSettings | None = None) -> None:
        self.settings = settings or SqueezedSettings()
        self.scales = Scales()
        self._every = Every()
        self._progress: dict[str, _Progress] = {}

    def decide(self, view: View) -> Decision:
        """Watch progress at each tick; new targets every interval."""
        for vm in view.vms:
            self._watch(vm, view.time)
        out = not_mine({Mechanism.BALLOON}, "left to the kernel: squeezed turns balloons alone")
        if waits := balloons_wait(view, self._every, self.settings.interval / self.scales.time):
            return Decision("waits", left_alone=(waits, *out))
        return self._round(view, out)

    def _watch(self, vm: VmView, now: float) -> None:
        if vm.ballooned is None:
            return
        seen = self._progress.setdefault(vm.name, _Progress(vm.ballooned, now))
        arrived = seen.asked is None or abs(vm.ballooned - seen.asked) < MIB // 4
        if arrived or vm.ballooned != seen.size:
            seen.size, seen.since = vm.ballooned, now

    def _round(self, view: View, out: tuple[LeftAlone, ...]) -> Decision:
        left: list[LeftAlone] = []
        active = [vm for vm in view.vms if self._is_active(vm, view.time, left)]
        part = self._part(view, active)
        actions = []
        for vm in active:
            low = self._minimum(vm)
            size = low + int(part * (vm.configured - low))
            target = (vm.configured - size) // PAGE * PAGE
            if abs(target - (vm.ballooned or 0)) < MIB // 4:
                left.append(LeftAlone(Mechanism.BALLOON, "it is at its target", vm.name))
                continue
            self._progress[vm.name].asked = target
            reason = f"all at {part:.0%} of their range: {format_size(size)}"
            actions.append(Balloon(vm.name, target, reason))
        return Decision(f"{part:.0%}", tuple(actions), (*left, *out))

    def _is_active(self, vm: VmView, now: float, left: list[LeftAlone]) -> bool:
        seen = self._progress.get(vm.name)
        if seen is None:
            left.append(LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name))
            return False
        if now - seen.since > self.settings.patience / self.scales.time:
            why = f"inactive: no progress since {seen.since:.0f} s"
            left.append(LeftAlone(Mechanism.BALLOON, why, vm.name))
            seen.asked = None  # another chance in the round after this
            return False
        return True

    def _part(self, view: View, active: list[VmView]) -> float:
        """(target − min)/(max − min) of all, so that what the host has is used to its reserve.

        What the VMs take beside their balloons' view (merged pages, pages that are out) is in
        `used`, so the next target is today's size corrected by what is free or missing.
        """
        free = view.available - self.settings.reserve * view.budget
        sizes = sum(vm.configured - (vm.ballooned or 0) for vm in active)
        lows = sum(self._minimum(vm) for vm in active)
        span = sum(vm.configured for vm in active) - lows
        return min(1.0, max(0.0, (sizes + free - lows) / span)) if span > 0 else 0.0

    def _minimum(self, vm: VmView) -> int:
        return max(vm.reservation, int(vm.configured * (1 - self.settings.maximum)))
