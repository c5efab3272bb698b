"""The contract of a policy: a pure function from what was observed to what should be done.

`decide(view)` returns actions, each with its reason, and for what it left alone the reason for
that too. It may keep state of its own between ticks (smoothing, hysteresis) but reads no clock, no
file and no VM, so that the same object runs on the live host, on a recording and in a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from memlab.control.settings import Scales


class Mechanism(StrEnum):
    """The four ways to use machine memory twice, in the order of the field."""

    SHARING = "sharing"
    BALLOON = "balloon"
    COMPRESSION = "compression"
    SWAP = "swap"


@dataclass(frozen=True, slots=True)
class VmView:
    """One VM as a policy sees it, bytes. None: not known (yet, or on this kernel)."""

    name: str
    configured: int
    shares: int = 1000
    reservation: int = 0
    limit: int | None = None
    used: int | None = None
    cache: int | None = None
    free: int | None = None
    ballooned: int | None = None
    balloon_target: int | None = None
    blocked: bool = False
    resident: int | None = None
    consumed: int | None = None
    private: int | None = None
    shared: int | None = None
    out: int | None = None
    ghost: int | None = None
    active: int | None = None
    """What an estimator says that it uses now; None without one."""
    common: int | None = None
    overhead: int | None = None
    guest_swapped: int | None = None
    cpu: float | None = None
    """CPU time that it uses, part of one core. What its workload does with it no host can know."""
    major_faults: float | None = None
    guest_swap_in: float | None = None
    stall_some: float | None = None
    stall_full: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The host budget and the VMs at one moment. `time` is seconds since the run began."""

    time: float
    budget: int
    used: int
    pool: int = 0
    pool_cap: int = 0
    swap_size: int = 0
    swap_used: int = 0
    swap_cache: int = 0
    saved_sharing: int | None = None
    saved_compression: int | None = None
    compressed: int | None = None
    stall_some: float | None = None
    swap_in: float | None = None
    decompressed: float | None = None
    sharing_on: bool = False
    pages_to_scan: int | None = None
    mechanisms: frozenset[Mechanism] = frozenset()
    vms: tuple[VmView, ...] = ()

    @property
    def free(self) -> int:
        """Budget not used, bytes; negative when the lab is above its budget."""
        return self.budget - self.used

    @property
    def available(self) -> int:
        """What could be used at once: free, and the swap cache that no guest maps.

        Pages on their way to the device stay in frames until somebody wants these; the kernel
        then drops them without any work. Not to count them is to swap out more and more.
        """
        return self.free + self.swap_cache

    @property
    def pool_is_full(self) -> bool:
        """Whether the compressed pool takes no more pages, or soon will not: zswap that was full
        takes some again below nine tenths (accept_threshold_percent)."""
        return self.pool >= 0.9 * self.pool_cap

    @property
    def swap_is_full(self) -> bool:
        """Whether so few slots are left that others may take them before a page is there."""
        return self.swap_used >= 0.95 * self.swap_size


@dataclass(frozen=True, slots=True)
class Share:
    """Turn page sharing on or off; `pages_to_scan` a wake-up of ksmd if given."""

    on: bool
    reason: str
    pages_to_scan: int | None = None


@dataclass(frozen=True, slots=True)
class Balloon:
    """Ask the balloon of `vm` to hold `target` bytes in all."""

    vm: str
    target: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Push `size` bytes of `vm` out of its frames, `into` the compressed pool or the device.

    `oldest`: those that the kernel's lists have for the least used. Else piece after piece of the
    VM's memory, from where the last push ended, whatever is in use.
    """

    vm: str
    size: int
    into: Mechanism
    reason: str
    oldest: bool = False


@dataclass(frozen=True, slots=True)
class Age:
    """Have the kernel take all pages of `vm` for old: those that it uses, it makes young again.

    The kernel asks each VM for memory in proportion to its size, and finds what is cold in one that
    has just gone quiet only after two rounds. Nothing is pushed out by this.
    """

    vm: str
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Let `vm` run no more (`on`), or again: the last means against a VM above its target."""

    vm: str
    on: bool
    reason: str


Action = Share | Balloon | Reclaim | Age | Block


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Something that the policy could have done and did not, and why. `vm` may be empty."""

    mechanism: Mechanism
    reason: str
    vm: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy makes of one view. `state` is its own word for where it stands."""

    state: str
    actions: tuple[Action, ...] = ()
    left_alone: tuple[LeftAlone, ...] = field(default=())


class Policy(Protocol):
    """What decides. One short file each in `memlab/control/`."""

    name: ClassVar[str]
    settings: Any
    """Its settings, a frozen dataclass; `set` puts a changed copy here while it is at work."""
    scales: Scales

    def decide(self, view: View) -> Decision:
        """Actions and non-actions for this tick. Called about once a second."""
