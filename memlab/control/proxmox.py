"""`proxmox`: Proxmox VE's automatic ballooning.

git.proxmox.com pve-manager, PVE/AutoBalloon.pm and pvestatd: every 10 s the host should use 80 %
of its memory. A difference of more than 10 MiB is given to the VMs, or taken from them: what all
have above their minima, and the difference, is what there is to share out, and by its shares each
gets its part of that above its own minimum; in a round at most 100 MiB from where it stands. A VM
with more than a quarter of its minimum free is comfortable. The comfortable shrink, the others
grow; all do if these make no headway.
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
    dead_band: int = size(10 * MIB, "differences up to this are left alone")
    step: int = size(100 * MIB, "largest change of a VM in one round")
    comfort: float = percent(0.25, "a VM with this part of its minimum free is comfortable")
    maximum: float = percent(0.65, "largest balloon: what is left is the VM's minimum")


@dataclass(slots=True)
class _Place:
    """A VM in one round, bytes: how much it has, its bounds, and how much it is to have."""

    name: str
    shares: int
    has: int
    least: int
    most: int
    comfortable: bool
    gets: int

    def move(self, wanted: int, step: int, *, grow: bool) -> bool:
        """Go towards `wanted`, at most `step` from where it stands; False if nothing is to do.

        As in AutoBalloon.pm a VM above its part gives also while the others are given.
        """
        if grow and wanted > self.has:
            self.gets = min(wanted, self.has + step)
            return True
        if wanted < self.has:
            self.gets = max(wanted, self.has - step)
            return True
        return False


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
        if abs(missing) <= self.settings.dead_band / self.scales.size:
            why = f"{format_size(view.used)} in use, the goal is {self.settings.goal:.0%}"
            return Decision("at its goal", left_alone=(LeftAlone(Mechanism.BALLOON, why), *out))
        places = self._round(view, missing)
        found = [self._balloon(vm, places.get(vm.name), missing) for vm in view.vms]
        return Decision(
            "grow" if missing > 0 else "shrink",
            tuple(one for one in found if not isinstance(one, LeftAlone)),
            (*(one for one in found if isinstance(one, LeftAlone)), *out),
        )

    def _round(self, view: View, missing: int) -> dict[str, _Place]:
        """Where each VM with a driver is to stand after this round."""
        places = [self._place(vm, vm.ballooned) for vm in view.vms if vm.ballooned is not None]
        grow, step = missing > 0, int(self.settings.step / self.scales.size)
        rest = _share_out([p for p in places if p.comfortable is not grow], missing, step)
        if rest >= missing if grow else rest <= missing:
            _share_out(places, rest, step)
        return {place.name: place for place in places}

    def _place(self, vm: VmView, ballooned: int) -> _Place:
        least, has = self._minimum(vm), vm.configured - ballooned
        comfortable = (vm.free or 0) > self.settings.comfort * least and has >= least
        return _Place(vm.name, vm.shares, has, least, vm.configured, comfortable, gets=has)

    def _minimum(self, vm: VmView) -> int:
        return max(vm.reservation, int(vm.configured * (1 - self.settings.maximum)))

    def _balloon(self, vm: VmView, place: _Place | None, missing: int) -> Action | LeftAlone:
        if place is None or vm.ballooned is None:
            return LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
        target = (vm.configured - place.gets) // PAGE * PAGE
        if target == vm.ballooned // PAGE * PAGE:
            return LeftAlone(Mechanism.BALLOON, "it has its part, or others are asked", vm.name)
        word = "above" if missing < 0 else "below"
        ease = "comfortable" if place.comfortable else "tight"
        free = f"the guest is {ease} with {format_size(vm.free or 0)} free"
        return Balloon(
            vm.name, target, f"use is {format_size(abs(missing))} {word} the goal; {free}"
        )


def _share_out(places: Sequence[_Place], amount: int, step: int) -> int:
    """Give `amount` to these VMs (take it, if negative) by their shares; what is left over.

    Whose part is no less than what it has (or, while memory is given, just that) is out, and the
    others share again what that leaves over. As published it then stays where the pass before has
    put it, also if its part has become larger meanwhile.
    """
    grow, rest, left = amount > 0, amount, list(places)
    while rest and left:
        pool = sum(place.gets - place.least for place in left) + rest
        shares = sum(place.shares for place in left)
        before = [place.gets for place in places]
        left = [
            place for place in left
            if place.move(_part(place, pool / shares * place.shares), step, grow=grow)
        ]  # fmt: skip
        after = [place.gets for place in places]
        if after == before:
            break
        rest -= sum(after) - sum(before)
    return rest


def _part(place: _Place, above: float) -> int:
    """Its minimum and so much above it, bytes, within its bounds."""
    return min(place.most, max(place.least, place.least + int(above)))
