"""Reservations under every policy: what it may ask of a VM at one tick, whatever it sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memlab.control.best import Best
from memlab.control.entitlement import largest_balloon, most_out
from memlab.control.esx import Esx41, Esxi5
from memlab.control.esx_tick import EsxSettings
from memlab.control.ladder import Ladder
from memlab.control.policies import POLICIES, build
from memlab.control.policy import (
    Age,
    Balloon,
    Decision,
    Mechanism,
    Reclaim,
    Share,
    View,
)
from memlab.control.squeezed import Squeezed
from memlab.units import MIB, PAGE
from tests.unit.policy_random import pushed, views
from tests.unit.policy_views import balloons, view, vm

PUSHERS = ("best", "ladder", "esx15", "esx41", "esxi5", "esxi6")
"""Those that balloon and push out: what one has taken the other must know of at the next tick."""


def check(name: str, decision: Decision, seen: View) -> None:
    """What is reserved stays: in the balloon's bound, in what is pushed out, and in both."""
    for one in seen.vms:
        free_to_take = one.configured - one.reservation
        held = one.ballooned or 0
        target = balloons(decision).get(one.name, held)
        out = pushed(decision, one.name)
        assert target <= max(held, free_to_take), (name, one, decision)
        assert out <= max(0, (one.resident or 0) - one.reservation), (name, one, decision)
        if out or target > held:
            assert max(target, held) + out <= free_to_take, (name, one, decision)
        if name in PUSHERS and target > held:
            assert target + out + (one.out or 0) <= free_to_take, (name, one, decision)


AT_ITS_OWN = view(0.02, vm("a", resident=100, reservation=100, free=60, ghost=60))
FREES_MUCH = view(0.3, vm("a", reservation=190, ghost=60, free=80))


@example(seen=AT_ITS_OWN, again=[])
@example(seen=FREES_MUCH, again=[])
@given(seen=views(), again=st.lists(views(), max_size=2))
def test_no_decision_takes_what_is_reserved(seen: View, again: list[View]) -> None:
    """Of any policy, over some ticks, so that what it waits for comes to pass."""
    for name in POLICIES:
        policy = build(name, {})
        for tick, one in enumerate([seen, seen, *again]):
            now = replace(one, time=1.0 + 70.0 * tick)
            check(name, policy.decide(now), now)


@pytest.mark.parametrize("name", POLICIES)
def test_each_of_them_takes_where_nothing_is_reserved(name: str) -> None:
    """So the property above is not kept by doing nothing."""
    policy, took = build(name, {}), 0
    idle = replace(vm("a", resident=195, ghost=60, free=120, used=60), cpu=0.0, stall_some=0.0)
    for tick in range(4):
        vms = (replace(idle, name=other) for other in "abc")
        decision = policy.decide(view(-0.1 if tick else 0.01, *vms, time=70.0 * tick))
        took += sum(balloons(decision).values()) + pushed(decision, "a")
    assert bool(took) is (name not in {"none", "static", "ksmtuned"})


