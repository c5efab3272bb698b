"""`ksmtuned`: when it is on, how it paces, on numbers worked by hand."""

from __future__ import annotations

import pytest

from memlab.control.ksmtuned import Ksmtuned
from memlab.control.policies import build
from memlab.control.policy import Policy, Share, View
from memlab.control.settings import Scales
from memlab.units import MIB
from tests.unit.policy_views import BUDGET, view, vm

CALM = (vm("a"), vm("b"))
"""300 committed: with the threshold of 80 less than 400."""
MANY = (vm("a", resident=190), vm("b", resident=190))
"""380 committed: with the threshold more than 400."""


def shares(policy: Policy, *views: View) -> list[tuple[bool, int | None]]:
    return [
        (action.on, action.pages_to_scan)
        for seen in views
        for action in policy.decide(seen).actions
        if isinstance(action, Share)
    ]


def test_it_is_on_while_memory_is_promised_or_short() -> None:
    assert shares(Ksmtuned(), view(0.3, *CALM, sharing_on=True)) == [(False, None)]
    assert shares(Ksmtuned(), view(0.1, *CALM)) == [(True, 300)]
    assert shares(Ksmtuned(), view(0.3, *MANY)) == [(True, 64)]
    # At either edge it is on: 320 + 80 are not below 400, 20 % are not above a fifth.
    edge = vm("a", resident=160), vm("b", resident=160)
    assert shares(Ksmtuned(), view(0.3, *edge)) == [(True, 64)]
    assert shares(Ksmtuned(), view(0.2, *CALM)) == [(True, 64)]


def test_it_counts_pages_from_nought_whatever_the_lab_s_pace_is() -> None:
    short = [view(0.1, time=60.0 * n, pages_to_scan=1000, sharing_on=True) for n in range(6)]
    assert [pages for _, pages in shares(Ksmtuned(), *short)] == [300, 600, 900, 1200, 1250, 1250]


def test_it_keeps_its_pages_while_sharing_is_off() -> None:
    policy = Ksmtuned()
    calm = {"sharing_on": True, "pages_to_scan": 900}
    found = shares(
        policy,
        *(view(0.1, *CALM, time=60.0 * n) for n in range(3)),
        view(0.3, *CALM, time=180.0, **calm),
        view(0.3, *MANY, time=240.0, **calm),
        view(0.1, *MANY, time=300.0, **calm),
    )
    on = [(True, 300), (True, 600), (True, 900)]
    assert found == [*on, (False, None), (True, 850), (True, 1150)]


def test_it_falls_to_its_least_and_leaves_it_there() -> None:
    policy = Ksmtuned()
    assert shares(policy, view(0.3, *MANY, time=0.0)) == [(True, 64)]
    decision = policy.decide(view(0.3, *MANY, time=60.0, sharing_on=True, pages_to_scan=64))
    assert not decision.actions and "at its bound of 64" in decision.left_alone[0].reason


def test_it_looks_every_interval() -> None:
    policy = Ksmtuned()
    assert policy.decide(view(0.1)).actions
    assert not policy.decide(view(0.1, time=60.0)).actions, "60 s have not passed since 1.0"
    assert policy.decide(view(0.1, time=61.0)).actions


def test_periods_are_divided_by_the_time_scale() -> None:
    policy = build("ksmtuned", {}, Scales(time=20))
    assert policy.decide(view(0.1)).actions
    assert not policy.decide(view(0.1, time=3.5)).actions
    assert policy.decide(view(0.1, time=4.0)).actions


@pytest.mark.parametrize(("size_scale", "on"), [(1, True), (2, False)])
def test_the_threshold_has_a_least_that_is_a_size(size_scale: float, on: bool) -> None:
    # 100 MiB free of 400: less than 120, more than half of that.
    policy = build("ksmtuned", {"least": "120MiB"}, Scales(size=size_scale))
    seen = view(0.0, vm("a", resident=150), used=BUDGET - 100 * MIB, sharing_on=True)
    assert shares(policy, seen) == ([(True, 300)] if on else [(False, None)])
    assert Ksmtuned().settings.least == 2 * MIB, "2048 kB"
