"""Commands in a real box, started by a user without root."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.box.conftest import User

pytestmark = pytest.mark.box


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in found]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_streams_status_input_and_what_is_written(user: User) -> None:
    (user.folder / "given.txt").write_text("from the host\n")
    script = "cat given.txt; cat; echo err >&2; mkdir -p a; id -u >a/uid; exit 7"
    done = user.run("box", "run", "--", "sh", "-c", script, stdin=b"typed\n")
    assert (done.returncode, done.stdout) == (7, b"from the host\ntyped\n"), done.stderr
    assert b"err\n" in done.stderr
    written = user.folder / "a/uid"
    assert written.read_text() == "0\n", "root inside"
    assert written.stat().st_uid == user.folder.stat().st_uid, "the user's outside"


def test_the_folder_itself_is_only_read(user: User) -> None:
    (user.folder / "kept").write_text("kept\n")
    done = user.run("box", "run", "--", "rm", "kept")
    assert done.returncode == 0
    assert (user.folder / "kept").read_text() == "kept\n"


def test_it_has_cgroup_v2_and_a_kernel_of_its_own(user: User) -> None:
    script = "stat -f -c %T /sys/fs/cgroup; uname -r; cat /sys/module/zswap/parameters/enabled"
    done = user.run("box", "run", "--", "sh", "-c", script)
    kind, kernel, zswap = done.stdout.decode().split()
    assert kind == "cgroup2fs"
    assert kernel != os.uname().release
    assert zswap == "N"


def test_two_boxes_at_once_know_nothing_of_each_other(user: User) -> None:
    script = "head -c 16 /dev/urandom | od -An -tx1"
    both = [
        user.start("box", "run", "--", "sh", "-c", script, stdout=subprocess.PIPE) for _ in range(2)
    ]
    drawn = [one.communicate(timeout=120)[0] for one in both]
    assert all(one.returncode == 0 for one in both)
    assert drawn[0] != drawn[1], "boxes from one saved state draw different random numbers"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_then_the_box(user: User, number: int) -> None:
    script = "trap 'echo heard; exit 3' INT TERM; echo ready; sleep 60 & wait"
    run = user.start("box", "run", "--", "sh", "-c", script, stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    (qemu,) = children(run.pid)
    run.send_signal(number)
    assert run.wait(30) == 3
    assert run.stdout.read() == b"heard\n"
    run.stdout.close()
    assert not is_running(qemu)


@pytest.mark.parametrize("whom", ["memlab", "qemu"])
def test_killed_at_once_nothing_is_left(user: User, whom: str) -> None:
    run = user.start(
        "box", "run", "--", "sh", "-c", "echo ready; sleep 60",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    (qemu,) = children(run.pid)
    os.kill(qemu if whom == "qemu" else run.pid, signal.SIGKILL)
    _, said = run.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while is_running(qemu) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(qemu)
    assert not list(user.folder.iterdir())
    if whom == "qemu":
        assert run.returncode == 1
        assert b"QEMU ended" in said


def test_a_command_that_is_not_there(user: User) -> None:
    done = user.run("box", "run", "--", "no-such-command")
    assert done.returncode == 1
    assert b"no-such-command" in done.stderr


def test_list_names_it(user: User) -> None:
    done = user.run("box", "list")
    (trixie,) = [line for line in done.stdout.splitlines() if line.startswith(b"trixie")]
    assert trixie.startswith(b"trixie  Linux 6.12")
    assert b"current" in trixie
