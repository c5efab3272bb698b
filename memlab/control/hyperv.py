"""`hyperv`: Hyper-V's Dynamic Memory: demand and a buffer, and by weight when memory is short.

learn.microsoft.com, "Hyper-V Dynamic Memory Overview": each VM is given its demand (what its guest
has committed) and a buffer of 20 % of that, between its minimum and maximum. When the host is short
the buffer is dropped, and memory weight decides how far demand is met. Its period is not published:
it acts at every tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memlab.control.entitlement import Client, targets
from memlab.control.paces import not_mine
from memlab.control.policy import Action, Balloon, Decision, LeftAlone, Mechanism, View, VmView
from memlab.control.settings import Scales, percent
from memlab.units import MIB, PAGE, format_size


@dataclass(frozen=True, slots=True)
class HypervSettings:
    """The defaults of a VM's memory settings."""

    buffer: float = percent(0.20, "memory above demand (the memory buffer)")
    reserve: float = percent(0.02, "part of the budget that is kept free")
    maximum: float = percent(0.65, "largest balloon: what is left is the minimum RAM")


class Hyperv:
    """The policy object; it keeps nothing between ticks."""

    name: ClassVar[str] = "hyperv"
    settings_type: ClassVar[type] = HypervSettings

    def __init__(self, settings: HypervSettings | None = None) -> None:
        self.settings = settings or HypervSettings()
        self.scales = Scales()

    def decide(self, view: View) -> Decision:
        """Each VM its demand and buffer; by weight where they do not fit."""
        why = "left to the kernel: Dynamic Memory turns balloons alone"
        out = not_mine({Mechanism.BALLOON}, why)
        if Mechanism.BALLOON not in view.mechanisms:
            off = LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
            return Decision("off", left_alone=(off, *out))
        known = [vm for vm in view.vms if vm.used is not None and vm.ballooned is not None]
        memory = self._memory(view)
        wanted = {vm.name: self._wanted(vm, self.settings.buffer) for vm in known}
        state = "buffered"
        if sum(wanted.values()) > memory:
            state = "by weight"
            wanted = self._by_weight(known, memory)
        found = [self._balloon(vm, wanted.get(vm.name), state) for vm in view.vms]
        return Decision(
            state,
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *out),
        )

    def _memory(self, view: View) -> int:
        overhead = sum(vm.overhead or 0 for vm in view.vms)
        kept = int(self.settings.reserve * view.budget)
        return view.budget - overhead - view.pool - kept + (view.saved_sharing or 0)

    def _minimum(self, vm: VmView) -> int:
        return max(vm.reservation, int(vm.configured * (1 - self.settings.maximum)))

    def _wanted(self, vm: VmView, buffer: float) -> int:
        demand = int((vm.used or 0) * (1 + buffer))
        return min(vm.configured, max(self._minimum(vm), demand))

    def _by_weight(self, known: list[VmView], memory: int) -> dict[str, int]:
        """Demand without a buffer; between minimum and that by weight (shares)."""
        clients = [
            Client(vm.name, vm.shares, self._wanted(vm, 0.0), self._minimum(vm)) for vm in known
        ]
        least = sum(client.reservation for client in clients)
        return targets(clients, max(memory, least), tax=0.0)

    def _balloon(self, vm: VmView, wanted: int | None, state: str) -> Action | LeftAlone:
        if wanted is None or vm.ballooned is None:
            return LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
        target = (vm.configured - wanted) // PAGE * PAGE
        if abs(target - vm.ballooned) < MIB:
            return LeftAlone(Mechanism.BALLOON, "it has what it should have", vm.name)
        reason = f"{state}: demand {format_size(vm.used or 0)}, given {format_size(wanted)}"
        return Balloon(vm.name, target, reason)
