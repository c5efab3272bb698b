"""`best`: memlab's own policy: take what costs nothing first, and from whom it costs least.

It uses what a host can know and the published policies do not use:

- **Sharing while it pays.** ksmd runs fast once pages merge (what is saved keeps growing) and at a
  tenth of the pace when they do not: at a full scan's pace it would take a core from the VMs for
  nothing.
- **Ghosts before anything else.** Memory that a guest has freed and its host still backs is handed
  over by the balloon at no price to anybody. A guest's cache is no ghost: it is left to the guest.
- **Ahead of need, what nobody uses.** The kernel takes from every cgroup in proportion to its size,
  and from a VM that has gone quiet only at the second round. So while a reserve is missing every VM
  is made old from time to time: what it uses is young again at its next touch, and what is still
  old a second later goes. It goes to the device, past the compressed pool, which is kept for pages
  that will be wanted again.
- **Nobody who waits gives.** While a VM waits for its memory the others are made old every 0.9 s
  instead of every 4 s, and give 0.4 s later.
- **Faults are the brake.** A VM that fetches back what it lost is left alone for a while, twice as
  long each time it happens again, and then begins anew with little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from memlab.control.best_room import Room
from memlab.control.best_settings import SMALLEST, BestSettings
from memlab.control.best_sharing import Sharing
from memlab.control.entitlement import largest_balloon
from memlab.control.policy import (
    Action,
    Age,
    Balloon,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    View,
    VmView,
)
from memlab.control.settings import Scales
from memlab.units import PAGE, format_size

_STATES: Final = ((Reclaim, "makes room"), (Age, "makes old"), (Balloon, "takes ghosts"))
"""The word for what a decision does, by the first of these actions that is in it."""


class Best:
    """The policy object; its memory are who fetched pages back, and whether sharing still gains."""

    name: ClassVar[str] = "best"
    settings_type: ClassVar[type] = BestSettings

    def __init__(self, settings: BestSettings | None = None) -> None:
        self.settings = settings or BestSettings()
        self.scales = Scales()
        self._sharing, self._room = Sharing(), Room()

    def decide(self, view: View) -> Decision:
        """Sharing, then ghosts, then what nobody uses."""
        settings, patience = self.settings, self.settings.patience / self.scales.time
        ghosts = tuple(self._ghosts(view))
        balloons = {one.vm: one.target for one in ghosts if isinstance(one, Balloon)}
        found: tuple[Action | LeftAlone, ...] = (
            self._sharing.decide(view, settings),
            *ghosts,
            *self._room.decide(view, settings, patience, balloons),
        )
        actions = tuple(one for one in found if not isinstance(one, LeftAlone))
        left = tuple(one for one in found if isinstance(one, LeftAlone))
        kinds = {type(action) for action in actions}
        state = next((word for kind, word in _STATES if kind in kinds), "calm")
        return Decision(state, actions, left)

    def _ghosts(self, view: View) -> Iterator[Action | LeftAlone]:
        if Mechanism.BALLOON not in view.mechanisms:
            yield LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
            return
        short = view.available < self.settings.ghosts_below * view.budget
        for vm in view.vms:
            if vm.free is None or vm.ballooned is None:
                yield LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
                continue
            change, why = self._balloon_change(vm, vm.free, vm.ballooned, short)
            if abs(change) < SMALLEST:
                yield LeftAlone(Mechanism.BALLOON, why, vm.name)
            else:
                yield Balloon(vm.name, (vm.ballooned + change) // PAGE * PAGE, why)

    def _balloon_change(
        self, vm: VmView, free: int, ballooned: int, short: bool
    ) -> tuple[int, str]:
        floor = int(vm.configured * self.settings.guest_floor)
        if free < floor and ballooned:
            # A guest that runs dry grows: give at once what it may ask for next.
            give = min(ballooned, vm.configured // 2)
            return -give, f"the guest has only {format_size(free)} free"
        if not short:
            return 0, "enough is free"
        backed = min(free, max(0, vm.ghost or 0))
        most = largest_balloon(vm, self.settings.maximum)
        take = min(backed, free - floor, most - ballooned)
        if most - ballooned < SMALLEST <= min(backed, free - floor):
            return 0, f"its balloon is at its largest, {format_size(most)}"
        if take < SMALLEST:
            return 0, f"the host backs {format_size(backed)} that the guest has freed"
        return take, f"{format_size(backed)} are backed that the guest has freed"
