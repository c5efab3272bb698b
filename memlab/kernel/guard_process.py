"""The process that gives the host back when main died: what it does.

`guard.py` starts it from main and talks to it. It stands alone: a session of its own, every signal
but SIGKILL without effect, its memory locked, nothing but the standard library, everything loaded
at its start, since under memory pressure a page of code not yet read may not come. It holds the
host's lock as long as it lives.

Messages are JSON objects, one per packet. It says `locked` (with what it got: locked memory, OOM
score) or `owned`, later perhaps `abort`; it is told `release`. A closed line means nothing by
itself: whether main lives is told by its pidfd.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memlab.errors import KernelError, MemlabError
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, Roots, parse_names, read_bytes, write_text
from memlab.kernel.journal import NAME as JOURNAL
from memlab.kernel.lock import FACTS, announce, finish, holder, lock
from memlab.kernel.restore import restore
from memlab.kernel.restored import NAME as RESTORED
from memlab.kernel.restored import Restored
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import Task, is_alive, open_task

TICK: Final = 0.1
LEAST_AVAILABLE: Final = 0.03
"""Part of MemTotal below which the VMs are ended."""

LATE: Final = 1.0
LATE_WITHIN: Final = 30.0
"""Two ticks more than LATE s late within so many seconds: the host does not run any more. One
alone is a stopped or suspended machine."""

MOST_LOCKED: Final = 20 * 1024**2
TRIES: Final = 3
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_LOCK_SECONDS: Final = 0.8
_MOST_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Got:
    """What the guard could get: bytes of memory locked (0: none), and its oom_score_adj."""

    locked: int
    oom_score_adj: int


class Watch:
    """When the guard has to end the VMs although main lives (kernel-notes, promise 12)."""

    def __init__(self, roots: Roots = HOST) -> None:
        self._roots = roots
        self._late: list[float] = []

    def reason(self, now: float, due: float) -> str | None:
        """Why the lab must end, at a tick that was due at `due` (monotonic s); None if not."""
        if now - due > LATE:
            self._late = [when for when in self._late if now - when < LATE_WITHIN] + [now]
            if len(self._late) >= 2:
                return "the guard's timer was more than 1 s late twice: this host is overloaded"
        return self._memory()

    def _memory(self) -> str | None:
        facts = parse_names(read_bytes(self._roots.proc / "meminfo") or b"")
        total, available = facts.get("MemTotal"), facts.get("MemAvailable")
        if not total or available is None or available >= LEAST_AVAILABLE * total:
            return None
        return f"only {available >> 20} MiB of this host's {total >> 20} MiB are available"


class GuardProcess:
    """The guard at work."""

    def __init__(self, run: RunDir, line: socket.socket, header: Header, roots: Roots) -> None:
        self._run = run
        self._line = line
        self._header = header
        self._roots = roots
        self._watch = Watch(roots)
        self._aborted = False

    def serve(self) -> None:
        """Take the lock, watch main, clean up if it dies. Returns when there is nothing to do."""
        fd = lock(self._run, timeout=_LOCK_SECONDS)
        if fd is None or self._is_anothers():
            self._say({"say": "owned"})
            return
        try:
            announce(self._run, self._header)
            got = _protect(self._roots)
            me = Task.myself()
            self._say(
                {
                    "say": "locked",
                    "pid": me.pid,
                    "start_time": me.start_time,
                    "locked": got.locked,
                    "oom_score_adj": got.oom_score_adj,
                }
            )
            self._wait_and_clean()
        finally:
            os.close(fd)

    def _is_anothers(self) -> bool:
        """Whether the lock is free only because a living run's guard was killed."""
        found = holder(self._run)
        return (
            found is not None
            and found.main != self._header.main
            and is_alive(found.main, self._roots)
        )

    def _wait_and_clean(self) -> None:
        pidfd = open_task(self._header.main, self._roots)
        released = None if pidfd is None else self._wait(pidfd)
        if self._run.read(JOURNAL) is None:
            self._run.remove(FACTS)
            return
        if released is None or not released.ok:
            self._clean_up()
        else:
            self._leave(released)

    def _wait(self, pidfd: int) -> Restored | None:
        """What main says it has given back; None when it died without a word."""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        due = time.monotonic() + TICK
        while True:
            for fd, _ in poll.poll(max(0.0, due - time.monotonic()) * 1000):
                if fd == pidfd:
                    return self._last_word()
                heard = self._hear()
                if heard is None:
                    poll.unregister(self._line)
                elif heard.get("say") == "release":
                    return self._mains_word()
            now = time.monotonic()
            if now >= due:
                self._tick(now, due)
                due = now + TICK

    def _last_word(self) -> Restored | None:
        """A release that main sent just before it ended."""
        heard = self._hear()
        return self._mains_word() if heard and heard.get("say") == "release" else None

    def _mains_word(self) -> Restored | None:
        """What main has given back, as it wrote it down before it said `release`."""
        raw = self._run.read(RESTORED)
        return None if raw is None else Restored.from_json(raw)

    def _tick(self, now: float, due: float) -> None:
        if self._aborted or (reason := self._watch.reason(now, due)) is None:
            return
        self._aborted = True
        _log(f"abort: {reason}")
        self._say({"say": "abort", "reason": reason})
        restored = restore(self._run, roots=self._roots)
        self._publish(restored)

    def _clean_up(self) -> None:
        """Restore, again after a pause if something failed, and put the journal away."""
        restored = Restored()
        for attempt in range(TRIES):
            time.sleep(attempt * 0.5)
            restored = _joined(restored, restore(self._run, roots=self._roots))
            if restored.ok:
                break
        self._publish(restored)
        finish(self._run, restored)
        _log(f"cleaned up: {restored.as_json()}")

    def _leave(self, released: Restored) -> None:
        """Main has cleaned up: what remains is the guard's own cgroup, and the journal."""
        own = restore(self._run, roots=self._roots)
        finish(self._run, _joined(released, own) if own.ok else own)

    def _publish(self, restored: Restored) -> None:
        """Put `restored.json` beside the recording, as the person whose directory it is."""
        if self._header.results is None:
            return
        pid = os.fork()
        if pid == 0:
            _write_as_user(self._header, restored)
        os.waitpid(pid, 0)

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._line.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError as error:
            _log(f"main does not listen: {error}")

    def _hear(self) -> dict[str, Any] | None:
        """The next message; None if there will be none."""
        try:
            raw = self._line.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            return None
        return json.loads(raw) if raw else None


