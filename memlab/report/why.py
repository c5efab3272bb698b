"""`memlab why`: a policy's decision at one moment, in sentences.

What it saw, what it did and why, what came of that, and what it left alone and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from memlab.control.policy import View, VmView
from memlab.control.view import from_json
from memlab.errors import UsageError
from memlab.record.series import Choice, Source
from memlab.units import format_duration, format_size

LEFT_ALONE = "left-alone"
AGE = "age"


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick of a policy. `view` and `seconds` are None in recordings that have no ticks."""

    time: float
    policy: str
    state: str
    choices: tuple[Choice, ...]
    view: View | None = None
    seconds: float | None = None

    @property
    def actions(self) -> tuple[Choice, ...]:
        """What it did."""
        return tuple(one for one in self.choices if one.action != LEFT_ALONE)

    @property
    def left(self) -> tuple[Choice, ...]:
        """What it left alone."""
        return tuple(one for one in self.choices if one.action == LEFT_ALONE)


def moments(source: Source) -> list[Moment]:
    """All ticks, by time."""
    spoken = {
        time: tuple(group) for time, group in groupby(source.choices(), key=lambda one: one.time)
    }
    ticks = {tick.time: tick for tick in source.ticks()}
    found = []
    for time in sorted({*spoken, *ticks}):
        tick, choices = ticks.get(time), spoken.get(time, ())
        if tick is not None:
            view = from_json(tick.view)
            found.append(Moment(time, tick.policy, tick.state, choices, view, tick.seconds))
        else:
            found.append(Moment(time, choices[0].policy, choices[0].state, choices))
    return found


def at(found: Sequence[Moment], time: float) -> Moment:
    """The tick that stood at `time`: the newest one not after it. UsageError before the first."""
    before = [moment for moment in found if moment.time <= time + 1e-6]
    if not found:
        raise UsageError("no policy has decided anything in this run", hint="its policy is none?")
    if not before:
        first = f"the first tick is at {found[0].time:.1f} s"
        raise UsageError(f"at {time:g} s no policy had decided yet", hint=first)
    return before[-1]


def tell(moment: Moment, vm: str = "") -> Iterator[str]:
    """The moment in sentences; with `vm` only what is about that VM or about all."""
    yield (
        f"At {moment.time:.1f} s the policy {moment.policy} was in the state {moment.state}"
        + (f"; it decided in {format_duration(moment.seconds)}." if moment.seconds else ".")
    )
    if moment.view is not None:
        yield _saw(moment.view)
        for one in moment.view.vms:
            if vm in ("", one.name):
                yield f"  {_saw_vm(one)}"
    yield from _did(moment, vm)
    for choice in moment.left:
        if vm in ("", choice.vm) or not choice.vm:
            of = f" of {choice.vm}" if choice.vm else ""
            yield f"It left {choice.mechanism}{of} alone: {choice.reason}."


def _did(moment: Moment, vm: str) -> Iterator[str]:
    mine = [choice for choice in moment.actions if vm in ("", choice.vm) or not choice.vm]
    if not mine:
        yield "It did not act."
    for choice in mine:
        of = f" for {choice.vm}" if choice.vm else ""
        asked = choice.asked or choice.action
        took = f" in {format_duration(choice.seconds)}" if choice.seconds else ""
        yield f"It asked for {asked}{of}, because {choice.reason}. It got: {choice.got}{took}."


def _saw(view: View) -> str:
    parts = [
        f"{format_size(view.available)} of the budget of {format_size(view.budget)} to be had "
        f"({view.available / view.budget:.0%})",
        f"pool {format_size(view.pool)} of {format_size(view.pool_cap)}",
        f"swap {format_size(view.swap_used)} of {format_size(view.swap_size)}",
        f"sharing {'on' if view.sharing_on else 'off'}",
    ]
    if view.saved_sharing is not None:
        parts[-1] += f", {format_size(view.saved_sharing)} saved by it"
    return f"It saw {'; '.join(parts)}."


_SIZES = ("used", "cache", "free", "ballooned", "resident", "out", "ghost", "active")


def _saw_vm(vm: VmView) -> str:
    known = [(name, getattr(vm, name)) for name in _SIZES]
    sizes = ", ".join(f"{name} {format_size(size)}" for name, size in known if size is not None)
    parts = [f"{vm.name} of {format_size(vm.configured)}: {sizes or 'nothing known yet'}"]
    if vm.cpu is not None:
        parts.append(f"{vm.cpu:.1%} of a core")
    if vm.stall_some:
        parts.append(f"waited for memory {vm.stall_some:.1%} of the time")
    if vm.blocked:
        parts.append("blocked")
    return "; ".join(parts)


def overview(found: Sequence[Moment]) -> Iterator[str]:
    """The run at a glance: each time the state changed, and what was done until the next."""
    for (policy, state), group in groupby(found, key=lambda one: (one.policy, one.state)):
        ticks = list(group)
        done: dict[str, int] = {}
        for choice in (choice for tick in ticks for choice in tick.actions):
            word = _done(choice)
            done[word] = done.get(word, 0) + 1
        acts = ", ".join(f"{word} {count}×" for word, count in done.items()) or "did not act"
        yield f"{ticks[0].time:7.1f} s  {policy} {state}: {len(ticks)} ticks, {acts}"


def _done(choice: Choice) -> str:
    """What an action is counted as. Older recordings have `swap` for the mechanism of aging."""
    return AGE if choice.action == AGE else choice.mechanism
