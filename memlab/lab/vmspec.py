"""What a lab file says of a VM: its image, its content, its workload, its claims on memory."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from memlab.guest.wire import Workload
from memlab.kernel.network import Seat
from memlab.lab.arguments import Argument, arguments
from memlab.lab.values import (
    Argv,
    Duration,
    Name,
    Percent,
    Ratio,
    Size,
    SizeOfMemory,
    SizeOrPercent,
    Switch,
    Text,
    at_least,
    not_below,
    refuse,
)
from memlab.units import MIB, PAGE
from memlab.vm.base import Backend, Content, Image, VmConfig, WorkloadConfig

MAX_VMS: Final = 2000


class Spec(BaseModel):
    """A part of the lab file: frozen, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def named(value: Any) -> Any:
    """`policy: ladder` is short for `policy: {name: ladder}`; workloads likewise."""
    return {"name": value} if isinstance(value, str) else value


class ContentSpec(Spec):
    """What pages contain; what is neither zero nor common is unique to its VM."""

    zero: Percent = Field(default=0.0, description="Part of the pages that is all zero.")
    common: Percent = Field(
        default=0.0, description="Part that is equal in all VMs of the same image."
    )
    compressible: Ratio = Field(default=1.0, description="n of n:1; 1 is random, not compressible.")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.zero + self.common > 1 + 1e-9:
            message = f"zero and common are {self.zero + self.common:.0%} together"
            raise refuse("content", message, "let them be 100% at most")
        return self

    @property
    def content(self) -> Content:
        """As the VM's configuration wants it."""
        return Content(self.zero, self.common, self.compressible)


class Agent(StrEnum):
    """Whether a full guest has memlab's agent in it."""

    WAIT = "wait"
    NONE = "none"


def at_path(value: Any) -> Any:
    """`image: FILE.qcow2` is short for `image: {path: FILE.qcow2}`."""
    return {"path": value} if isinstance(value, str) else value


class ImageSpec(ContentSpec):
    """The guest's operating system: pages that are touched at boot and stay in use, or a disk."""

    name: Name = Field(
        default="default", description="VMs of the same image have its common pages."
    )
    size: Size = Field(default=0, description="Memory that it takes.")
    path: Text | None = Field(
        default=None,
        description="With `backend: qemu`: a qcow2 disk that the guest boots; never written to.",
    )
    agent: Agent = Field(
        default=Agent.WAIT,
        description="With `path`: wait for the agent in it, or run without one.",
    )
    within: Annotated[Duration, not_below(1)] = Field(
        default=60.0,
        description="With `path`: how long the agent is waited for; without it the guest runs on.",
    )


class WorkloadSpec(Spec):
    """The guest's application."""

    name: Workload = Field(default=Workload.IDLE, description="Which; see docs/workloads.md.")
    size: Size = Field(default=0, description="Virtual memory of the application.")
    content: ContentSpec | None = Field(
        default=None, description="What its pages contain; the VM's `content` if absent."
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="Settings of this workload; see docs/workloads.md."
    )

    command: Annotated[Argv, Field(max_length=100)] | None = Field(
        default=None,
        description="A program of a guest with `image.path` and its arguments, instead.",
    )

    @property
    def is_work(self) -> bool:
        """Whether the guest needs an agent for it."""
        return self.command is not None or self.name is not Workload.IDLE or self.size > 0

    @property
    def arguments(self) -> dict[str, Argument]:
        """`args` in plain numbers, as the agent wants them; ArgumentsError if it refuses one."""
        return arguments(self.name, self.args)


class Accel(StrEnum):
    """What runs a QEMU guest's instructions."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class User(StrEnum):
    """Whom a `command:` runs as."""

    INVOKER = "invoker"
    ROOT = "root"


class CgroupSpec(Spec):
    """What the kernel's cgroup v2 can do to a VM besides a limit and a reservation."""

    high: SizeOrPercent | None = Field(
        default=None,
        description="memory.high: above it the VM is slowed and reclaimed.",
    )
    swap_max: SizeOrPercent | None = Field(
        default=None, description="memory.swap.max: swap at most, compressed pages included."
    )
    zswap_max: SizeOrPercent | None = Field(
        default=None, description="memory.zswap.max: its compressed pages at most, as compressed."
    )
    zswap_writeback: Switch | None = Field(
        default=None,
        description="memory.zswap.writeback (6.8): off, no page of it goes to the swap device.",
    )


