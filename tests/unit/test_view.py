"""From newest values to what a policy sees."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from memlab.control.policy import VmView
from memlab.control.view import Frame, view_at
from memlab.record.columns import Entity
from memlab.units import MIB


@dataclass
class Claimed:
    name: str = "vm-1"
    memory: int = 64 * MIB
    shares: int = 1000
    reservation: int = 0
    limit: int | None = None


def seen(**columns: float) -> VmView:
    """The VM as a policy sees it when these are its newest values."""

    def latest(entity: Entity, name: str, vm: str) -> float | None:
        return 0.0 if (entity, name) == (Entity.LAB, "used") else columns.get(name)

    frame = Frame(96 * MIB, 0, 0, sharing_on=False, mechanisms=frozenset())
    view = view_at(1.0, latest, frame, [Claimed()])
    assert view is not None
    return view.vms[0]


@pytest.mark.parametrize(
    ("estimates", "active"),
    [
        ({"active": 5.0, "active_referenced": 6.0}, 5),
        ({"active_pressure": 9.0, "active_referenced": 6.0, "active_damon": 7.0}, 6),
        ({"active_pressure": 9.0, "active_damon": 7.0}, 7),
        ({"active_pressure": 9.0}, 9),
        ({"active": 0.0, "active_pressure": 9.0}, 0),
        ({"active_guest": 40.0}, None),
    ],
)
def test_active_memory_is_by_the_first_estimator_that_there_is(
    estimates: dict[str, float], active: int | None
) -> None:
    """What the guest calls in use never falls: it is no estimate to tax anybody by."""
    assert seen(**estimates).active == active


def test_what_is_not_known_is_not_zero() -> None:
    vm = seen(used=float(MIB))
    assert (vm.used, vm.free, vm.cpu, vm.major_faults) == (MIB, None, None, None)
