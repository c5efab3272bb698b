"""Gives memory up in an order that the lab file names, each mechanism only when the one before it
has no more to give:

    policy: {name: "./order.py:Order", settings: {order: "swap,compression,balloon,sharing"}}

It acts while less than `headroom` of the budget is free. It knows what a host knows: sizes, not
which pages a guest will want next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
from memlab.control.settings import percent, size, text

MIB = 1 << 20
PATIENCE = 3.0
"""Sharing has no more to give when it has gained nothing for so long, seconds."""


@dataclass(frozen=True)
class OrderSettings:
    """What may be written under `settings:`."""

    order: str = text("swap,compression,balloon,sharing", "the mechanisms, first to last")
    headroom: float = percent(0.08, "part of the budget that is kept free")
    step: int = size(8 * MIB, "most that one VM gives in a tick")
    floor: float = percent(0.05, "part of its memory that a balloon leaves free in a guest")


class Order:
    """First things first, whichever they are."""

    name = "order"
    settings_type = OrderSettings

    def __init__(self, settings: OrderSettings | None = None) -> None:
        self.settings = settings or OrderSettings()
        self._shared = 0
        self._gained: float | None = None

    def decide(self, view: View) -> Decision:
        """The first mechanism that has something to give acts; the others wait."""
        missing = int(self.settings.headroom * view.budget) - _room(view)
        ways = [Mechanism(word.strip()) for word in self.settings.order.split(",")]
        if missing < MIB:
            return Decision("calm", left_alone=tuple(_left(ways, "enough is free")))
        self._look_at_sharing(view)
        left: list[LeftAlone] = []
        for place, way in enumerate(ways):
            if way not in view.mechanisms:
                left += _left([way], "switched off in the lab file")
                continue
            actions = self._take(way, view, missing)
            if actions is not None:
                left += _left(ways[place + 1 :], f"{way} comes first, and still gives")
                return Decision(way, tuple(actions), tuple(left))
            left += _left([way], "it has no more to give")
        return Decision("at its end", left_alone=tuple(left))

    def _take(self, way: Mechanism, view: View, missing: int) -> list[Action] | None:
        """What this mechanism does about it; None if it has no more to give."""
        if way is Mechanism.SHARING:
            return self._share(view)
        if way is Mechanism.BALLOON:
            return list(self._balloons(view, missing)) or None
        if way is Mechanism.COMPRESSION and view.pool >= 0.9 * view.pool_cap:
            return None
        if view.swap_used >= 0.95 * view.swap_size:
            return None
        return self._push_out(way, view, missing)

    def _look_at_sharing(self, view: View) -> None:
        saved = view.saved_sharing or 0
        if view.sharing_on and saved >= self._shared + MIB:
            self._gained, self._shared = view.time, saved

    def _share(self, view: View) -> list[Action] | None:
        if not view.sharing_on:
            self._gained = view.time
            return [Share(True, "memory is short")]
        since = self._gained if self._gained is not None else view.time
        return [] if view.time - since <= PATIENCE else None

    def _balloons(self, view: View, missing: int) -> Iterator[Action]:
        """From the guests that have most free; their caches are left to them."""
        for vm in sorted(view.vms, key=lambda one: one.free or 0, reverse=True):
            if vm.free is None or vm.ballooned is None or missing < MIB:
                continue
            # Only what the host backs is worth a balloon.
            spare = min(vm.free - int(self.settings.floor * vm.configured), vm.ghost or 0)
            size = min(spare, missing)
            if size >= MIB:
                missing -= size
                target = (vm.ballooned + size) // 4096 * 4096
                yield Balloon(vm.name, target, f"the guest has {vm.free // MIB} MiB free")

    def _push_out(self, way: Mechanism, view: View, missing: int) -> list[Action]:
        """From the largest VM: which of its pages are cold, the host does not know."""
        victim = max(view.vms, key=_resident)
        size = min(missing, self.settings.step) // 4096 * 4096
        return [Reclaim(victim.name, size, way, f"{victim.name} is the largest VM")]


def _room(view: View) -> int:
    """What is free before the kernel itself begins to swap: room for the pool is set aside."""
    return view.available - max(0, view.pool_cap - view.pool)


def _resident(vm: VmView) -> int:
    return vm.resident or 0


def _left(ways: list[Mechanism], reason: str) -> Iterator[LeftAlone]:
    return (LeftAlone(way, reason) for way in ways)
