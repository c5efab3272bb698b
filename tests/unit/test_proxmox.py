"""`proxmox`: the published sharing-out, on numbers worked by hand and on its own test's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from memlab.control.policies import build
from memlab.control.policy import View, VmView
from memlab.control.proxmox import Proxmox
from memlab.control.settings import Scales
from memlab.units import MIB
from tests.unit.policy_views import BUDGET, balloons, view, vm


def sizes(policy: Proxmox, seen: View) -> dict[str, float]:
    """What the policy gives each VM that it moves, MiB."""
    configured = {each.name: each.configured for each in seen.vms}
    found = balloons(policy.decide(seen))
    return {name: (configured[name] - target) / MIB for name, target in found.items()}


def short(missing: int, *vms: VmView) -> View:
    """A host that uses `missing` MiB less than its goal (more, if negative)."""
    return view(0.0, *vms, budget=10_000 * MIB, used=(8_000 - missing) * MIB)


def guest(name: str, size: int, *, least: int = 1000, shares: int = 1000, free: int = 0) -> VmView:
    """A VM of 2000 MiB that has `size`."""
    return vm(name, 2000, ballooned=2000 - size, reservation=least, shares=shares, free=free)


ALIKE = (guest("100", 1000, shares=2000), guest("101", 1000))
"""The states and results of pve-manager's test/balloontest.pl, in MiB for its MB."""
FULL = (guest("100", 2000, least=2000, shares=2000), guest("101", 1000))
THREE = (FULL[0], guest("101", 1007), guest("102", 1000, free=512))


@pytest.mark.parametrize(
    ("vms", "missing", "found"),
    [
        (ALIKE, 0, {}),
        (ALIKE, 90, {"100": 1060, "101": 1030}),
        (ALIKE, 150, {"100": 1100, "101": 1050}),
        (ALIKE, 270, {"100": 1100, "101": 1090}),
        (FULL, 0, {}),
        (FULL, 18, {"101": 1018}),
        (FULL, 500, {"101": 1100}),
        (THREE, 0, {}),
        (THREE, 11, {"101": 1018}),
        (THREE, 80, {"101": 1087}),
        (THREE, 200, {"101": 1107}),
    ],
)
def test_one_round_of_the_published_table(
    vms: tuple[VmView, ...], missing: int, found: Mapping[str, float]
) -> None:
    assert sizes(Proxmox(), short(missing, *vms)) == found


def settle(missing: int, vms: tuple[VmView, ...]) -> tuple[VmView, ...]:
    """The VMs after as many rounds as do anything; what one gets lies free in it."""
    policy = Proxmox()
    for number in range(40):
        found = sizes(policy, replace(short(missing, *vms), time=10.0 * number))
        if not found:
            return vms
        after = []
        for each in vms:
            has = (each.configured - (each.ballooned or 0)) // MIB
            gets = int(found.get(each.name, has))
            free = max(0, (each.free or 0) // MIB + gets - has)
            missing -= gets - has
            after.append(replace(each, ballooned=each.configured - gets * MIB, free=free * MIB))
        vms = tuple(after)
    raise AssertionError("it does not come to rest")


def have(vms: tuple[VmView, ...]) -> dict[str, float]:
    return {each.name: (each.configured - (each.ballooned or 0)) / MIB for each in vms}


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        (180, {"100": 1120, "101": 1060}),
        (270, {"100": 1180, "101": 1090}),
        (600, {"100": 1300, "101": 1300}),
        (900, {"100": 1600, "101": 1300}),
    ],
)
def test_rounds_until_it_rests_of_the_published_table(
    missing: int, found: Mapping[str, float]
) -> None:
    assert have(settle(missing, ALIKE)) == found


def test_what_was_given_is_taken_back_as_in_the_published_table() -> None:
    grown = settle(593, THREE)
    assert have(grown) == {"100": 2000, "101": 1300, "102": 1300}
    assert have(settle(-200, grown)) == {"100": 2000, "101": 1200, "102": 1200}
    assert have(settle(-400, grown)) == {"100": 2000, "101": 1200, "102": 1000}
    assert have(settle(-593, grown)) == {"100": 2000, "101": 1007, "102": 1000}


def test_it_has_a_dead_band_of_ten_mib() -> None:
    vms = (vm("a", free=5, ballooned=100),)
    at_edge = view(0.0, *vms, used=int(0.8 * BUDGET) - 10 * MIB)
    decision = Proxmox().decide(at_edge)
    assert not decision.actions and decision.state == "at its goal"
    beyond = replace(at_edge, used=at_edge.used - 1)
    assert Proxmox().decide(beyond).state == "grow"


def test_who_has_more_shares_keeps_more_when_memory_is_taken() -> None:
    # 40 MiB too much. Above their minima of 80 both have 120: 240 − 40 = 200 to share out, 66⅔ and
    # 133⅓. `twice` would have 213⅓ of 200: it keeps all. `once` goes to 146⅔, 13⅓ too far; alone
    # it has 66⅔ + 13⅓ = 80 above its minimum.
    vms = (
        vm("once", free=50, reservation=80),
        vm("twice", free=50, reservation=80, shares=2000),
        vm("tight", free=5),
    )
    assert sizes(Proxmox(), view(0.1, *vms)) == {"once": 160}


def test_a_guest_is_comfortable_with_more_than_a_quarter_of_its_minimum_free() -> None:
    vms = vm("edge", free=20, reservation=80), vm("over", free=21, reservation=80)
    assert sizes(Proxmox(), view(0.1, *vms)) == {"over": 160}
    # Below its minimum no guest is: of 12 MiB it is the first to get some, up to its minimum.
    below = vm("below", free=100, reservation=120, ballooned=100)
    easy = vm("easy", free=50, reservation=80)
    assert sizes(Proxmox(), short(12, below, easy)) == {"below": 120}


def test_the_others_wait_as_long_as_the_first_make_headway() -> None:
    # 300 missing: `tight` takes its step of 100, and nobody else is asked for the other 200.
    easy = vm("easy", 400, free=300, ballooned=200)
    seen = view(0.5, easy, vm("tight", 400, free=5, ballooned=200), budget=1000 * MIB)
    seen = replace(seen, used=500 * MIB)
    assert sizes(Proxmox(), seen) == {"tight": 300}
    # It has all that it may have: now all are asked.
    stuck = replace(seen, vms=(easy, vm("tight", 400, free=5)))
    assert sizes(Proxmox(), stuck) == {"easy": 300}


def test_a_step_is_scaled_with_the_sizes() -> None:
    scaled = build("proxmox", {}, Scales(size=10))
    found = balloons(scaled.decide(view(0.5, vm("tight", 400, free=5, ballooned=200))))
    assert found == {"tight": 190 * MIB}


def test_a_guest_without_a_driver_is_left_alone() -> None:
    decision = Proxmox().decide(view(0.5, vm("a", ballooned=100, free=0), VmView("x", 200 * MIB)))
    assert "no guest driver" in {left.vm: left.reason for left in decision.left_alone}["x"]
    assert set(balloons(decision)) == {"a"}
