"""Who is entitled to how much: shares, reservation, limit, and the idle memory tax.

Waldspurger, OSDI 2002, §5.2: memory is taken from the client that pays least for it,

    ρ = S / (P · (f + k · (1 − f))),   k = 1 / (1 − τ),   0 ≤ τ < 1

with S shares, P allocated pages, f their active part and τ the tax on idle memory. Taking page
after page from the lowest ρ ("min-funding revocation") ends where all ρ are equal, but for those
who are held at their reservation or limit. That end is computed here, not walked to: with A active
bytes a client pays for

    cost(P) = P                  up to A
            = A + k · (P − A)    above

so that P as a function of the common 1/ρ rises in straight pieces, and one sweep over the corners
of all clients finds where their sum is what there is: O(n log n).

A reservation binds every policy, with or without prices: no balloon grows into it, nothing of it is
pushed out, and what balloon and pushes of one decision take together leaves it whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from memlab.control.policy import VmView
from memlab.units import PAGE

HIGHEST_TAX: Final = 0.99
"""Mem.IdleTax of ESX goes from 0 to 99 %: at 100 % an idle page would cost without end."""


@dataclass(frozen=True, slots=True)
class Client:
    """One VM's claim, bytes. `active` is what it uses now; None: not known, so all of it is.

    0 ≤ reservation ≤ limit; `limit` is the smaller of the VM's size and the limit it was given.
    """

    name: str
    shares: int
    limit: int
    reservation: int = 0
    active: int | None = None


def largest_balloon(vm: VmView, maximum: float) -> int:
    """Bytes that the VM's balloon may hold; `maximum` is a part of the configured size. A guest may
    well give frames for pages that are out: with them, too, its reservation is left in frames."""
    most = int(vm.configured * maximum)
    if vm.reservation:
        most = min(most, vm.configured - vm.reservation - (vm.out or 0))
    return max(0, most)


def most_out(vm: VmView, held: int, asked: int | None = None) -> int:
    """Bytes that may be pushed out of the VM, of `held` that it has in frames. `asked` is what the
    same decision asks its balloon to hold; None: nothing, and what it was asked last still comes.
    """
    coming = vm.balloon_target if asked is None else asked
    left = vm.configured - max(coming or 0, vm.ballooned or 0) - vm.reservation
    return max(0, min(held - vm.reservation, left))


def idle_cost(tax: float) -> float:
    """k = 1/(1 − τ): how many active pages one idle page costs. 75 % → 4."""
    if not 0 <= tax <= HIGHEST_TAX:
        raise ValueError(f"an idle memory tax is 0 to {HIGHEST_TAX:.0%}, not {tax:.0%}")
    return 1 / (1 - tax)


def price(shares: float, pages: float, active_part: float, tax: float) -> float:
    """ρ: shares paid per page, idle pages taxed. The client with the lowest ρ is the victim."""
    return shares / (pages * (active_part + idle_cost(tax) * (1 - active_part)))


def progressive(tax: float, active_part: float) -> float:
    """The rate for one VM when the tax grows with its idle part, as since ESX 3 (resource pools).

    VMware says that it grows, not how: here in proportion to the idle part, up to `tax`.
    """
    return tax * (1 - min(1.0, max(0.0, active_part)))


def targets(
    clients: Sequence[Client], memory: int, *, tax: float, progressive_tax: bool = False
) -> dict[str, int]:
    """Bytes for each client, whole pages: reservation ≤ target ≤ limit, and Σ ≤ `memory`.

    ValueError if the reservations alone are more than there is.
    """
    reserved = sum(client.reservation for client in clients)
    if reserved > memory:
        raise ValueError(f"reservations of {reserved} bytes do not fit into {memory}")
    lines = [_Line.of(client, _rate(client, tax, progressive_tax)) for client in clients]
    if sum(client.limit for client in clients) <= memory:
        return {client.name: client.limit for client in clients}
    level = _level(lines, memory)
    return {line.client.name: line.pages_at(level) for line in lines}


def _rate(client: Client, tax: float, progressive_tax: bool) -> float:
    if not progressive_tax or client.active is None or not client.limit:
        return tax
    return progressive(tax, client.active / client.limit)


@dataclass(frozen=True, slots=True)
class _Line:
    """A client's memory by the level λ = 1/ρ: two straight pieces, cut at the ends."""

    client: Client
    active: int
    k: float

    @classmethod
    def of(cls, client: Client, tax: float) -> _Line:
        known = client.limit if client.active is None else client.active
        return cls(client, min(max(known, 0), client.limit), idle_cost(tax))

    def cost(self, size: float) -> float:
        """What a client pays for `size` bytes."""
        return min(size, self.active) + self.k * max(0.0, size - self.active)

    def at(self, level: float) -> float:
        """Bytes at this level, between reservation and limit."""
        paid = level * self.client.shares
        size = paid if paid <= self.active else self.active + (paid - self.active) / self.k
        return min(max(size, self.client.reservation), self.client.limit)

    def pages_at(self, level: float) -> int:
        """The same in whole pages, downwards but never below the reservation."""
        return max(self.client.reservation, int(self.at(level) + 1e-6) // PAGE * PAGE)

    def corners(self) -> Iterable[tuple[float, float]]:
        """(level, change of slope) where this line begins to rise, bends, and ends."""
        shares, low, high = self.client.shares, self.client.reservation, self.client.limit
        first, last = self.cost(low) / shares, self.cost(high) / shares
        bend = self.active / shares
        steep, flat = float(shares), shares / self.k
        if bend <= first:
            return ((first, flat), (last, -flat))
        if bend >= last:
            return ((first, steep), (last, -steep))
        return ((first, steep), (bend, flat - steep), (last, -flat))


def _level(lines: Sequence[_Line], memory: int) -> float:
    """The level at which all together have `memory`; they can have more at a higher one."""
    corners = sorted(corner for line in lines for corner in line.corners())
    total = float(sum(line.client.reservation for line in lines))
    level = slope = 0.0
    for corner, change in corners:
        if slope > 0 and total + slope * (corner - level) >= memory:
            return level + (memory - total) / slope
        total += slope * (corner - level)
        level, slope = corner, slope + change
    return level
