"""A lab in a box: what a user without root gets, and what this host has of it: nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from memlab.errors import MemlabError
from memlab.record.derive import Derived
from tests.box.conftest import User
from tests.hoststate import assert_same, snapshot
from tests.pace import core

pytestmark = pytest.mark.box

MARKS = ("memlab-agent", "memlab.kernel.guard_process", "memlab.record.sampler")
VERDICT_SECONDS = 120
"""Within which a quickstart must be done on a machine without KVM."""
SLOW_CORE = 1.5
"""On a machine that is slower than usual by more, it runs in slow motion of three instead of two:
two emulated web servers would take all of both cores, and leave ksmd a sixth of one."""
SMALL = """\
name: small
host: {memory: 96MiB, swap: {size: 128MiB}}
policy: ladder
vms: {one: {memory: 64MiB, workload: {name: keyvalue, size: 32MiB, args: {rate: 500}}}}
duration: 60s
"""


def test_quickstart_by_a_user_without_root(user: User) -> None:
    slower = core() > SLOW_CORE
    more = ("--time-scale", "3") if slower else ()
    before = snapshot(marks=MARKS)
    began = time.monotonic()
    done = user.run("up", "--box", "quickstart", *more, timeout=400)
    took = time.monotonic() - began
    assert_same(before, snapshot(marks=MARKS))
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    assert "Verdict: passed" in said
    assert "in a box: Debian trixie" in said
    (recording,) = user.folder.glob("quickstart.memlab/runs/*/recording.sqlite")
    assert recording.stat().st_uid == user.folder.stat().st_uid
    assert [path.name for path in recording.parent.iterdir()] == [recording.name]
    with Derived.open(recording) as run:
        assert run.manifest["box"]["accelerator"] in ("tcg", "kvm")
        assert run.manifest["host"]["kernel"] != os.uname().release
    assert took < VERDICT_SECONDS * (1.5 if slower else 1)


def test_a_dry_run_says_what_would_change_in_the_box(user: User) -> None:
    done = user.run("up", "--box", "quickstart", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert b"ksm" in done.stdout
    assert not list(user.folder.glob("*.memlab"))


@pytest.mark.parametrize("words", [("up", "--box"), ("box", "up")])
def test_a_fault_of_the_lab_file_is_told_before_any_box_is_started(
    user: User, words: tuple[str, str]
) -> None:
    (user.folder / "bad.yaml").write_text("name: bad\n")
    done = user.run(*words, "bad.yaml", timeout=20)
    assert done.returncode == 2
    assert b"bad.yaml" in done.stderr


@pytest.mark.parametrize("whom", ["memlab", "qemu"])
def test_killed_it_leaves_a_readable_partial_recording(user: User, whom: str) -> None:
    before = snapshot(marks=MARKS)
    (user.folder / "small.yaml").write_text(SMALL)
    run = user.start("up", "--box", "small.yaml", stderr=subprocess.PIPE)
    recording = _until_it_has_samples(user.folder, 20)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    (qemu,) = map(int, children)
    os.kill(qemu if whom == "qemu" else run.pid, signal.SIGKILL)
    run.communicate(timeout=30)
    assert_same(before, snapshot(marks=MARKS))
    with Derived.open(recording) as partial:
        assert len(partial.recording.rows("SELECT id FROM sample")) >= 20
        assert partial.manifest["lab"] == "small"
        assert "verdict" not in partial.manifest
    parts = {path.name for path in recording.parent.iterdir()}
    assert parts <= {recording.name, f"{recording.name}-wal", f"{recording.name}-shm"}
    assert user.run("report", str(recording.parent)).returncode == 0


def _until_it_has_samples(folder: Path, count: int) -> Path:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        for recording in folder.glob("small.memlab/runs/*/recording.sqlite"):
            try:
                with Derived.open(recording, check=False) as run:
                    if len(run.recording.rows("SELECT id FROM sample")) >= count:
                        return recording
            except (sqlite3.Error, MemlabError):  # not all of it is there yet
                pass
        time.sleep(0.5)
    raise AssertionError(f"no recording with {count} samples in {folder}")


def test_interrupted_it_ends_in_order(user: User) -> None:
    (user.folder / "small.yaml").write_text(SMALL)
    run = user.start("box", "up", "small.yaml", stderr=subprocess.PIPE)
    recording = _until_it_has_samples(user.folder, 4)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=90)
    assert run.returncode == 130
    with Derived.open(recording) as partial:
        assert partial.manifest["ended"] == "stopped"
