"""The policy that exercise 9 hands out: first things first, whichever they are."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from memlab.control.policies import build
from memlab.control.policy import Decision, Mechanism, View
from memlab.exercises.course import find
from memlab.units import MIB
from tests.unit.policy_views import view, vm

FOLDER = find("09").folder


def asked(order: str, seen: View, *more: View) -> Decision:
    """What it decides on the last of these views."""
    policy = build("./order.py:Order", {"order": order}, folder=FOLDER)
    decisions = [policy.decide(one) for one in (seen, *more)]
    return decisions[-1]


def short(**changes: Any) -> View:
    """Nothing is free; a guest has freed 40 MiB."""
    made = view(0.0, vm("batch", free=40, ghost=40), vm("web", free=1))
    return replace(made, **changes)


@pytest.mark.parametrize("order", [",".join(order) for order in permutations(Mechanism)])
def test_the_first_acts_alone(order: str) -> None:
    decision = asked(order, short())
    assert decision.state == order.partition(",")[0]
    assert {left.mechanism for left in decision.left_alone} == set(Mechanism) - {decision.state}


def test_with_enough_free_nothing_is_done() -> None:
    assert asked("swap,sharing,balloon,compression", view(0.5, vm("web"))).actions == ()


def test_sharing_has_given_all_when_it_gains_no_more() -> None:
    order = "sharing,balloon,compression,swap"
    on = short(sharing_on=True, saved_sharing=20 * MIB, time=2.0)
    assert asked(order, short(time=1.0), on).state == "sharing"
    assert asked(order, short(time=1.0), on, replace(on, time=6.0)).state == "balloon"


def test_a_full_pool_and_an_empty_guest_have_no_more_to_give() -> None:
    full = short(pool=20 * MIB, pool_cap=20 * MIB, vms=(vm("web", free=1, ghost=0),))
    assert asked("compression,balloon,swap,sharing", full).state == "swap"
