"""What `up` says it will do to a host, on a captured tree."""

from __future__ import annotations

import pytest

from memlab.lab import plan as planning
from memlab.lab.load import loads
from tests.captured import HYBRID

LAB = """
name: programs
host: {memory: 64MiB}
mechanisms: {swap: off, compression: off, tps: {tps}}
vms: {one: {memory: 16MiB, command: [sleep, "60"]}}
"""


@pytest.mark.parametrize(
    ("tps", "can", "told"), [("on", False, 1), ("on", True, 0), ("off", False, 0)]
)
def test_programs_that_cannot_be_shared_are_told(
    tps: str, can: bool, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "merges_whole_processes", lambda: can)
    lab = loads(LAB.replace("{tps}", tps), name="programs.memlab.yaml").lab
    lines = [line for line in planning.plan(lab, roots=HYBRID).lines() if "Linux 6.4" in line]
    assert len(lines) == told
