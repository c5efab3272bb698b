"""Who makes room under `best`: whoever holds what nobody uses, before it is needed.

A VM's memory is made old; what it has not used a moment later is the oldest on the kernel's lists,
and goes. At first little goes at a time, then twice as much each time while nothing comes back.
Nothing is taken from a VM that waits, and one that fetches back what it lost is left alone for a
while: twice as long each time, until what it lost stays away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from memlab.control.best_settings import SMALLEST, BestSettings
from memlab.control.entitlement import most_out
from memlab.control.paces import why_shut
from memlab.control.policy import Age, LeftAlone, Mechanism, Reclaim, View, VmView
from memlab.units import MIB, PAGE, format_size


@dataclass(frozen=True, slots=True)
class _Pace:
    """Seconds after which a VM is made old again, and which it then has to use what it keeps."""

    again: float
    unused: float


_CALM: Final = _Pace(4.0, 1.0)
_SHORT: Final = _Pace(0.9, 0.4)
_LONGEST: Final = 60.0
_WAYS_OUT: Final = (Mechanism.SWAP, Mechanism.COMPRESSION)
_BUSY: Final = 0.02
"""Part of a core. Idle guests took 0.0 to 0.2 % (contention-hot and -cache); 2 % is time for 28,000
touches of 0.7 µs a second (simulate/costs.py), 110 MiB."""


@dataclass(slots=True)
class _Memory:
    """Of one VM: when it was made old, which part of it went last, until when it is left alone, and
    for how long next time."""

    aged: float | None = None
    part: float = 0.0
    until: float = 0.0
    wait: float = 0.0


@dataclass(slots=True)
class _Need:
    """What a tick is about: how much is missing to the reserve, where it goes, how fast, and what
    balloons are asked to hold."""

    time: float
    missing: int
    into: Mechanism
    pace: _Pace
    balloons: Mapping[str, int]


class Room:
    """It remembers when each VM was made old, and who fetched back."""

    def __init__(self) -> None:
        self._vms: dict[str, _Memory] = {}

    def decide(
        self, view: View, settings: BestSettings, patience: float, balloons: Mapping[str, int]
    ) -> Iterator[Age | Reclaim | LeftAlone]:
        """The coldest VM first. `patience`: seconds for which one is left alone at first;
        `balloons`: what this tick asks balloons to hold, bytes."""
        into = _way_out(view)
        yield from _other_ways(view, into)
        if into is None:
            return
        waits = _who_waits(view, settings.waiting)
        short = bool(waits) or view.available < settings.headroom * view.budget
        missing = int(settings.reserve * view.budget) - view.available
        need = _Need(view.time, missing, into, _SHORT if short else _CALM, balloons)
        for vm in sorted(view.vms, key=_heat):
            why = self._spared(vm, need, settings.coming_back, patience)
            if vm.name in waits:
                why = f"it waits for memory ({vm.major_faults:,.0f} faults/s)"
            elif waits and _is_busy(vm) and self._is_due(vm, need):
                yield self._make_old(vm, need, f"{' and '.join(sorted(waits))} must wait")
                continue
            if not why and need.missing < SMALLEST:
                why = "the reserve is there"
            yield LeftAlone(into, why, vm.name) if why else self._take(vm, need, settings)

    def _spared(self, vm: VmView, need: _Need, most: float, patience: float) -> str:
        """Why nothing is taken from a VM: it fetched back what it had lost."""
        memory = self._vms.setdefault(vm.name, _Memory())
        if vm.resident is None:
            return "not known yet"
        if _heat(vm) > most:
            memory.wait = min(_LONGEST, memory.wait * 2 or patience)
            memory.until, memory.part = need.time + memory.wait, 0.0
            return f"it fetches pages back ({vm.major_faults:,.0f} faults/s)"
        if need.time < memory.until:
            return f"it fetched pages back; left alone until {memory.until:.0f} s"
        if need.time > memory.until + memory.wait:
            memory.wait = 0.0
        return ""

    def _take(self, vm: VmView, need: _Need, settings: BestSettings) -> Age | Reclaim | LeftAlone:
        """What has not been used since the VM was made old; of one that sleeps, anything."""
        memory, sleeps = self._vms[vm.name], not _is_busy(vm)
        part = settings.step if sleeps else max(settings.trim, 2 * memory.part)
        part = min(settings.step, part)
        size = min(need.missing, int(vm.configured * part), _there_is(vm, need)) // PAGE * PAGE
        if size < SMALLEST:
            return LeftAlone(need.into, "it has no more than it needs", vm.name)
        if not sleeps and self._is_due(vm, need):
            return self._make_old(vm, need, "what it does not use from now on may go")
        since = need.time - (memory.aged or 0.0)
        if not sleeps and since < need.pace.unused:
            return LeftAlone(need.into, "it was made old a moment ago", vm.name)
        memory.part, need.missing = part, need.missing - size
        why = f"not used for {since:.1f} s"
        if sleeps:
            why = f"it sleeps ({vm.cpu:.1%} of a core)"
        return Reclaim(vm.name, size, need.into, f"{why}; {_told(vm)}", oldest=True)

    def _is_due(self, vm: VmView, need: _Need) -> bool:
        """Whether it is time to make the VM old, for the first time or again."""
        aged = self._vms[vm.name].aged
        return aged is None or need.time - aged >= need.pace.again

    def _make_old(self, vm: VmView, need: _Need, reason: str) -> Age:
        self._vms[vm.name].aged = need.time
        return Age(vm.name, reason)


def _who_waits(view: View, least: float) -> frozenset[str]:
    """VMs with `least` major faults a second, unless another one has twice as many."""
    faults = {vm.name: vm.major_faults or 0.0 for vm in view.vms}
    limit = max(least, max(faults.values(), default=0.0) / 2)
    return frozenset(name for name, rate in faults.items() if rate >= limit)


def _way_out(view: View) -> Mechanism | None:
    """Cold pages go to the device: the pool is for those that will be wanted again."""
    return next((way for way in _WAYS_OUT if not why_shut(view, way)), None)


def _other_ways(view: View, into: Mechanism | None) -> Iterator[LeftAlone]:
    """Why pages do not go where they could go as well."""
    for way in _WAYS_OUT:
        if way is not into:
            kept = "the pool is kept for pages that will be wanted again"
            yield LeftAlone(way, why_shut(view, way) or kept)


def _heat(vm: VmView) -> float:
    """The part of what a VM has out that comes back in a second; what is not out comes back too
    if anything does."""
    faults = (vm.major_faults or 0.0) * PAGE
    return faults / max(vm.out or 0, 4 * MIB)


def _is_busy(vm: VmView) -> bool:
    """Whether it works at all, or may: what a VM that sleeps has is all cold."""
    return vm.cpu is None or vm.cpu > _BUSY


def _there_is(vm: VmView, need: _Need) -> int:
    """Bytes of its own above the reservation and what the VM needs for itself."""
    held = vm.private if vm.private is not None else vm.resident or 0
    above = max(0, held - max(vm.reservation, int(0.05 * vm.configured)))
    if not vm.reservation:
        return above
    # Private pages are counted less often than resident ones, and may be those of a moment ago.
    surely = min(held, vm.resident or 0)
    return min(above, most_out(vm, surely, need.balloons.get(vm.name)))


def _told(vm: VmView) -> str:
    out = "nothing" if not vm.out else format_size(vm.out)
    return f"{vm.name} has {out} out and {vm.major_faults or 0:,.0f} faults/s"
