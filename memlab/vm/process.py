"""Process VMs: the guest agent, alone in its cgroup, as a user that owns nothing.

Nothing of the guest's memory is touched before the agent is in its cgroup: it is started, waits
for its first command, is moved by its number, and only then is told to boot. No code of ours runs
between fork and exec, so starting VMs from a threaded process is safe, and cheap.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Final

from memlab.errors import GuestError, VmError
from memlab.guest.build import agent_path
from memlab.kernel.network import PREFIX
from memlab.units import PAGE
from memlab.vm.base import Moved, Target, VmConfig
from memlab.vm.child import Child, Identity, Places
from memlab.vm.link import SocketLink
from memlab.vm.mirror import make_board

DRIVER_SECONDS: Final = 2.0
"""A balloon driver that has not taken a target by then is given up: the lab's loop waits for it."""
_READY_HINT: Final = "a VM that does not fit its cgroup boots slowly: raise host.memory"


class ProcessVm:
    """A VM whose guest is the agent. It owns its process, its line and its board."""

    def __init__(
        self,
        config: VmConfig,
        places: Places,
        *,
        identity: Identity | None = None,
        on_spawn: Callable[[int], None] | None = None,
        guest_swap_fd: int | None = None,
        cache_fd: int | None = None,
    ) -> None:
        """Prepare only; `start` runs it. The descriptors stay the caller's."""
        self.config = config
        self._places = places
        self._identity = identity
        self._on_spawn = on_spawn
        self._disks = {"--guest-swap": guest_swap_fd, "--cache-file": cache_fd}
        self._owned = ExitStack()
        self._child: Child | None = None
        self._link: SocketLink | None = None
        self._board = -1
        self._asked: list[int] = []
        self._booted: dict[str, Any] | None = None

    def start(self) -> None:
        """Run the agent in its cgroups and tell it to boot and to work. Does not wait."""
        ours, theirs = socket.socketpair()
        self._link = SocketLink(self.config.name, ours)
        self._owned.callback(self._link.close)
        self._board = make_board(self.config.owner, self.config.memory // PAGE)
        self._owned.callback(os.close, self._board)
        with theirs:
            self._child = self._spawn(theirs.fileno())
        self._asked = [
            self._link.send("boot", **boot_fields(self.config)),
            self._link.send("workload", **workload_fields(self.config)),
        ]
        if self.config.watched_pages:
            watch = {"pages": self.config.watched_pages, "period": self.config.watch_seconds}
            self._asked.append(self._link.send("sample", **watch))

    def _spawn(self, control: int) -> Child:
        fds = {"--control": control, "--board": self._board}
        fds |= {name: fd for name, fd in self._disks.items() if fd is not None}
        argv = [str(agent_path())]
        for name, fd in fds.items():
            argv += [name, str(fd)]
        if self._identity is not None:
            argv += self._identity.options()
        return Child(
            self.config.name,
            argv,
            places=self._places,
            on_spawn=self._on_spawn,
            pass_fds=tuple(fds.values()),
        )

    @property
    def pid(self) -> int:
        """The agent's process."""
        return self._running().pid

    @property
    def pidfd(self) -> int:
        """The agent's process, by a handle that is never reused."""
        return self._running().pidfd

    @property
    def link(self) -> SocketLink:
        """The line to the agent."""
        if self._link is None:
            raise VmError(self.config.name, "it has not been started")
        return self._link

    @property
    def board_fd(self) -> int | None:
        """The board's memory file; to be mapped read-only."""
        return self._board if self._board >= 0 else None

    @property
    def booted(self) -> dict[str, Any]:
        """What the guest said at boot: reserved bytes, zero and common pages of its image."""
        if self._booted is None:
            raise VmError(self.config.name, "it has not booted yet")
        return self._booted

    @property
    def target(self) -> Target:
        """Where the sampler finds it; VmError before `wait_ready`."""
        return Target(
            name=self.config.name,
            pid=self.pid,
            configured=self.config.memory,
            ram_start=int(self.booted["ram_start"]),
            ram_bytes=int(self.booted["ram_bytes"]),
            memory_group=self._places.memory_group,
            unified_group=self._places.unified_group,
            mergeable=self.config.mergeable,
        )

    def wait_ready(self, *, timeout: float) -> None:
        """Return when the guest has booted and its workload runs; VmError with its last words."""
        if not self._asked:
            return
        try:
            answers = [self.link.answer(number, timeout=timeout) for number in self._asked]
        except GuestError as error:
            child = self._running()
            why = child.ended(patience=0.5) if self.link.ended else None
            raise VmError(
                self.config.name,
                f"it {why} before it was ready" if why else error.message,
                argv=child.argv,
                last=child.last_words(),
                hint=_READY_HINT if "within" in error.message else "",
            ) from error
        self._asked = []
        self._booted = answers[0]

    def balloon(self, target: int) -> None:
        """Ask the guest's driver to hold `target` bytes; VmError if it refuses or is silent."""
        self.link.call("balloon", timeout=DRIVER_SECONDS, target=target)

    def migrate(self, *, timeout: float) -> Moved:
        """Only a virtual machine can be moved: VmError."""
        raise VmError(
            self.config.name, "a process VM cannot be migrated", hint="backend: qemu can be"
        )

    @property
    def heard(self) -> float | None:
        """A process VM's guest shows its counters on its board, and reports nothing."""
        return None

    def events(self) -> list[dict[str, Any]]:
        """What the agent has said unasked."""
        return self.link.events()

    def ended(self) -> str | None:
        """Why the VM runs no more, or None while it runs."""
        return self._running().ended()

    def last_words(self) -> str:
        """What the agent has written to its standard error."""
        return self._running().last_words()

    def stop(self, *, timeout: float) -> None:
        """Ask it to stop, then end it by pidfd. Harmless if it has ended or never ran."""
        if self._child is not None:
            if self._child.ended() is None:
                self._ask_to_stop()
            self._child.end(patience=timeout)
        self._owned.close()
        self._board = -1

    def _ask_to_stop(self) -> None:
        try:
            self.link.send("stop")
        except GuestError:
            return  # it is gone or does not listen: the pidfd ends it

    def _running(self) -> Child:
        if self._child is None:
            raise VmError(self.config.name, "it has not been started")
        return self._child


def boot_fields(config: VmConfig) -> dict[str, Any]:
    """Fields of the `boot` command."""
    image, seat = config.image, config.network
    network = {} if seat is None else {
        "network": {"address": seat.address, "prefix": PREFIX, "mac": seat.mac}
    }  # fmt: skip
    return {
        **network,
        "memory": config.memory,
        "seed": config.seed,
        "owner": config.owner,
        "mergeable": config.mergeable,
        "huge": config.huge,
        "image": {"name": image.name, "size": image.size, **asdict(image.content)},
    }


def workload_fields(config: VmConfig) -> dict[str, Any]:
    """Fields of the `workload` command."""
    workload = config.workload
    return {
        "name": workload.name,
        "size": workload.size,
        "content": asdict(workload.content),
        "args": dict(workload.args),
        "command": list(workload.command),
    }
