"""A virtual machine that QEMU runs: what guests of micro-images and of own disks have in common.

prepare     `__init__`: what it is to be; nothing runs
launch      `start`: QEMU waits until it stands in its cgroup, drops its rights and begins
ready       `wait_ready`: the guest works; guest RAM is found
soft stop   the agent is asked to switch the guest off
hard stop   `stop`: QEMU is killed by pidfd, and what it used is closed, always
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from memlab.errors import VmError
from memlab.kernel.pagemap import PageWalker
from memlab.units import PAGE
from memlab.vm.balloon import Balloon
from memlab.vm.base import Moved, Target, VmConfig
from memlab.vm.hardware import Hardware
from memlab.vm.launch import Launch, Running
from memlab.vm.mirror import BoardMirror
from memlab.vm.process import DRIVER_SECONDS

if TYPE_CHECKING:
    from memlab.vm.qmp import Monitor

_READY_HINT: Final = (
    "emulated guests take seconds of a core to boot; several at once, or a host budget that is "
    "too small for them, take longer"
)
HANGS_SECONDS: Final = 10.0
_CONTROL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""Control sequences, ECMA-48 §5.4."""
_UNTOLD: Final = frozenset(
    {"RTC_CHANGE", "SHUTDOWN", "RESUME", "STOP", "MIGRATION", "MIGRATION_PASS"}
)


def plain(text: str) -> str:
    """What a guest has written to its console, without what would act on a terminal."""
    return "".join(c for c in _CONTROL.sub("", text) if c.isprintable() or c == "\n")


class QemuMachine:
    """A QEMU process with its lines and its board, which it owns."""

    def __init__(self, config: VmConfig, hardware: Hardware, launch: Launch) -> None:
        self.config = config
        self.hardware = hardware
        self._launch = launch
        self._qemu: Running | None = None
        self._board: BoardMirror | None = None
        self._balloon = Balloon(config.memory, self._backed)
        self.heard: float | None = None
        self._hangs_until = 0.0

    def _not_ready(self, error: VmError, hint: str = "") -> VmError:
        child = self._running().child
        gone = self._running().link.ended or "has ended" in error.message
        why = child.ended(patience=0.5) if gone else None
        message = error.message.removeprefix(f"VM {self.config.name}: ").partition("\n")[0]
        return VmError(
            self.config.name,
            f"QEMU {why} before the guest was ready" if why else message,
            argv=child.argv,
            last=f"{self.last_words()}\n  its command line: {' '.join(self.command)}",
            hint=hint or (_READY_HINT if "within" in message else ""),
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
        self._ask("balloon", value=self.config.memory - target)

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
        said = list(self._of_agent())
        with suppress(VmError):
            said += self._of_monitor()
        return said

    def _of_agent(self) -> Iterator[dict[str, Any]]:
        for event in self._running().link.events():
            if event.get("event") == "board":
                self._show(event["fields"], event["histogram"])
            else:
                yield event

    def _show(self, fields: dict[str, int], histogram: Iterable[list[int]] = ()) -> None:
        self.heard, self._hangs_until = time.monotonic(), 0.0
        if self._board is None:
            return
        books = {
            "balloon_target_pages": self._balloon.target // PAGE,
            "balloon_backed_pages": self._balloon.backed // PAGE,
        }
        self._board.update(fields | books, histogram)

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
        return int(self._ask("query-balloon")["actual"])

    def _ask(self, command: str, **arguments: int) -> Any:
        """Ask QEMU, unless it hangs: the whole lab waits meanwhile, so that is found out once, and
        again when the guest has been heard or some time is over."""
        if time.monotonic() < self._hangs_until:
            raise VmError(self.config.name, f"QEMU has not answered and is not asked: {command}")
        try:
            return self.monitor.execute(command, timeout=DRIVER_SECONDS, **arguments)
        except VmError as error:
            if isinstance(error.__cause__, TimeoutError):
                self._hangs_until = time.monotonic() + HANGS_SECONDS
            raise

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
        return plain(self._running().child.last_words())

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
