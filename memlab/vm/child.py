"""One process in its cgroups: started, found by pidfd, ended, with its last words.

Also the user that it runs as, and its disks.
"""

from __future__ import annotations

import grp
import os
import pwd
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from memlab.errors import HostError, VmError
from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.files import write_text
from memlab.kernel.undone import undone_on_failure

_DYNAMIC_USERS: Final = range(65519, 61183, -1)
"""User numbers that systemd keeps free for services without a user (UIDS-GIDS.md), last first."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and the group that a process becomes; it has no other groups."""

    uid: int
    gid: int

    def options(self) -> list[str]:
        """As the agent takes them."""
        return ["--uid", str(self.uid), "--gid", str(self.gid)]


def nobody_else() -> Identity:
    """A user and group that own nothing on this host: neither is in passwd or group."""
    taken = {user.pw_uid for user in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
    for number in _DYNAMIC_USERS:
        if number not in taken and not _known(number):
            return Identity(number, number)
    raise HostError("no user number from 61184 to 65519 is free for the guests")


def _known(number: int) -> bool:
    """Whether a name service that lists nothing (a running DynamicUser) knows the number."""
    try:
        pwd.getpwuid(number)
    except KeyError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Places:
    """The cgroups of a VM: `join` are all directories whose cgroup.procs it is written into."""

    memory_group: Path
    unified_group: Path | None = None
    join: Sequence[Path] = ()

    @classmethod
    def of(cls, group: MemoryGroup) -> Self:
        """Those of a VM whose group this is: one directory, or two on hybrid hosts."""
        both = (group.path, group.unified_path)
        join = dict.fromkeys(path for path in both if path is not None)
        return cls(group.path, group.unified_path, tuple(join))


class Child:
    """A process that memlab started; its standard error is kept in a memory file."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        places: Places,
        on_spawn: Callable[[int], None] | None = None,
        pass_fds: Sequence[int] = (),
        output: int | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | str = "/",
    ) -> None:
        """Start `argv` and move it into its cgroups; it must do nothing before it is told to.

        `on_spawn` hears of the process before anything else is done with it. `output` is a file,
        open for reading too, for both of its streams; it stays the caller's. Raises VmError or
        KernelError, and leaves no process.
        """
        self.name = name
        self.argv = tuple(argv)
        self._last = ""
        self._errors = (
            os.memfd_create(f"memlab-stderr-{name}") if output is None else os.dup(output)
        )
        try:
            # No preexec_fn: without one the interpreter uses vfork and never runs Python in it.
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if output is None else self._errors,
                stderr=self._errors,
                pass_fds=pass_fds,
                start_new_session=True,
                env=env or {},
                cwd=cwd,
            )
        except OSError as error:
            os.close(self._errors)
            raise VmError(name, f"cannot be started: {error.strerror}", argv=argv) from error
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self._settle(places, on_spawn)

    def _settle(self, places: Places, on_spawn: Callable[[int], None] | None) -> None:
        with undone_on_failure(lambda: self.end(patience=0)):
            if on_spawn is not None:
                on_spawn(self.pid)
            for group in places.join:
                write_text(group / "cgroup.procs", str(self.pid))

    def ended(self, *, patience: float = 0.0) -> str | None:
        """`exited 3` or `killed by SIGKILL`, or None while it runs (after waiting `patience` s)."""
        deadline = time.monotonic() + patience
        while (code := self._process.poll()) is None and time.monotonic() < deadline:
            select.select([self.pidfd], [], [], deadline - time.monotonic())
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited {code}"

    def last_words(self) -> str:
        """The end of what it wrote to its standard error, at most 2,000 characters."""
        if self._errors < 0:
            return self._last
        size = os.fstat(self._errors).st_size
        return os.pread(self._errors, 2000, max(0, size - 2000)).decode(errors="replace").strip()

    def end(self, *, patience: float, sig: signal.Signals | None = None) -> None:
        """Wait `patience` seconds for its own end (after `sig`, if given), then kill and reap."""
        if self.pidfd < 0:
            return
        if sig is not None:
            self._signal(sig)
        if self.ended(patience=patience) is None:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._last = self.last_words()
        os.close(self.pidfd)
        os.close(self._errors)
        self.pidfd = self._errors = -1

    def _signal(self, sig: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, sig)
        except ProcessLookupError:
            return  # it has just ended