def _joined(first: Restored, second: Restored) -> Restored:
    """What both gave back, and the faults of the second, which tried what the first had left."""
    return Restored(
        first.given_back + second.given_back,
        tuple(dict.fromkeys(first.left + second.left)),
        second.failed,
        tuple(dict.fromkeys(first.notes + second.notes)),
    )


def _write_as_user(header: Header, restored: Restored) -> None:
    """In a child: become the user for good, then write below the user's own directory."""
    code = 1
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(header.gid, header.gid, header.gid)
            os.setresuid(header.uid, header.uid, header.uid)
        target = (header.results or header.directory) / RESTORED
        fresh = target.with_name(f".{RESTORED}.new")
        fresh.write_text(restored.as_json())
        fresh.rename(target)
        code = 0
    except OSError as error:
        _log(f"cannot write {RESTORED} for the user: {error}")
    finally:
        os._exit(code)


def _protect(roots: Roots) -> Got:
    """Lock the guard's memory and take it off the OOM killer's list, as far as it is allowed.

    Lowering oom_score_adj needs CAP_SYS_RESOURCE, which containers often lack, root or not.
    """
    own = roots.proc / "self"
    score = own / "oom_score_adj"
    for value in ("-1000", "-500", "0"):
        try:
            write_text(score, value)
        except KernelError:
            continue
        break
    _lock_memory(own)
    return Got(min(_memory(own, "VmLck"), _memory(own, "VmRSS")), int(read_bytes(score) or b"0"))


def _lock_memory(own: Path) -> None:
    """Everything, or if that were more than MOST_LOCKED what is touched (MCL_ONFAULT, 4.4).

    The size decides beforehand: to lock everything is to touch everything (Debian's Python 3.13:
    21.3 MB in all, 16.3 of it touched).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MCL_CURRENT | _MCL_FUTURE
    if _memory(own, "VmSize") > MOST_LOCKED:
        flags |= _MCL_ONFAULT
    if libc.mlockall(flags) != 0:
        _log(f"memory is not locked: {os.strerror(ctypes.get_errno())}")
    elif _memory(own, "VmRSS") > MOST_LOCKED:
        libc.munlockall()


def _memory(own: Path, name: str) -> int:
    return parse_names(read_bytes(own / "status") or b"").get(name, 0)


def _log(words: str) -> None:
    os.write(2, f"{time.time():.3f} {words}\n".encode())


def _deafen() -> None:
    """No signal ends the guard, except the one that nobody can refuse."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGCHLD})


def _detach() -> bool:
    """Fork twice into a session of its own; False in the two processes that are to end."""
    if os.fork():
        return False
    os.setsid()
    return os.fork() == 0


def main(argv: list[str]) -> None:
    """Arguments: RUN_DIR LINE_FD PROC SYS CGROUP. The header is the first message on the line."""
    run = RunDir.made(Path(argv[0]))
    line = socket.socket(fileno=int(argv[1]))
    header = Header.from_json(json.loads(line.recv(_MOST_BYTES)))
    if header is None or not _detach():
        return
    _deafen()
    roots = Roots(*(Path(root) for root in argv[2:5]))
    try:
        GuardProcess(run, line, header, roots).serve()
    except (MemlabError, OSError) as error:
        _log(f"the guard fails: {error}")
        sys.exit(1)
