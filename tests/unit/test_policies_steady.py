"""Policies in a lab that wants the same all the time: they come to rest, and shares count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memlab.control.policies import POLICIES, build
from memlab.control.policy import Decision, Reclaim, View, VmView
from memlab.units import MIB, PAGE
from tests.unit.policy_plant import Guest, Plant
from tests.unit.policy_random import pushed, views
from tests.unit.policy_views import balloons, view, vm

ESX: Final = ("esx15", "esx41", "esxi5", "esxi6")
TURNS: Final[Mapping[str, int]] = {"ladder": 0, "squeezed": 0} | dict.fromkeys(ESX, 1)
"""How often a balloon may turn round: esx's grow past what is missing, and then give back."""
TICKS: Final = dict.fromkeys((*ESX, "squeezed"), 80) | {"ladder": 300}
"""How long a run is. `ladder` may have to take 1 MiB a tick from guests that want none of it."""
TWO: Final = (Guest("a", 200 * MIB, 200 * MIB, 2000), Guest("b", 200 * MIB, 200 * MIB))
STILL: Final = 20
"""The last ticks, in which nothing may move any more."""


@st.composite
def plants(draw: st.DrawFn) -> Plant:
    """A host for half to half more than what all guests want, with or without a pool."""
    guests = []
    for name in "abcd"[: draw(st.integers(1, 4))]:
        configured = draw(st.integers(16, 96)) * MIB
        part = st.integers(0, configured)
        guests.append(
            Guest(
                name, configured, draw(part), draw(st.integers(100, 10_000)),
                draw(st.just(0) | part.map(lambda size: size // 2)), draw(st.none() | part),
                draw(st.sampled_from([True, True, True, False])),
            )
        )  # fmt: skip
    wanted = sum(guest.demand for guest in guests)
    budget = max(16 * MIB, int(wanted * draw(st.floats(0.5, 1.5))))
    return Plant(budget, guests, pool_cap=draw(st.sampled_from([0, budget // 5])))


def start(name: str, plant: Plant) -> Plant:
    """The same lab anew; `squeezed` acts every 10 s only, so its ticks are that far apart."""
    guests = [replace(guest) for guest in plant.guests]
    return replace(plant, guests=guests, tick=10.0 if name == "squeezed" else 1.0)


def at_rest(name: str, plant: Plant) -> Plant:
    """The lab at the end of a long run under this policy."""
    fresh = start(name, plant)
    for _ in fresh.run(build(name, {}), TICKS[name]):
        pass
    return fresh


def turns(sizes: Sequence[int]) -> int:
    """How often a course of sizes changes its direction."""
    steps = [now - before for before, now in pairwise(sizes) if now != before]
    return sum((one > 0) != (two > 0) for one, two in pairwise(steps))


def pushes_out(decision: Decision) -> bool:
    return any(isinstance(action, Reclaim) for action in decision.actions)


@pytest.mark.parametrize("name", TURNS)
@example(plant=Plant(240 * MIB, list(TWO)))
@example(plant=Plant(100 * MIB, [Guest(name, 96 * MIB, 70 * MIB) for name in "ab"]))
@settings(max_examples=40)
@given(plant=plants())
def test_a_constant_lab_comes_to_rest_without_to_and_fro(name: str, plant: Plant) -> None:
    """`squeezed` comes ever nearer: what it takes from guests that want less frees nothing."""
    lab = start(name, plant)
    courses: dict[str, list[int]] = {guest.name: [0] for guest in lab.guests}
    decisions = []
    for decision in lab.run(build(name, {}), TICKS[name]):
        decisions.append(decision)
        for guest in lab.guests:
            courses[guest.name].append(guest.ballooned)
    for which, sizes in courses.items():
        assert turns(sizes) <= TURNS[name], (which, sizes)
        moved = max(abs(now - before) for before, now in pairwise(sizes[-STILL:]))
        assert moved <= (MIB if name == "squeezed" else 0), (which, sizes[-STILL:])
    assert not any(pushes_out(decision) for decision in decisions[-STILL:])
    words = {decision.state for decision in decisions[-STILL:]}
    assert name == "squeezed" or len(words) == 1, words


def taken(decision: Decision, vm: VmView) -> int:
    """What the VM is without once this is carried out: its balloon, and what is pushed out."""
    return balloons(decision).get(vm.name, vm.ballooned or 0) + pushed(decision, vm.name)


def rebalances(decision: Decision) -> bool:
    return any(action.reason.startswith("rebalanced") for action in decision.actions)


@pytest.mark.parametrize("name", TURNS)
@example(seen=view(0.01, vm("a", resident=190, free=5), vm("b", resident=195, free=5)), factor=3.0)
@given(seen=views(), factor=st.floats(1, 50))
def test_more_shares_never_mean_less_memory(name: str, seen: View, factor: float) -> None:
    """In any state. Whether esx moves memory in high depends on whether somebody lacks it."""
    first, *others = seen.vms
    richer = replace(first, shares=int(first.shares * factor))
    before = build(name, {}).decide(seen)
    after = build(name, {}).decide(replace(seen, vms=(richer, *others)))
    if not rebalances(before) and not rebalances(after):
        assert taken(after, first) <= taken(before, first) + 2 * PAGE, (before, after)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("esx15", 4, 6), ("esx41", 3.84, 4.224), ("esxi5", 3.84, 4.224), ("esxi6", 3.84, 6.6)],
)
def test_twice_the_shares_are_twice_the_memory(name: str, least: float, most: float) -> None:
    """Both want 200 of 240 MiB. At rest more than the edge of soft is free, and not much more than
    where balloons give back (per cent; half a MiB for each is not worth a step). The rest is 2 : 1,
    but for what was given back to both alike."""
    lab = at_rest(name, Plant(240 * MIB, [replace(guest) for guest in TWO]))
    rich, poor = (guest.resident for guest in lab.guests)
    free = (240 * MIB - rich - poor) / (2.4 * MIB)
    assert least <= free <= most + 1 / 2.4
    assert rich / poor == pytest.approx(2, rel=0.06)


def test_ladder_takes_from_who_holds_most_for_its_shares() -> None:
    """Nothing is free in the guests, so that no balloon grows: it pushes out, 2 MiB a tick."""
    lab = Plant(240 * MIB, [replace(guest) for guest in TWO])
    for _ in lab.run(build("ladder", {"step": "1%"}), TICKS["ladder"]):
        pass
    rich, poor = (guest.resident for guest in lab.guests)
    assert not any(guest.ballooned for guest in lab.guests)
    # 8 % are free, the edge of swap; less than 1 MiB is not worth a step.
    assert rich + poor == pytest.approx(0.92 * 240 * MIB, abs=MIB)
    assert rich / poor == pytest.approx(2, abs=0.05)


def test_squeezed_knows_no_shares() -> None:
    lab = at_rest("squeezed", Plant(240 * MIB, [replace(guest) for guest in TWO]))
    # 240 less the reserve of 2 % for two of the same range.
    assert [guest.resident / MIB for guest in lab.guests] == pytest.approx([117.6, 117.6], abs=0.01)


def test_all_of_this_room_are_here() -> None:
    others = {"none", "static", "best", "mom", "ksmtuned", "proxmox", "hyperv", "senpai"}
    assert set(TURNS) | others == set(POLICIES)
