"""The controls of cgroup v2 on a running lab: what each does to the VM that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.lab.load import load
from memlab.lab.outcome import RunOutcome
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.lab.stretch import stretch
from memlab.record.derive import Derived
from tests.kernel.lacking import is_v2, kernel, lacking
from tests.pace import slow_motion

pytestmark = pytest.mark.kernel

LAB = """\
name: controls
host: {{memory: 192MiB, swap: {{size: 256MiB}}}}
mechanisms: {{tps: off, balloon: off, compression: {{pool: 25%}}}}
policy: none
defaults:
  memory: 48MiB
  workload: {{name: idle, size: 32MiB, content: {{compressible: 3}}}}
vms:
  later: {{}}
  high: {{cgroup: {{high: 16MiB}}}}
  device: {{limit: 16MiB, cgroup: {{zswap_max: 0B}}}}
  stays: {{limit: 16MiB, cgroup: {{swap_max: 40MiB{writeback}}}}}
  short: {{limit: 16MiB, cgroup: {{swap_max: 8MiB}}}}
timeline:
  - {{at: 9s, set: {{vms.later.cgroup.high: 16MiB}}}}
sample: {{fast: 250ms, medium: 500ms, deep: 2s}}
duration: 14s
expect:
  - {{name: high, that: "at(high.consumed, 8s) <= 17MiB"}}
  - {{name: not yet, that: "at(later.consumed, 8s) >= 32MiB"}}
  - {{name: set while it runs, that: "at(later.consumed, 13s) <= 17MiB"}}
  - {{name: past the pool, that: "max(device.compressed) == 0 and at(device.swapped, 8s) >= 12MiB"}}
  - {{name: in the pool, that: "at(stays.compressed, 8s) >= 12MiB"}}
"""

WRITEBACK = ", zswap_writeback: off"


def run(folder: Path, *, writeback: str = "") -> RunOutcome:
    path = folder / "controls.memlab.yaml"
    path.write_text(LAB.format(writeback=writeback))
    loaded = stretch(load(path), slow_motion(2.5))
    outcome = Session(prepare(loaded), Nobody()).run()
    outcome.restored.check()
    return outcome


@pytest.fixture(autouse=True)
def _runs_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))


def test_each_does_what_the_kernel_says(tmp_path: Path) -> None:
    """A host without cgroup v2 says so before anything is changed."""
    if not is_v2():
        with pytest.raises(HostError, match="needs cgroup-v2, which is missing here") as error:
            run(tmp_path)
        assert "--box" in error.value.hint
        return
    outcome = run(tmp_path, writeback=WRITEBACK if kernel() >= (6, 8) else "")
    failed = [(one.name, one.measured) for one in outcome.expects if one.outcome != "passed"]
    assert not failed
    with Derived.open(outcome.recording) as lab:
        killed = [event.vm for event in lab.events() if event.kind == "oom-kill"]
    assert killed == ["short"], "of one VM only both memory and swap are full: swap_max is kept"


def test_what_the_kernel_has_not_is_refused(tmp_path: Path) -> None:
    """memory.zswap.writeback came with 6.8: before, no VM starts and the host is given back."""
    if is_v2() and kernel() >= (6, 8):
        lacking("none of the controls", "run it with Linux 6.1, or with cgroup v1")
    with pytest.raises(HostError, match=r"memory\.zswap\.writeback|cgroup-v2"):
        run(tmp_path, writeback=WRITEBACK)
