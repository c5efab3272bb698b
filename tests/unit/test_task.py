"""A process by its number, on the real kernel: one that runs, and one that has ended."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import pytest

from memlab.kernel.task import open_pid

LEADER = ["sh", "-c", "sleep 60 & echo $!"]
"""It ends at once, and leaves a process in the session that it led."""


def test_one_that_runs_has_a_pidfd() -> None:
    pidfd = open_pid(os.getpid())
    assert pidfd is not None
    os.close(pidfd)


def test_a_leader_that_has_ended_before_its_session_is_no_process() -> None:
    with subprocess.Popen(
        LEADER, start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout is not None
        left = int(leader.stdout.readline())
        leader.wait()
        try:
            assert os.getsid(left) == leader.pid, "the number is in use, as a session's"
            assert open_pid(leader.pid) is None
        finally:
            os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("code", [errno.ESRCH, errno.EINVAL])
def test_what_kernels_say_of_it(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(pid: int) -> int:
        raise OSError(code, os.strerror(code), str(pid))

    monkeypatch.setattr(os, "pidfd_open", refuses)
    assert open_pid(7) is None


def test_another_fault_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(pid))

    monkeypatch.setattr(os, "pidfd_open", refuses)
    with pytest.raises(OSError, match="Too many open files"):
        open_pid(7)
