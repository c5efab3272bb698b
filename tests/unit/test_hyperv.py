"""`hyperv`: demand, buffer and weight, and what a Linux guest's driver refuses, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.control.hyperv import balloon_floor
from memlab.control.policies import build
from memlab.control.policy import Policy, View, VmView
from memlab.control.settings import Scales
from memlab.units import MIB, PAGE
from tests.unit.policy_views import balloons, view, vm

FLOOR = 27
"""MiB that the driver leaves in a guest of 200 MiB at size_scale 16: (232 + 3200/16)/16."""


def hyperv(**settings: str) -> Policy:
    """The policy at size_scale 16, guests reporting from the start."""
    return build("hyperv", {"report_delay": "0s"} | settings, Scales(size=16))


def guest(name: str, used: int, **more: int) -> VmView:
    """A VM of 200 MiB of which all is free that is neither used nor ballooned nor cache."""
    free = 200 - used - more.get("ballooned", 0) - more.get("cache", 0)
    return vm(name, used=used, free=free, **more)


def sizes(policy: Policy, seen: View) -> dict[str, float]:
    """What the VMs are given that are not left alone, MiB."""
    return {name: 200 - target / MIB for name, target in balloons(policy.decide(seen)).items()}


@pytest.mark.parametrize(
    ("size", "floor"),
    [(32, 24), (128, 72), (512, 168), (2048, 360), (8192, 744), (32768, 1512)],
)
def test_the_floor_is_the_published_one(size: int, floor: int) -> None:
    assert balloon_floor(size * MIB) == floor * MIB


def test_a_guest_gets_its_demand_and_a_fifth() -> None:
    # (100 + 27) · 1.2 = 152.4 and (50 + 27) · 1.2 = 92.4, in whole pages of balloon
    found = balloons(hyperv().decide(view(0.5, guest("a", 100), guest("b", 50))))
    assert {name: target // PAGE for name, target in found.items()} == {
        "a": int(47.6 * 256), "b": int(107.6 * 256),
    }  # fmt: skip


def test_the_floor_goes_by_the_guest_s_size_at_its_scale() -> None:
    # Unscaled a guest of 200 MiB keeps 40 + 50: (50 + 90) · 1.2 = 168
    unscaled = build("hyperv", {"report_delay": "0s"})
    assert sizes(unscaled, view(0.5, guest("a", 50))) == {"a": 168}


def test_what_is_in_the_guest_s_own_swap_is_committed() -> None:
    # (100 + 8 + 27) · 1.2 = 162
    assert sizes(hyperv(), view(0.5, guest("a", 100, guest_swapped=8))) == {"a": 162}


def test_the_buffer_is_dropped_when_not_everybody_s_fits() -> None:
    # 392 to give. With buffers 3 · 152.4 is too much; without them 3 · 127 fits.
    three = [guest(name, 100) for name in "abc"]
    decision = hyperv().decide(view(0.0, *three))
    assert decision.state == "by weight"
    assert balloons(decision) == dict.fromkeys("abc", 73 * MIB)


def test_weight_decides_how_far_demand_is_met() -> None:
    # All have 100 and have committed 95 + 65 + 27 = 187; 2 % of 600 are kept, 588 are there.
    vms = [guest(name, 95, ballooned=100, guest_swapped=65) for name in "abc"]
    heavy = guest("d", 95, ballooned=100, guest_swapped=65, shares=1500)
    seen = view(0.0, *vms, heavy, budget=600 * MIB)
    # 588 in parts of 1000, 1000, 1000 and 1500: 130⅔ and 196, of which it wants 187; so
    # (588 − 187)/3 = 133⅔ for the others.
    found = sizes(hyperv(), seen)
    assert found["d"] == pytest.approx(187, abs=PAGE / MIB)
    for name in "abc":
        assert found[name] == pytest.approx(401 / 3, abs=2 * PAGE / MIB)
    assert sum(found.values()) <= 588 + 4 * PAGE / MIB


def test_a_driver_refuses_what_would_leave_less_than_its_floor() -> None:
    # 30 free and 10 of cache, less 27: 13 can be taken, whatever the host would like. It uses 30
    # of what it has: (30 + 27) · 1.2 is what it should get.
    grasping = vm("a", used=30, free=30, cache=10)
    assert sizes(hyperv(), view(0.5, grasping)) == {"a": 187}
    # Nothing above the floor: nothing goes, however short the host is.
    full = [vm(name, used=100, free=20, cache=7) for name in "abc"]
    assert sizes(hyperv(), view(-0.5, *full)) == {}
    # A balloon that stands already is not driven out by that.
    held = vm("a", used=100, free=5, ballooned=95)
    assert sizes(hyperv(), view(0.5, held)) == {"a": pytest.approx(152.4, abs=PAGE / MIB)}


def test_a_filling_guest_is_given_to_at_each_tick_while_there_is_memory() -> None:
    # 100 in use, 20 left of 120: its demand of 127 and a fifth is there, and it gets it at once.
    filling = vm("a", used=100, free=20, ballooned=80)
    assert sizes(hyperv(), view(0.5, filling)) == {"a": pytest.approx(152.4, abs=PAGE / MIB)}


def test_memory_of_who_has_no_driver_is_not_given_twice() -> None:
    # 392 less 150 of the mute one is 242: not enough for 2 · 152.4.
    mute = VmView("mute", 200 * MIB, resident=150 * MIB)
    two = guest("a", 100), guest("b", 100)
    assert hyperv().decide(view(0.5, *two)).state == "buffered"
    decision = hyperv().decide(view(0.5, mute, *two))
    assert decision.state == "by weight"
    assert {left.vm for left in decision.left_alone if left.vm} == {"mute"}
    charged = replace(mute, resident=None, consumed=90 * MIB)
    assert hyperv().decide(view(0.5, charged, *two)).state == "by weight", "302 of 304.8"
    charged = replace(mute, resident=None, consumed=87 * MIB)
    assert hyperv().decide(view(0.5, charged, *two)).state == "buffered", "305 of 304.8"


def test_the_overhead_of_a_mute_vm_is_counted_once() -> None:
    # Its resident size has it in it: 392 − 87 are enough for 304.8.
    mute = VmView("mute", 200 * MIB, resident=87 * MIB, overhead=20 * MIB)
    two = guest("a", 100), guest("b", 100)
    assert hyperv().decide(view(0.5, mute, *two)).state == "buffered"
    first = replace(two[0], overhead=MIB)
    assert hyperv().decide(view(0.5, mute, first, two[1])).state == "by weight"


def test_a_guest_that_starts_keeps_all_until_it_reports() -> None:
    policy = build("hyperv", {}, Scales(size=16))
    late = guest("late", 10)
    decision = policy.decide(view(0.5, late, time=1.0))
    assert not decision.actions
    assert "has not reported yet" in decision.left_alone[0].reason
    assert not policy.decide(view(0.5, late, time=45.5)).actions
    assert set(sizes(policy, view(0.5, late, time=46.0))) == {"late"}
    # Another guest in the same VM starts anew.
    gone = replace(late, used=None, free=None, ballooned=None)
    policy.decide(view(0.5, gone, time=50.0))
    assert not policy.decide(view(0.5, late, time=51.0)).actions
    scaled = build("hyperv", {}, Scales(time=10, size=16))
    scaled.decide(view(0.5, late, time=1.0))
    assert scaled.decide(view(0.5, late, time=5.5)).actions


def test_what_a_starting_guest_keeps_the_others_do_not_get() -> None:
    policy = build("hyperv", {}, Scales(size=16))
    running = guest("a", 120), guest("b", 120)
    policy.decide(view(0.5, *running, time=1.0))
    # 2 · 147 · 1.2 = 352.8 of 392
    assert policy.decide(view(0.5, *running, time=50.0)).state == "buffered"
    # less the 200 that the third was started with: 192, but what their drivers refuse
    started = policy.decide(view(0.5, *running, guest("c", 10, resident=20), time=51.0))
    assert started.state == "by weight"
    assert balloons(started) == {"a": 53 * MIB, "b": 53 * MIB}


def test_a_minimum_is_kept() -> None:
    # (10 + 27) · 1.2 = 44.4; the minimum is 35 % of 200, or the reservation.
    vms = guest("a", 10), guest("b", 10, reservation=90)
    assert sizes(hyperv(), view(0.5, *vms)) == {"a": pytest.approx(70, abs=PAGE / MIB), "b": 90}


@given(
    some=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 130)), min_size=1, max_size=4),
    free=st.floats(-1.0, 1.0),
)
def test_no_guest_is_left_less_than_the_floor_by_a_balloon_that_grows(
    some: list[tuple[int, int]], free: float
) -> None:
    vms = [
        vm(f"{n}", used=used, ballooned=min(held, 200 - used), free=max(0, 200 - used - held))
        for n, (used, held) in enumerate(some)
    ]
    found = balloons(hyperv().decide(view(free, *vms)))
    for each in vms:
        taken = found.get(each.name, 0) - (each.ballooned or 0)
        if taken > 0:
            assert (each.free or 0) - taken >= FLOOR * MIB
