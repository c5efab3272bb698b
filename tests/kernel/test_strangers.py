"""Who else pushes memory out on this host is told where a lab has swap, and left alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from memlab.lab.load import loads
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.derive import Derived

pytestmark = pytest.mark.kernel

LAB = """
name: beside
host: {{memory: 96MiB, swap: {{size: 128MiB}}}}
mechanisms: {{tps: off, compression: off, swap: {swap}}}
policy: none
vms: {{one: {{memory: 32MiB, workload: {{name: idle, size: 8MiB}}}}}}
duration: 2s
"""
LOOK = "cd /sys/kernel/mm/damon/admin/kdamonds && grep -H . */state */contexts/*/schemes/*/action"


class Listening(Nobody):
    """Keeps what a person would have been told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def kdamonds() -> str:
    """States and actions of all kdamonds here, as grep finds them; empty if there are none."""
    return subprocess.run(["sh", "-c", LOOK], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("swap", ["on", "off"])
def test_who_pushes_out_is_told_and_left_alone(
    swap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))
    before, listening = kdamonds(), Listening()
    expected = swap == "on" and "action:pageout" in before and "state:on" in before
    loaded = loads(LAB.format(swap=swap), name="beside.memlab.yaml")
    outcome = Session(prepare(loaded), listening).run()
    outcome.restored.check()
    with Derived.open(outcome.recording) as run:
        kinds = [event.kind for event in run.events()]
    assert kinds.count("foreign-reclaim") == int(expected)
    assert any("DAMON, pageout" in text for text in listening.told) is expected
    assert kdamonds() == before
