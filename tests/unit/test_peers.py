"""The peers' published laws, on numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.control.hyperv import Hyperv
from memlab.control.ksmtuned import Ksmtuned
from memlab.control.mom import Mom
from memlab.control.policies import POLICIES, build
from memlab.control.policy import Balloon, Mechanism, Reclaim, Share
from memlab.control.proxmox import Proxmox
from memlab.control.senpai import Senpai
from memlab.control.settings import Scales
from memlab.control.squeezed import Squeezed
from memlab.units import MIB, PAGE
from tests.unit.policy_views import BUDGET, balloons, reclaims, view, vm


def test_ksmtuned_boosts_while_short_and_decays_else() -> None:
    # Committed 300 + threshold 80 ≤ 400 and free is enough: off.
    calm = view(0.3, vm("a"), vm("b"), sharing_on=True)
    assert [a.on for a in Ksmtuned().decide(calm).actions if isinstance(a, Share)] == [False]
    short = Ksmtuned().decide(view(0.1, pages_to_scan=500)).actions
    assert [(a.on, a.pages_to_scan) for a in short if isinstance(a, Share)] == [(True, 800)]
    committed = view(0.3, vm("a", resident=190), vm("b", resident=190), pages_to_scan=500)
    more = Ksmtuned().decide(committed).actions
    assert [a.pages_to_scan for a in more if isinstance(a, Share)] == [450]


def test_ksmtuned_keeps_its_bounds_and_its_interval() -> None:
    policy = Ksmtuned()
    (action,) = policy.decide(view(0.1, pages_to_scan=1200)).actions
    assert isinstance(action, Share) and action.pages_to_scan == 1250
    assert not policy.decide(view(0.1, time=60.0)).actions, "60 s have not passed since 1.0"
    assert policy.decide(view(0.1, time=61.0)).actions
    (low,) = Ksmtuned().decide(view(0.3, vm("a", 400, resident=390), pages_to_scan=70)).actions
    assert isinstance(low, Share) and low.pages_to_scan == 64


def test_periods_are_divided_by_the_time_scale() -> None:
    policy = build("ksmtuned", {}, Scales(time=20))
    assert policy.decide(view(0.1)).actions
    assert not policy.decide(view(0.1, time=3.5)).actions
    assert policy.decide(view(0.1, time=4.0)).actions


def test_mom_shrinks_by_a_twentieth_towards_use_and_a_part_free() -> None:
    # 10 % free: a guest keeps 20 % × (10/20) = 10 %; 200 − 50 used + 20 = 170 is the floor, and
    # one step goes to 190.
    decision = Mom().decide(view(0.10, vm("a", free=50)))
    assert decision.state == "shrink"
    assert balloons(decision)["a"] == 10 * MIB


def test_mom_below_the_critical_part_presses_a_guest_into_its_swap() -> None:
    # 0 % free: keeps 0 − 5 % = −5 %: the floor is 195 used − 10 = 185, below what it uses.
    policy = Mom()
    tight = vm("a", free=5)
    policy.decide(view(0.0, tight))
    decision = policy.decide(view(0.0, replace(tight, ballooned=10 * MIB, free=0), time=12.0))
    assert balloons(decision)["a"] > 10 * MIB


def test_mom_grows_to_use_and_a_fifth_at_once() -> None:
    small = vm("a", ballooned=100, free=2)  # size 100, used 98: grows to 98 + 20
    assert balloons(Mom().decide(view(0.5, small)))["a"] == 82 * MIB
    # 50 used + 20 are less than 105: 5 % more
    roomy = vm("a", ballooned=100, free=50)
    assert balloons(Mom().decide(view(0.5, roomy)))["a"] == 95 * MIB


def test_mom_ignores_changes_below_a_quarter_percent() -> None:
    # Its size is its floor: nothing to do.
    decision = Mom().decide(view(0.10, vm("a", free=20)))
    assert not balloons(decision)
    assert any("where it should be" in left.reason for left in decision.left_alone)


def test_mom_takes_the_mean_of_ten_samples() -> None:
    policy = Mom()
    policy.decide(view(0.5, vm("a", free=50)))
    for tick in range(9):
        policy.decide(view(0.10, vm("a", free=50), time=2.0 + tick))
    decision = policy.decide(view(0.10, vm("a", free=0), time=11.5))
    # Nine of 50 and one of 0: 155 used in the mean, floor 155 + 20 = 175, one step to 190.
    assert balloons(decision)["a"] == 10 * MIB


def test_proxmox_has_a_dead_band_of_ten_mib() -> None:
    near = view(0.0, used=int(0.8 * BUDGET) + 9 * MIB)
    decision = Proxmox().decide(near)
    assert not decision.actions and decision.state == "at its goal"


def test_proxmox_shrinks_the_comfortable_first_by_shares() -> None:
    # 40 MiB too much; "easy" have more than a quarter of 70 free, "tight" has not.
    vms = vm("easy", free=50), vm("twice", free=50, shares=2000), vm("tight", free=5)
    decision = Proxmox().decide(view(0.1, *vms))
    found = balloons(decision)
    assert set(found) == {"easy", "twice"}
    assert found["easy"] == pytest.approx(40 / 3 * MIB, abs=2 * PAGE)
    assert found["twice"] == pytest.approx(80 / 3 * MIB, abs=2 * PAGE)


def test_proxmox_grows_the_tight_first_and_a_hundred_mib_at_most() -> None:
    vms = vm("easy", 400, free=300, ballooned=200), vm("tight", 400, free=5, ballooned=200)
    decision = Proxmox().decide(view(0.5, *vms, budget=1000 * MIB, used=500 * MIB))
    assert balloons(decision) == {"tight": 100 * MIB, "easy": 100 * MIB}
    scaled = build("proxmox", {}, Scales(size=10))
    assert balloons(scaled.decide(view(0.5, *vms)))["tight"] == 190 * MIB


def test_squeezed_holds_all_at_one_part_of_their_range() -> None:
    # Minimum 70 of 200 and 140 of 400; 392 of 400 to give out beside what is there.
    vms = vm("a"), vm("b", 400)
    decision = Squeezed().decide(view(-0.5, *vms))
    part = (600 - 200 - 8 - 210) / (600 - 210)
    assert decision.state == f"{part:.0%}"
    assert balloons(decision)["a"] == pytest.approx((200 - 70 - part * 130) * MIB, abs=PAGE)
    assert balloons(decision)["b"] == pytest.approx((400 - 140 - part * 260) * MIB, abs=PAGE)


def test_squeezed_leaves_out_a_vm_that_makes_no_progress() -> None:
    policy = Squeezed()
    stuck = view(-0.3, vm("stuck"), vm("b"))
    asked = balloons(policy.decide(stuck))
    assert set(asked) == {"stuck", "b"}
    for second in range(2, 12):
        moved = vm("b", ballooned=asked["b"] // MIB)
        decision = policy.decide(replace(stuck, time=float(second), vms=(vm("stuck"), moved)))
    reasons = {left.vm: left.reason for left in decision.left_alone if left.vm}
    assert "no progress" in reasons["stuck"]


def test_hyperv_gives_demand_and_a_fifth_and_drops_it_when_short() -> None:
    plenty = view(0.5, vm("a", used=100), vm("b", used=50))
    assert balloons(Hyperv().decide(plenty)) == {"a": 80 * MIB, "b": 130 * MIB}
    short = Hyperv().decide(view(0.0, vm("a", used=190), vm("b", used=190), vm("c", used=190)))
    assert short.state == "by weight"
    sizes = {name: 200 * MIB - target for name, target in balloons(short).items()}
    assert sizes["a"] == sizes["b"] == sizes["c"]
    assert sum(sizes.values()) <= 0.98 * BUDGET


def test_hyperv_weighs_what_is_above_the_minimum() -> None:
    vms = vm("heavy", used=190, shares=4000), vm("light", used=190), vm("c", used=190)
    sizes = {
        name: 200 * MIB - target
        for name, target in balloons(Hyperv().decide(view(0.0, *vms))).items()
    }
    assert sizes.get("heavy", 200 * MIB) > sizes["light"]


def test_senpai_squares_and_keeps_its_ends() -> None:
    policy = Senpai()
    # err = 2: (2/20)² = 1 %; err = 20: all of it; err = 40 no more than that
    assert policy.back_off(0.020, 0.010) == pytest.approx(0.01)
    assert policy.back_off(0.200, 0.010) == pytest.approx(1.0)
    assert policy.back_off(0.400, 0.010) == 1.0
    # err = 10: (10/10)² of 1 %; err = 2: a twenty-fifth of that
    assert policy.probe(0.001, 0.010) == pytest.approx(0.01)
    assert policy.probe(0.005, 0.010) == pytest.approx(0.01 * 0.04)
    assert policy.probe(0.0, 0.010) == 0.01


def test_senpai_presses_a_vm_that_waits_for_nothing_and_eases_off_one_that_does() -> None:
    policy = Senpai()
    calm, busy = vm("calm", stall_some=0.0), vm("busy", stall_some=0.5)
    first = policy.decide(view(0.5, calm, busy))
    pressed = reclaims(first)[Mechanism.COMPRESSION]
    assert set(pressed) == {"calm", "busy"}, "nothing has been waited for yet"
    (press,) = policy.decide(view(0.5, calm, busy, time=7.0)).actions
    assert isinstance(press, Reclaim) and press.vm == "calm"
    assert press.into is Mechanism.COMPRESSION
    # the limit follows: twice one per cent of 150 MiB below what is resident
    assert press.size == pytest.approx(150 * MIB * 0.0199, abs=PAGE)


def test_senpai_goes_to_the_device_when_the_pool_is_full_and_leaves_the_least() -> None:
    (action, *_) = Senpai().decide(view(0.5, pool=39 * MIB)).actions
    assert isinstance(action, Reclaim) and action.into is Mechanism.SWAP
    decision = Senpai().decide(view(0.5, vm("small", resident=100)))
    assert not decision.actions and "at its least" in decision.left_alone[0].reason


@given(
    free=st.floats(-0.3, 1.0),
    sizes=st.lists(st.tuples(st.integers(0, 190), st.integers(0, 130)), min_size=1, max_size=4),
)
def test_no_policy_asks_for_what_cannot_be(free: float, sizes: list[tuple[int, int]]) -> None:
    vms = [
        vm(f"vm-{n}", used=used, free=max(0, 200 - used - held), ballooned=held, resident=used)
        for n, (used, held) in enumerate(sizes)
    ]
    for name in POLICIES:
        policy = build(name, {})
        for tick in range(3):
            decision = policy.decide(view(free, *vms, time=tick * 70.0))
            for action in decision.actions:
                if isinstance(action, Balloon):
                    assert 0 <= action.target <= 200 * MIB * 0.65 + PAGE, name
                if isinstance(action, Reclaim):
                    assert 0 < action.size <= 200 * MIB, name
            assert all(left.reason for left in decision.left_alone)


@pytest.mark.parametrize("name", POLICIES)
def test_every_mechanism_is_acted_on_or_has_its_reason(name: str) -> None:
    decision = build(name, {}).decide(view(0.9))
    spoken = {left.mechanism for left in decision.left_alone}
    spoken |= {Mechanism.SHARING for a in decision.actions if isinstance(a, Share)}
    spoken |= {Mechanism.BALLOON for a in decision.actions if isinstance(a, Balloon)}
    spoken |= {a.into for a in decision.actions if isinstance(a, Reclaim)}
    assert spoken >= {Mechanism.SHARING, Mechanism.BALLOON}
    assert spoken & {Mechanism.COMPRESSION, Mechanism.SWAP}
