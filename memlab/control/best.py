"""`best`: memlab's own policy: take what costs nothing first, and from whom it costs least.

It uses what a host can know and the published policies do not use:

- **Sharing while it pays.** ksmd runs fast once pages merge (what is saved keeps growing) and at a
  tenth of the pace when they do not: at a full scan's pace it would take a core from the VMs for
  nothing.
- **Ghosts before anything else.** Memory that a guest has freed and its host still backs is handed
  over by the balloon at no price to anybody. A guest's cache is no ghost: it is left to the guest.
- **Cold VMs make the room.** The kernel takes from every cgroup in proportion to its size, however
  hot. A VM whose pages do not come back when they have left (few faults for what is out) is pushed
  out ahead of need, so that the others' allocations find free frames. Its pages go to the device,
  past the compressed pool, which is kept for pages that will be wanted again.
- **Faults are the brake.** A VM that fetches back what it lost is left alone for a while, and twice
  as long each time it happens again.
- **Who does not wait is made old.** While one VM waits for its memory, the kernel is told to take
  all pages of the others for old. What they use is young again at their next touch; what they do
  not use is then the first to go, and not the last pages of the one that waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final

from memlab.control.policy import (
    Action,
    Age,
    Balloon,
    Decision,
    LeftAlone,
    Mechanism,
    Reclaim,
    Share,
    View,
    VmView,
)
from memlab.control.settings import Scales, duration, number, percent
from memlab.units import MIB, PAGE, format_size

_SMALLEST: Final = 1 * MIB
_BUSY: Final = 0.02
"""Part of a core. An idle guest with its driver takes 0.1 %; a touch of a page that is there, and
what a service does with it, some µs: at 2 % a VM can have touched 10 MiB in the last second."""


_LATELY: Final = 3.0
"""Seconds for which a gain of sharing counts, and for which it is given a chance at first."""


@dataclass(frozen=True, slots=True)
class BestSettings:
    """What `best` may do, and how soon."""

    headroom: float = percent(0.06, "part of the budget that is kept free ahead of need")
    ghosts_below: float = percent(0.50, "free part of the budget below which ghosts are taken")
    guest_floor: float = percent(0.04, "part of a VM that stays free in its guest")
    step: float = percent(0.15, "largest piece pushed out of one VM in a tick, of its size")
    coming_back: float = percent(0.02, "part of what is out that may come back in a second")
    patience: float = duration(2, "how long a VM that fetched pages back is left alone at first")
    waiting: float = number(500, "faults a second of a VM for which the others' memory is made old")
    growth: float = percent(0.005, "of the budget: sharing pays while it gains so much a second")
    slow: float = number(10, "ksmd's pace is divided by this while sharing gains nothing")
    fast: float = number(3, "and multiplied by this while it does")
    maximum: float = percent(0.65, "largest balloon, of the configured size")


@dataclass(slots=True)
class _Memory:
    """What is remembered of one VM: until when it is left alone, and for how long next time."""

    until: float = 0.0
    wait: float = 0.0
    pushed: bool = False


@dataclass(slots=True)
class _Sharing:
    """What sharing had saved when last looked at, and when it last gained."""

    saved: int = 0
    seen: float = 0.0
    began: float = 0.0
    gained: float | None = None
    pace: int | None = None


@dataclass(slots=True)
class _State:
    vms: dict[str, _Memory] = field(default_factory=dict)
    sharing: _Sharing = field(default_factory=_Sharing)


class Best:
    """The policy object; its memory are who fetched pages back, and whether sharing still gains."""

    name: ClassVar[str] = "best"
    settings_type: ClassVar[type] = BestSettings

    def __init__(self, settings: BestSettings | None = None) -> None:
        self.settings = settings or BestSettings()
        self.scales = Scales()
        self._state = _State()

    def decide(self, view: View) -> Decision:
        """Sharing, then ghosts, then the coldest VMs until the headroom is there."""
        found = [
            *self._share(view),
            *self._ghosts(view),
            *self._reclaim(view),
            *self._age(view),
        ]
        actions = tuple(one for one in found if not isinstance(one, LeftAlone))
        left = tuple(one for one in found if isinstance(one, LeftAlone))
        kinds = {type(action) for action in actions}
        state = next((word for kind, word in _STATES if kind in kinds), "calm")
        return Decision(state, actions, left)

    # Sharing

    def _share(self, view: View) -> Iterator[Action | LeftAlone]:
        if Mechanism.SHARING not in view.mechanisms:
            yield LeftAlone(Mechanism.SHARING, "switched off in the lab file")
            return
        memory = self._state.sharing
        if memory.pace is None:
            memory.pace, memory.began = view.pages_to_scan or 100, view.time
        factor, word = self._worth(view)
        pages = max(1, round(memory.pace * factor))
        why = f"{format_size(view.saved_sharing or 0)} saved, {word}"
        if view.sharing_on and pages == view.pages_to_scan:
            yield LeftAlone(Mechanism.SHARING, f"at its pace: {why}")
        else:
            yield Share(True, why, pages)

    def _worth(self, view: View) -> tuple[float, str]:
        """How fast ksmd should run, as a factor of the lab's pace, and why: by what it gains."""
        memory = self._state.sharing
        saved = view.saved_sharing or 0
        seconds = view.time - memory.seen
        if seconds >= 1:
            if saved - memory.saved >= self.settings.growth * view.budget * seconds:
                memory.gained = view.time
            memory.saved, memory.seen = saved, view.time
        if memory.gained is not None and view.time - memory.gained <= _LATELY:
            return self.settings.fast, "and it still gains"
        if view.time - memory.began <= _LATELY:
            return 1.0, "and it has just begun"
        return 1 / max(1.0, self.settings.slow), "and it gains no more"

    # Ghosts

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
            if abs(change) < _SMALLEST:
                yield LeftAlone(Mechanism.BALLOON, why, vm.name)
            else:
                yield Balloon(vm.name, (vm.ballooned + change) // PAGE * PAGE, why)

    def _balloon_change(
        self, vm: VmView, free: int, ballooned: int, short: bool
    ) -> tuple[int, str]:
        floor = int(vm.configured * self.settings.guest_floor)
        if free < floor and ballooned:
            # A guest that runs dry grows: give at once what it may ask for next.
            return -min(
                ballooned, vm.configured // 2
            ), f"the guest has only {format_size(free)} free"
        if not short:
            return 0, "enough is free"
        backed = min(free, max(0, vm.ghost or 0))
        room = int(vm.configured * self.settings.maximum) - ballooned
        take = min(backed, free - floor, room)
        if take < _SMALLEST:
            return 0, f"the host backs {format_size(backed)} that the guest has freed"
        return take, f"{format_size(backed)} are backed that the guest has freed"

    # Room

    def _reclaim(self, view: View) -> Iterator[Action | LeftAlone]:
        if Mechanism.SWAP not in view.mechanisms and Mechanism.COMPRESSION not in view.mechanisms:
            yield LeftAlone(Mechanism.SWAP, "neither compression nor swap is on")
            return
        missing = int(self.settings.headroom * view.budget) - view.available
        for vm in sorted(view.vms, key=_heat):
            if why := self._spared(vm, view.time):
                yield LeftAlone(Mechanism.SWAP, why, vm.name)
                continue
            size = min(missing, int(vm.configured * self.settings.step), _pushable(vm))
            if size < _SMALLEST:
                yield LeftAlone(
                    Mechanism.SWAP,
                    "the headroom is there" if missing < _SMALLEST else "nothing to push out",
                    vm.name,
                )
                continue
            into = self._way_out(view)
            if into is None:
                yield LeftAlone(Mechanism.SWAP, "neither device nor pool takes pages", vm.name)
                continue
            missing -= size
            self._state.vms[vm.name].pushed = True
            reason = f"{format_size(missing + size)} are missing to the headroom; {_told(vm)}"
            yield Reclaim(vm.name, size // PAGE * PAGE, into, reason)

    def _way_out(self, view: View) -> Mechanism | None:
        """Cold pages go to the device: the pool is for those that will be wanted again."""
        if Mechanism.SWAP in view.mechanisms and view.swap_used < 0.95 * view.swap_size:
            return Mechanism.SWAP
        if Mechanism.COMPRESSION in view.mechanisms and view.pool < 0.9 * view.pool_cap:
            return Mechanism.COMPRESSION
        return None

    def _spared(self, vm: VmView, now: float) -> str:
        """Why a VM is not pushed: it works, or it fetched back what it had lost."""
        memory = self._state.vms.setdefault(vm.name, _Memory())
        if vm.resident is None or vm.major_faults is None:
            return "not known yet"
        if _heat(vm) > self.settings.coming_back:
            memory.wait = min(60.0, memory.wait * 2 or self.settings.patience / self.scales.time)
            memory.until, memory.pushed = now + memory.wait, False
            return f"it fetches pages back ({vm.major_faults:,.0f} faults/s)"
        if now < memory.until:
            return f"it fetched pages back; left alone until {memory.until:.0f} s"
        if vm.out is None and _is_busy(vm) and not memory.pushed:
            return "it works, and what it has out is not known"
        if _is_busy(vm) and not _surplus(vm):
            return f"it works ({vm.cpu:.1%} of a core)"
        return ""

    # Those that wait

    def _age(self, view: View) -> Iterator[Action | LeftAlone]:
        """While a VM waits for what it lost, the memory of those that do not is made old."""
        known = [vm for vm in view.vms if vm.resident is not None]
        most = max((vm.major_faults or 0.0 for vm in known), default=0.0)
        if most < self.settings.waiting:
            return
        waits = [vm.name for vm in known if (vm.major_faults or 0.0) >= most / 4]
        for vm in known:
            if vm.name in waits:
                yield LeftAlone(Mechanism.SWAP, "not made old: it waits for memory", vm.name)
            else:
                yield Age(vm.name, f"{', '.join(waits)} waits for memory, and it does not")


_STATES: Final = ((Reclaim, "makes room"), (Age, "makes old"), (Balloon, "takes ghosts"))
"""The word for what a decision does, by the first of these actions that is in it."""


def _heat(vm: VmView) -> float:
    """The part of what a VM has out that comes back in a second; what is not out comes back too
    if anything does."""
    faults = (vm.major_faults or 0.0) * PAGE
    return faults / max(vm.out or 0, 4 * MIB)


def _is_busy(vm: VmView) -> bool:
    """Whether it works so much that it may well use all it has: then the kernel's own lists know
    better what is cold in it than a sweep through its memory."""
    return (vm.cpu or 0.0) > _BUSY


def _surplus(vm: VmView) -> int:
    """Resident bytes well above what an estimator says that the VM uses; 0 without one."""
    if vm.active is None or vm.resident is None:
        return 0
    above = vm.resident - int(1.25 * vm.active)
    return above if above > 0.25 * vm.configured else 0


def _pushable(vm: VmView) -> int:
    """Resident bytes above the reservation and what the VM needs for itself."""
    kept = max(vm.reservation, int(0.05 * vm.configured), int(1.1 * (vm.active or 0)))
    return max(0, (vm.private if vm.private is not None else vm.resident or 0) - kept)


def _told(vm: VmView) -> str:
    out = "nothing" if not vm.out else format_size(vm.out)
    return f"{vm.name} has {out} out and {vm.major_faults or 0:,.0f} faults/s"
