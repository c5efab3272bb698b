"""The guard as main sees it: started, spoken to, let go, and replaced when somebody killed it.

The process itself is guard_process.py. It is started with an isolated interpreter, an empty
environment and no descriptor but its line, so that nothing of the caller's reaches a program that
runs as root (PYTHONPATH, LD_PRELOAD, a virtual environment's start-up files).
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memlab.errors import HostError
from memlab.kernel.entries import Header
from memlab.kernel.failpoint import GUARD_VARIABLE, VARIABLE
from memlab.kernel.files import HOST, Roots, read_text, write_text
from memlab.kernel.journal import Journal
from memlab.kernel.lock import LOG, owned_error
from memlab.kernel.restored import Restored
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import Task, has_ended, is_alive, open_task
from memlab.kernel.undone import undone_on_failure

_PACKAGE_PARENT: Final = Path(__file__).resolve().parents[2]
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from memlab.kernel.guard_process import main; main(sys.argv[2:])"
)
_START_SECONDS: Final = 10.0
_RELEASE_SECONDS: Final = 10.0
_MOST_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What the guard is: its process, bytes of locked memory (0: not allowed), oom_score_adj."""

    task: Task
    locked: int
    oom_score_adj: int


class Guard:
    """A running guard. `release` it, or it gives the host back when this process ends."""

    def __init__(
        self, run: RunDir, header: Header, line: socket.socket, facts: GuardFacts, roots: Roots
    ) -> None:
        self.facts = facts
        self._run = run
        self._header = header
        self._line = line
        self._roots = roots

    @classmethod
    def start(cls, run: RunDir, header: Header, *, roots: Roots = HOST) -> Guard:
        """A guard that holds the host's lock for the run of `header`.

        OwnedError if another run has it; HostError if the guard does not start.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with undone_on_failure(ours.close):
            with theirs:
                ours.send(json.dumps(header.as_json()).encode())
                _launch(run, theirs, roots)
            answer = _hear(ours, _START_SECONDS)
            if answer is None:
                raise HostError(
                    "the guard, which would undo everything after a crash, does not start",
                    hint=f"its last words are in {run.path / LOG}",
                )
            if answer["say"] == "owned":
                raise owned_error(run)
        return cls(run, header, ours, _facts(answer), roots)

    def settle(self, journal: Journal, groups: tuple[Path, ...] = ()) -> None:
        """Journal the guard, and move it into cgroups of its own (made here) if any are given."""
        home = _home(self.facts.task.pid, self._roots) if groups else None
        journal.guard(self.facts.task, groups, home)
        for group in groups:
            group.mkdir(exist_ok=True)
            write_text(group / "cgroup.procs", str(self.facts.task.pid))

    def fileno(self) -> int:
        """For select and poll: readable when the guard speaks, or is no more."""
        return self._line.fileno()

    def alive(self) -> bool:
        """Whether the guard runs. If not, turn no knob until it is replaced."""
        return not _hung_up(self._line) and is_alive(self.facts.task, self._roots)

    def aborted(self) -> str | None:
        """Why the guard has ended the lab's VMs, if it has; None if all is well. Never blocks."""
        heard = _hear(self._line, 0.0)
        if heard is None or heard.get("say") != "abort":
            return None
        return str(heard["reason"])

    def replace(self, journal: Journal) -> Guard:
        """A new guard after this one was killed, in the cgroups of the old one.

        OwnedError if another run has taken the host meanwhile; it cannot while this process lives.
        """
        self._line.close()
        groups = next(
            (one.groups for one in journal.record().guards if one.task == self.facts.task), ()
        )
        fresh = Guard.start(self._run, self._header, roots=self._roots)
        fresh.settle(journal, groups)
        return fresh

    def release(self, restored: Restored) -> bool:
        """Let the guard go: it puts the journal away, or tries what failed once more.

        True once it has ended and the lock is free; False if it was dead, or does not end.
        """
        with self._line:
            pidfd = open_task(self.facts.task, self._roots)
            if pidfd is None:
                return False
            try:
                message = json.dumps({"say": "release", "ok": restored.ok}).encode()
                with suppress(OSError):
                    self._line.send(message, socket.MSG_NOSIGNAL)
                return has_ended(pidfd, _RELEASE_SECONDS)
            finally:
                os.close(pidfd)


def _launch(run: RunDir, line: socket.socket, roots: Roots) -> None:
    words = [
        # isolated, without site-packages, writing no byte code beside the sources
        *(sys.executable, "-I", "-S", "-B", "-c", _START, str(_PACKAGE_PARENT)),
        *(str(run.path), str(line.fileno())),
        *(str(roots.proc), str(roots.sys), str(roots.cgroup)),
    ]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    if plan := os.environ.get(GUARD_VARIABLE):
        environment[VARIABLE] = plan
    log = run.file(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(line.fileno(),),
            env=environment,
            cwd="/",
            check=False,
            timeout=_START_SECONDS,
        )
    finally:
        os.close(log)


def _hear(line: socket.socket, timeout: float) -> dict[str, Any] | None:
    """The next message within `timeout` s; None if there is none, or the guard is no more."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    if not poll.poll(timeout * 1000):
        return None
    try:
        raw = line.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
    except OSError:
        return None
    heard = json.loads(raw) if raw else None
    return heard if isinstance(heard, dict) else None


def _hung_up(line: socket.socket) -> bool:
    """Whether the other end is closed: true a moment before its process has ended."""
    poll = select.poll()
    poll.register(line, 0)  # a hang-up is told without being asked for
    return bool(poll.poll(0))


def _facts(answer: dict[str, Any]) -> GuardFacts:
    task = Task(int(answer["pid"]), int(answer["start_time"]))
    return GuardFacts(task, int(answer["locked"]), int(answer["oom_score_adj"]))


def _home(pid: int, roots: Roots) -> Path | None:
    """The cgroup2 directory of a process, where all controllers are on v2; else None."""
    if not (roots.cgroup / "cgroup.controllers").exists():
        return None
    for line in (read_text(roots.proc / str(pid) / "cgroup") or "").splitlines():
        if line.startswith("0::/"):
            return roots.cgroup / line.removeprefix("0::/")
    return None
