"""QEMU VMs: a real Linux in a virtual machine, in the VM's cgroup, as a user that owns nothing.

prepare     `__init__`: what it is to be; nothing runs
launch      `start`: QEMU waits until it stands in its cgroup, drops its rights and begins
ready       `wait_ready`: the agent has its identity and works; guest RAM is found
soft stop   the agent is asked to switch the guest off
hard stop   `stop`: QEMU is killed by pidfd, and what it used is closed, always
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from memlab.errors import VmError
from memlab.guest.image import GuestImage
from memlab.kernel.pagemap import PageWalker
from memlab.units import PAGE
from memlab.vm.balloon import Balloon
from memlab.vm.base import Moved, Target, VmConfig
from memlab.vm.child import Identity, Places
from memlab.vm.hardware import Hardware, Nic
from memlab.vm.launch import Disks, Launch, Running
from memlab.vm.link import SocketLink
from memlab.vm.mirror import BoardMirror
from memlab.vm.process import DRIVER_SECONDS, boot_fields, workload_fields

if TYPE_CHECKING:
    from memlab.vm.qmp import Monitor

_READY_HINT: Final = (
    "emulated guests take seconds of a core to boot; several at once, or a host budget that is "
    "too small for them, take longer"
)
_UNTOLD: Final = frozenset(
    {"RTC_CHANGE", "SHUTDOWN", "RESUME", "STOP", "MIGRATION", "MIGRATION_PASS"}
)


class QemuVm:
    """A VM in QEMU. It owns its process, both its lines and its board."""

    def __init__(
        self,
        config: VmConfig,
        places: Places,
        hardware: Hardware,
        *,
        image: GuestImage,
        state: int | None = None,
        disks: Disks = Disks(),  # noqa: B008 — frozen
        nic: Nic | None = None,
        identity: Identity | None = None,
        on_spawn: Callable[[int], None] | None = None,
        report_seconds: float = 0.25,
        with_parent: bool = False,
    ) -> None:
        """`state` is a descriptor of a saved state of the same hardware, to start from.

        `with_parent`: the kernel ends QEMU when this process dies, for want of a journal.
        """
        self.config = config
        self.hardware = hardware
        self._launch = Launch(
            config.name, places, hardware, image, nic=nic, huge=config.huge, identity=identity,
            on_spawn=on_spawn, with_parent=with_parent,
        )  # fmt: skip
        self._state = state
        self._disks = disks
        self._report = report_seconds
        self._qemu: Running | None = None
        self._board: BoardMirror | None = None
        self._asked: list[int] = []
        self._balloon = Balloon(config.memory, self._backed)
        self.heard: float | None = None
        self.release = ""
        """The guest's kernel, when it is ready."""

    # Launch.

    def start(self) -> None:
        """Run QEMU in its cgroups, and send the agent what it will find when it is up."""
        self._board = BoardMirror(self.config.owner)
        self.launch()
        link, workload = self.link, workload_fields(self.config)
        self._asked = [
            link.send("boot", **boot_fields(self.config)),
            link.send("report", period=self._report),
            link.send("workload", **workload),
        ]

    def launch(self) -> None:
        """Run QEMU in its cgroups; nothing is said to the guest."""
        self._qemu = self._launch.run(state=self._state, disks=self._disks)

    # Ready.

    def wait_ready(self, *, timeout: float) -> None:
        """Return when the guest works and its memory is found; VmError with the last words."""
        if not self._asked:
            return
        try:
            self.monitor.connect(timeout=timeout)
            answers = [self.link.answer(number, timeout=timeout) for number in self._asked]
        except VmError as error:
            raise self._not_ready(error) from error
        self._asked = []
        self.release = str(answers[0].get("release", ""))
        self._running().find_memory()
        self.heard = time.monotonic()

    def wait_for_agent(self, *, timeout: float) -> None:
        """Return when the agent answers, of a guest that has only been launched."""
        try:
            self.monitor.connect(timeout=timeout)
            self.link.call("hello", timeout=timeout)
        except VmError as error:
            raise self._not_ready(error) from error

    def save(self, fd: int, *, timeout: float) -> None:
        """Write the guest's state to the file `fd`; the guest is stopped then."""
        self.monitor.save(fd, timeout=timeout)

    def _not_ready(self, error: VmError) -> VmError:
        child = self._running().child
        gone = self.link.ended or "has ended" in error.message
        why = child.ended(patience=0.5) if gone else None
        message = error.message.removeprefix(f"VM {self.config.name}: ").partition("\n")[0]
        return VmError(
            self.config.name,
            f"QEMU {why} before the guest was ready" if why else message,
            argv=child.argv,
            last=f"{child.last_words()}\n  its command line: {' '.join(self.command)}",
            hint=_READY_HINT if "within" in message else "",
        )

    @property
    def command(self) -> tuple[str, ...]:
        """QEMU's own command line."""
        return self._running().command

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._running().child.pid

    @property
    def pidfd(self) -> int:
        """QEMU's process, by a handle that is never reused."""
        return self._running().child.pidfd

    @property
    def link(self) -> SocketLink:
        """The line to the agent."""
        return self._running().link

    @property
    def monitor(self) -> Monitor:
        """The line to QEMU."""
        return self._running().monitor

    @property
    def board_fd(self) -> int | None:
        """The board that shows what the agent reports."""
        return None if self._board is None else self._board.fd

    @property
    def target(self) -> Target:
        """Where the sampler finds it; VmError before `wait_ready`."""
        start = self._running().ram_start
        if start is None:
            raise VmError(self.config.name, "it has not booted yet")
        places = self._launch.places
        return Target(
            name=self.config.name,
            pid=self.pid,
            configured=self.config.memory,
            ram_start=start,
            ram_bytes=self.config.memory,
            memory_group=places.memory_group,
            unified_group=places.unified_group,
            mergeable=self.config.mergeable,
        )

    # While it runs.

    def balloon(self, target: int) -> None:
        """Ask the guest's driver to hold `target` bytes; what it achieves comes as an event."""
        self._balloon.ask(target, self._actual())
        self.monitor.execute("balloon", timeout=DRIVER_SECONDS, value=self.config.memory - target)

    def migrate(self, *, timeout: float) -> Moved:
        """Move the running guest to a second QEMU in the same cgroup, which it does not notice but
        for the downtime. VmError if that fails; the guest goes on where it was, then.
        """
        if self.hardware.guest_swap or self.hardware.cache_file:
            raise VmError(self.config.name, "a guest with disks cannot be migrated yet")
        self.events()  # what was said on the lines that are given up
        ours, theirs = socket.socketpair()
        with ours, theirs:
            there = self._launch.run(state=theirs.fileno())
            try:
                there.monitor.connect(timeout=timeout)
                self.monitor.send_fd("move", ours.fileno())
                said = self.monitor.migrate("fd:move", timeout=timeout)
                there.find_memory()
            except VmError:
                there.end(patience=0)
                raise
        self._running().end(patience=0)
        self._qemu, self.heard = there, time.monotonic()
        sent = int(said.get("ram", {}).get("transferred", 0))
        return Moved(said["total-time"] / 1000, said["downtime"] / 1000, sent)

    def events(self) -> list[dict[str, Any]]:
        """What the agent and QEMU have said unasked; the counters go to the board."""
        said = []
        for event in self.link.events():
            if event.get("event") == "board":
                self._show(event)
            else:
                said.append(event)
        with suppress(VmError):
            said += self._of_monitor()
        return said

    def _show(self, report: dict[str, Any]) -> None:
        self.heard = time.monotonic()
        if self._board is None:
            return
        fields = report["fields"] | {
            "balloon_target_pages": self._balloon.target // PAGE,
            "balloon_backed_pages": self._balloon.backed // PAGE,
        }
        self._board.update(fields, report["histogram"])

    def _of_monitor(self) -> Iterator[dict[str, Any]]:
        for event in self.monitor.events():
            name, data = event["event"], event.get("data", {})
            if name == "BALLOON_CHANGE":
                yield self._balloon_moved()
            elif name not in _UNTOLD:
                yield {"event": f"qemu-{name.lower().replace('_', '-')}", **data}

    def _balloon_moved(self) -> dict[str, Any]:
        """Its size is asked anew: the event is told late, the page tables are counted now."""
        reached = self._balloon.settled
        self._balloon.settle(self._actual())
        book = self._balloon
        said = {"event": "balloon", "ballooned": book.held, "target": book.target}
        # The driver takes pages back by itself when its guest has no others (deflate-on-oom).
        return said | ({"unasked": True} if reached and not book.settled else {})

    def _actual(self) -> int:
        said = self.monitor.execute("query-balloon", timeout=DRIVER_SECONDS)
        return int(said["actual"])

    def _backed(self) -> int:
        start = self._running().ram_start
        if start is None:
            return 0
        with PageWalker(self.pid, start, self.config.memory) as walker:
            classes = walker.walk(None)
        if classes is None:
            return 0
        # Not the zero page: a guest that is restored has it wherever it has touched nothing.
        return (classes.private + classes.shared + classes.out) * PAGE

    # The end.

    def ended(self) -> str | None:
        """Why the VM runs no more, or None while it runs."""
        return self._running().child.ended()

    def last_words(self) -> str:
        """What QEMU and the guest's kernel have said last."""
        return self._running().child.last_words()

    def stop(self, *, timeout: float) -> None:
        """Ask the guest to switch itself off, then end QEMU by pidfd. Harmless if it has ended."""
        if self._qemu is not None:
            self._qemu.end(patience=timeout)
        if self._board is not None:
            self._board.close()
            self._board = None

    def _running(self) -> Running:
        if self._qemu is None:
            raise VmError(self.config.name, "it has not been started")
        return self._qemu
