"""`ladder`: page sharing, then balloon, then compression, then swap, by how much is free.

The order of the field (published-results: share before anything is paged, swap last). A rung is
entered at once when the free part of the host budget falls below its threshold, and left one rung
at a time, only when the free part is above the threshold by `hysteresis`. Each rung acts together
with all those above it, so that nothing that already helps is switched off under pressure. What all
of them take from a VM in one tick leaves it its reservation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from memlab.control.entitlement import largest_balloon, most_out
from memlab.control.paces import why_shut
from memlab.control.policy import (
    Action,
    Balloon,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    Share,
    View,
    VmView,
)
from memlab.control.settings import Scales, percent
from memlab.units import MIB, PAGE, format_size


class Rung(IntEnum):
    """How far down the ladder the lab stands; a larger number is under more pressure."""

    PLENTY = 0
    SHARING = 1
    BALLOON = 2
    COMPRESSION = 3
    SWAP = 4


MECHANISM_OF: Final = {
    Rung.SHARING: Mechanism.SHARING,
    Rung.BALLOON: Mechanism.BALLOON,
    Rung.COMPRESSION: Mechanism.COMPRESSION,
    Rung.SWAP: Mechanism.SWAP,
}
_SMALLEST: Final = 1 * MIB
"""Steps below this are not worth a command to a guest."""


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """The four thresholds are of the host budget, the others of a VM's configured size."""

    sharing: float = percent(0.60, "below it KSM is switched on")
    balloon: float = percent(0.40, "below it balloons grow where the guest has most to spare")
    compression: float = percent(0.20, "below it pages of the dearest VM are compressed")
    swap: float = percent(0.08, "below it they go to the swap device")
    hysteresis: float = percent(0.05, "how far above its threshold a rung is left")
    step: float = percent(0.10, "largest change of a VM in one tick, of its configured size")
    maximum: float = percent(0.65, "largest balloon, of the configured size (Mem.CtlMaxPercent)")
    guest_floor: float = percent(
        0.05, "what a balloon leaves free in the guest; below it the balloon gives back"
    )

    def threshold(self, rung: Rung) -> float:
        """Free part of the budget below which `rung` is entered."""
        return (1.0, self.sharing, self.balloon, self.compression, self.swap)[rung]


