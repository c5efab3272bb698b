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
        full = Best().decide(view(0.1, vm("a", ghost=50, free=60, ballooned=130)))
        assert not balloons(full) and reasons(full, "a").startswith("its balloon is at its largest")
        found = balloons(Best().decide(view(0.1, vm("a", ghost=50, free=50))))
        assert found == {"a": 42 * MIB}, "4 % of 200 stay free"

    def test_a_guest_that_runs_dry_gets_half_of_its_size_back_at_once(self) -> None:
        assert balloons(Best().decide(view(0.0, vm("a", free=2, ballooned=130))))["a"] == 30 * MIB


def at_work(name: str, **more: int) -> VmView:
    """A VM that works and has 100 MiB of its own, of which nothing has gone yet."""
    sizes = {"private": 100, "out": 0, "ghost": 0} | more
    return replace(vm(name, **sizes), cpu=0.5, major_faults=0.0)


def asleep(name: str, **more: int) -> VmView:
    return replace(at_work(name, **more), cpu=0.001)


class TestRoom:
    def test_of_a_vm_that_sleeps_the_oldest_go_at_once(self) -> None:
        found = Best().decide(view(0.0, at_work("works"), asleep("sleeps")))
        (one,) = pushes(found)
        assert (one.vm, one.into, one.oldest) == ("sleeps", Mechanism.SWAP, True)
        assert one.size == 30 * MIB, "15 % of 200"
        assert "it sleeps (0.1% of a core)" in one.reason
        assert aged(found) == ["works"]

    def test_one_that_works_is_made_old_first_and_has_a_second_to_use_what_it_keeps(self) -> None:
        policy, calm = Best(), view(0.2, at_work("a"))

        def at(time: float) -> Decision:
            return policy.decide(replace(calm, time=time))

        assert aged(at(1.0)) == ["a"]
        assert "a moment ago" in reasons(at(1.5), "a")
        assert [one.size for one in pushes(at(2.0))] == [4 * MIB], "2 % of 200"
        assert [one.size for one in pushes(at(2.5))] == [8 * MIB], "twice as much: none came back"
        assert [one.size for one in pushes(at(3.0))] == [16 * MIB]
        assert [one.size for one in pushes(at(3.5))] == [30 * MIB], "15 %, and no more"
        assert aged(at(5.0)) == ["a"], "after four seconds anew"

    def test_who_fetches_back_waits_twice_as_long_each_time_and_begins_anew(self) -> None:
        policy = build("best", {}, Scales(time=2.0))
        calm = view(0.2, at_work("a", out=40))
        back = view(0.2, replace(at_work("a", out=40), major_faults=300.0))

        def taken(time: float) -> list[int]:
            found = policy.decide(replace(calm, time=time))
            return [one.size // MIB for one in pushes(found)]

        policy.decide(replace(calm, time=1.0))
        assert taken(2.0) == [4] and taken(2.5) == [8]
        again = policy.decide(replace(back, time=3.0))
        assert "fetches pages back (300 faults/s)" in reasons(again, "a")
        assert taken(3.9) == [], "2 s, divided by the time scale"
        assert taken(4.1) == [4], "and little again"
        policy.decide(replace(back, time=4.5))
        assert taken(6.4) == [], "twice as long"

    def test_nothing_goes_while_the_reserve_is_there_and_no_more_than_is_missing(self) -> None:
        assert "the reserve is there" in reasons(Best().decide(view(0.31, asleep("a"))), "a")
        (one,) = pushes(Best().decide(view(0.28, asleep("a"))))
        assert one.size == pytest.approx(0.02 * BUDGET, abs=PAGE)

    def test_a_vm_whose_work_is_not_known_yet_does_not_sleep(self) -> None:
        found = Best().decide(view(0.0, replace(asleep("new"), cpu=None)))
        assert aged(found) == ["new"] and not pushes(found)

    def test_reservations_are_kept(self) -> None:
        vms = asleep("a", reservation=95), asleep("b", reservation=200)
        (one,) = pushes(Best().decide(view(-1.0, *vms)))
        assert (one.vm, one.size) == ("a", 5 * MIB)

    def test_what_is_switched_off_is_not_used(self) -> None:
        only = frozenset({Mechanism.COMPRESSION})
        found = Best().decide(view(0.0, asleep("a"), mechanisms=only))
        assert reclaims(found) == {Mechanism.COMPRESSION: ["a"]}
        off = {left.mechanism for left in found.left_alone if "switched off" in left.reason}
        assert off == {Mechanism.SHARING, Mechanism.BALLOON, Mechanism.SWAP}
        assert not Best().decide(view(0.0, asleep("a"), mechanisms=frozenset())).actions

    def test_a_full_device_leaves_the_pool_and_then_nothing(self) -> None:
        full = view(0.0, asleep("a"), swap_used=1000 * MIB)
        assert reclaims(Best().decide(full)) == {Mechanism.COMPRESSION: ["a"]}
        assert not pushes(Best().decide(replace(full, pool=39 * MIB)))

    def test_the_way_out_that_is_not_taken_has_its_reason(self) -> None:
        def ways(**more: int) -> dict[Mechanism, str]:
            found = Best().decide(view(0.0, asleep("a"), **more)).left_alone
            return {left.mechanism: left.reason for left in found if not left.vm}

        pool = "the pool is full (39.0 MiB of 40.0 MiB)"
        device = "no swap slots are left (1000.0 MiB in use)"
        assert ways() == {
            Mechanism.COMPRESSION: "the pool is kept for pages that will be wanted again"
        }
        assert ways(pool=39 * MIB) == {Mechanism.COMPRESSION: pool}
        assert ways(swap_used=1000 * MIB) == {Mechanism.SWAP: device}
        both = ways(pool=39 * MIB, swap_used=1000 * MIB)
        assert both == {Mechanism.COMPRESSION: pool, Mechanism.SWAP: device}


def waiting(name: str, faults: float = 12_000.0) -> VmView:
    return replace(at_work(name, out=90), major_faults=faults)


class TestWhileOneWaits:
    def test_the_others_are_made_old_and_give_and_it_does_not(self) -> None:
        policy, now = Best(), view(0.2, waiting("waits"), at_work("busy"), asleep("sleeps"))
        found = policy.decide(now)
        assert aged(found) == ["busy"]
        assert [one.vm for one in pushes(found)] == ["sleeps"]
        assert "it waits for memory (12,000 faults/s)" in reasons(found, "waits")
        found = policy.decide(replace(now, time=1.5))
        assert [one.vm for one in pushes(found)] == ["busy", "sleeps"], "half a second is enough"
        assert aged(policy.decide(replace(now, time=2.0))) == ["busy"], "made old every second"

    def test_one_that_is_left_alone_is_made_old_all_the_same(self) -> None:
        found = Best().decide(view(0.2, waiting("waits"), waiting("less", 2000.0)))
        assert aged(found) == ["less"] and not pushes(found)

    def test_nobody_gives_if_all_wait(self) -> None:
        found = Best().decide(view(0.0, waiting("a", 9e3), waiting("b", 5e3)))
        assert not aged(found) and not pushes(found)

    def test_a_vm_of_which_nothing_is_known_yet_is_left_alone(self) -> None:
        new = replace(asleep("new"), resident=None, major_faults=None)
        found = Best().decide(view(0.0, waiting("waits"), new))
        assert not pushes(found) and "not known yet" in reasons(found, "new")


def test_what_the_workload_does_is_not_to_be_seen() -> None:
    """It decides by what a host can know: operations are the guest's secret."""
    assert not {"operations", "working_set", "p99"} & set(VmView.__dataclass_fields__)


def test_the_same_view_again_and_again_brings_no_swing() -> None:
    policy = Best()
    states = [policy.decide(replace(view(0.5), time=float(t))).state for t in range(20)]
    assert len(set(states[8:])) == 1
