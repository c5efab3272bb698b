"""`esx15`, `esx41`, `esxi5`, `esxi6`: VMware's four ways down.

The host's free memory decides a state; the state decides which mechanisms act; shares, reservation,
limit and the idle memory tax decide who gives (`control.entitlement`). What each release does in
which state is data (`control.esx_profiles`). Free memory is the free part of the host budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from memlab.control.entitlement import HIGHEST_TAX, Client, targets
from memlab.control.esx_profiles import (
    ESX15,
    ESX41,
    ESXI5,
    ESXI6,
    Act,
    Profile,
    State,
    min_free,
)
from memlab.control.policy import (
    Action,
    Balloon,
    Block,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    Share,
    View,
    VmView,
)
from memlab.control.settings import Scales, number, percent, switch
from memlab.units import MIB, PAGE, format_size

_SMALLEST: Final = MIB // 4
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
        self.state = self._next_state(view)
        acts = self.profile.acts[self.state]
        left: list[LeftAlone] = []
        sizes = self._targets(view, left)
        steps = (self._share, self._balloon, self._reclaim, self._block)
        found = [one for step in steps for one in step(view, acts, sizes)]
        actions = tuple(one for one in found if not isinstance(one, LeftAlone))
        left += [one for one in found if isinstance(one, LeftAlone)]
        return Decision(self.state.name.lower(), actions, tuple(left))

    # The state

    def min_free(self, view: View) -> float:
        """minFree of this budget, bytes."""
        if self.profile.min_free is not None:
            return self.profile.min_free * view.budget
        scale = max(1.0, self.settings.host_scale)
        return min_free(int(view.budget * scale)) / scale

    def _next_state(self, view: View) -> State:
        part = view.available / self.min_free(view)
        wanted = max(
            (state for state, below in self.profile.enter.items() if part < below),
            default=State.HIGH,
        )
        if wanted >= self.state:
            return wanted
        above = self.profile.leave.get(
            self.state, self.profile.enter[self.state] * (1 + self.settings.hysteresis)
        )
        if part <= above:
            return self.state
        return max(state for state in (State.HIGH, *self.profile.enter) if state < self.state)

    # Who gets how much

    def _targets(self, view: View, left: list[LeftAlone]) -> dict[str, int]:
        """Machine memory for each VM's guest pages. Without room for the reservations: none."""
        overhead = sum(vm.overhead or 0 for vm in view.vms)
        memory = view.budget - view.pool - overhead - self._keep_free(view)
        clients = [_client(vm) for vm in view.vms]
        try:
            return targets(
                clients,
                int(memory) + (view.saved_sharing or 0),
                tax=min(self.settings.idle_tax, HIGHEST_TAX),
                progressive_tax=self.settings.progressive,
            )
        except ValueError as error:
            left.append(LeftAlone(Mechanism.BALLOON, f"no targets: {error}"))
            return {}

    def _keep_free(self, view: View) -> float:
        """What all targets together leave free: half-way between the edges of the state in which
        balloons begin to act, so that they have arrived when that is free, and stay."""
        first = min(state for state in self.profile.enter if state >= State.SOFT)
        return (self.profile.enter[first] + self._edge()) / 2 * self.min_free(view)

    # What acts

    def _share(
        self, view: View, acts: frozenset[Act], _sizes: Mapping[str, int]
    ) -> Iterator[Action | LeftAlone]:
        part = view.available / self.min_free(view)
        high, below = self.state is State.HIGH, self.profile.share_below
        early = high and below is not None and part < below
        # 4.1 and 5 back guests with large pages, which are broken up (and then shared) when the
        # host is short: in every state but high.
        broken = not high and below is None
        if Mechanism.SHARING not in view.mechanisms:
            yield LeftAlone(Mechanism.SHARING, "switched off in the lab file")
        elif not (acts & {Act.SHARE, Act.SHARE_NOW} or early or broken or view.sharing_on):
            yield LeftAlone(Mechanism.SHARING, self._not_in_this_state(view))
        else:
            yield self._pace_of_sharing(view, now=Act.SHARE_NOW in acts)

    def _pace_of_sharing(self, view: View, *, now: bool) -> Action | LeftAlone:
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

    def _balloon(
        self, view: View, acts: frozenset[Act], sizes: Mapping[str, int]
    ) -> Iterator[Action | LeftAlone]:
        if Mechanism.BALLOON not in view.mechanisms:
            yield LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
            return
        moves = self._is_unbalanced(view, sizes)
        for vm in view.vms:
            if vm.ballooned is None:
                yield LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
            elif vm.blocked:
                yield LeftAlone(Mechanism.BALLOON, "the VM is blocked", vm.name)
            elif Act.BALLOON in acts or (self.state is State.HIGH and moves):
                yield self._toward_target(vm, vm.ballooned, sizes.get(vm.name, vm.configured))
            elif self.state is State.HIGH and vm.ballooned > 0:
                yield self._deflate(view, vm, vm.ballooned)
            else:
                yield LeftAlone(Mechanism.BALLOON, self._not_in_this_state(view), vm.name)

    def _toward_target(self, vm: VmView, ballooned: int, target: int) -> Action | LeftAlone:
        most = int(vm.configured * self.settings.maximum)
        wanted = min(most, max(0, vm.configured - target))
        change = wanted - ballooned
        if abs(change) < _SMALLEST:
            why = "its limit" if wanted == most else f"what its target of {format_size(target)} is"
            return LeftAlone(Mechanism.BALLOON, f"the balloon is at {why}", vm.name)
        step = int(vm.configured * self.settings.step)
        size = ballooned + max(-step, min(step, change))
        reason = f"entitled to {format_size(target)} of {format_size(vm.configured)}"
        return Balloon(vm.name, size // PAGE * PAGE, f"{reason}{_activity(vm)}")

    def _is_unbalanced(self, view: View, sizes: Mapping[str, int]) -> bool:
        """Whether a VM that runs out of memory is held below its target while another stands above
        its own: then memory moves even in the state high, as ESX rebalances when shares, tax or
        activity have changed (OSDI 2002, §6.3)."""
        held = any(
            (vm.ballooned or 0) > vm.configured - sizes.get(vm.name, 0) + _SMALLEST
            and vm.free is not None
            and vm.free < 0.05 * vm.configured
            for vm in view.vms
        )
        return held and any(_excess(vm, sizes) >= _SMALLEST for vm in view.vms)

    def _deflate(self, view: View, vm: VmView, ballooned: int) -> Action | LeftAlone:
        """Give back what is free beyond the edge of the state high, and no more: else the VMs
        would take it, and the host be short again a moment later."""
        surplus = view.available - int(self._edge() * self.min_free(view))
        holders = sum(1 for one in view.vms if one.ballooned)
        size = min(ballooned, int(vm.configured * self.settings.step), surplus // (2 * holders))
        if size < min(_SMALLEST, ballooned):
            return LeftAlone(Mechanism.BALLOON, "what is free is the host's reserve", vm.name)
        target = (ballooned - size) // PAGE * PAGE
        return Balloon(vm.name, target, "enough is free: the balloon gives back")

    def _edge(self) -> float:
        """Part of minFree above which the first state with balloons is left."""
        first = min(state for state in self.profile.enter if state >= State.SOFT)
        below = self.profile.enter[first]
        return self.profile.leave.get(first, below * (1 + self.settings.hysteresis))

    def _reclaim(
        self, view: View, acts: frozenset[Act], sizes: Mapping[str, int]
    ) -> Iterator[Action | LeftAlone]:
        allowed = self._ways_out(view, acts)
        missing = int(self._keep_free(view)) - view.available
        for mechanism in (Mechanism.COMPRESSION, Mechanism.SWAP):
            if mechanism not in allowed:
                yield LeftAlone(mechanism, self._why_not(view, mechanism, acts))
        if not allowed:
            return
        into = allowed[0]
        for vm in sorted(view.vms, key=lambda vm: -_excess(vm, sizes)):
            excess = _excess(vm, sizes)
            if Act.SWAP not in acts and Act.COMPRESS not in acts and self._can_balloon(vm):
                yield LeftAlone(into, "its balloon can still take it", vm.name)
            elif excess < _SMALLEST:
                yield LeftAlone(into, "it holds no more than its target", vm.name)
            elif missing < _SMALLEST:
                yield LeftAlone(into, "others give enough", vm.name)
            else:
                size = min(excess, missing, int(vm.configured * self.settings.step))
                missing -= size
                reason = f"{format_size(excess)} above its target{_activity(vm)}"
                yield Reclaim(vm.name, max(PAGE, size // PAGE * PAGE), into, reason)

    def _ways_out(self, view: View, acts: frozenset[Act]) -> tuple[Mechanism, ...]:
        """Compression and swap, as far as the state, the lab and their room allow; first choice
        first."""
        found = []
        room = view.pool < 0.9 * view.pool_cap
        if Act.COMPRESS in acts and Mechanism.COMPRESSION in view.mechanisms and room:
            found.append(Mechanism.COMPRESSION)
        pages = acts & {Act.SWAP, Act.PAGE_WITHOUT_BALLOON}
        slots = view.swap_used < 0.95 * view.swap_size
        if pages and Mechanism.SWAP in view.mechanisms and slots:
            found.append(Mechanism.SWAP)
        return tuple(found)

    def _why_not(self, view: View, mechanism: Mechanism, acts: frozenset[Act]) -> str:
        if mechanism not in view.mechanisms:
            return "switched off in the lab file"
        wants = {Act.COMPRESS} if mechanism is Mechanism.COMPRESSION else {Act.SWAP}
        if acts & wants:
            return "the pool is full" if mechanism is Mechanism.COMPRESSION else "no slots are left"
        return self._not_in_this_state(view)

    def _can_balloon(self, vm: VmView) -> bool:
        most = int(vm.configured * self.settings.maximum)
        return vm.ballooned is not None and vm.ballooned < most - _SMALLEST

    def _block(
        self, _view: View, acts: frozenset[Act], sizes: Mapping[str, int]
    ) -> Iterator[Action | LeftAlone]:
        for vm in _view.vms:
            above = Act.BLOCK in acts and _excess(vm, sizes) >= _SMALLEST
            if above and not vm.blocked:
                reason = f"state low: {format_size(_excess(vm, sizes))} above its target"
                yield Block(vm.name, True, reason)
            elif vm.blocked and not above:
                yield Block(vm.name, False, "it is no more above its target, or the state is left")

    def _not_in_this_state(self, view: View) -> str:
        part = view.available / self.min_free(view)
        return f"not in the state {self.state.name.lower()} ({part:.0%} of minFree are free)"


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


def _client(vm: VmView) -> Client:
    limit = vm.configured if vm.limit is None else min(vm.configured, vm.limit)
    return Client(vm.name, vm.shares, limit, min(vm.reservation, limit), vm.active)


def _excess(vm: VmView, sizes: Mapping[str, int]) -> int:
    """Resident bytes above the target; 0 where either is not known."""
    if vm.resident is None or vm.name not in sizes:
        return 0
    return max(0, vm.resident - max(sizes[vm.name], vm.reservation))


def _activity(vm: VmView) -> str:
    return "" if vm.active is None else f", {format_size(vm.active)} of it active"
