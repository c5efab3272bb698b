"""`mom`: its rules on numbers worked by hand, and what of them is a mean and what is not."""

from __future__ import annotations

from dataclasses import replace

from memlab.control.mom import Mom
from memlab.control.policies import build
from memlab.control.policy import Share, View
from memlab.control.settings import Scales
from memlab.units import MIB, PAGE
from tests.unit.policy_views import balloons, view, vm


def test_it_shrinks_by_a_twentieth_towards_use_and_a_part_free() -> None:
    # 10 % free: a guest keeps 20 % × (10/20) = 10 %; 200 − 50 used + 20 = 170 is the floor, and
    # one step goes to 190.
    decision = Mom().decide(view(0.10, vm("a", free=50)))
    assert decision.state == "shrink"
    assert balloons(decision)["a"] == 10 * MIB


def test_below_the_critical_part_it_presses_a_guest_into_its_swap() -> None:
    # 0 % free: keeps 0 − 5 % = −5 %. At 1 s it uses 195, at 12 s 190: 192.5 in the mean, less
    # 9.5 of 190 is 183; the step would go to 180.5.
    policy = Mom()
    tight = vm("a", free=5)
    policy.decide(view(0.0, tight))
    decision = policy.decide(view(0.0, replace(tight, ballooned=10 * MIB, free=0), time=12.0))
    assert balloons(decision)["a"] == 17 * MIB


def test_it_grows_to_use_and_a_fifth_at_once() -> None:
    small = vm("a", ballooned=100, free=2)  # size 100, used 98: grows to 98 + 20
    assert balloons(Mom().decide(view(0.5, small)))["a"] == 82 * MIB
    # 50 used + 20 are less than 105: 5 % more
    roomy = vm("a", ballooned=100, free=50)
    assert balloons(Mom().decide(view(0.5, roomy)))["a"] == 95 * MIB


