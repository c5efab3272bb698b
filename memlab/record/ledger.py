"""The ledger: every page accounted for, by pure functions over counted bytes.

Per VM two identities, each with a residual that is a defect above 1 % of configured:

    configured = used + cache + free + ballooned + reserved      the guest's view
    configured = private + shared + zero + out + not backed      the host's view, all five counted

and per lab the machine memory that its pages, its own overhead and the compressed pool take, held
against what the memory cgroup says. All values are bytes; absent (None) stays absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuestBalance:
    """The guest's own view of its physical memory at one moment, bytes."""

    used: float
    cache: float
    free: float
    ballooned: float
    reserved: float

    def residual(self, configured: float) -> float:
        """What the guest's identity leaves over."""
        return configured - (self.used + self.cache + self.free + self.ballooned + self.reserved)


@dataclass(frozen=True, slots=True)
class HostBalance:
    """A VM's guest pages as the host's page tables have them, bytes. Each is counted."""

    private: float
    shared: float
    zero: float
    out: float
    not_backed: float

    @property
    def present(self) -> float:
        """Pages that are mapped to a frame of their own or to a merged one, zero pages apart."""
        return self.private + self.shared

    @property
    def backed(self) -> float:
        """Pages for which the host keeps content: a frame, the zero page, or a swap slot."""
        return self.private + self.shared + self.zero + self.out

    def residual(self, configured: float) -> float:
        """What the host's identity leaves over."""
        return configured - (self.backed + self.not_backed)

    def ghost(self, guest: GuestBalance) -> float:
        """What the host keeps for pages that the guest has freed."""
        return self.backed - guest.used - guest.cache - guest.reserved


def total(balances: Sequence[HostBalance]) -> HostBalance:
    """The sum over VMs."""
    return HostBalance(
        private=sum(balance.private for balance in balances),
        shared=sum(balance.shared for balance in balances),
        zero=sum(balance.zero for balance in balances),
        out=sum(balance.out for balance in balances),
        not_backed=sum(balance.not_backed for balance in balances),
    )


@dataclass(frozen=True, slots=True)
class LabBalance:
    """A lab's pages and frames at one deep sample, bytes.

    `pages` is the sum over its VMs, `unique_frames` the distinct frames behind the shared ones and
    `unique_slots` the distinct swap slots behind those that are out: a merged page that is swapped
    takes one slot for all that share it.
    `consumed` is what the cgroup says; `pool_charged` tells whether that has the compressed pool
    in it (cgroup v2) or leaves it to nobody (v1). `pool` and `compressed` are None without zswap.
    `overhead` is what the VMs' own memory (QEMU's heap and translated code) has in frames,
    `overhead_out` what of it is out: it is in the pool and on the device with the guests' pages.
    """

    pages: HostBalance
    unique_frames: float
    unique_slots: float
    consumed: float | None
    overhead: float | None
    swap_cache: float | None
    balloon_backed: float | None
    pool: float | None
    compressed: float | None
    pool_charged: bool
    overhead_out: float = 0

    @property
    def used(self) -> float | None:
        """Machine memory used, as the cgroup tells it; the pool is always part of it."""
        return machine_used(self.consumed, self.pool, pool_charged=self.pool_charged)

    @property
    def accounted(self) -> float | None:
        """Machine memory used, as the page tables and the lab's overhead tell it."""
        if self.overhead is None or self.swap_cache is None:
            return None
        frames = self.pages.private + self.unique_frames
        return frames + self.swap_cache + self.overhead + (self.pool or 0)

    @property
    def residual(self) -> float | None:
        """Used − accounted: a defect above 2 % of used."""
        return None if self.used is None or self.accounted is None else self.used - self.accounted

    @property
    def saved_sharing(self) -> float:
        """Frames and slots not needed because pages are merged, or are the zero page."""
        frames = self.pages.shared + self.pages.zero - self.unique_frames
        return frames + self.pages.out - self.unique_slots

    @property
    def saved_balloon(self) -> float | None:
        """Ballooned pages that had been backed."""
        return self.balloon_backed

    @property
    def saved_compression(self) -> float | None:
        """Original size of the compressed pages that are out − machine memory of the pool."""
        if self.pool is None or self.compressed is None:
            return None
        return self._compressed_out - self.pool

    @property
    def _compressed_out(self) -> float:
        """Before 6.5 zswap keeps the copy of a page that has been read back (exclusive_loads): of
        what is compressed, no more than is out stands for a frame."""
        return min(self.compressed or 0, self.unique_slots + self.overhead_out)

    @property
    def saved_swap(self) -> float:
        """What is on the swap device, and zero pages that swap keeps as a bit."""
        return self.unique_slots + self.overhead_out - self._compressed_out

    @property
    def whole_overhead(self) -> float | None:
        """The VMs' own memory, in frames or out."""
        return None if self.overhead is None else self.overhead + self.overhead_out

    @property
    def never_touched(self) -> float:
        """Pages that never had a frame: no mechanism's merit."""
        return self.pages.not_backed - (self.balloon_backed or 0)


def machine_used(consumed: float | None, pool: float | None, *, pool_charged: bool) -> float | None:
    """Machine memory used by a lab: what its cgroup is charged, and the compressed pool.

    On cgroup v1 the kernel charges the pool to nobody (it returns early from the zswap charge
    when the memory controller is not on v2), so it is added, or compression would be for nothing.
    """
    if consumed is None:
        return None
    return consumed if pool_charged else consumed + (pool or 0)


def unmapped_swap_cache(
    *,
    active_anon: float | None,
    inactive_anon: float | None,
    anon: float | None,
    shmem: float | None,
    swapcached: float | None,
) -> float | None:
    """Swap cache that no page table maps, bytes: on the anonymous lists, but not mapped.

    `swapcached` alone would count mapped pages twice: a page that was read back keeps its slot
    until it is written. The lists lag by the pages that CPUs hold back, hence the bounds.
    """
    if active_anon is None or inactive_anon is None or anon is None or swapcached is None:
        return None
    return min(max(active_anon + inactive_anon - anon - (shmem or 0), 0.0), swapcached)


def swap_slots(
    out: float,
    *,
    used: float | None,
    swapcached: float | None,
    unmapped: float | None,
    overhead_out: float = 0,
) -> float:
    """Distinct swap slots behind guest pages that are out, bytes: those used, but not by mapped
    pages, nor by the VMs' own memory.

    A page that was read back and is mapped may keep its slot, in the swap cache. Without a swap
    device of the lab's own every page that is out is taken to have a slot of its own.
    """
    if used is None:
        return out
    return min(max(used - ((swapcached or 0) - (unmapped or 0)) - overhead_out, 0.0), out)
