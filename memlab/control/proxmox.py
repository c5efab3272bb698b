"""`proxmox`: Proxmox VE's automatic ballooning.

git.proxmox.com pve-manager, PVE/AutoBalloon.pm and pvestatd: every 10 s the host should use 80 %
of its memory; the difference, beyond a dead band of 10 MiB, is shared out by the VMs' shares, at
most 100 MiB a VM and round. A VM with more than a quarter of its minimum free is comfortable: those
shrink first, and the others grow first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memlab.control.paces import Every, balloons_wait, not_mine
from memlab.control.policy import Action, Balloon, Decision, LeftAlone, Mechanism, View, VmView
from memlab.control.settings import Scales, duration, percent, size
from memlab.units import MIB, PAGE, format_size


@dataclass(frozen=True, slots=True)
class ProxmoxSettings:
    """The constants of pvestatd."""

    interval: float = duration(10, "between two rounds")
    goal: float = percent(0.80, "part of the budget that should be in use (ballooning-target)")
    dead_band: int = size(10 * MIB, "differences below this are left alone")
    step: int = size(100 * MIB, "largest change of a VM in one round")
    comfort: float = percent(0.25, "a VM with this part of its minimum free is comfortable")
    maximum: float = percent(0.65, "largest balloon: what is left is the VM's minimum")


class Proxmox:
    """The policy object; its memory is when its last round was."""

    name: ClassVar[str] = "proxmox"
    settings_type: ClassVar[type] = ProxmoxSettings

    def __init__(self, settings: ProxmoxSettings | None = None) -> None:
        self.settings = settings or ProxmoxSettings()
        self.scales = Scales()
        self._every = Every()

    def decide(self, view: View) -> Decision:
        """One round every interval."""
        out = not_mine({Mechanism.BALLOON}, "left to the kernel: Proxmox VE turns balloons alone")
        if waits := balloons_wait(view, self._every, self.settings.interval / self.scales.time):
            return Decision("waits", left_alone=(waits, *out))
        missing = int(self.settings.goal * view.budget) - view.used
        if abs(missing) < self.settings.dead_band / self.scales.size:
            why = f"{format_size(view.used)} in use, the goal is {self.settings.goal:.0%}"
            return Decision("at its goal", left_alone=(LeftAlone(Mechanism.BALLOON, why), *out))
        actions, left = self._round(view, missing)
        return Decision("grow" if missing > 0 else "shrink", actions, (*left, *out))

    def _round(self, view: View, missing: int) -> tuple[tuple[Action, ...], tuple[LeftAlone, ...]]:
        sizes = {
            vm.name: vm.configured - vm.ballooned for vm in view.vms if vm.ballooned is not None
        }
        first, then = self._order(view, sizes, grow=missing > 0)
        rest = self._share_out(first, sizes, missing)
        self._share_out(then, sizes, rest)
        actions, left = [], []
        for vm in view.vms:
            if vm.ballooned is None:
                left.append(LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name))
                continue
            target = (vm.configured - sizes[vm.name]) // PAGE * PAGE
            if target == vm.ballooned // PAGE * PAGE:
                left.append(LeftAlone(Mechanism.BALLOON, "others give or take enough", vm.name))
                continue
            word = "above" if missing < 0 else "below"
            reason = f"use is {format_size(abs(missing))} {word} the goal; {self._comfort(vm)}"
            actions.append(Balloon(vm.name, target, reason))
        return tuple(actions), tuple(left)

    def _order(
        self, view: View, sizes: dict[str, int], *, grow: bool
    ) -> tuple[list[VmView], list[VmView]]:
        known = [vm for vm in view.vms if vm.name in sizes]
        easy = [vm for vm in known if self._is_comfortable(vm)]
        tight = [vm for vm in known if not self._is_comfortable(vm)]
        return (tight, easy) if grow else (easy, tight)

    def _share_out(self, vms: Sequence[VmView], sizes: dict[str, int], amount: int) -> int:
        """Change the sizes by shares, in rounds until nobody takes more; what is left over."""
        step = int(self.settings.step / self.scales.size)
        bounds = {
            vm.name: (
                max(self._minimum(vm), sizes[vm.name] - step),
                min(vm.configured, sizes[vm.name] + step),
            )
            for vm in vms
        }
        open_ = list(vms)
        while open_ and abs(amount) >= PAGE:
            shares = sum(vm.shares for vm in open_)
            given = 0
            for vm in open_:
                low, high = bounds[vm.name]
                wanted = sizes[vm.name] + int(amount * vm.shares / shares)
                fresh = min(high, max(low, wanted)) if low <= high else sizes[vm.name]
                given += fresh - sizes[vm.name]
                sizes[vm.name] = fresh
            amount -= given
            edge = 0 if amount < 0 else 1
            open_ = [vm for vm in open_ if sizes[vm.name] != bounds[vm.name][edge]]
            if not given:
                break
        return amount

    def _minimum(self, vm: VmView) -> int:
        return max(vm.reservation, int(vm.configured * (1 - self.settings.maximum)))

    def _is_comfortable(self, vm: VmView) -> bool:
        return (vm.free or 0) > self.settings.comfort * self._minimum(vm)

    def _comfort(self, vm: VmView) -> str:
        word = "comfortable" if self._is_comfortable(vm) else "tight"
        return f"the guest is {word} with {format_size(vm.free or 0)} free"