class TestByHand:
    def test_best_balloons_ghosts_up_to_the_reservation_and_no_further(self) -> None:
        # 60 MiB are ghosts, 190 of 200 reserved: 10 remain.
        seen = view(0.3, vm("a", ghost=60, free=80, reservation=190))
        assert balloons(Best().decide(seen)) == {"a": 10 * MIB}

    def test_best_pushes_out_only_what_its_balloon_leaves_of_it(self) -> None:
        # 160 of 200 reserved: the balloon takes 20 ghosts, so 20 of the 35 above it may go.
        sleeps = vm("a", ghost=20, free=40, reservation=160, resident=195, private=195)
        decision = Best().decide(view(0.0, replace(sleeps, cpu=0.0)))
        assert balloons(decision) == {"a": 20 * MIB}
        assert pushed(decision, "a") == 20 * MIB

    def test_ladder_leaves_a_vm_that_stands_at_its_reservation(self) -> None:
        decision = Ladder().decide(view(0.02, vm("a", resident=100, reservation=100, free=0)))
        assert pushed(decision, "a") == 0
        reasons = {one.mechanism: one.reason for one in decision.left_alone if one.vm == "a"}
        words = "it holds 100.0 MiB and 100.0 MiB are reserved: no more may go"
        assert reasons[Mechanism.COMPRESSION] == reasons[Mechanism.SWAP] == words

    def test_ladder_adds_up_what_pool_and_device_take(self) -> None:
        # 25 MiB above the reservation: 20 (a tenth of 200) to the pool, the other 5 to the device.
        decision = Ladder().decide(view(0.02, vm("a", resident=125, reservation=100, free=0)))
        sizes = {one.into: one.size for one in decision.actions if isinstance(one, Reclaim)}
        assert sizes == {Mechanism.COMPRESSION: 20 * MIB, Mechanism.SWAP: 5 * MIB}

    def test_ladder_asks_the_next_dearest_where_nothing_may_go(self) -> None:
        held = vm("held", resident=180, reservation=180, free=0)
        other = vm("other", resident=60, free=0, shares=100_000)
        decision = Ladder().decide(view(0.02, held, other))
        assert pushed(decision, "held") == 0 and pushed(decision, "other") > 0

    def test_esx_keeps_a_reservation_that_is_above_the_limit(self) -> None:
        """The lab file refuses it; `set limit` does not."""
        odd = vm("odd", resident=195, reservation=150, limit=60)
        policy = Esxi5(EsxSettings(step=1.0))
        decision = policy.decide(view(0.0, odd, vm("rich", shares=10**6, resident=195)))
        assert balloons(decision).get("odd", 0) + pushed(decision, "odd") <= 50 * MIB

    def test_esx_leaves_it_whole_by_balloon_and_pool_together(self) -> None:
        # Entitled to its reservation of 150, and 50 above it. Hard, at 1.5 %: keep free
        # 0.672 × 6 % = 4.032 % of 400 MiB, so 10.128 are missing and pushed out at once, and the
        # balloon, which may hold 30 (15 %), gets its whole share of what is left: 39.872.
        held = vm("held", shares=1, resident=200, reservation=150)
        rich = [vm(name, shares=10**6, resident=100) for name in ("rich", "richer")]
        policy = Esx41(EsxSettings(step=1.0, maximum=0.15))
        decision = policy.decide(view(0.015, held, *rich))
        assert decision.state == "hard"
        assert pushed(decision, "held") == pytest.approx(10.128 * MIB, abs=PAGE)
        assert balloons(decision)["held"] == 30 * MIB
        # With a balloon of any size it gets what is left.
        policy = Esx41(EsxSettings(step=1.0, maximum=1.0))
        decision = policy.decide(view(0.015, held, *rich))
        assert balloons(decision)["held"] == pytest.approx(39.872 * MIB, abs=2 * PAGE)

    def test_squeezed_has_its_minimum_at_the_reservation(self) -> None:
        seen = view(-1.0, vm("a", reservation=190), vm("b"))
        assert balloons(Squeezed().decide(seen)) == {"a": 10 * MIB, "b": 130 * MIB}

    def test_the_bounds(self) -> None:
        one = vm("a", reservation=120, ballooned=10)
        assert largest_balloon(one, 0.65) == 80 * MIB
        assert largest_balloon(vm("a"), 0.65) == 130 * MIB
        assert largest_balloon(replace(one, out=50 * MIB), 0.65) == 30 * MIB, "200 − 120 − 50"
        assert largest_balloon(vm("a", out=100), 0.65) == 130 * MIB, "nothing is promised"
        assert most_out(one, 150 * MIB) == 30 * MIB
        assert most_out(one, 150 * MIB, 60 * MIB) == 20 * MIB, "200 − 60 − 120"
        coming = replace(one, balloon_target=75 * MIB)
        assert most_out(coming, 150 * MIB) == 5 * MIB, "it still comes"
        assert most_out(coming, 150 * MIB, 10 * MIB) == 30 * MIB, "it has been called off"
        assert most_out(one, 100 * MIB) == 0


@pytest.mark.parametrize("name", ["best", "ladder", "squeezed", "esx15", "esx41", "esxi5", "esxi6"])
@given(seen=views())
def test_each_mechanism_of_each_vm_is_acted_on_or_has_its_reason(name: str, seen: View) -> None:
    decision = build(name, {}).decide(seen)
    assert all(one.reason for one in (*decision.actions, *decision.left_alone))
    spoken = {(one.mechanism, one.vm) for one in decision.left_alone}
    for one in decision.actions:
        if isinstance(one, Balloon):
            spoken.add((Mechanism.BALLOON, one.vm))
        elif isinstance(one, Reclaim):
            spoken.add((one.into, one.vm))
    shares = any(isinstance(one, Share) for one in decision.actions)
    assert shares or (Mechanism.SHARING, "") in spoken
    aged = {one.vm for one in decision.actions if isinstance(one, Age)}
    for each in seen.vms:
        for mechanism in (Mechanism.BALLOON, Mechanism.COMPRESSION, Mechanism.SWAP):
            told = {(mechanism, each.name), (mechanism, "")} & spoken
            assert told or each.name in aged, (mechanism, each.name, decision)
