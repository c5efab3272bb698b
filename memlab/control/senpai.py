"""`senpai`: press each VM until it feels it, and ease off when it does.

github.com/facebookincubator/senpai, senpai.py (2019): every 6 s the pressure (µs in which some task
waited for memory) is added up. Above 10,000 µs the limit is raised by (sum/target/20)² of itself,
100 % at most; otherwise lowered by (target/sum/10)², 1 % at most. Its comment says "exponentially";
the code squares. It lowers memory.high; here what would stand above is pushed out, as its successor
in oomd does with memory.reclaim, and easing off is pushing nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memlab.control.paces import Every, not_mine, way_out
from memlab.control.policy import Action, Decision, LeftAlone, Mechanism, Reclaim, View, VmView
from memlab.control.settings import Scales, duration, number, percent, size
from memlab.units import MIB, PAGE, format_size


@dataclass(frozen=True, slots=True)
class SenpaiSettings:
    """The options of the script."""

    interval: float = duration(6, "over which pressure is added up (--interval)")
    pressure: float = duration(0.010, "waiting per interval that is wanted (--pressure)")
    max_probe: float = percent(0.01, "largest step down, of the VM's memory (--max-probe)")
    max_backoff: float = percent(1.0, "largest step up (--max-backoff)")
    coeff_probe: float = number(10, "how gently it presses (--coeff-probe)")
    coeff_backoff: float = number(20, "how gently it eases off (--coeff-backoff)")
    least: int = size(100 * MIB, "a VM is left that much (--min-size)")


@dataclass(slots=True)
class _Limit:
    """A VM's limit as senpai keeps it, bytes, and the seconds waited since the last change."""

    size: float
    waited: float = 0.0


class Senpai:
    """The policy object; its memory are the limits and the pressure of each VM."""

    name: ClassVar[str] = "senpai"
    settings_type: ClassVar[type] = SenpaiSettings

    def __init__(self, settings: SenpaiSettings | None = None) -> None:
        self.settings = settings or SenpaiSettings()
        self.scales = Scales()
        self._every = Every()
        self._limits: dict[str, _Limit] = {}
        self._last: float | None = None

    def decide(self, view: View) -> Decision:
        """Add up pressure at each tick; adjust every interval."""
        seconds = 0.0 if self._last is None else view.time - self._last
        self._last = view.time
        for vm in view.vms:
            if vm.resident is not None:
                limit = self._limits.setdefault(vm.name, _Limit(float(vm.resident)))
                limit.waited += (vm.stall_some or 0.0) * seconds
        ways_out = (Mechanism.COMPRESSION, Mechanism.SWAP)
        left = list(not_mine(ways_out, "senpai pushes pages out and does nothing else"))
        if not self._every.due(view.time, self.settings.interval / self.scales.time):
            left.append(LeftAlone(Mechanism.SWAP, "it adds up pressure until its interval is over"))
            return Decision("adds up", left_alone=tuple(left))
        into = way_out(view)
        if into is None:
            left.append(LeftAlone(Mechanism.SWAP, "neither pool nor device takes pages"))
            return Decision("no way out", left_alone=tuple(left))
        found = [self._adjust(vm, into) for vm in view.vms]
        return Decision(
            "adjusts",
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *left),
        )

    def _adjust(self, vm: VmView, into: Mechanism) -> Action | LeftAlone:
        limit = self._limits.get(vm.name)
        if limit is None or vm.resident is None:
            return LeftAlone(into, "its size is not known yet", vm.name)
        target = self.settings.pressure / self.scales.time
        waited, limit.waited = limit.waited, 0.0
        if waited > target:
            limit.size = min(float(vm.configured), limit.size * (1 + self.back_off(waited, target)))
            why = f"it waited {waited * 1000:.1f} ms, wanted are {target * 1000:.1f}: eased off"
            return LeftAlone(into, f"{why} to {format_size(limit.size)}", vm.name)
        least = max(vm.reservation, self.settings.least / self.scales.size)
        # The limit follows a VM that has shrunk by itself: pressing from above would be no press.
        limit.size = min(limit.size, vm.resident) * (1 - self.probe(waited, target))
        limit.size = max(limit.size, float(least))
        above = int(vm.resident - limit.size) // PAGE * PAGE
        if above < PAGE:
            return LeftAlone(into, f"it is at its least, {format_size(least)}", vm.name)
        why = f"it waited {waited * 1000:.1f} ms of {target * 1000:.1f}"
        # The oldest, as the kernel takes under a lowered memory.high.
        down = f"{why}: down to {format_size(limit.size)}"
        return Reclaim(vm.name, above, into, down, oldest=True)

    def back_off(self, waited: float, target: float) -> float:
        """Part by which the limit is raised: (err / coeff)², max_backoff at most."""
        s = self.settings
        return min(s.max_backoff, s.max_backoff * (waited / target / s.coeff_backoff) ** 2)

    def probe(self, waited: float, target: float) -> float:
        """Part by which it is lowered: (err / coeff)² with err = target/waited, max_probe at most.

        The script counts in µs and takes at least one.
        """
        s = self.settings
        error = target / max(waited, 1e-6)
        return min(s.max_probe, s.max_probe * (error / s.coeff_probe) ** 2)
