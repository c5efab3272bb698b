"""One QEMU process with both its lines: how it is launched, and where its guest's memory is."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memlab.errors import GuestError, VmError
from memlab.guest.build import agent_path
from memlab.guest.image import GuestImage
from memlab.kernel.qemu import PROGRAM
from memlab.vm.child import Child, Identity, Places
from memlab.vm.hardware import Hardware, Lines, Nic, Root, arguments
from memlab.vm.link import SocketLink

if TYPE_CHECKING:
    from memlab.vm.qmp import Monitor


@dataclass(frozen=True, slots=True)
class Disks:
    """Descriptors of a guest's disks, the caller's until QEMU has them."""

    guest_swap: int | None = None
    cache_file: int | None = None


@dataclass(frozen=True, slots=True)
class RootDisk:
    """Descriptors of a full guest's disks, the caller's until QEMU has them: the user's own, the
    empty one above it, the agent's drive."""

    base: int
    overlay: int
    drive: int

    def root(self, given: ExitStack) -> Root:
        """As QEMU takes them."""
        direct = all(_takes_direct(fd) for fd in (self.base, self.overlay))
        reads = _reading(self.overlay, given, direct=direct)
        return Root(self.base, (self.overlay, reads), self.drive, direct)


@dataclass(slots=True)
class Running:
    """A QEMU process, the lines to its agent and to its monitor, and the address of guest RAM."""

    name: str
    child: Child
    link: SocketLink
    monitor: Monitor
    ram_start: int | None = None

    @property
    def command(self) -> tuple[str, ...]:
        """QEMU's own command line."""
        argv = self.child.argv
        return argv[argv.index("--") + 1 :]

    def find_memory(self) -> None:
        """Where guest RAM lies in QEMU's address space, as QEMU itself says (`gpa2hva`)."""
        said = self.monitor.human("gpa2hva 0")
        found = re.search(r"is (?:0x)?([0-9a-f]+)\s*$", said, re.IGNORECASE)
        if found is None:
            raise VmError(self.name, f"QEMU does not say where guest memory is: {said}")
        self.ram_start = int(found.group(1), 16)

    def end(self, *, patience: float, ask: bool = True) -> None:
        """Ask the agent to switch the guest off, then end QEMU by pidfd, and hang up."""
        if ask and patience > 0 and self.child.ended() is None:
            with suppress(GuestError):
                self.link.send("stop")
        self.child.end(patience=patience)
        self.link.close()
        self.monitor.close()


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a QEMU process is launched with, but what its guest starts from."""

    name: str
    places: Places
    hardware: Hardware
    image: GuestImage | None
    root: RootDisk | None = None
    nic: Nic | None = None
    huge: bool = False
    identity: Identity | None = None
    on_spawn: Callable[[int], None] | None = None
    with_parent: bool = False

    def run(self, *, state: int | None = None, disks: Disks = Disks()) -> Running:
        """QEMU in its cgroups, restoring the state from that descriptor, or booting."""
        from memlab.vm.qmp import Monitor  # asyncio with it: not for labs of processes

        with ExitStack() as given, ExitStack() as undone:
            ends = []
            for _ in range(2):
                ours, theirs = socket.socketpair()
                given.enter_context(theirs)
                undone.callback(ours.close)
                ends.append((ours, theirs.fileno()))
            (agent, agent_fd), (monitor, monitor_fd) = ends
            lines = Lines(
                agent_fd, monitor_fd, state=state, nic=self.nic,
                guest_swap=_both_ways(disks.guest_swap, given),
                cache_file=_both_ways(disks.cache_file, given),
            )  # fmt: skip
            if self.root is not None:
                lines = replace(lines, root=self.root.root(given))
            elif self.image is not None and state is None:
                kernel = _open(self.image.kernel, given)
                lines = replace(lines, kernel=kernel, initramfs=_open(self.image.initramfs, given))
            child = self._spawn(lines, given)
            undone.pop_all()
            return Running(
                self.name, child, SocketLink(self.name, agent), Monitor(self.name, monitor)
            )

    def _spawn(self, lines: Lines, given: ExitStack) -> Child:
        """The agent's binary waits until it stands in the cgroups, drops its rights, is QEMU."""
        waits, goes = os.pipe2(os.O_CLOEXEC)
        given.callback(os.close, waits)
        given.callback(os.close, goes)
        words = [str(agent_path()), "--exec", "--wait", str(waits)]
        if not self.huge:
            words.append("--small-pages")
        if self.with_parent:
            words.append("--with-parent")
        if self.identity is not None:
            words += self.identity.options()
        child = Child(
            self.name,
            [*words, "--", PROGRAM, *arguments(self.hardware, lines)],
            places=self.places,
            on_spawn=self.on_spawn,
            pass_fds=(waits, *lines.all),
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        )
        os.write(goes, b"!")
        return child


def _both_ways(disk: int | None, given: ExitStack) -> tuple[int, ...]:
    """A disk's descriptor, and another one of the same file that can only read."""
    if disk is None:
        return ()
    return (disk, _reading(disk, given, direct=True))


def _reading(disk: int, given: ExitStack, *, direct: bool) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0)
    reads = os.open(f"/proc/self/fd/{disk}", flags)
    given.callback(os.close, reads)
    return reads


def _takes_direct(disk: int) -> bool:
    """Whether the file system lets it be read past the page cache (tmpfs does since 6.6)."""
    with ExitStack() as tried:
        try:
            _reading(disk, tried, direct=True)
        except OSError:
            return False
    return True


def _open(path: os.PathLike[str], given: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    given.callback(os.close, fd)
    return fd
