"""Who a process is: its number alone is re-used, number and start time together are not.

A process is ended through a pidfd that was opened before its start time was checked, so that the
signal cannot reach another process that was given the same number meanwhile.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.kernel.files import HOST, Roots, read_text

_ENDED: Final = (errno.ESRCH, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Task:
    """A process: its number and its start time in clock ticks since boot."""

    pid: int
    start_time: int

    @classmethod
    def myself(cls, roots: Roots = HOST) -> Task:
        """The calling process."""
        pid = os.getpid()
        start = start_time(pid, roots)
        if start is None:
            raise ProcessLookupError(f"{roots.proc} does not know this process")
        return cls(pid, start)


def start_time(pid: int, roots: Roots = HOST) -> int | None:
    """Clock ticks from boot to the start of `pid`; None if there is no such process.

    Field 22 of /proc/PID/stat, counted behind the last `)`: a program may have a name with both.
    """
    text = read_text(roots.proc / str(pid) / "stat")
    if text is None:
        return None
    return int(text.rpartition(")")[2].split()[19])


def state(pid: int, roots: Roots = HOST) -> str | None:
    """One letter: R, S, D, T, Z… as in /proc/PID/stat; None if there is no such process."""
    text = read_text(roots.proc / str(pid) / "stat")
    return None if text is None else text.rpartition(")")[2].split()[0]


def open_pid(pid: int) -> int | None:
    """A pidfd of the process with this number now; None if there is none.

    A number lives on as that of a session or process group whose leader has ended. Of it older
    kernels (6.1 and 6.12 seen) say EINVAL and not ESRCH: `pidfd_prepare` of kernel/fork.c.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in _ENDED:
            raise
        return None


def open_task(task: Task, roots: Roots = HOST) -> int | None:
    """A pidfd of exactly this process; None if it has ended (or its number is another's now)."""
    pidfd = open_pid(task.pid)
    if pidfd is None:
        return None
    if start_time(task.pid, roots) == task.start_time and not has_ended(pidfd):
        return pidfd
    os.close(pidfd)
    return None


def is_alive(task: Task, roots: Roots = HOST) -> bool:
    """Whether exactly this process runs (a zombie does not)."""
    pidfd = open_task(task, roots)
    if pidfd is None:
        return False
    os.close(pidfd)
    return True


def has_ended(pidfd: int, timeout: float = 0.0) -> bool:
    """Whether the process behind `pidfd` has ended, waiting up to `timeout` seconds for it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def kill(pidfd: int) -> None:
    """SIGKILL to the process behind `pidfd`; harmless if it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


def members(group: Path) -> tuple[int, ...]:
    """Numbers of the processes in a cgroup and in all groups below it; empty if it is gone.

    0 stands for a process that this PID namespace cannot see.
    """
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        text = read_text(Path(folder) / "cgroup.procs")
        found += [int(word) for word in (text or "").split()]
    return tuple(dict.fromkeys(found))
