"""Work that may block, or be the kernel's first OOM victim, in a short-lived child process.

The writer of `ksm/run=2` and the caller of swapoff are marked as the origin of an OOM, so that
the kernel ends them first when memory is short (mm/oom_kill.c, oom_task_origin()); and both stop
half-way when a signal is pending. A write to cgroup v1's `memory.limit_in_bytes` blocks until
reclaim has made the room. So such a call is made by a child that has all signals blocked and does
nothing else, and the parent waits for it with a deadline.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_LAST_WORDS: Final = 1.0
"""Seconds that a child gets to die after SIGKILL before it is left to init."""

_EVERY_DESCRIPTOR: Final = 2**31 - 1

_UNKNOWN: Final = 255
"""Exit code of a child that failed with something other than an errno."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child's work ended: errno (0 = done, ETIMEDOUT, EINTR when killed), and seconds."""

    errno: int
    seconds: float

    @property
    def done(self) -> bool:
        """Whether the work was finished."""
        return self.errno == 0


def in_child(work: Callable[[], object], *, timeout: float) -> Outcome:
    """Run `work` in a child with all signals blocked; after `timeout` seconds it is killed.

    Only the errno of an OSError comes back, so `work` does system calls and nothing that could
    wait for another thread's lock. A child killed by the kernel (OOM) is reported as EINTR.
    """
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _work_and_exit(work)
    pidfd = os.pidfd_open(pid)
    try:
        late = not _ended(pidfd, timeout)
        if late:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if late and not _ended(pidfd, _LAST_WORDS):
            # In an uninterruptible sleep: nobody can end it now, and nobody has to wait.
            return Outcome(errno.ETIMEDOUT, time.monotonic() - begin)
    finally:
        os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Outcome(_errno(code, late=late), time.monotonic() - begin)


def _work_and_exit(work: Callable[[], object]) -> None:
    code = _UNKNOWN
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        # A child that hangs in the kernel must not hold the owner's lock when its parent is gone.
        os.closerange(3, _EVERY_DESCRIPTOR)
        work()
        code = 0
    except OSError as error:
        code = error.errno or _UNKNOWN
    finally:
        os._exit(code)


def _ended(pidfd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(timeout, 0) * 1000))


def _errno(code: int, *, late: bool) -> int:
    if late and code != 0:
        return errno.ETIMEDOUT
    return errno.EINTR if code < 0 else code


def write_once(path: str, value: bytes) -> None:
    """Write `value` in one system call; OSError as the kernel says it. For use in a child."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value)
    finally:
        os.close(fd)
