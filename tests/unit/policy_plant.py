"""A lab that wants the same all the time, for the tests of policies: what they ask is carried out.

Each guest wants `demand` bytes and no more. What its balloon leaves it of that it uses; what is
pushed out of it stays out, three pages to a frame of the pool, and is what it gives up first for
its balloon. So whatever moves after the start is the policy's doing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from memlab.control.policy import (
    Balloon,
    Block,
    Decision,
    Mechanism,
    Policy,
    Reclaim,
    Share,
    View,
    VmView,
)
from memlab.units import MIB

RATIO = 3
SWAP = 4096 * MIB


@dataclass(slots=True)
class Guest:
    """One VM, bytes. `driver`: whether its balloon answers."""

    name: str
    configured: int
    demand: int
    shares: int = 1000
    reservation: int = 0
    active: int | None = None
    driver: bool = True
    ballooned: int = 0
    out: int = 0
    blocked: bool = False

    @property
    def used(self) -> int:
        """What the guest uses of what its balloon leaves."""
        return min(self.demand, self.configured - self.ballooned)

    @property
    def resident(self) -> int:
        """What of that is in frames."""
        return self.used - self.out

    def seen(self) -> VmView:
        """The VM as a policy sees it."""
        free = self.configured - self.ballooned - self.used
        told = {"used": self.used, "free": free, "cache": 0, "ballooned": self.ballooned}
        return VmView(
            self.name, self.configured, shares=self.shares, reservation=self.reservation,
            resident=self.resident, private=self.resident, out=self.out, active=self.active,
            blocked=self.blocked, cpu=0.5, major_faults=0.0, ghost=0, stall_some=0.0,
            **(told if self.driver else {}),
        )  # fmt: skip


@dataclass(slots=True)
class Plant:
    """The host: its budget, its pool, and who lives there."""

    budget: int
    guests: list[Guest]
    pool_cap: int = 0
    pool: int = 0
    sharing_on: bool = False
    pages: int = 1000
    seconds: float = 0.0
    tick: float = 1.0
    asked: dict[str, Guest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.asked = {guest.name: guest for guest in self.guests}

    def view(self) -> View:
        """What there is to see now."""
        return View(
            time=self.seconds, budget=self.budget,
            used=sum(guest.resident for guest in self.guests) + self.pool, pool=self.pool,
            pool_cap=self.pool_cap, swap_size=SWAP, swap_used=sum(g.out for g in self.guests),
            sharing_on=self.sharing_on, pages_to_scan=self.pages, saved_sharing=0,
            mechanisms=frozenset(Mechanism), vms=tuple(guest.seen() for guest in self.guests),
        )  # fmt: skip

    def run(self, policy: Policy, ticks: int) -> Iterator[Decision]:
        """So many ticks of the policy, each carried out before the next."""
        for _ in range(ticks):
            decision = policy.decide(self.view())
            self._carry_out(decision)
            self.seconds += self.tick
            yield decision

    def _carry_out(self, decision: Decision) -> None:
        for action in decision.actions:
            match action:
                case Share(on=on, pages_to_scan=pages):
                    self.sharing_on, self.pages = on, pages or self.pages
                case Balloon(vm=vm, target=target):
                    self._turn(self.asked[vm], target)
                case Block(vm=vm, on=on):
                    self.asked[vm].blocked = on
                case Reclaim(vm=vm, size=size, into=into):
                    self._push(self.asked[vm], size, into)

    def _turn(self, guest: Guest, target: int) -> None:
        before, guest.ballooned = guest.used, target
        given = max(0, before - guest.used)
        guest.out = min(max(0, guest.out - given), guest.used)

    def _push(self, guest: Guest, size: int, into: Mechanism) -> None:
        if into is Mechanism.COMPRESSION:
            size = min(size, RATIO * (self.pool_cap - self.pool))
        size = max(0, min(size, guest.resident))
        guest.out += size
        if into is Mechanism.COMPRESSION:
            self.pool += size // RATIO
