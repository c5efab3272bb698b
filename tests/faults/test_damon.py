"""Whatever is killed while DAMON watches the VMs, nr_kdamonds is 0 again (fault 1, 2 and 3).

Where DAMON is somebody else's, the lab is refused and the other's kdamonds stay as they are.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from memlab.kernel import damon
from memlab.kernel.files import HOST, read_text
from memlab.kernel.probe_extra import probe_damon
from memlab.kernel.task import state
from tests.faults.trial import Run, Trial

pytestmark = pytest.mark.faults

LAB = Path(__file__).with_name("damon.yaml")


def kdamond() -> str | None:
    """What its state file says; None if there is none."""
    return read_text(damon.list_path().parent / "0/state")


def refused(trial: Trial) -> bool:
    """Whether this host has no DAMON for a lab: then that is what `up` says, and does nothing."""
    found = probe_damon(HOST)
    if found.works:
        return False
    before = read_text(damon.list_path()), kdamond()
    with trial.up(lab=LAB) as run:
        assert run.main.wait(30) == 3
        assert found.reason in " ".join(run.said.split()), run.said
    assert (read_text(damon.list_path()), kdamond()) == before
    return True


def watching(run: Run) -> bool:
    """Whether both VMs are watched."""
    vms = {run.vm("one"), run.vm("two")}
    return kdamond() == "on" and damon.is_ours(vms) and not damon.is_ours({min(vms)})


def until_watching(run: Run) -> None:
    run.until(lambda: "two runs" in run.said, "both VMs run", within=150)
    run.until(lambda: watching(run), "DAMON watches them", within=150)


@pytest.mark.parametrize("whom", ["main", "main, then guard and clean"])
def test_killed_while_damon_watches(trial: Trial, whom: str) -> None:
    if refused(trial):
        return
    with trial.up(lab=LAB, duration="60s") as run:
        until_watching(run)
        guard = run.guard
        if whom != "main":
            os.kill(run.main.pid, signal.SIGSTOP)  # so that it does not replace the guard
            os.kill(guard, signal.SIGKILL)
        run.main.kill()
        run.main.wait()
        if whom != "main":
            while state(guard) not in (None, "Z"):
                time.sleep(0.01)
            assert kdamond() == "on"
            assert trial.memlab("clean", timeout=60).returncode == 0
        trial.given_back(within=30)
    assert read_text(damon.list_path()) == "0"


def test_interrupted_while_damon_watches(trial: Trial) -> None:
    if refused(trial):
        return
    with trial.up(lab=LAB, duration="60s") as run:
        until_watching(run)
        run.main.send_signal(signal.SIGINT)
        assert run.end(90) == 130, run.said
    assert read_text(damon.list_path()) == "0"


def test_ends_as_any_other(trial: Trial) -> None:
    if refused(trial):
        return
    with trial.up(lab=LAB, duration="6s") as run:
        assert run.end(120) == 0, run.said
    assert read_text(damon.list_path()) == "0"
