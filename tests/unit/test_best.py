"""`best`: sharing while it pays, ghosts first, the cold make room, faults are the brake."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memlab.control.best import Best
from memlab.control.policies import build
from memlab.control.policy import Age, Decision, Mechanism, Reclaim, Share, View, VmView
from memlab.control.settings import Scales
from memlab.units import MIB, PAGE
from tests.unit.policy_views import BUDGET, balloons, reclaims, view, vm


def pace(decision: Decision) -> int | None:
    (share,) = [one for one in decision.actions if isinstance(one, Share)]
    return share.pages_to_scan


def reasons(decision: Decision, name: str) -> str:
    return "; ".join(left.reason for left in decision.left_alone if left.vm == name)


def pushes(decision: Decision) -> list[Reclaim]:
    return [one for one in decision.actions if isinstance(one, Reclaim)]


def aged(decision: Decision) -> list[str]:
    return [one.vm for one in decision.actions if isinstance(one, Age)]


def saving(time: float, mib: float, **more: int) -> View:
    return view(0.5, time=time, saved_sharing=int(mib * MIB), **more)


class TestSharing:
    def test_ksmd_runs_fast_while_pages_still_merge_and_slowly_after(self) -> None:
        policy = Best()
        assert pace(policy.decide(saving(0.0, 0))) == 1000, "nothing is known yet"
        for second in range(1, 5):  # 0.5 % of 400 MiB a second pays, and this is 10 MiB
            assert pace(policy.decide(saving(second, 10 * second))) == 3000
        found = [pace(policy.decide(saving(second, 41))) for second in range(5, 9)]
        assert found[0] == 3000, "not at the first look without a gain"
        assert found[-1] == 100

    def test_it_speeds_up_again_when_a_vm_has_filled_with_what_is_common(self) -> None:
        policy = Best()
        found = [pace(policy.decide(saving(second, 0))) for second in range(8)]
        assert found == [1000] * 4 + [100] * 4
        assert pace(policy.decide(saving(9, 30))) == 3000

    def test_a_pace_that_is_kept_is_not_asked_for_again(self) -> None:
        policy = Best()
        policy.decide(saving(0.0, 0))
        again = policy.decide(replace(saving(1.0, 10), sharing_on=True, pages_to_scan=3000))
        assert not [one for one in again.actions if isinstance(one, Share)]


class TestGhosts:
    def test_freed_memory_is_taken_and_the_cache_is_not(self) -> None:
        freed, cached = vm("freed", ghost=60, free=80), vm("cached", free=20, cache=100, ghost=0)
        found = Best().decide(view(0.3, freed, cached))
        assert balloons(found) == {"freed": 60 * MIB}
        assert found.state == "takes ghosts"
        assert "backs 0 B" in reasons(found, "cached")

    def test_nothing_is_taken_while_half_of_the_budget_is_free(self) -> None:
        assert not balloons(Best().decide(view(0.6, vm("a", ghost=60))))

    def test_the_guest_keeps_its_floor_and_the_balloon_its_maximum(self) -> None:
        found = balloons(Best().decide(view(0.1, vm("a", ghost=100, free=100, ballooned=60))))
        assert found == {"a": 130 * MIB}, "65 % of 200"
        found = balloons(Best().decide(view(0.1, vm("a", ghost=50, free=50))))
        assert found == {"a": 42 * MIB}, "4 % of 200 stay free"

    def test_a_guest_that_runs_dry_gets_half_of_its_size_back_at_once(self) -> None:
        assert balloons(Best().decide(view(0.0, vm("a", free=2, ballooned=130))))["a"] == 30 * MIB


def sleeper(name: str, **more: int) -> VmView:
    return replace(
        vm(name, **{"private": 100, "out": 0, "ghost": 0} | more),
        cpu=0.001, major_faults=0.0,
    )  # fmt: skip


class TestRoom:
    def test_the_coldest_makes_it_and_one_that_fetches_back_is_left_alone(self) -> None:
        back = replace(sleeper("back", out=40), major_faults=2000.0)
        found = Best().decide(view(0.0, back, sleeper("cold")))
        assert reclaims(found) == {Mechanism.SWAP: ["cold"]}
        assert "fetches pages back (2,000 faults/s)" in reasons(found, "back")

    def test_no_more_than_is_missing_and_in_steps(self) -> None:
        (one,) = pushes(Best().decide(view(0.04, sleeper("a"))))
        assert one.size == pytest.approx(0.02 * BUDGET, abs=PAGE)
        (one,) = pushes(Best().decide(view(-1.0, sleeper("a"))))
        assert one.size == 30 * MIB, "15 % of 200"

    def test_a_busy_vm_is_left_to_the_kernel_unless_it_has_far_more_than_it_uses(self) -> None:
        busy = replace(sleeper("busy"), cpu=0.5)
        assert "50.0% of a core" in reasons(Best().decide(view(0.0, busy)), "busy")
        rich = replace(busy, active=40 * MIB)
        assert reclaims(Best().decide(view(0.0, rich))) == {Mechanism.SWAP: ["busy"]}

    def test_who_comes_back_waits_twice_as_long_each_time(self) -> None:
        policy = build("best", {}, Scales(time=2.0))
        cold = view(0.0, sleeper("a", out=40))
        back = view(0.0, replace(sleeper("a", out=40), major_faults=2000.0))

        def pushed_at(time: float) -> bool:
            return bool(reclaims(policy.decide(replace(cold, time=time))))

        policy.decide(replace(back, time=1.0))
        assert not pushed_at(1.9) and pushed_at(2.1), "2 s, divided by the time scale"
        policy.decide(replace(back, time=3.0))
        assert not pushed_at(4.9) and pushed_at(5.1)

    def test_reservations_are_kept(self) -> None:
        vms = sleeper("a", reservation=95), sleeper("b", reservation=200)
        (one,) = pushes(Best().decide(view(-1.0, *vms)))
        assert (one.vm, one.size) == ("a", 5 * MIB)

    def test_what_is_switched_off_is_not_used(self) -> None:
        only = frozenset({Mechanism.COMPRESSION})
        found = Best().decide(view(0.0, sleeper("a"), mechanisms=only))
        assert reclaims(found) == {Mechanism.COMPRESSION: ["a"]}
        assert len([left for left in found.left_alone if "switched off" in left.reason]) == 2
        assert not Best().decide(view(0.0, sleeper("a"), mechanisms=frozenset())).actions


class TestAging:
    def test_who_does_not_wait_is_made_old_while_another_one_does(self) -> None:
        waits = replace(sleeper("waits", out=90), major_faults=12_000.0)
        found = Best().decide(view(0.0, waits, sleeper("quiet"), sleeper("hardly")))
        assert aged(found) == ["quiet", "hardly"]
        assert "it waits for memory" in reasons(found, "waits")

    def test_nobody_is_if_all_wait_or_none_does(self) -> None:
        a, b = (
            replace(sleeper(x, out=90), major_faults=rate) for x, rate in (("a", 9e3), ("b", 3e3))
        )
        assert not aged(Best().decide(view(0.0, a, b)))
        few = replace(sleeper("few", out=90), major_faults=400.0)
        assert not aged(Best().decide(view(0.0, few, sleeper("quiet"))))

    def test_a_vm_of_which_nothing_is_known_yet_is_left_alone(self) -> None:
        waits = replace(sleeper("waits", out=90), major_faults=12_000.0)
        new = replace(sleeper("new"), resident=None, major_faults=None)
        assert not aged(Best().decide(view(0.0, waits, new)))


def test_what_the_workload_does_is_not_to_be_seen() -> None:
    """It decides by what a host can know: operations are the guest's secret."""
    assert not {"operations", "working_set", "p99"} & set(VmView.__dataclass_fields__)


def test_the_same_view_again_and_again_brings_no_swing() -> None:
    policy = Best()
    states = [policy.decide(replace(view(0.5), time=float(t))).state for t in range(20)]
    assert len(set(states[8:])) == 1
