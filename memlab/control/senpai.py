"""`senpai`: press each VM until it feels it, and ease off when it does.

github.com/facebookincubator/senpai, senpai.py (2019): the pressure (µs in which some task waited
for memory) is added up and looked at every second. As soon as it is more than 10,000 µs the limit
is raised by (sum/target/20)² of itself, 100 % at most; when 6 s have passed without that, it is
lowered by (target/sum/10)², 1 % at most. Either begins the sum and the 6 s anew. A limit begins at
what the group has. Its comment says "exponentially"; the code squares.

It sets memory.high, which the kernel holds all the time; here what stands above the limit is pushed
out at each look. Where a lab's tick makes an interval longer than it should be, the target is that
of the time that has really gone by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from memlab.control.paces import Every, not_mine, way_out
from memlab.control.policy import Action, Decision, LeftAlone, Mechanism, Reclaim, View, VmView
from memlab.control.settings import Scales, duration, number, percent, size
from memlab.units import GIB, MIB, PAGE, format_size

_LOOK: Final = 1.0
"""Seconds between two looks (time.sleep(1) in the script: no option of it)."""


@dataclass(frozen=True, slots=True)
class SenpaiSettings:
    """The options of the script."""

    interval: float = duration(6, "over which pressure is added up (--interval)")
    pressure: float = duration(0.010, "waiting per interval that is wanted (--pressure)")
    max_probe: float = percent(0.01, "largest step down, of the limit (--max-probe)")
    max_backoff: float = percent(1.0, "largest step up (--max-backoff)")
    coeff_probe: float = number(10, "how gently it presses (--coeff-probe)")
    coeff_backoff: float = number(20, "how gently it eases off (--coeff-backoff)")
    least: int = size(100 * MIB, "a limit is never below this (--min-size)")
    most: int = size(100 * GIB, "and never above this (--max-size)")


@dataclass(slots=True)
class _Limit:
    """A VM's limit, bytes; seconds waited since it was last changed, and when that was."""

    size: float
    since: float
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
        """Add up pressure at each tick; look at it once a second, or at each tick if that is
        longer."""
        self._add_up(view)
        ways_out = (Mechanism.COMPRESSION, Mechanism.SWAP)
        left = not_mine(ways_out, "senpai pushes pages out and does nothing else")
        if not self._every.due(view.time, _LOOK / self.scales.time):
            waits = LeftAlone(Mechanism.SWAP, "it adds up pressure until it looks again")
            return Decision("adds up", left_alone=(waits, *left))
        into = way_out(view)
        found = [self._look(vm, view.time, into) for vm in view.vms]
        return Decision(
            "no way out" if into is None else "looks",
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *left),
        )

    def _add_up(self, view: View) -> None:
        seconds = 0.0 if self._last is None else view.time - self._last
        self._last = view.time
        for vm in view.vms:
            if vm.stall_some is None or vm.resident is None:
                self._limits.pop(vm.name, None)
            elif vm.name in self._limits:
                self._limits[vm.name].waited += vm.stall_some * seconds
            else:
                # The script's first interval is one look longer than the others.
                since = view.time + _LOOK / self.scales.time
                self._limits[vm.name] = _Limit(self._bounded(vm, vm.resident), since)

    def _look(self, vm: VmView, now: float, into: Mechanism | None) -> Action | LeftAlone:
        way = into or Mechanism.SWAP
        limit = self._limits.get(vm.name)
        if limit is None or vm.resident is None:
            what = "pressure" if vm.stall_some is None else "size"
            return LeftAlone(way, f"its {what} is not known", vm.name)
        why = self._adjust(vm, limit, now)
        above = int(vm.resident - limit.size) // PAGE * PAGE
        if above < PAGE:
            if limit.size <= self._bounded(vm, 0):
                why = f"it is at its least, {format_size(limit.size)}"
            return LeftAlone(way, why, vm.name)
        if into is None:
            return LeftAlone(way, "neither pool nor device takes pages", vm.name)
        # The oldest, as the kernel takes above memory.high.
        return Reclaim(vm.name, above, into, why, oldest=True)

    def _adjust(self, vm: VmView, limit: _Limit, now: float) -> str:
        """Move the limit if it is time, and say why, and where it stands."""
        interval = self.settings.interval / self.scales.time
        passed, waited = now - limit.since, limit.waited
        target = self.settings.pressure / self.scales.time * max(1.0, passed / interval)
        told = f"it waited {waited * 1000:.1f} ms, wanted are {target * 1000:.1f}"
        if waited > target:
            word, change = "eased off to", self.back_off(waited, target)
        elif passed >= interval * 0.999:  # as in Every: a tick may come a little early
            word, change = "down to", -self.probe(waited, target)
        else:
            return f"{told}: its limit stays {format_size(limit.size)}"
        limit.size = self._bounded(vm, limit.size * (1 + change))
        limit.since, limit.waited = now, 0.0
        return f"{told}: {word} {format_size(limit.size)}"

    def _bounded(self, vm: VmView, size: float) -> float:
        least, most = self.settings.least / self.scales.size, self.settings.most / self.scales.size
        return max(float(vm.reservation), least, min(most, size))

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
