"""What an ESX profile pushes out of VMs: into the compressed pool, or to the swap device.

No byte is asked of two mechanisms at one tick. In the state soft what a VM has above its target is
its balloon's as far as that can grow, and only the rest is compressed or swapped, in its part of
what is missing: the hypervisor pushes out what no driver can bring, because there is none, or its
balloon is at its largest (Resource Management Guide of vSphere 4, "Using Swap Files"). In hard and
low a balloon would come too late: what is missing is pushed out at once, and balloons get the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from memlab.control.entitlement import most_out
from memlab.control.esx_profiles import Act, State
from memlab.control.esx_tick import SMALLEST, Tick, activity
from memlab.control.paces import why_shut
from memlab.control.policy import LeftAlone, Mechanism, Reclaim, VmView
from memlab.units import PAGE, format_size

_WAYS_OUT: Final = {
    Mechanism.COMPRESSION: frozenset({Act.COMPRESS}),
    Mechanism.SWAP: frozenset({Act.SWAP, Act.PAGE_WITHOUT_BALLOON}),
}
"""Where pages are pushed to, first choice first, and the acts that mean it."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Bytes that a VM holds above its target, and those of them that its balloon is to bring."""

    above: int
    balloon: int

    @property
    def rest(self) -> int:
        """What compression and swap have to take."""
        return self.above - self.balloon


def pushes(tick: Tick) -> Iterator[Reclaim | LeftAlone]:
    """Who gives how much, who gives most first; and why the other way out is not taken."""
    into = _way_out(tick)
    for mechanism in _WAYS_OUT:
        if mechanism is not into:
            yield LeftAlone(mechanism, _why_not(tick, mechanism) or "the pool takes pages")
    if into is None:
        return
    dues = {vm.name: _due(tick, vm) for vm in tick.view.vms}
    missing = _to_push(tick, dues.values())
    for vm in sorted(tick.view.vms, key=lambda vm: -dues[vm.name].rest):
        found = _push(tick, vm, dues[vm.name], missing, into)
        missing -= found.size if isinstance(found, Reclaim) else 0
        yield found


def _due(tick: Tick, vm: VmView) -> _Due:
    """What the VM gives, and how: in soft its balloon first, as far as that can grow."""
    above = tick.excess(vm)
    answers = vm.ballooned is not None and not vm.blocked
    on = Act.BALLOON in tick.acts and Mechanism.BALLOON in tick.view.mechanisms
    if not above or not answers or not on or tick.state is not State.SOFT:
        return _Due(above, 0)
    reach = tick.wanted_balloon(vm) - (vm.ballooned or 0)
    return _Due(above, max(0, min(above, reach)))


def _to_push(tick: Tick, dues: Collection[_Due]) -> int:
    """What is missing, without the balloons' part of it: each VM gives in proportion to what it has
    above its target."""
    above, rest = sum(due.above for due in dues), sum(due.rest for due in dues)
    missing = int(tick.host.keep_free) - tick.view.available
    return missing * rest // above if above else 0


def _push(tick: Tick, vm: VmView, due: _Due, missing: int, into: Mechanism) -> Reclaim | LeftAlone:
    rest = min(due.rest, most_out(vm, vm.resident or 0))
    if why := _why_none(due, rest, missing):
        return LeftAlone(into, why, vm.name)
    size = min(rest, missing, int(vm.configured * tick.host.settings.step))
    reason = f"{format_size(due.above)} above its target{activity(vm)}"
    if due.balloon:
        reason = f"{reason}, {format_size(due.balloon)} of it for its balloon"
    return Reclaim(vm.name, max(PAGE, size // PAGE * PAGE), into, reason)


def _why_none(due: _Due, rest: int, missing: int) -> str:
    """Why nothing of a VM is pushed out; empty if something is. `rest` is what may be."""
    if due.above < SMALLEST:
        return "it holds no more than its target"
    if due.rest < SMALLEST:
        return f"the {format_size(due.above)} above its target are for its balloon"
    if rest < SMALLEST:
        return "its balloon is on its way to the reservation"
    return "balloons and others give enough" if missing < SMALLEST else ""


def _way_out(tick: Tick) -> Mechanism | None:
    """Compression or swap, as far as the state, the lab and their room allow."""
    return next((mechanism for mechanism in _WAYS_OUT if not _why_not(tick, mechanism)), None)


def _why_not(tick: Tick, mechanism: Mechanism) -> str:
    """Why pages are not pushed there now; empty if they may be."""
    profile, means = tick.host.profile, _WAYS_OUT[mechanism]
    if not any(means & all_of for all_of in profile.acts.values()):
        return f"{profile.name} has no {mechanism}"
    if shut := why_shut(tick.view, mechanism):
        return shut
    return "" if means & tick.acts else tick.not_in_this_state