class VmFields(Spec):
    """What can be said of a VM; under `defaults` and `groups` too."""

    backend: Backend = Field(default=Backend.PROCESS, description="What the VM is made of.")
    memory: Annotated[Size, at_least(MIB)] | None = Field(
        default=None, description="Configured guest physical memory."
    )
    image: Annotated[ImageSpec, BeforeValidator(at_path)] = Field(
        default_factory=ImageSpec, description="The guest's operating system, or a disk with one."
    )
    content: ContentSpec = Field(
        default_factory=ContentSpec, description="What the application's pages contain."
    )
    workload: Annotated[WorkloadSpec, BeforeValidator(named)] = Field(
        default_factory=WorkloadSpec, description="The application: its name, or a map."
    )
    command: Argv | None = Field(
        default=None,
        description="A real program and its arguments, instead of a guest with a workload.",
    )
    kernel: Text | None = Field(
        default=None, description="With `backend: qemu`: the guest's kernel, a bzImage's path."
    )
    accel: Accel = Field(
        default=Accel.AUTO,
        description="With `backend: qemu`: kvm, tcg, or KVM where it really runs.",
    )
    boot: Switch = Field(
        default=False,
        description="With `backend: qemu`: boot the kernel, instead of a start from a saved state.",
    )
    user: User = Field(default=User.INVOKER, description="Whom `command` runs as.")
    shares: int = Field(
        default=1000, ge=1, le=1_000_000, description="Weight when memory is short."
    )
    reservation: SizeOfMemory = Field(
        default=0,
        description="Machine memory that no policy takes away; percent of the VM's memory.",
    )
    limit: SizeOfMemory | None = Field(
        default=None, description="Machine memory at most; percent of the VM's memory."
    )
    cgroup: CgroupSpec = Field(
        default_factory=CgroupSpec, description="Controls of cgroup v2; percent of the VM's memory."
    )
    start: Duration = Field(default=0.0, description="Delay of its start, since the run began.")
    guest_swap: Size = Field(default=0, description="The guest's own swap file.")
    cache_file: Size = Field(default=0, description="The file that the workload `cache` reads.")
    huge: Switch = Field(
        default=False, description="Back guest memory with transparent huge pages."
    )


class VmEntry(VmFields):
    """One entry of `vms`: a VM, or `count` equal ones."""

    group: Name | None = Field(
        default=None, description="The entry of `groups` it takes its settings from."
    )
    count: int = Field(
        default=1, ge=1, le=MAX_VMS, description="N makes NAME-1 to NAME-N; 1 is NAME."
    )


class VmSpec(VmFields):
    """One VM by itself: defaults, group and entry merged."""

    name: Name
    entry: Name
    """Its key under `vms`: `web` for web-1."""
    group: Name | None = None
    memory: Annotated[Size, at_least(MIB)]

    @property
    def can_network(self) -> bool:
        """Whether there is anything in it that could use a network: a real kernel or a program."""
        return self.backend is Backend.QEMU or self.command is not None

    def config(
        self,
        *,
        owner: int,
        seed: int = 0,
        mergeable: bool = True,
        network: bool = False,
        watched: tuple[int, float] = (0, 2.0),
    ) -> VmConfig:
        """What its back end is given. `watched` are pages and seconds of the active estimate."""
        work = self.workload
        return VmConfig(
            name=self.name,
            owner=owner,
            memory=self.memory,
            seed=seed,
            backend=self.backend,
            image=Image(self.image.name, self.image.size, self.image.content),
            workload=WorkloadConfig(
                str(work.name),
                work.size,
                (work.content or self.content).content,
                work.arguments,
                work.command or (),
            ),
            command=self.command or (),
            mergeable=mergeable,
            huge=self.huge,
            guest_swap=self.guest_swap,
            cache_file=self.cache_file,
            network=Seat(owner) if network and self.can_network else None,
            watched_pages=min(watched[0], self.memory // PAGE // 8),
            watch_seconds=watched[1],
        )
