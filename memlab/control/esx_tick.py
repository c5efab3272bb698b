"""What the mechanisms of an ESX profile go by at one tick: the state, what it does, who may have
how much, and what the host keeps free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from memlab.control.entitlement import largest_balloon
from memlab.control.esx_profiles import Act, Profile, State, min_free
from memlab.control.policy import View, VmView
from memlab.control.settings import number, percent, switch
from memlab.units import MIB, format_size

SMALLEST: Final = MIB // 4
"""Steps below this are not worth a command."""


@dataclass(frozen=True, slots=True)
class EsxSettings:
    """The advanced settings of ESX, and what scales them to a lab."""

    idle_tax: float = percent(0.75, "tax on idle memory (Mem.IdleTax)")
    progressive: bool = switch(False, "the tax grows with the idle part (Mem.IdleTaxType 1)")
    maximum: float = percent(0.65, "largest balloon, of the configured size (Mem.CtlMaxPercent)")
    step: float = percent(0.10, "largest change of a VM in one tick, of its configured size")
    hysteresis: float = percent(0.10, "how far above its threshold a state is left, of that")
    host_scale: float = number(1, "minFree is that of a host so many times the budget, scaled back")
    share_boost: float = number(4, "times the lab's pages_to_scan when sharing is called for now")


@dataclass(frozen=True)
class Host:
    """What is seen, by whom, and the reserve that goes with it. Bytes; parts are of minFree."""

    view: View
    profile: Profile
    settings: EsxSettings

    @cached_property
    def min_free(self) -> float:
        """minFree of this budget."""
        if self.profile.min_free is not None:
            return self.profile.min_free * self.view.budget
        scale = max(1.0, self.settings.host_scale)
        return min_free(int(self.view.budget * scale)) / scale

    @property
    def part(self) -> float:
        """The part of minFree that is free."""
        return self.view.available / self.min_free

    @property
    def edge(self) -> float:
        """Above this the state soft, the first one with balloons, is left."""
        return self.profile.left_above(State.SOFT, self.settings.hysteresis) * self.min_free

    @property
    def keep_free(self) -> float:
        """What all targets together leave free: half-way between the edges of the state in which
        balloons begin to act, so that they have arrived when that is free, and stay."""
        return (self.profile.enter[State.SOFT] * self.min_free + self.edge) / 2


@dataclass(frozen=True)
class Tick:
    """The host in its state. `sizes` are the VMs' targets, bytes; empty if there are none."""

    host: Host
    state: State
    sizes: Mapping[str, int]

    @property
    def view(self) -> View:
        """What is seen."""
        return self.host.view

    @property
    def acts(self) -> frozenset[Act]:
        """What the state may do."""
        return self.host.profile.acts[self.state]

    def excess(self, vm: VmView) -> int:
        """Resident bytes above the target; 0 where either is not known."""
        if vm.resident is None or vm.name not in self.sizes:
            return 0
        return max(0, vm.resident - max(self.sizes[vm.name], vm.reservation))

    def target(self, vm: VmView) -> int:
        """What the VM should have; all of it where nothing is known."""
        return self.sizes.get(vm.name, vm.configured)

    def wanted_balloon(self, vm: VmView) -> int:
        """What the VM's balloon should hold for its target."""
        most = largest_balloon(vm, self.host.settings.maximum)
        return min(most, max(0, vm.configured - self.target(vm)))

    @property
    def not_in_this_state(self) -> str:
        """Why something does not act now."""
        state = self.state.name.lower()
        return f"not in the state {state} ({self.host.part:.0%} of minFree are free)"


def activity(vm: VmView) -> str:
    """What is known of the VM's active memory, for a reason."""
    return "" if vm.active is None else f", {format_size(vm.active)} of it active"
