"""Who makes room under `best`: the cold ahead of need, and the quiet while another one waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from memlab.control.best_settings import SMALLEST, BestSettings
from memlab.control.policy import Age, LeftAlone, Mechanism, Reclaim, View, VmView
from memlab.units import MIB, PAGE, format_size

_BUSY: Final = 0.02
"""Part of a core. An idle guest with its driver takes 0.1 %; a touch of a page that is there, and
what a service does with it, some µs: at 2 % a VM can have touched 10 MiB in the last second."""


@dataclass(slots=True)
class _Memory:
    """What is remembered of one VM: until when it is left alone, and for how long next time."""

    until: float = 0.0
    wait: float = 0.0
    pushed: bool = False


class Cold:
    """Pushes the coldest VMs out until the headroom is there. It remembers who fetched back.

    `patience` is how many seconds such a VM is left alone at first.
    """

    def __init__(self) -> None:
        self._vms: dict[str, _Memory] = {}

    def decide(
        self, view: View, settings: BestSettings, patience: float
    ) -> Iterator[Reclaim | LeftAlone]:
        """The coldest first."""
        if not {Mechanism.SWAP, Mechanism.COMPRESSION} & view.mechanisms:
            yield LeftAlone(Mechanism.SWAP, "neither compression nor swap is on")
            return
        missing = int(settings.headroom * view.budget) - view.available
        into = _way_out(view)
        for vm in sorted(view.vms, key=_heat):
            why = self._spared(vm, view.time, settings, patience)
            size = min(missing, int(vm.configured * settings.step), _pushable(vm))
            if not why and size < SMALLEST:
                why = "the headroom is there" if missing < SMALLEST else "nothing to push out"
            elif not why and into is None:
                why = "neither device nor pool takes pages"
            if why or into is None:
                yield LeftAlone(Mechanism.SWAP, why, vm.name)
                continue
            reason = f"{format_size(missing)} are missing to the headroom; {_told(vm)}"
            missing -= size
            self._vms[vm.name].pushed = True
            yield Reclaim(vm.name, size // PAGE * PAGE, into, reason)

    def _spared(self, vm: VmView, now: float, settings: BestSettings, patience: float) -> str:
        """Why a VM is not pushed: it works, or it fetched back what it had lost."""
        memory = self._vms.setdefault(vm.name, _Memory())
        if vm.resident is None or vm.major_faults is None:
            return "not known yet"
        if _heat(vm) > settings.coming_back:
            memory.wait = min(60.0, memory.wait * 2 or patience)
            memory.until, memory.pushed = now + memory.wait, False
            return f"it fetches pages back ({vm.major_faults:,.0f} faults/s)"
        if now < memory.until:
            return f"it fetched pages back; left alone until {memory.until:.0f} s"
        if vm.out is None and _is_busy(vm) and not memory.pushed:
            return "it works, and what it has out is not known"
        if _is_busy(vm) and not _surplus(vm):
            return f"it works ({vm.cpu:.1%} of a core)"
        return ""


def aging(view: View, settings: BestSettings) -> Iterator[Age | LeftAlone]:
    """While a VM waits for what it lost, the memory of those that do not is made old."""
    known = [vm for vm in view.vms if vm.resident is not None]
    most = max((vm.major_faults or 0.0 for vm in known), default=0.0)
    if most < settings.waiting:
        return
    waits = [vm.name for vm in known if (vm.major_faults or 0.0) >= most / 4]
    for vm in known:
        if vm.name in waits:
            yield LeftAlone(Mechanism.SWAP, "not made old: it waits for memory", vm.name)
        else:
            yield Age(vm.name, f"it does not wait for memory; {' and '.join(waits)} must")


def _way_out(view: View) -> Mechanism | None:
    """Cold pages go to the device: the pool is for those that will be wanted again."""
    if Mechanism.SWAP in view.mechanisms and view.swap_used < 0.95 * view.swap_size:
        return Mechanism.SWAP
    if Mechanism.COMPRESSION in view.mechanisms and view.pool < 0.9 * view.pool_cap:
        return Mechanism.COMPRESSION
    return None


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
