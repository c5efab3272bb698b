"""`esx15`, `esx41`, `esxi5`, `esxi6`: VMware's four ways down.

The host's free memory decides a state; the state decides which mechanisms act; shares, reservation,
limit and the idle memory tax decide who gives (`control.entitlement`). What each release does in
which state is data (`esx_profiles`); the balloons are in `esx_balloon`, compression and swap in
`esx_push`. Free memory is the free part of the host budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from memlab.control.entitlement import HIGHEST_TAX, Client, targets
from memlab.control.esx_balloon import balloons
from memlab.control.esx_profiles import ESX15, ESX41, ESXI5, ESXI6, Act, Profile, State
from memlab.control.esx_push import pushes
from memlab.control.esx_tick import SMALLEST, EsxSettings, Host, Tick
from memlab.control.policy import (
    Action,
    Block,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    Share,
    View,
    VmView,
)
from memlab.control.settings import Scales
from memlab.units import format_size


class Esx:
    """A profile at work; it remembers its state, and the pace of sharing that it found."""

    name: ClassVar[str]
    profile: ClassVar[Profile]
    settings_type: ClassVar[type] = EsxSettings

    def __init__(self, settings: EsxSettings | None = None) -> None:
        self.settings = settings or EsxSettings()
        self.scales = Scales()
        self.state = State.HIGH
        self._pace: int | None = None

    def decide(self, view: View) -> Decision:
        """One tick: the state from what is free, then each mechanism of that state."""
        host = Host(view, self.profile, self.settings)
        self.state = self.profile.next_state(self.state, host.part, self.settings.hysteresis)
        sizes, left = _targets(host)
        tick = Tick(host, self.state, sizes)
        out = tuple(pushes(tick))
        pushed = {one.vm: one.size for one in out if isinstance(one, Reclaim)}
        found = (self._share(tick), *balloons(tick, pushed), *out, *_blocks(tick))
        actions = tuple(one for one in found if not isinstance(one, LeftAlone))
        left += tuple(one for one in found if isinstance(one, LeftAlone))
        return Decision(self.state.name.lower(), actions, left)

    def _share(self, tick: Tick) -> Share | LeftAlone:
        high, below = self.state is State.HIGH, self.profile.share_below
        early = high and below is not None and tick.host.part < below
        # 4.1 and 5 back guests with large pages, which are broken up (and then shared) when the
        # host is short: in every state but high.
        broken = not high and below is None
        if Mechanism.SHARING not in tick.view.mechanisms:
            return LeftAlone(Mechanism.SHARING, "switched off in the lab file")
        if tick.acts & {Act.SHARE, Act.SHARE_NOW} or early or broken or tick.view.sharing_on:
            return self._pace_of_sharing(tick.view, now=Act.SHARE_NOW in tick.acts)
        return LeftAlone(Mechanism.SHARING, tick.not_in_this_state)

    def _pace_of_sharing(self, view: View, *, now: bool) -> Share | LeftAlone:
        if self._pace is None:
            self._pace = view.pages_to_scan
        wanted = self._pace
        if wanted is not None and now:
            wanted = round(wanted * max(1.0, self.settings.share_boost))
        if view.sharing_on and wanted == view.pages_to_scan:
            return LeftAlone(Mechanism.SHARING, "already on")
        slower = "back at the lab's pace" if view.sharing_on else "in the background"
        word = "called for now" if now else slower
        return Share(True, f"state {self.state.name.lower()}: sharing is {word}", wanted)


def _targets(host: Host) -> tuple[dict[str, int], tuple[LeftAlone, ...]]:
    """Machine memory for each VM's guest pages; none without room for the reservations, and why."""
    view, settings = host.view, host.settings
    overhead = sum(vm.overhead or 0 for vm in view.vms)
    memory = view.budget - view.pool - overhead - host.keep_free
    try:
        found = targets(
            [_client(vm) for vm in view.vms],
            int(memory) + (view.saved_sharing or 0),
            tax=min(settings.idle_tax, HIGHEST_TAX),
            progressive_tax=settings.progressive,
        )
    except ValueError as error:
        return {}, (LeftAlone(Mechanism.BALLOON, f"no targets: {error}"),)
    return found, ()


def _client(vm: VmView) -> Client:
    limit = vm.configured if vm.limit is None else min(vm.configured, vm.limit)
    return Client(vm.name, vm.shares, limit, min(vm.reservation, limit), vm.active)


def _blocks(tick: Tick) -> Iterator[Action]:
    """In low a VM above its target runs no more; it runs again as soon as either is over."""
    for vm in tick.view.vms:
        above = Act.BLOCK in tick.acts and tick.excess(vm) >= SMALLEST
        if above and not vm.blocked:
            reason = f"state low: {format_size(tick.excess(vm))} above its target"
            yield Block(vm.name, True, reason)
        elif vm.blocked and not above:
            yield Block(vm.name, False, "it is no more above its target, or the state is left")


class Esx15(Esx):
    """ESX of OSDI 2002."""

    name = "esx15"
    profile = ESX15


class Esx41(Esx):
    """ESX 4.1: compression before swap, 6 % of the host."""

    name = "esx41"
    profile = ESX41


class Esxi5(Esx):
    """ESXi 5: the sliding scale."""

    name = "esxi5"
    profile = ESXI5


class Esxi6(Esx):
    """ESXi 6: five states, sharing called for before anything is taken."""

    name = "esxi6"
    profile = ESXI6
