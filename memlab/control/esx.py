"""`esx15`, `esx41`, `esxi5`, `esxi6`: VMware's four ways down.

The host's free memory decides a state; the state decides which mechanisms act; shares, reservation,
limit and the idle memory tax decide who gives (`control.entitlement`). What each release does in
which state is data (`control.esx_profiles`). Free memory is the free part of the host budget.

No byte is asked of two mechanisms at one tick. In the state soft what a VM has above its target is
its balloon's as far as that can grow, and only the rest is compressed or swapped, in its part of
what is missing: the hypervisor pushes out what no driver can bring, because there is none, or its
balloon is at its largest (Resource Management Guide of vSphere 4, "Using Swap Files"). In hard and
low a balloon would come too late: what is missing is pushed out at once, and balloons get the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from memlab.control.entitlement import (
    HIGHEST_TAX,
    Client,
    largest_balloon,
    most_out,
    targets,
)
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
_WAYS_OUT: Final = {
    Mechanism.COMPRESSION: frozenset({Act.COMPRESS}),
    Mechanism.SWAP: frozenset({Act.SWAP, Act.PAGE_WITHOUT_BALLOON}),
}
"""Where pages are pushed to, first choice first, and the acts that mean it."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Bytes that a VM holds above its target, and those of them that its balloon is to bring."""

    above: int
    balloon: int

    @property
    def rest(self) -> int:
        """What compression and swap have to take."""
        return self.above - self.balloon


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
        pushes = tuple(self._reclaim(view, acts, sizes))
        pushed = {one.vm: one.size for one in pushes if isinstance(one, Reclaim)}
        found = (
            *self._share(view, acts),
            *self._balloon(view, acts, sizes, pushed),
            *pushes,
            *self._block(view, acts, sizes),
        )
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
        return self.profile.next_state(self.state, part, self.settings.hysteresis)

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
        return (self.profile.enter[State.SOFT] + self._edge()) / 2 * self.min_free(view)

    def _edge(self) -> float:
        """Part of minFree above which the state soft, the first one with balloons, is left."""
        return self.profile.left_above(State.SOFT, self.settings.hysteresis)

    # What acts

    def _share(self, view: View, acts: frozenset[Act]) -> Iterator[Action | LeftAlone]:
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
        self,
        view: View,
        acts: frozenset[Act],
        sizes: Mapping[str, int],
        pushed: Mapping[str, int],
    ) -> Iterator[Action | LeftAlone]:
        if Mechanism.BALLOON not in view.mechanisms:
            yield LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
            return
        high = self.state is State.HIGH
        word = "" if Act.BALLOON in acts else "rebalanced: "
        moves = Act.BALLOON in acts or (high and self._is_unbalanced(view, sizes))
        for vm in view.vms:
            if vm.ballooned is None:
                yield LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
            elif vm.blocked:
                yield LeftAlone(Mechanism.BALLOON, "the VM is blocked", vm.name)
            elif moves:
                target = sizes.get(vm.name, vm.configured)
                yield self._toward_target(vm, target, pushed.get(vm.name, 0), word)
            elif high and vm.ballooned > 0:
                yield self._deflate(view, vm, vm.ballooned)
            else:
                yield LeftAlone(Mechanism.BALLOON, self._not_in_this_state(view), vm.name)

    def _toward_target(self, vm: VmView, target: int, pushed: int, word: str) -> Action | LeftAlone:
        ballooned, wanted = vm.ballooned or 0, self._wanted(vm, target)
        change = wanted - ballooned
        if change > 0:
            above = vm.configured - max(target, vm.reservation) - ballooned
            change = max(0, min(change, above - pushed))
        if abs(change) < _SMALLEST:
            why = self._why_still(vm, wanted, target, pushed)
            return LeftAlone(Mechanism.BALLOON, why, vm.name)
        step = int(vm.configured * self.settings.step)
        size = ballooned + max(-step, min(step, change))
        reason = f"{word}entitled to {format_size(target)} of {format_size(vm.configured)}"
        return Balloon(vm.name, size // PAGE * PAGE, f"{reason}{_activity(vm)}")

    def _wanted(self, vm: VmView, target: int) -> int:
        """What the VM's balloon should hold for this target, bytes."""
        most = largest_balloon(vm, self.settings.maximum)
        return min(most, max(0, vm.configured - target))

    def _why_still(self, vm: VmView, wanted: int, target: int, pushed: int) -> str:
        if wanted - (vm.ballooned or 0) >= _SMALLEST:
            return f"{format_size(pushed)} above its target are pushed out at once"
        limit = wanted == largest_balloon(vm, self.settings.maximum)
        why = "its limit" if limit else f"what its target of {format_size(target)} is"
        return f"the balloon is at {why}"

    def _is_unbalanced(self, view: View, sizes: Mapping[str, int]) -> bool:
        """Whether balloons move in the state high too: a guest with less than a twentieth free is
        held below its target by its balloon, while another VM stands above its own.

        Nothing is taken for the host by that: what one gives the other gets. By OSDI 2002, §6.3
        (unverified), memory is shared out anew not only when free memory crosses a threshold, but
        also when shares, minimum or tax change, when a VM comes or goes, and from time to time as
        the estimates of idle memory go; in its figure 7 the tax is raised, and memory moves. Here
        it is asked at every tick, and moves only while somebody lacks memory.
        """
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

    def _reclaim(
        self, view: View, acts: frozenset[Act], sizes: Mapping[str, int]
    ) -> Iterator[Reclaim | LeftAlone]:
        into = self._way_out(view, acts)
        for mechanism in _WAYS_OUT:
            if mechanism is not into:
                why = self._why_not(view, mechanism, acts) or "the pool takes pages"
                yield LeftAlone(mechanism, why)
        if into is None:
            return
        dues = {vm.name: self._due(view, vm, acts, sizes) for vm in view.vms}
        missing = self._to_push(view, dues.values())
        for vm in sorted(view.vms, key=lambda vm: -dues[vm.name].rest):
            found = self._push(vm, dues[vm.name], missing, into)
            missing -= found.size if isinstance(found, Reclaim) else 0
            yield found

    def _due(self, view: View, vm: VmView, acts: frozenset[Act], sizes: Mapping[str, int]) -> _Due:
        """What the VM gives, and how: in soft its balloon first, as far as that can grow."""
        above = _excess(vm, sizes)
        answers = vm.ballooned is not None and not vm.blocked
        on = Act.BALLOON in acts and Mechanism.BALLOON in view.mechanisms
        if not above or not answers or not on or self.state is not State.SOFT:
            return _Due(above, 0)
        reach = self._wanted(vm, sizes[vm.name]) - (vm.ballooned or 0)
        return _Due(above, max(0, min(above, reach)))

    def _to_push(self, view: View, dues: Collection[_Due]) -> int:
        """What is missing, without the balloons' part of it: each VM gives in proportion to what it
        has above its target."""
        above, rest = sum(due.above for due in dues), sum(due.rest for due in dues)
        missing = int(self._keep_free(view)) - view.available
        return missing * rest // above if above else 0

    def _push(self, vm: VmView, due: _Due, missing: int, into: Mechanism) -> Reclaim | LeftAlone:
        if due.above < _SMALLEST:
            return LeftAlone(into, "it holds no more than its target", vm.name)
        if due.rest < _SMALLEST:
            why = f"the {format_size(due.above)} above its target are for its balloon"
            return LeftAlone(into, why, vm.name)
        rest = min(due.rest, most_out(vm, vm.resident or 0))
        if rest < _SMALLEST:
            return LeftAlone(into, "its balloon is on its way to the reservation", vm.name)
        if missing < _SMALLEST:
            return LeftAlone(into, "balloons and others give enough", vm.name)
        size = min(rest, missing, int(vm.configured * self.settings.step))
        reason = f"{format_size(due.above)} above its target{_activity(vm)}"
        if due.balloon:
            reason = f"{reason}, {format_size(due.balloon)} of it for its balloon"
        return Reclaim(vm.name, max(PAGE, size // PAGE * PAGE), into, reason)

    def _way_out(self, view: View, acts: frozenset[Act]) -> Mechanism | None:
        """Compression or swap, as far as the state, the lab and their room allow."""
        found = (mechanism for mechanism in _WAYS_OUT if not self._why_not(view, mechanism, acts))
        return next(found, None)

    def _why_not(self, view: View, mechanism: Mechanism, acts: frozenset[Act]) -> str:
        """Why pages are not pushed there now; empty if they may be."""
        means = _WAYS_OUT[mechanism]
        if mechanism not in view.mechanisms:
            return "switched off in the lab file"
        if not any(means & all_of for all_of in self.profile.acts.values()):
            return f"{self.name} has no {mechanism}"
        if not means & acts:
            return self._not_in_this_state(view)
        if mechanism is Mechanism.COMPRESSION and view.pool >= 0.9 * view.pool_cap:
            pool, cap = format_size(view.pool), format_size(view.pool_cap)
            return f"the pool is full ({pool} of {cap})"
        if mechanism is Mechanism.SWAP and view.swap_used >= 0.95 * view.swap_size:
            return f"no swap slots are left ({format_size(view.swap_used)} in use)"
        return ""

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
