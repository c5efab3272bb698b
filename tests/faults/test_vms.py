"""VMs that die, hang, run away or ask for too much (faults 9, 10, 11 and 17)."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from memlab.kernel.cgroup import lab_group
from memlab.kernel.files import write_text
from memlab.record.store import Recording
from tests.faults.trial import Trial, journal, words

pytestmark = pytest.mark.faults


def program(folder: Path, command: list[str], more: str = "") -> Path:
    """A lab file: one quiet VM of the agent, and one that is this program."""
    file = folder / "program.yaml"
    file.write_text(
        f"""name: program
host: {{memory: 96MiB, swap: {{size: 64MiB}}}}
mechanisms: {{compression: off, swap: off}}
policy: {{name: none}}
vms:
  quiet: {{memory: 24MiB, image: {{size: 4MiB}}, workload: {{name: idle, size: 4MiB}}}}
  victim:
    memory: 48MiB
    command: {json.dumps(command)}
    {more}
sample: {{fast: 50ms}}
duration: 3s
"""
    )
    return file


def test_a_killed_vm_is_an_event_and_the_others_run_on(trial: Trial) -> None:
    with trial.up(duration="4s") as run:
        run.until_pressed()
        os.kill(run.vm("web"), signal.SIGKILL)
        run.until(lambda: run.events("vm-ended"), "its end is an event", within=1)
        before = run.committed()
        run.until(lambda: run.committed().sample > before.sample + 20, "sampling goes on")
        run.end()
        assert run.events("vm-ended") == ["web"]
        assert not run.events("oom-kill")
        assert run.recording is not None
        with Recording.open(run.recording) as recording:
            ends = {
                vm.name: recording.rows("SELECT max(sample) FROM vm_fast WHERE vm = ?", (number,))
                for number, vm in recording.vms().items()
            }
            checked = {event.vm for event in recording.events() if event.kind == "verify"}
        assert ends["web"] < ends["archive"]
        assert checked == {"batch", "archive"}


def test_all_vms_killed_at_once(trial: Trial) -> None:
    with trial.up(duration="3s") as run:
        run.until_pressed()
        for one in journal().processes:
            os.kill(one.task.pid, signal.SIGKILL)
        run.end()
        assert sorted(run.events("vm-ended")) == ["archive", "batch", "web"]


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_vm_that_does_not_run_does_not_hold_up_the_end(trial: Trial, how: str) -> None:
    with trial.up(duration="60s") as run:
        run.until_pressed()
        if how == "stopped":
            os.kill(run.vm("web"), signal.SIGSTOP)
        else:
            unified = lab_group(run.ask({"verb": "status"})["run"]).child("web").unified_path
            if unified is None or not (unified / "cgroup.freeze").exists():
                pytest.skip("this host has no cgroup2 directory per VM to freeze")
            write_text(unified / "cgroup.freeze", "1")
        began = time.monotonic()
        os.kill(run.main.pid, signal.SIGTERM)
        assert run.end() == 130, run.said
        assert time.monotonic() - began < 20
        trial.given_back(within=1)


@pytest.mark.parametrize("killed", [False, True])
def test_a_program_that_leaves_its_session_does_not_outlive_the_lab(
    trial: Trial, killed: bool
) -> None:
    script = f"setsid sh -c '(setsid sleep 3333 {trial.folder} &) ; exit' & sleep 3334"
    script = script.replace(f" {trial.folder}", "")
    lab = program(trial.folder, ["/bin/sh", "-c", script])
    with trial.up(lab=lab, duration="2s") as run:
        run.until(lambda: len(sleepers()) == 2, "it has run away")
        if killed:
            run.main.kill()
            run.main.wait()
        else:
            assert run.end() == 0, run.said
        trial.given_back()
        assert not sleepers()


def sleepers() -> list[int]:
    """Processes of the program that runs away."""
    numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in numbers if words(pid) in ("sleep 3333 ", "sleep 3334 ")]


def test_a_vm_past_its_own_limit_voids_the_run(trial: Trial) -> None:
    hungry = "import time; time.sleep(0.5); b = bytearray(64 << 20); time.sleep(9)"
    lab = program(trial.folder, ["/usr/bin/env", "python3", "-c", hungry], "limit: 24MiB")
    with trial.up(lab=lab, duration="3s") as run:
        assert run.end() == 1, run.said
        assert run.events("oom-kill") == ["victim"]
        assert "invalid" in run.said
        assert "victim was killed for memory" in run.said
        assert run.recording is not None
        with Recording.open(run.recording) as recording:
            checked = [event for event in recording.events() if event.kind == "verify"]
        assert [(event.vm, event.data["bad"]) for event in checked] == [("quiet", 0)]
