"""`command:` VMs: any real program in the VM's cgroup. There is no guest layer.

The agent's binary is the helper that waits until it stands in the cgroup, drops its rights, asks
for merging (where the kernel can merge a whole process) and becomes the program; so the first page
of the program is charged where it belongs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from memlab.errors import VmError
from memlab.guest.build import agent_path
from memlab.kernel import ksm
from memlab.vm.base import Moved, Target, VmConfig
from memlab.vm.child import Child, Identity, Places


class CommandVm:
    """A VM that is a program. Its memory is its whole address space."""

    def __init__(
        self,
        config: VmConfig,
        places: Places,
        *,
        log: Path,
        identity: Identity | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | str = "/",
        network: int | None = None,
        on_spawn: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare only; `start` runs it. Both output streams of the program go to `log`.

        `identity` is the user it runs as; None leaves it the user that memlab runs as. `network`
        is a descriptor of the network namespace that it runs in; None leaves it the host's.
        """
        self.config = config
        self.board_fd: int | None = None
        self.link: None = None
        self._places = places
        self._log = log
        self._identity = identity
        self._env = dict(env or {"PATH": "/usr/local/bin:/usr/bin:/bin"})
        self._cwd = cwd
        self._network = network
        self._merges = config.mergeable and ksm.merges_whole_processes()
        self._on_spawn = on_spawn
        self._child: Child | None = None
        self._go = -1

    def start(self) -> None:
        """Start the program in its cgroups."""
        if not self.config.command:
            raise VmError(self.config.name, "it has no command")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self._log, flags, 0o644)
        waits, goes = os.pipe2(os.O_CLOEXEC)
        try:
            self._child = Child(
                self.config.name,
                self._argv(waits),
                places=self._places,
                on_spawn=self._on_spawn,
                pass_fds=(waits,) if self._network is None else (waits, self._network),
                output=log,
                env=self._env,
                cwd=self._cwd,
            )
            os.write(goes, b"!")
        finally:
            for fd in (log, waits, goes):
                os.close(fd)

    def _argv(self, waits: int) -> list[str]:
        argv = [str(agent_path()), "--exec", "--wait", str(waits)]
        if self._merges:
            argv.append("--merge")
        if self._network is not None:
            argv += ["--network", str(self._network)]
        if self._identity is not None:
            argv += self._identity.options()
        return [*argv, "--", *self.config.command]

    @property
    def pid(self) -> int:
        """The program's process (the first one, if it has children)."""
        return self._running().pid

    @property
    def pidfd(self) -> int:
        """The program's process, by a handle that is never reused."""
        return self._running().pidfd

    @property
    def target(self) -> Target:
        """Where the sampler finds it; it has no guest-RAM mapping."""
        return Target(
            name=self.config.name,
            pid=self.pid,
            configured=self.config.memory,
            ram_start=None,
            ram_bytes=None,
            memory_group=self._places.memory_group,
            unified_group=self._places.unified_group,
            mergeable=self._merges,
        )

    def wait_ready(self, *, timeout: float) -> None:
        """A program is ready when it runs; VmError with its last words if it ended at once."""
        child = self._running()
        if (why := child.ended(patience=min(timeout, 0.05))) is not None and why != "exited 0":
            raise VmError(
                self.config.name,
                f"it {why} at once",
                argv=self.config.command,
                last=self.last_words(),
            )

    def balloon(self, target: int) -> None:
        """A program has no balloon: VmError."""
        raise VmError(self.config.name, "a program has no balloon driver")

    def migrate(self, *, timeout: float) -> Moved:
        """Only a virtual machine can be moved: VmError."""
        raise VmError(self.config.name, "a program cannot be migrated", hint="backend: qemu can be")

    @property
    def heard(self) -> float | None:
        """A program reports nothing."""
        return None

    def events(self) -> list[dict[str, Any]]:
        """A program says nothing."""
        return []

    def ended(self, *, patience: float = 0.0) -> str | None:
        """Why the program runs no more, or None while it runs (after waiting `patience` s)."""
        return self._running().ended(patience=patience)

    def last_words(self) -> str:
        """The end of its log."""
        return self._running().last_words()

    def stop(self, *, timeout: float) -> None:
        """SIGTERM, then SIGKILL, to the first process; what it left is ended by its cgroup."""
        if self._child is not None:
            self._child.end(patience=timeout, sig=signal.SIGTERM)

    def _running(self) -> Child:
        if self._child is None:
            raise VmError(self.config.name, "it has not been started")
        return self._child
