"""`senpai`: when it presses and eases off, and by how much, on numbers worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from memlab.control.policies import build
from memlab.control.policy import LeftAlone, Mechanism, Policy, Reclaim, View, VmView
from memlab.control.senpai import Senpai
from memlab.control.settings import Scales
from memlab.units import MIB, PAGE
from tests.unit.policy_views import view, vm


def run(policy: Policy, waits: Sequence[float | None], *, tick: float = 1.0) -> list[int]:
    """Pages pushed out at each tick of a VM of 150 MiB, which then has them no more.

    `waits` is the part of each tick in which it waited.
    """
    found, resident = [], 150 * MIB
    for number, part in enumerate(waits):
        one = replace(vm("a"), stall_some=part, resident=resident)
        pushed = pushes(policy, view(0.5, one, time=number * tick)).get("a", 0)
        resident -= pushed
        found.append(pushed // PAGE)
    return found


def pushes(policy: Policy, seen: View) -> dict[str, int]:
    return {a.vm: a.size for a in policy.decide(seen).actions if isinstance(a, Reclaim)}


def words(policy: Policy, *vms: VmView, time: float, **more: int) -> str:
    left = policy.decide(view(0.5, *vms, time=time, **more)).left_alone
    return next(one.reason for one in left if one.vm)


def test_it_squares_and_keeps_its_ends() -> None:
    policy = Senpai()
    # err = 2: (2/20)² = 1 %; err = 20: all of it; err = 40 no more than that
    assert policy.back_off(0.020, 0.010) == pytest.approx(0.01)
    assert policy.back_off(0.200, 0.010) == pytest.approx(1.0)
    assert policy.back_off(0.400, 0.010) == 1.0
    # err = 10: (10/10)² of 1 %; err = 2: a twenty-fifth of that
    assert policy.probe(0.001, 0.010) == pytest.approx(0.01)
    assert policy.probe(0.005, 0.010) == pytest.approx(0.01 * 0.04)
    assert policy.probe(0.0, 0.010) == 0.01


def test_it_presses_when_a_whole_interval_is_over_and_then_every_interval() -> None:
    # The first one is a look longer (grace_ticks begins at 6 and is 5 after each change).
    found = run(Senpai(), [0.0] * 14)
    # 1 % of 150 MiB are 384 pages, of 148.5 MiB 380.16.
    assert {n: pages for n, pages in enumerate(found) if pages} == {7: 384, 13: 380}


def test_it_eases_off_at_once_and_begins_its_interval_anew() -> None:
    # 20 ms in the third second: 1 % up, to 151.5. Six seconds later 1 % down, to 149.985: 3.84
    # pages below what it has.
    found = run(Senpai(), [0, 0, 0, 0.020, *[0.0] * 7])
    assert {n: pages for n, pages in enumerate(found) if pages} == {9: 3}


def test_pressure_is_added_up_from_look_to_look() -> None:
    # 6 ms and 6 ms: 12 at the second look, (1.2/20)² = 0.36 % up to 150.54; six seconds later 1 %
    # down to 149.0346, 247.14 pages below what it has.
    found = run(Senpai(), [0, 0.006, 0.006, *[0.0] * 7])
    assert {n: pages for n, pages in enumerate(found) if pages} == {8: 247}


def test_what_it_eased_off_is_taken_back_a_step_an_interval() -> None:
    # Twice 150 MiB after one second; 0.99^68 of that is 151.47, 0.99^69 is 149.95.
    found = run(Senpai(), [0, 0.5, *[0.0] * 420])
    assert next(n for n, pages in enumerate(found) if pages) == 1 + 69 * 6


def test_it_looks_once_a_second_however_short_the_tick() -> None:
    policy = Senpai()
    busy = vm("a", stall_some=0.05)
    assert policy.decide(view(0.5, busy, time=0.0)).state == "looks"
    assert policy.decide(view(0.5, busy, time=0.5)).state == "adds up"
    # 50 ms: (5/20)² = 6.25 % of 150
    assert "50.0 ms, wanted are 10.0: eased off to 159.4 MiB" in words(policy, busy, time=1.0)


def test_a_longer_tick_is_held_against_what_may_be_waited_in_it() -> None:
    # time_scale 10: 1 ms in 0.6 s. Ticks of 0.5 s make that 1.0 s, in which 1.667 ms may be waited.
    # 1.5 ms are 9/10 of it, as 9 ms of 10 are: (10/9/10)² of 1 % of 148.5 MiB are 4.69 pages.
    def scaled() -> Policy:
        return build("senpai", {}, Scales(time=10))

    found = run(scaled(), [0, 0, 0, 0.0015, 0.0015], tick=0.5)
    assert found == [0, 0, 384, 0, 4]
    published = run(Senpai(), [0.0] * 8 + [0.0015] * 6)
    assert published[7:] == [384, *[0] * 5, 4]
    # 1.8 ms are more: it eases off.
    assert run(scaled(), [0, 0, 0, 0.0018, 0.0018], tick=0.5) == [0, 0, 384, 0, 0]
    assert run(Senpai(), [0.0] * 8 + [0.0018] * 6)[8:] == [0] * 6


def test_a_vm_whose_pressure_is_not_known_is_left_alone() -> None:
    policy = Senpai()
    assert not any(run(policy, [None] * 20))
    assert words(policy, vm("a"), time=20.0) == "its pressure is not known"
    unknown = replace(vm("a", stall_some=0.0), resident=None)
    assert words(policy, unknown, time=21.0) == "its size is not known"
    # Known again, it is looked at from then on.
    late = run(Senpai(), [0.0] * 5 + [None] + [0.0] * 9)
    assert {n: pages for n, pages in enumerate(late) if pages} == {13: 384}


def test_a_limit_holds_all_the_time() -> None:
    policy = Senpai()
    policy.decide(view(0.5, vm("a", stall_some=0.0), time=0.0))
    grown = vm("a", stall_some=0.0, resident=160)
    assert pushes(policy, view(0.5, grown, time=1.0)) == {"a": 10 * MIB}
    # One that has shrunk by itself keeps its limit: there is nothing above it.
    policy = Senpai()
    policy.decide(view(0.5, vm("a", stall_some=0.0), time=0.0))
    small = vm("a", stall_some=0.0, resident=120)
    assert "down to 148.5 MiB" in words(policy, small, time=7.0)


def test_limits_have_a_least_and_a_most() -> None:
    policy = Senpai()
    small = vm("small", resident=100, stall_some=0.0)
    policy.decide(view(0.5, small, time=0.0))
    assert words(policy, small, time=7.0) == "it is at its least, 100.0 MiB"
    reserved = vm("b", reservation=149, stall_some=0.0)
    policy.decide(view(0.5, reserved, time=8.0))
    assert pushes(policy, view(0.5, reserved, time=15.0)) == {"b": MIB}
    limited = build("senpai", {"most": "320MiB"}, Scales(size=2))
    limited.decide(view(0.5, vm("a", stall_some=0.5), time=0.0))
    assert "eased off to 160.0 MiB" in words(limited, vm("a", stall_some=0.5), time=1.0)


def test_it_presses_who_waits_for_nothing_and_eases_off_who_does() -> None:
    policy = Senpai()
    both = vm("calm", stall_some=0.0), vm("busy", stall_some=0.5)
    for second in range(8):
        decision = policy.decide(view(0.5, *both, time=float(second)))
    (press,) = decision.actions
    assert isinstance(press, Reclaim) and press.vm == "calm" and press.oldest
    assert press.into is Mechanism.COMPRESSION
    assert [left.vm for left in decision.left_alone if left.vm] == ["busy"]


def test_it_goes_to_the_device_when_the_pool_is_full() -> None:
    policy, one = Senpai(), vm("a", stall_some=0.0)
    policy.decide(view(0.5, one, time=0.0))
    (action,) = policy.decide(view(0.5, one, time=7.0, pool=39 * MIB)).actions
    assert isinstance(action, Reclaim) and action.into is Mechanism.SWAP
    nowhere = policy.decide(view(0.5, one, time=8.0, mechanisms=frozenset()))
    assert nowhere.state == "no way out" and not nowhere.actions
    assert LeftAlone(Mechanism.SWAP, "neither pool nor device takes pages", "a") in (
        nowhere.left_alone
    )
