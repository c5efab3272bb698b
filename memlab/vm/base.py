"""What a virtual machine is to the rest of memlab, whatever is behind it.

A VM is described by a frozen `VmConfig`, started by its back end, and from then on seen through
two things: a `Target`, the addresses at which the sampler finds its layers from outside, and a
`GuestLink`, the line to the agent inside (None if there is none: then there is no guest layer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from memlab.kernel.network import Seat


class Backend(StrEnum):
    """What a VM is made of."""

    PROCESS = "process"
    QEMU = "qemu"


@dataclass(frozen=True, slots=True)
class Content:
    """Classes of page content, fractions 0…1 of pages; neither zero nor common means unique.

    `common` pages are equal in all VMs of one image. `compressible` = n makes unique and common
    pages compressible n:1 (1 = random bytes).
    """

    zero: float = 0.0
    common: float = 0.0
    compressible: float = 1.0


@dataclass(frozen=True, slots=True)
class Image:
    """The guest's operating system: `size` bytes that are touched at boot and stay in use."""

    name: str = "default"
    size: int = 0
    content: Content = Content()


@dataclass(frozen=True, slots=True)
class WorkloadConfig:
    """One application of the guest: which, how much virtual memory, what content, its settings."""

    name: str = "idle"
    size: int = 0
    content: Content = Content()
    args: Mapping[str, float | int | str | Sequence[int]] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """A program of a full guest and its arguments, instead of one of the agent's workloads."""


@dataclass(frozen=True, slots=True)
class VmConfig:
    """A VM to start. Sizes are bytes; `owner` (1…) tells VMs apart in page contents."""

    name: str
    owner: int
    memory: int
    seed: int = 0
    backend: Backend = Backend.PROCESS
    image: Image = Image()
    workload: WorkloadConfig = WorkloadConfig()
    command: tuple[str, ...] = ()
    mergeable: bool = True
    huge: bool = False
    guest_swap: int = 0
    cache_file: int = 0
    network: Seat | None = None
    """Its place on the lab's network."""
    watched_pages: int = 0
    """Random pages that the estimate of active memory watches; 0: none is made."""
    watch_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where the layers of a running VM are found from outside.

    `ram_start`/`ram_bytes` is the guest-RAM mapping in the address space of `pid` (None for a
    `command:` VM, whose whole address space is its memory). `memory_group` is the directory that
    has the memory controller's files; `unified_group` the cgroup2 directory with memory.pressure,
    cgroup.kill and cgroup.freeze (the same one on v2, None if there is none).
    """

    name: str
    pid: int
    configured: int
    ram_start: int | None
    ram_bytes: int | None
    memory_group: Path
    unified_group: Path | None
    mergeable: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """What a migration took: seconds in all, seconds in which the guest stood still, bytes sent."""

    seconds: float
    downtime: float
    sent: int


class GuestLink(Protocol):
    """The line to the agent in a VM."""

    def send(self, cmd: str, /, **fields: Any) -> int:
        """Send a command without waiting; the number its answer will carry."""

    def answer(self, number: int, *, timeout: float) -> dict[str, Any]:
        """The answer to command `number`; GuestError if it is refused or does not come in time."""

    def call(self, cmd: str, /, *, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Send and wait."""

    def events(self) -> list[dict[str, Any]]:
        """What the agent has said unasked since the last call. Never blocks."""

    def fileno(self) -> int:
        """For select and poll."""


class Vm(Protocol):
    """A running VM of either kind."""

    config: VmConfig

    @property
    def target(self) -> Target:
        """Where the sampler finds it."""

    @property
    def board_fd(self) -> int | None:
        """The board's memory file (process VMs), else None."""

    @property
    def link(self) -> GuestLink | None:
        """The line to the agent, or None."""

    def start(self) -> None:
        """Begin to run. Does not wait; VmError if it cannot be."""

    def wait_ready(self, *, timeout: float) -> None:
        """Return when the guest has booted and its workload runs; VmError with its last words."""

    def balloon(self, target: int) -> None:
        """Ask the guest's driver to hold `target` bytes; VmError if there is none.

        What it achieves comes as an event.
        """

    def migrate(self, *, timeout: float) -> Moved:
        """Move the running guest to a second process on this host; VmError if it cannot be.

        `target`, `link` and `board_fd` are others afterwards.
        """

    def events(self) -> list[dict[str, Any]]:
        """What guest and back end have said unasked since the last call. Never blocks."""

    @property
    def heard(self) -> float | None:
        """When its guest reported last, CLOCK_MONOTONIC; None if it does not report by lines."""

    def last_words(self) -> str:
        """What the VM has written last, for people."""

    def ended(self) -> str | None:
        """Why the VM runs no more (`exited 3`, `killed by SIGKILL`), or None while it runs."""

    def stop(self, *, timeout: float) -> None:
        """Ask it to stop, then end it by pidfd. Harmless if it has ended."""
