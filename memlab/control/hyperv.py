"""`hyperv`: Hyper-V's Dynamic Memory: demand and a buffer, and by weight when memory is short.

learn.microsoft.com, "Hyper-V Dynamic Memory Overview": each VM is given its demand (what its guest
has committed) and a buffer of 20 % of that, between its minimum and maximum. When the host is short
the buffer is dropped, and memory weight decides how far demand is met. Its period is not published:
it acts at every tick.

Of what a Linux guest does, Linux tells (drivers/hv/hv_balloon.c): its driver refuses what would
leave less available than a floor, counts that floor as committed, and reports nothing for its first
45 s. Until then a VM keeps what it was started with, its Startup RAM. Here that is all of its
configured size, and no setting: nothing can be ballooned before the guest's driver runs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Final

from memlab.control.entitlement import Client, targets
from memlab.control.paces import not_mine
from memlab.control.policy import Action, Balloon, Decision, LeftAlone, Mechanism, View, VmView
from memlab.control.settings import Scales, duration, percent
from memlab.units import MIB, PAGE, format_size

_FLOOR: Final = ((8, 1 / 2), (40, 1 / 4), (104, 1 / 8), (232, 1 / 16), (488, 1 / 32))
"""The lines of compute_balloon_floor, MiB and slope: they bend at 128, 512, 2048 and 8192 MiB."""


@dataclass(frozen=True, slots=True)
class HypervSettings:
    """The defaults of a VM's memory settings, and of the guest's driver."""

    buffer: float = percent(0.20, "memory above demand (the memory buffer)")
    report_delay: float = duration(
        45, "a guest that starts keeps all for so long (pressure_report_delay)"
    )
    reserve: float = percent(0.02, "part of the budget that is kept free")
    maximum: float = percent(0.65, "largest balloon: what is left is the minimum RAM")


def balloon_floor(size: float) -> float:
    """What the driver leaves available in a guest of `size` bytes: 168 MiB of 512 MiB."""
    return min(line * MIB + slope * size for line, slope in _FLOOR)


class Hyperv:
    """The policy object; its memory is since when each guest answers."""

    name: ClassVar[str] = "hyperv"
    settings_type: ClassVar[type] = HypervSettings

    def __init__(self, settings: HypervSettings | None = None) -> None:
        self.settings = settings or HypervSettings()
        self.scales = Scales()
        self._since: dict[str, float] = {}

    def decide(self, view: View) -> Decision:
        """Each VM its demand and buffer; by weight where they do not fit."""
        self._watch(view)
        why = "left to the kernel: Dynamic Memory turns balloons alone"
        out = not_mine({Mechanism.BALLOON}, why)
        if Mechanism.BALLOON not in view.mechanisms:
            off = LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
            return Decision("off", left_alone=(off, *out))
        state, wanted = self._share_out(view)
        found = [self._balloon(vm, wanted.get(vm.name), state) for vm in view.vms]
        return Decision(
            state,
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *out),
        )

    def _watch(self, view: View) -> None:
        for vm in view.vms:
            if vm.used is None or vm.ballooned is None:
                self._since.pop(vm.name, None)  # what comes back is another guest
            else:
                self._since.setdefault(vm.name, view.time)

    def _share_out(self, view: View) -> tuple[str, dict[str, int]]:
        """What each VM is to have whose guest reports, and how that was found."""
        delay = self.settings.report_delay / self.scales.time
        reports = [
            vm for vm in view.vms if view.time - self._since.get(vm.name, view.time + 1) >= delay
        ]
        wanted = {vm.name: self._wanted(vm, self.settings.buffer) for vm in reports}
        memory = self._memory(view, wanted)
        if sum(wanted.values()) <= memory:
            return "buffered", wanted
        return "by weight", self._by_weight(reports, memory)

    def _memory(self, view: View, reports: Collection[str]) -> int:
        """What there is for the guests that report: the others hold what they have."""
        held = sum((vm.overhead or 0) if vm.name in reports else self._held(vm) for vm in view.vms)
        kept = int(self.settings.reserve * view.budget)
        return view.budget - held - view.pool - kept + (view.saved_sharing or 0)

    def _held(self, vm: VmView) -> int:
        """All of its size while its guest starts, as Startup RAM is; else what it has in fact."""
        if vm.name in self._since:
            return vm.configured - (vm.ballooned or 0) + (vm.overhead or 0)
        return vm.consumed or 0 if vm.resident is None else vm.resident

    def _floor(self, vm: VmView) -> int:
        """What the driver leaves available; the guest's size is scaled as all published sizes."""
        return int(balloon_floor(vm.configured * self.scales.size) / self.scales.size)

    def _least(self, vm: VmView) -> int:
        """What cannot be taken: its minimum, and what its driver refuses."""
        available = (vm.free or 0) + (vm.cache or 0)
        room = max(0, available - self._floor(vm))
        minimum = max(vm.reservation, int(vm.configured * (1 - self.settings.maximum)))
        return max(minimum, vm.configured - (vm.ballooned or 0) - room)

    def _demand(self, vm: VmView) -> int:
        """What the guest has committed: in use, in its own swap, and the driver's floor."""
        return (vm.used or 0) + (vm.guest_swapped or 0) + self._floor(vm)

    def _wanted(self, vm: VmView, buffer: float) -> int:
        return min(vm.configured, max(self._least(vm), int(self._demand(vm) * (1 + buffer))))

    def _by_weight(self, reports: list[VmView], memory: int) -> dict[str, int]:
        """Demand without a buffer; between what cannot be taken and that by weight (shares)."""
        clients = [
            Client(vm.name, vm.shares, self._wanted(vm, 0.0), self._least(vm)) for vm in reports
        ]
        least = sum(client.reservation for client in clients)
        return targets(clients, max(memory, least), tax=0.0)

    def _balloon(self, vm: VmView, wanted: int | None, state: str) -> Action | LeftAlone:
        if vm.name not in self._since or vm.ballooned is None:
            return LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
        if wanted is None:
            why = "its guest starts, and has not reported yet: it keeps what it has"
            return LeftAlone(Mechanism.BALLOON, why, vm.name)
        target = (vm.configured - wanted) // PAGE * PAGE
        if abs(target - vm.ballooned) < MIB:
            return LeftAlone(Mechanism.BALLOON, "it has what it should have", vm.name)
        reason = f"{state}: demand {format_size(self._demand(vm))}, given {format_size(wanted)}"
        return Balloon(vm.name, target, reason)
