"""The balloons of an ESX profile: towards the targets where the state has balloons, back in high.

In high they also move memory from VM to VM. Nothing is taken for the host by that: what one gives
the other gets. By OSDI 2002, §6.3 (unverified), memory is shared out anew not only when free
memory crosses a threshold, but also when shares, minimum or tax change, when a VM comes or goes,
and from time to time as the estimates of idle memory go; in its figure 7 the tax is raised, and
memory moves. Here it is asked at every tick, and moves only while somebody lacks memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memlab.control.entitlement import largest_balloon
from memlab.control.esx_profiles import Act, State
from memlab.control.esx_tick import SMALLEST, Tick, activity
from memlab.control.policy import Balloon, LeftAlone, Mechanism, VmView
from memlab.units import PAGE, format_size


def balloons(tick: Tick, pushed: Mapping[str, int]) -> Iterator[Balloon | LeftAlone]:
    """Each VM's balloon; `pushed` is what the same tick pushes out of VMs, bytes by name."""
    if Mechanism.BALLOON not in tick.view.mechanisms:
        yield LeftAlone(Mechanism.BALLOON, "switched off in the lab file")
        return
    high = tick.state is State.HIGH
    word = "" if Act.BALLOON in tick.acts else "rebalanced: "
    moves = Act.BALLOON in tick.acts or (high and _is_unbalanced(tick))
    for vm in tick.view.vms:
        if vm.ballooned is None:
            yield LeftAlone(Mechanism.BALLOON, "no guest driver answers", vm.name)
        elif vm.blocked:
            yield LeftAlone(Mechanism.BALLOON, "the VM is blocked", vm.name)
        elif moves:
            yield _toward_target(tick, vm, pushed.get(vm.name, 0), word)
        elif high and vm.ballooned > 0:
            yield _deflate(tick, vm, vm.ballooned)
        else:
            yield LeftAlone(Mechanism.BALLOON, tick.not_in_this_state, vm.name)


def _toward_target(tick: Tick, vm: VmView, pushed: int, word: str) -> Balloon | LeftAlone:
    ballooned, target = vm.ballooned or 0, tick.target(vm)
    change = tick.wanted_balloon(vm) - ballooned
    if change > 0:
        above = vm.configured - max(target, vm.reservation) - ballooned
        change = max(0, min(change, above - pushed))
    if abs(change) < SMALLEST:
        return LeftAlone(Mechanism.BALLOON, _why_still(tick, vm, pushed), vm.name)
    step = int(vm.configured * tick.host.settings.step)
    size = ballooned + max(-step, min(step, change))
    reason = f"{word}entitled to {format_size(target)} of {format_size(vm.configured)}"
    return Balloon(vm.name, size // PAGE * PAGE, f"{reason}{activity(vm)}")


def _why_still(tick: Tick, vm: VmView, pushed: int) -> str:
    wanted = tick.wanted_balloon(vm)
    if wanted - (vm.ballooned or 0) >= SMALLEST:
        return f"{format_size(pushed)} above its target are pushed out at once"
    if wanted == largest_balloon(vm, tick.host.settings.maximum):
        return "the balloon is at its limit"
    return f"the balloon is at what its target of {format_size(tick.target(vm))} is"


def _is_unbalanced(tick: Tick) -> bool:
    """Whether a guest with less than a twentieth free is held below its target by its balloon,
    while another VM stands above its own."""
    held = any(
        (vm.ballooned or 0) > vm.configured - tick.sizes.get(vm.name, 0) + SMALLEST
        and vm.free is not None
        and vm.free < 0.05 * vm.configured
        for vm in tick.view.vms
    )
    return held and any(tick.excess(vm) >= SMALLEST for vm in tick.view.vms)


def _deflate(tick: Tick, vm: VmView, ballooned: int) -> Balloon | LeftAlone:
    """Give back what is free beyond the edge of the state high, and no more: else the VMs would
    take it, and the host be short again a moment later."""
    surplus = tick.view.available - int(tick.host.edge)
    holders = sum(1 for one in tick.view.vms if one.ballooned)
    step = int(vm.configured * tick.host.settings.step)
    size = min(ballooned, step, surplus // (2 * holders))
    if size < min(SMALLEST, ballooned):
        return LeftAlone(Mechanism.BALLOON, "what is free is the host's reserve", vm.name)
    target = (ballooned - size) // PAGE * PAGE
    return Balloon(vm.name, target, "enough is free: the balloon gives back")
