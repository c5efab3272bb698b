"""QEMU VMs: a real Linux in a virtual machine, in the VM's cgroup, as a user that owns nothing.

prepare     `__init__`: what it is to be; nothing runs
launch      `start`: QEMU waits until it stands in its cgroup, drops its rights and begins
ready       `wait_ready`: the agent has its identity and works; guest RAM is found
soft stop   the agent is asked to switch the guest off
hard stop   `stop`: QEMU is killed by pidfd, and what it used is closed, always
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from memlab.errors import GuestError, VmError
from memlab.guest.build import agent_path
from memlab.guest.image import GuestImage
from memlab.kernel.pagemap import PageWalker
from memlab.kernel.qemu import PROGRAM
from memlab.units import PAGE
from memlab.vm.balloon import Balloon
from memlab.vm.base import Target, VmConfig
from memlab.vm.child import Child, Identity, Places
from memlab.vm.hardware import Hardware, Lines, arguments
from memlab.vm.link import SocketLink
from memlab.vm.mirror import BoardMirror
from memlab.vm.process import boot_fields, workload_fields

if TYPE_CHECKING:
    from memlab.vm.qmp import Monitor

_READY_HINT: Final = (
    "emulated guests take seconds of a core to boot; several at once, or a host budget that is "
    "too small for them, take longer"
)


@dataclass(frozen=True, slots=True)
class Disks:
    """Descriptors of a guest's disks, the caller's until QEMU has them."""

    guest_swap: int | None = None
    cache_file: int | None = None


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
        disks: Disks = Disks(),
        identity: Identity | None = None,
        on_spawn: Callable[[int], None] | None = None,
        report_seconds: float = 0.25,
        with_parent: bool = False,
    ) -> None:
        """`state` is a descriptor of a saved state of the same hardware, to start from.

        `with_parent`: the kernel ends QEMU when this process dies, for want of a journal.
        """
        self._with_parent = with_parent
        self.config = config
        self.hardware = hardware
        self._places = places
        self._image = image
        self._state = state
        self._disks = disks
        self._identity = identity
        self._on_spawn = on_spawn
        self._report = report_seconds
        self._owned = ExitStack()
        self._child: Child | None = None
        self._link: SocketLink | None = None
        self._monitor: Monitor | None = None
        self._board: BoardMirror | None = None
        self._asked: list[int] = []
        self._ram_start: int | None = None
        self.heard: float | None = None
        self._balloon = Balloon(config.memory, self._backed)
        self.release = ""
        """The guest's kernel, when it is ready."""

    # Launch.

    def start(self) -> None:
        """Run QEMU in its cgroups, and send the agent what it will find when it is up."""
        self._board = BoardMirror(self.config.owner)
        self._owned.callback(self._board.close)
        self.launch()
        link, workload = self.link, workload_fields(self.config)
        self._asked = [
            link.send("boot", **boot_fields(self.config)),
            link.send("report", period=self._report),
            link.send("workload", **workload),
        ]

    def launch(self) -> None:
        """Run QEMU in its cgroups; nothing is said to the guest."""
        with ExitStack() as given:
            agent, monitor = self._connect(given)
            lines = Lines(
                agent, monitor, state=self._state,
                guest_swap=_both_ways(self._disks.guest_swap, given),
                cache_file=_both_ways(self._disks.cache_file, given),
            )  # fmt: skip
            if self._state is None:
                kernel, initramfs = (
                    _open(path, given) for path in (self._image.kernel, self._image.initramfs)
                )
                lines = replace(lines, kernel=kernel, initramfs=initramfs)
            self._child = self._spawn(lines, given)

    def _connect(self, given: ExitStack) -> tuple[int, int]:
        """Two lines; the descriptors of QEMU's ends."""
        from memlab.vm.qmp import Monitor  # asyncio with it: not for labs of processes

        ends = []
        for _ in range(2):
            ours, theirs = socket.socketpair()
            given.enter_context(theirs)
            ends.append((ours, theirs.fileno()))
        (agent, agent_fd), (monitor, monitor_fd) = ends
        self._link = SocketLink(self.config.name, agent)
        self._owned.callback(self._link.close)
        self._monitor = Monitor(self.config.name, monitor)
        self._owned.callback(self._monitor.close)
        return agent_fd, monitor_fd

    def _spawn(self, lines: Lines, given: ExitStack) -> Child:
        waits, goes = os.pipe2(os.O_CLOEXEC)
        given.callback(os.close, waits)
        given.callback(os.close, goes)
        words = [str(agent_path()), "--exec", "--wait", str(waits)]
        if not self.config.huge:
            words.append("--small-pages")
        if self._with_parent:
            words.append("--with-parent")
        if self._identity is not None:
            words += self._identity.options()
        child = Child(
            self.config.name,
            [*words, "--", PROGRAM, *arguments(self.hardware, lines)],
            places=self._places,
            on_spawn=self._on_spawn,
            pass_fds=(waits, *lines.all),
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        )
        os.write(goes, b"!")
        return child

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
        self.find_memory()
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
        self.monitor.send_fd("state", fd)
        self.monitor.migrate("fd:state", timeout=timeout)

    def _not_ready(self, error: VmError) -> VmError:
        child = self._running()
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

    def find_memory(self) -> None:
        """Where guest RAM lies in QEMU's address space, as QEMU itself says (`gpa2hva`)."""
        said = self.monitor.human("gpa2hva 0")
        found = re.search(r"is (?:0x)?([0-9a-f]+)\s*$", said, re.IGNORECASE)
        if found is None:
            raise VmError(self.config.name, f"QEMU does not say where guest memory is: {said}")
        self._ram_start = int(found.group(1), 16)

    @property
    def command(self) -> tuple[str, ...]:
        """QEMU's own command line."""
        argv = self._running().argv
        return argv[argv.index("--") + 1 :]

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._running().pid

    @property
    def pidfd(self) -> int:
        """QEMU's process, by a handle that is never reused."""
        return self._running().pidfd

    @property
    def link(self) -> SocketLink:
        """The line to the agent."""
        if self._link is None:
            raise VmError(self.config.name, "it has not been started")
        return self._link

    @property
    def monitor(self) -> Monitor:
        """The line to QEMU."""
        if self._monitor is None:
            raise VmError(self.config.name, "it has not been started")
        return self._monitor

    @property
    def board_fd(self) -> int | None:
        """The board that shows what the agent reports."""
        return None if self._board is None else self._board.fd

    @property
    def target(self) -> Target:
        """Where the sampler finds it; VmError before `wait_ready`."""
        if self._ram_start is None:
            raise VmError(self.config.name, "it has not booted yet")
        return Target(
            name=self.config.name,
            pid=self.pid,
            configured=self.config.memory,
            ram_start=self._ram_start,
            ram_bytes=self.config.memory,
            memory_group=self._places.memory_group,
            unified_group=self._places.unified_group,
            mergeable=self.config.mergeable,
        )

    # While it runs.

    def balloon(self, target: int) -> None:
        """Ask the guest's driver to hold `target` bytes; what it achieves comes as an event."""
        self._balloon.ask(target, self._actual())
        self.monitor.execute("balloon", value=self.config.memory - target)

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
        return int(self.monitor.execute("query-balloon")["actual"])

    def _backed(self) -> int:
        if self._ram_start is None:
            return 0
        with PageWalker(self.pid, self._ram_start, self.config.memory) as walker:
            classes = walker.walk(None)
        if classes is None:
            return 0
        # Not the zero page: a guest that is restored has it wherever it has touched nothing.
        return (classes.private + classes.shared + classes.out) * PAGE

    # The end.

    def ended(self) -> str | None:
        """Why the VM runs no more, or None while it runs."""
        return self._running().ended()

    def last_words(self) -> str:
        """What QEMU and the guest's kernel have said last."""
        return self._running().last_words()

    def stop(self, *, timeout: float) -> None:
        """Ask the guest to switch itself off, then end QEMU by pidfd. Harmless if it has ended."""
        if self._child is not None:
            if self._child.ended() is None:
                with suppress(GuestError):
                    self.link.send("stop")
            self._child.end(patience=timeout)
        self._owned.close()
        self._board = None

    def _running(self) -> Child:
        if self._child is None:
            raise VmError(self.config.name, "it has not been started")
        return self._child


_UNTOLD: Final = frozenset(
    {"RTC_CHANGE", "SHUTDOWN", "RESUME", "STOP", "MIGRATION", "MIGRATION_PASS"}
)


def _both_ways(disk: int | None, given: ExitStack) -> tuple[int, ...]:
    """A disk's descriptor, and another one of the same file that can only read."""
    if disk is None:
        return ()
    reads = os.open(f"/proc/self/fd/{disk}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    given.callback(os.close, reads)
    return (disk, reads)


def _open(path: os.PathLike[str], given: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    given.callback(os.close, fd)
    return fd
