"""A `command:` VM is all processes of its cgroup, whichever of them has the memory and the work."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from memlab.lab.load import load
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.series import Series
from memlab.units import MIB

pytestmark = pytest.mark.kernel

LAB = """
name: program
host: {memory: 96MiB, swap: {size: 128MiB}}
mechanisms: {tps: off, compression: off}
policy: {name: "./push.py:Push", period: 500ms}
sample: {fast: 200ms, medium: 400ms, deep: 1s}
vms:
  shop: {memory: 64MiB, command: [sh, -c, "python3 %s/child.py; true"]}
duration: 14s
"""
CHILD = """
import os, time
time.sleep(1)
cold, hot = os.urandom(32 << 20), bytearray(1 << 20)
while True:
    for place in range(0, len(hot), 4096):
        hot[place] = 1
"""
FAULTS = 600
"""More than the shell has, 160: to start Python takes 1,000. What it fills may be huge pages,
of which each is one."""
PUSH = """
from memlab.control.policy import Decision, Mechanism, Reclaim

class Push:
    name = "push"
    filled = False

    def decide(self, view):
        self.filled = self.filled or (view.vms[0].resident or 0) > 33 << 20
        if not self.filled:
            return Decision("waits")
        return Decision("pushes", (Reclaim("shop", 4 << 20, Mechanism.SWAP, "for the test"),))
"""


def total(rates: Series) -> float:
    """What a rate adds up to, from the first sample to the last."""
    steps = zip(pairwise(rates.times), rates.values[1:], strict=True)
    return sum((end - start) * (rate or 0.0) for (start, end), rate in steps)


def test_what_a_child_does_is_the_vms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell that is the VM's first process has half a MiB and sleeps.

    The policy waits until the child has filled, which takes an emulated machine four seconds.
    """
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path / "runs"))
    for name, text in {"lab.memlab.yaml": LAB, "child.py": CHILD, "push.py": PUSH}.items():
        (tmp_path / name).write_text(text.replace("%s", str(tmp_path)))
    outcome = Session(prepare(load(tmp_path / "lab.memlab.yaml")), Nobody()).run()
    outcome.restored.check()
    assert outcome.reasons == ()
    with Derived.open(outcome.recording) as run:
        resident = run.series(Entity.VM, "resident", "shop")
        assert max(resident.known) > 32 * MIB
        assert resident.known[-1] < max(resident.known) - 8 * MIB, "pushed out, as any VM's memory"
        assert max(run.series(Entity.VM, "cpu", "shop").known) > 0.2
        assert total(run.series(Entity.VM, "minor_faults", "shop")) > FAULTS
