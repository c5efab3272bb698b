"""The ladder: its rungs, its hysteresis, who is asked, and a reason for everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memlab.control.ladder import Ladder, LadderSettings, Rung
from memlab.control.policies import build
from memlab.control.policy import Balloon, Decision, Mechanism, Reclaim, Share, View, VmView
from memlab.units import MIB

BUDGET = 400 * MIB
ALL = frozenset(Mechanism)


def vm(
    name: str, *, free: int = 50, cache: int = 0, ballooned: int = 0, shares: int = 1000,
    reservation: int = 0,
) -> VmView:  # fmt: skip
    return VmView(
        name, 200 * MIB, free=free * MIB, cache=cache * MIB, ballooned=ballooned * MIB,
        resident=100 * MIB, shares=shares, reservation=reservation,
    )  # fmt: skip


def view(free: float, *vms: VmView, **more: Any) -> View:
    """A lab of which the fraction `free` of the budget is free."""
    start = View(
        time=1.0, budget=BUDGET, used=int(BUDGET * (1 - free)), pool_cap=40 * MIB,
        swap_size=1024 * MIB, mechanisms=ALL, vms=vms or (vm("a"), vm("b", free=20)),
    )  # fmt: skip
    return replace(start, **more)


def test_nothing_is_done_while_there_is_plenty() -> None:
    decision = Ladder().decide(view(0.9))
    assert decision.state == "plenty"
    assert not decision.actions
    assert {left.mechanism for left in decision.left_alone} == ALL
    assert all("90% of the budget is free" in left.reason for left in decision.left_alone)


def test_each_rung_acts_with_those_above_it() -> None:
    assert [type(a) for a in Ladder().decide(view(0.5)).actions] == [Share]
    assert {type(a) for a in Ladder().decide(view(0.3)).actions} == {Share, Balloon}
    kinds = {a.into for a in Ladder().decide(view(0.05)).actions if isinstance(a, Reclaim)}
    assert kinds == {Mechanism.COMPRESSION, Mechanism.SWAP}


def test_a_rung_is_entered_at_once_and_left_one_at_a_time_above_its_hysteresis() -> None:
    ladder = Ladder()
    ladder.decide(view(0.05))
    assert ladder.rung is Rung.SWAP
    ladder.decide(view(0.12))  # above 8 %, not above 8 + 5 %
    assert ladder.rung is Rung.SWAP
    rungs = [ladder.decide(view(0.9)).state for _ in range(5)]
    assert rungs == ["compression", "balloon", "sharing", "plenty", "plenty"]


@given(st.floats(0, 1))
def test_constant_input_does_not_oscillate(free: float) -> None:
    ladder = Ladder()
    states = [ladder.decide(view(free)).state for _ in range(12)]
    assert len(set(states[4:])) == 1


def test_the_guest_with_the_most_to_spare_gives_first() -> None:
    balloons = balloons_of(Ladder().decide(view(0.39, vm("poor", free=12), vm("rich", free=90))))
    assert list(balloons) == ["rich"]
    assert balloons["rich"] == 4 * MIB  # exactly what is missing to 40 %


def test_a_balloon_is_given_back_to_a_guest_that_runs_dry() -> None:
    balloons = balloons_of(Ladder().decide(view(0.3, vm("dry", free=1, ballooned=60))))
    assert balloons["dry"] == 51 * MIB


@given(
    free=st.floats(0, 0.4), spare=st.integers(0, 200), ballooned=st.integers(0, 190),
    reservation=st.integers(0, 200),
)  # fmt: skip
def test_a_balloon_never_takes_more_than_its_bounds(
    free: float, spare: int, ballooned: int, reservation: int
) -> None:
    guest = vm("a", free=spare, ballooned=ballooned, reservation=reservation * MIB)
    target = balloons_of(Ladder().decide(view(free, guest))).get("a")
    if target is not None and target > ballooned * MIB:
        assert target <= 0.65 * guest.configured
        assert target <= guest.configured - reservation * MIB
        assert target - ballooned * MIB <= 0.1 * guest.configured


def test_a_mechanism_that_is_off_is_left_alone_and_says_so() -> None:
    decision = Ladder().decide(view(0.05, mechanisms=frozenset({Mechanism.SWAP})))
    assert {type(a) for a in decision.actions} == {Reclaim}
    reasons = {left.mechanism: left.reason for left in decision.left_alone}
    assert reasons[Mechanism.SHARING] == "switched off in the lab file"


def test_a_full_pool_and_full_swap_are_reasons() -> None:
    decision = Ladder().decide(view(0.05, pool=39 * MIB, swap_used=1020 * MIB))
    reasons = {left.mechanism: left.reason for left in decision.left_alone}
    assert "the pool is full (39.0 MiB of 40.0 MiB)" in reasons[Mechanism.COMPRESSION]
    assert "no swap slots are left" in reasons[Mechanism.SWAP]


def test_the_vm_with_most_memory_for_its_shares_is_reclaimed() -> None:
    rich = vm("few-shares", shares=500)
    decision = Ladder().decide(view(0.05, vm("many-shares", shares=2000), rich))
    assert {a.vm for a in decision.actions if isinstance(a, Reclaim)} == {"few-shares"}
    others = {left.mechanism: left.reason for left in decision.left_alone if left.vm}
    for mechanism in (Mechanism.COMPRESSION, Mechanism.SWAP):
        assert others[mechanism] == "few-shares holds more for its shares"


def test_settings_are_read_by_name() -> None:
    assert build("ladder", {"balloon": "90%"}).settings == LadderSettings(balloon=0.9)


def balloons_of(decision: Decision) -> dict[str, int]:
    return {a.vm: a.target for a in decision.actions if isinstance(a, Balloon)}