def test_changes_up_to_a_quarter_percent_are_ignored() -> None:
    # Its size is its floor: nothing to do.
    decision = Mom().decide(view(0.10, vm("a", free=20)))
    assert not balloons(decision)
    assert any("where it should be" in left.reason for left in decision.left_alone)
    # 0.25 % of 200 are 0.5 MiB: the floor is 199.5, then one page less.
    edge = replace(vm("a"), free=20 * MIB + MIB // 2)
    assert not balloons(Mom().decide(view(0.10, edge)))
    more = replace(edge, free=20 * MIB + MIB // 2 + PAGE)
    assert balloons(Mom().decide(view(0.10, more)))["a"] == MIB // 2 + PAGE


def moving(policy: Mom, host_free: float, ballooned: int, used: int, rounds: int) -> list[int]:
    """Targets of every 10 s with a sample between; the balloon is where it was asked to be."""
    found, target = [], ballooned * MIB
    for number in range(2 * rounds):
        size = 200 * MIB - target
        now = replace(vm("a"), ballooned=target, free=size - used * MIB)
        asked = balloons(policy.decide(view(host_free, now, time=5.0 * number)))
        if number % 2 == 0:
            target = asked["a"]
            found.append(target)
    return found


def test_a_step_is_a_twentieth_of_the_balloon_s_size_now() -> None:
    # 200 MiB are 51200 pages. Sizes: 48640, 46208, 43897.6, and from the whole 43898 41703.1. A
    # mean of sizes lags behind: (51200 + 48640 + 48640)/3 · 0.95 is 47018.7 in the second round.
    found = moving(Mom(), 0.10, ballooned=0, used=80, rounds=4)
    assert [target // PAGE for target in found] == [2560, 4992, 7302, 9496]


def test_a_growing_balloon_s_step_is_of_its_size_now_too() -> None:
    # Sizes: from 25600 pages to 26880, 28224, 29635.2, and from the whole 29636 to 31117.8. What it
    # uses and a fifth, 5120 + 5120 of 25600, is less.
    found = moving(Mom(), 0.50, ballooned=100, used=20, rounds=4)
    assert [target // PAGE for target in found] == [24320, 22976, 21564, 20082]


def test_the_threshold_of_a_change_is_of_the_size_now() -> None:
    # It has 200, then 100, and always uses 90 MiB less 77 pages: with 10 % of 100 kept free it
    # should have 77 pages less. 0.25 % of 100 MiB are 64 pages, of the mean size they would be 96.
    policy, used = Mom(), 90 * MIB - 77 * PAGE
    for time, size in ((0.0, 200), (10.0, 100)):
        guest = replace(vm("a", ballooned=200 - size), free=size * MIB - used)
        found = balloons(policy.decide(view(0.10, guest, time=time)))
    assert found == {"a": 100 * MIB + 77 * PAGE}


def test_what_a_guest_uses_is_a_mean_of_ten_samples() -> None:
    policy = Mom()
    for number in range(10):  # the first one, 200 in use, is the eleventh from behind
        used = 200 if number == 0 else 150
        policy.decide(view(0.10, vm("a", free=200 - used), time=5.0 * number))
    decision = policy.decide(view(0.10, vm("a", free=10), time=50.0))
    # Nine of 150 and one of 190: 154 in the mean, + 10 % of 200 = 174; the step stops at 190.
    assert balloons(decision)["a"] == 10 * MIB
    later = policy.decide(view(0.10, vm("a", ballooned=25, free=21), time=60.0))
    # Nine of 150 or 154 and one of 190: 154.4, + 17.5 = 171.9; the step would go to 166.25.
    assert balloons(later)["a"] // PAGE == int(28.1 * 256)


def test_a_sample_is_taken_every_monitor_interval_however_short_the_tick() -> None:
    policy = Mom()
    for tick in range(10):
        used = 150 if tick % 5 == 0 else 200
        policy.decide(view(0.10, vm("a", free=200 - used), time=float(tick)))
    decision = policy.decide(view(0.10, vm("a", ballooned=30, free=20), time=10.0))
    # 150 in the mean + 17 = 167 of 170; with those in between it would be above 170.
    assert balloons(decision)["a"] == 33 * MIB


def test_the_monitor_interval_is_scaled_and_a_setting() -> None:
    for policy in (build("mom", {}, Scales(time=5)), build("mom", {"monitor": "1s"})):
        for tick in range(10):
            policy.decide(view(0.10, vm("a", free=0 if tick % 2 else 50), time=float(tick)))
        decision = policy.decide(view(0.10, vm("a", ballooned=3, free=22), time=10.0))
        # The last ten: five of 200, four of 150 and one of 175: 177.5 + 19.7 is more than 197.
        assert not balloons(decision)
    few = build("mom", {"samples": 1})
    few.decide(view(0.10, vm("a", free=0)))
    # 100 in use now, and none of 200: the step to 190
    assert balloons(few.decide(view(0.10, vm("a", free=100), time=11.0)))["a"] == 10 * MIB


def test_what_the_host_has_free_is_a_mean_too() -> None:
    policy, guests = Mom(), (vm("a", free=50), vm("b", free=50))
    policy.decide(view(0.50, *guests, time=0.0))
    policy.decide(view(0.10, *guests, time=5.0))
    grows = policy.decide(view(0.10, *guests, time=10.0, pages_to_scan=500))
    assert grows.state == "grow", "(50 + 10 + 10)/3 % are 23.3"
    # So is what KSM goes by: 2 · 200 do not fit, but the host is not short.
    assert [a.pages_to_scan for a in grows.actions if isinstance(a, Share)] == [450]
    one = Mom()
    for number, free in enumerate((0.50, 0.10, 0.10)):
        seen = view(free, guests[0], time=5.0 * number, sharing_on=True)
        off = [a.on for a in one.decide(seen).actions if isinstance(a, Share)]
    assert off == [False], "200 + 80 fit, and 23.3 % are free"
    policy.decide(view(0.10, *guests, time=15.0))
    shrinks = policy.decide(view(0.10, *guests, time=20.0, pages_to_scan=500))
    assert shrinks.state == "shrink", "(50 + 4 · 10)/5 % are 18"
    # keeps 18 % of the guest: 150 + 36 = 186 of 200; the step is to 190
    assert balloons(shrinks) == {"a": 10 * MIB, "b": 10 * MIB}
    assert [a.pages_to_scan for a in shrinks.actions if isinstance(a, Share)] == [800]


def pages(seen: View) -> list[tuple[bool, int | None]]:
    return [(a.on, a.pages_to_scan) for a in Mom().decide(seen).actions if isinstance(a, Share)]


def test_ksm_runs_while_the_vms_sizes_and_a_fifth_do_not_fit() -> None:
    # 200 + 80 of 400 leave room, and 30 % are free: off.
    one = vm("a", resident=100)
    assert pages(view(0.30, one, sharing_on=True)) == [(False, None)]
    # 2 × 160 + 80 are 400: on, and not short: from the host's own pages 50 fewer
    two = vm("a", 160, resident=10), vm("b", 160, resident=10)
    assert pages(view(0.30, *two, pages_to_scan=500)) == [(True, 450)]
    # one that has not started is no process
    assert pages(view(0.30, two[0], replace(two[1], resident=None), sharing_on=True)) == [
        (False, None)
    ]
    assert pages(view(0.10, one, pages_to_scan=500)) == [(True, 800)]
    assert pages(view(0.20, one, pages_to_scan=500)) == [(True, 450)], "at its threshold"


def test_a_guest_that_comes_back_is_another_one() -> None:
    policy = Mom()
    policy.decide(view(0.10, vm("a", free=0), time=0.0))
    gone = replace(vm("a"), ballooned=None, free=None)
    decision = policy.decide(view(0.10, gone, time=10.0))
    assert any(left.reason == "no guest driver answers" for left in decision.left_alone)
    policy.decide(view(0.10, vm("a", free=100), time=11.0))
    # 100 in use and not the mean of 150 with the old one: 10 MiB, not up to the floor of 170
    assert balloons(policy.decide(view(0.10, vm("a", free=100), time=20.0)))["a"] == 10 * MIB
