"""Ending the processes of a run: by pidfd, by start time, by cgroup, never by name.

Rounds are bounded: a process that hangs in the kernel (state D) is reported, not waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from memlab.kernel.entries import Process
from memlab.kernel.files import Roots, write_text
from memlab.kernel.task import has_ended, kill, members, open_pid, open_task, state

ROUNDS: Final = 50
_PAUSE: Final = 0.1


def end_processes(processes: Iterable[Process], groups: Sequence[Path], roots: Roots) -> set[int]:
    """End `processes` and everything in `groups`; the numbers of those that were ended.

    The calling process is spared, wherever it is. Who did not end is told by `remaining`.
    """
    ended = _kill_listed(processes, roots)
    for group in groups:
        _kill_group(group)
    for _ in range(ROUNDS):
        pidfds = {pid: fd for group in groups for pid, fd in _open_members(group).items()}
        if not pidfds:
            break
        ended |= _kill_all(pidfds)
    return ended


def remaining(processes: Iterable[Process], groups: Sequence[Path], roots: Roots) -> list[str]:
    """Those of the run that still live, each as `pid 12 (state D)`."""
    listed = {process.task.pid for process in processes if _lives(process, roots)}
    grouped = {pid for group in groups for pid in members(group)} - {os.getpid()}
    return [
        f"pid {pid} (state {state(pid, roots) or 'unknown'})"
        if pid
        else "a process of another PID namespace"
        for pid in sorted(listed | grouped)
    ]


def _lives(process: Process, roots: Roots) -> bool:
    pidfd = open_task(process.task, roots)
    if pidfd is None:
        return False
    os.close(pidfd)
    return process.task.pid != os.getpid()


def _kill_listed(processes: Iterable[Process], roots: Roots) -> set[int]:
    """End the journalled ones: number and start time of one boot name one process."""
    opened = {one.task.pid: open_task(one.task, roots) for one in processes}
    pidfds = {pid: fd for pid, fd in opened.items() if fd is not None}
    own = pidfds.pop(os.getpid(), None)
    if own is not None:
        os.close(own)
    return _kill_all(pidfds)


def _kill_group(group: Path) -> None:
    """Let the kernel end the whole group, forks in flight included.

    Since 5.14 (661ee6280931 "cgroup: introduce cgroup.kill"), on cgroup2 only.
    """
    switch = group / "cgroup.kill"
    if switch.exists() and os.getpid() not in members(group):
        write_text(switch, "1")


def _open_members(group: Path) -> dict[int, int]:
    """A pidfd for each process that was in the group before and after it was opened."""
    opened = {}
    for pid in members(group):
        if pid not in (0, os.getpid()) and (pidfd := open_pid(pid)) is not None:
            opened[pid] = pidfd
    still = set(members(group)) if opened else set()
    for pid in [pid for pid in opened if pid not in still]:
        os.close(opened.pop(pid))
    return opened


def _kill_all(pidfds: dict[int, int]) -> set[int]:
    """Kill and wait a moment; the numbers of those that ended. Closes the descriptors."""
    for fd in pidfds.values():
        kill(fd)
    deadline = time.monotonic() + _PAUSE
    ended = set()
    for pid, fd in pidfds.items():
        if has_ended(fd, max(0.0, deadline - time.monotonic())):
            ended.add(pid)
        os.close(fd)
    return ended
