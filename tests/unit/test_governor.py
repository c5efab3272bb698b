"""The governor's journal: every action and everything left alone, with mechanism and reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from memlab.control.actuate import Done
from memlab.control.policy import Action, Mechanism
from memlab.control.view import Frame
from memlab.errors import VmError
from memlab.lab.governor import Governor
from memlab.lab.hands import Claim, Hands
from memlab.lab.load import load
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.sample import VmInfo
from memlab.record.series import Choice, Event
from memlab.record.store import Recording
from memlab.report import why
from memlab.units import MIB

LAB = """
name: all-five
host: {memory: 64MiB, swap: {size: 64MiB}}
policy: {name: "every.py:Every", period: 1s}
vms:
  a: {memory: 64MiB, workload: {name: idle, size: 32MiB}}
duration: 10s
"""
EVERY = """
from memlab.control.policy import (
    Age, Balloon, Block, Decision, LeftAlone, Mechanism, Reclaim, Share,
)
class Every:
    name = "every"
    def decide(self, view):
        return Decision(
            "busy",
            (
                Share(True, "r-share"), Balloon("a", 4 << 20, "r-balloon"),
                Reclaim("a", 4 << 20, Mechanism.COMPRESSION, "r-pool"),
                Reclaim("a", 4 << 20, Mechanism.SWAP, "r-device", oldest=True),
                Age("a", "r-age"), Block("a", True, "r-block"),
            ),
            (LeftAlone(Mechanism.SWAP, "r-left", "a"), LeftAlone(Mechanism.SHARING, "r-all")),
        )
"""


class Seen(Derived):
    """One sample in which the lab uses 32 MiB."""

    def __init__(self) -> None:
        pass

    def latest(self, entity: Entity, name: str, vm: str = "") -> float | None:
        return 32.0 * MIB if (entity, name) == (Entity.LAB, "used") else None

    def events(self) -> tuple[Event, ...]:
        return ()


class Quiet(Hands):
    """Hands that do as they are told; the balloon's driver refuses."""

    def __init__(self) -> None:
        self.claims = {"a": Claim("a", 64 * MIB, 1000, 0, None)}

    def frame(self) -> Frame:
        return Frame(64 * MIB, 0, 64 * MIB, False, frozenset(Mechanism))

    def act(self, action: Action) -> Done:
        if type(action).__name__ == "Balloon":
            raise VmError("a", "no driver answers")
        return Done("asked", "got", 0.001)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    (tmp_path / "every.py").write_text(EVERY)
    (tmp_path / "all-five.memlab.yaml").write_text(LAB)
    path = tmp_path / "recording.sqlite"
    manifest: Mapping[str, object] = {"vms": [{"name": "a"}], "window": [0, 9]}
    with Recording.create(path, manifest) as made:
        made.add_vm(VmInfo("a", 1, "process", 64 * MIB))
        governor = Governor(
            load(tmp_path / "all-five.memlab.yaml").lab, Quiet(),
            source=Seen(), recording=made, note=lambda _text: None, verify=lambda: None,
            moved=lambda _vm: None, folder=tmp_path,
        )  # fmt: skip
        for tenth in range(25):
            governor.tick(tenth / 10)
        made.finish({})
    return path


def choices(path: Path) -> tuple[Choice, ...]:
    with Derived.open(path, check=False) as source:
        return tuple(source.choices())


def test_each_action_has_its_own_mechanism_and_its_reason(journal: Path) -> None:
    first = [one for one in choices(journal) if one.time == 1.0]
    assert [(one.action, one.mechanism, one.vm, one.reason) for one in first] == [
        ("share", "sharing", "", "r-share"),
        ("balloon", "balloon", "a", "r-balloon"),
        ("reclaim", "compression", "a", "r-pool"),
        ("reclaim", "swap", "a", "r-device"),
        ("age", "age", "a", "r-age"),
        ("block", "block", "a", "r-block"),
        ("left-alone", "swap", "a", "r-left"),
        ("left-alone", "sharing", "", "r-all"),
    ]
    assert first[1].got == "refused: VM a: no driver answers"
    assert {one.state for one in first} == {"busy"}


def test_the_policy_is_asked_once_a_period(journal: Path) -> None:
    assert sorted({one.time for one in choices(journal)}) == [1.0, 2.0]


def test_why_counts_agings_by_themselves(journal: Path) -> None:
    with Derived.open(journal, check=False) as source:
        (line,) = why.overview(why.moments(source))
    assert line.endswith(
        "2 ticks, sharing 2×, balloon 2×, compression 2×, swap 2×, age 2×, block 2×"
    )