class Ladder:
    """The policy object; its only memory is the rung it stands on."""

    name: ClassVar[str] = "ladder"
    settings_type: ClassVar[type] = LadderSettings

    def __init__(self, settings: LadderSettings | None = None) -> None:
        self.settings = settings or LadderSettings()
        self.scales = Scales()
        self.rung = Rung.PLENTY

    def decide(self, view: View) -> Decision:
        """One tick: find the rung, then let each mechanism down to it act."""
        part = view.available / view.budget
        self.rung = self._next_rung(part)
        actions: list[Action] = []
        left: list[LeftAlone] = []
        for rung, act in (
            (Rung.SHARING, self._share),
            (Rung.BALLOON, self._balloon),
            (Rung.COMPRESSION, self._reclaim),
            (Rung.SWAP, self._reclaim),
        ):
            mechanism = MECHANISM_OF[rung]
            if mechanism not in view.mechanisms:
                left.append(LeftAlone(mechanism, "switched off in the lab file"))
            elif rung > self.rung:
                left.append(LeftAlone(mechanism, self._not_yet(rung, part)))
            else:
                act(view, mechanism, actions, left)
        return Decision(self.rung.name.lower(), tuple(actions), tuple(left))

    def _next_rung(self, part: float) -> Rung:
        needed = max(rung for rung in Rung if rung == 0 or part < self.settings.threshold(rung))
        if needed >= self.rung:
            return needed
        leave_above = self.settings.threshold(self.rung) + self.settings.hysteresis
        return Rung(self.rung - 1) if part > leave_above else self.rung

    def _not_yet(self, rung: Rung, part: float) -> str:
        return (
            f"{part:.0%} of the budget is free; it acts below {self.settings.threshold(rung):.0%}"
        )

    def _share(
        self, view: View, mechanism: Mechanism, actions: list[Action], left: list[LeftAlone]
    ) -> None:
        if view.sharing_on:
            left.append(LeftAlone(mechanism, "already on"))
        else:
            reason = f"{view.available / view.budget:.0%} of the budget is free"
            actions.append(Share(on=True, reason=reason))

    def _balloon(
        self, view: View, mechanism: Mechanism, actions: list[Action], left: list[LeftAlone]
    ) -> None:
        need = self._missing(view, Rung.BALLOON)
        for vm in sorted(view.vms, key=_spare, reverse=True):
            if vm.free is None or vm.ballooned is None:
                left.append(LeftAlone(mechanism, "no guest driver answers", vm.name))
                continue
            change, reason = self._balloon_change(vm, need)
            if abs(change) < _SMALLEST:
                left.append(LeftAlone(mechanism, reason, vm.name))
                continue
            need -= max(0, change)
            target = (vm.ballooned + change) // PAGE * PAGE
            actions.append(Balloon(vm.name, target, reason))

    def _balloon_change(self, vm: VmView, need: int) -> tuple[int, str]:
        """Bytes to add to (or give back from) this VM's balloon, and why."""
        assert vm.ballooned is not None
        step = int(vm.configured * self.settings.step)
        floor = int(vm.configured * self.settings.guest_floor)
        spare = _spare(vm) - floor
        if spare < 0 and vm.ballooned > 0:
            return -min(step, vm.ballooned, -spare), (
                f"the guest has only {format_size(_spare(vm))} free and cache left"
            )
        most = largest_balloon(vm, self.settings.maximum)
        room = most - vm.ballooned
        if room < _SMALLEST:
            return 0, f"its balloon is at its limit of {format_size(most)}"
        if spare < _SMALLEST:
            return 0, f"the guest has only {format_size(_spare(vm))} free and cache"
        if need < _SMALLEST:
            return 0, "others give enough"
        return min(step, room, spare, need), (
            f"{format_size(need)} are missing and the guest has {format_size(_spare(vm))} "
            "free and cache"
        )

    def _reclaim(
        self, view: View, mechanism: Mechanism, actions: list[Action], left: list[LeftAlone]
    ) -> None:
        rung = Rung.COMPRESSION if mechanism is Mechanism.COMPRESSION else Rung.SWAP
        need = self._missing(view, rung)
        if refusal := why_shut(view, mechanism):
            left.append(LeftAlone(mechanism, refusal))
            return
        if not view.vms or need < _SMALLEST:
            left.append(LeftAlone(mechanism, "nothing is missing"))
            return
        victim = ""
        for vm in sorted(view.vms, key=_price_of_leaving, reverse=True):
            room = _may_leave(vm, actions)
            if victim:
                left.append(LeftAlone(mechanism, f"{victim} holds more for its shares", vm.name))
            elif room < _SMALLEST:
                left.append(LeftAlone(mechanism, _why_nothing_leaves(vm), vm.name))
            else:
                victim = vm.name
                size = min(need, room, int(vm.configured * self.settings.step))
                reason = f"{format_size(need)} are missing; {victim} holds most for its shares"
                out = max(PAGE, size // PAGE * PAGE)
                actions.append(Reclaim(victim, out, mechanism, reason))

    def _missing(self, view: View, rung: Rung) -> int:
        """Bytes that would bring the free part back over the rung's threshold."""
        return max(0, int(view.budget * self.settings.threshold(rung)) - view.available)


def _spare(vm: VmView) -> int:
    """What the guest could give without hurting itself: free and clean cache."""
    return (vm.free or 0) + (vm.cache or 0)


def _held(vm: VmView) -> int:
    return vm.resident if vm.resident is not None else (vm.consumed or 0)


def _price_of_leaving(vm: VmView) -> float:
    """Resident bytes above the reservation, per share: who is best placed to give."""
    return max(0, _held(vm) - vm.reservation) / max(1, vm.shares)


def _may_leave(vm: VmView, actions: Sequence[Action]) -> int:
    """Bytes that may still go, beside what the VM gives already at this tick."""
    asked = next((a.target for a in actions if isinstance(a, Balloon) and a.vm == vm.name), None)
    gone = sum(a.size for a in actions if isinstance(a, Reclaim) and a.vm == vm.name)
    return most_out(vm, _held(vm), asked) - gone


def _why_nothing_leaves(vm: VmView) -> str:
    reserved = format_size(vm.reservation)
    return f"it holds {format_size(_held(vm))} and {reserved} are reserved: no more may go"
