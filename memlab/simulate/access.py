"""What applications get done in one tick, and what that does to their pages.

A stratum of n pages that gets λ accesses a second and page has 1 − exp(−λ·dt) of its pages touched
in dt; those that are out fault. An operation takes its own time and its part of the faults, copies
and reclaim; how many are done follows from that, by two rounds of iteration from the tick before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from memlab.simulate.applications import Wanted
from memlab.simulate.arrays import APP, FREED, Flags, Floats, over
from memlab.simulate.costs import COSTS
from memlab.simulate.demand import Demand
from memlab.simulate.pages import Pages

_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """What the host makes of a need for frames now, by VM.

    `frame` is the seconds that it takes to get one, for somebody may have to be pushed out first,
    `queue` how many times longer a read takes than on a device that is not busy.
    """

    frame: Floats
    queue: Floats


@dataclass(slots=True)
class Flows:
    """What is wanted of pages in one tick: pages by stratum (fill), of the application, or by VM.

    `guest_in` is the part of `fill` that comes from the guest's own swap, `guest_wants` the free
    pages that a guest needs for all that it wants from disk. `reuse` is the part of what the guest
    has freed that is filled again, `written` the part of the application's pages that is written.
    `rates` are accesses a second and page, by stratum. `stalled` is the part of the tick spent
    waiting for memory. `cached` and `zero` are the parts of `device` that are in the swap cache
    and, zero pages, nowhere. `cpu` is seconds of CPU time.
    """

    fill: Floats
    reuse: Floats
    guest_in: Floats
    guest_wants: Floats
    pooled: Floats
    device: Floats
    merged_out: Floats
    copies: Floats
    written: Floats
    rates: Floats
    operations: Floats
    cpu: Floats
    stalled: Floats
    cached: Floats
    zero: Floats

    @property
    def major(self) -> Floats:
        """Faults of the host that had to wait for the pool or the device, by VM: a guest reads
        its own swap by itself."""
        waited = self.device - self.cached + self.pooled + self.merged_out
        found: Floats = waited.sum(axis=0)
        return found

    @property
    def read(self) -> Floats:
        """Pages read from the device, by VM."""
        found: Floats = np.maximum(self.device - self.cached - self.zero, 0).sum(axis=0)
        return found

    def scale(self, part: Floats) -> None:
        """Only `part` of it could be had, by VM."""
        for rows in (
            *(self.fill, self.reuse, self.pooled, self.device, self.cached, self.zero),
            *(self.merged_out, self.copies, self.operations, self.cpu, self.guest_in),
        ):
            np.multiply(rows, part, out=rows)


@dataclass(frozen=True, slots=True)
class Touch:
    """Which pages operations come to, by stratum: `per_page` is the chance of each at one.

    Who goes through its pages in turn comes to those next that it has not used for longest, and
    these are the ones that are out: until it has had them all back, each operation is a fault.
    """

    per_page: Floats
    in_turn: Flags
    out: Floats | None

    def part(self, operations: Floats) -> Floats:
        """The part of the pages that are out which so many operations come to."""
        found: Floats = 1 - np.exp(self.per_page * -operations)
        if self.out is None:
            return found
        used = self.per_page > 0
        next_ones = np.minimum(1, over(operations, self.out))
        return np.where(self.in_turn, next_ones * used, found)


def flows(
    pages: Pages,
    wanted: Wanted,
    demand: Demand,
    *,
    pace: Pace,
    zero: Floats,
    before: Floats,
    dt: float,
) -> Flows:
    """What is wanted in `dt` seconds; `before` are the operations of the tick before, `zero` the
    zero pages on the device, by stratum of the application."""
    touched = pages.touched
    fill, left = _fill(pages, wanted, touched, pace, dt)
    on_disk = pages.guest_swapped
    if demand.reads_files.any():
        on_disk = on_disk + np.maximum(demand.sizes - touched[APP], 0) * demand.reads_files
    disks = bool(on_disk.any())
    slow = _seconds_of_faults(pages, pace, zero)
    wait = slow + pages.merged[APP] * (demand.writes * (COSTS.copy + pace.frame))
    if disks:
        wait += on_disk * COSTS.disk
    per_page = wanted.parts / np.maximum(touched[APP] + on_disk if disks else touched[APP], 1)
    each = COSTS.operation + demand.think
    out = pages.out[APP].sum(axis=0) if demand.in_turn.any() else None
    touch = Touch(per_page, demand.in_turn, out)
    operations, hit = _operations(
        wait, touch, each, left=left, most=wanted.rate * dt, before=before
    )
    wants, guest_in = np.zeros_like(operations), np.zeros_like(hit)
    if disks:
        room = np.maximum(pages.untouched + touched[FREED] - fill.sum(axis=0), 0)
        wants = (on_disk * hit).sum(axis=0)
        had = hit * np.minimum(1, over(room, wants))
        fill[APP] += on_disk * had
        guest_in = pages.guest_swapped * had
    filled = fill.sum(axis=0)
    rates = np.zeros_like(touched)
    rates[APP] = per_page * (operations / dt)
    written = 1 - np.exp(rates[APP] * (-dt * demand.writes))
    pooled = pages.pooled[APP] * hit
    cpu = operations * each + filled * COSTS.fill
    cpu += pooled.sum(axis=0) * COSTS.decompress
    stalled = (slow * hit).sum(axis=0) + filled * pace.frame
    return Flows(
        fill=fill,
        guest_in=guest_in,
        guest_wants=wants,
        reuse=np.minimum(1, over(filled, touched[FREED])),
        pooled=pooled,
        device=pages.device[APP] * hit,
        merged_out=pages.merged_out[APP] * hit,
        copies=pages.merged[APP] * written,
        written=written,
        rates=rates,
        operations=operations,
        cpu=cpu,
        stalled=np.minimum(1, stalled / dt),
        cached=pages.cached[APP] * hit,
        zero=zero * hit,
    )


def _fill(
    pages: Pages, wanted: Wanted, touched: Floats, pace: Pace, dt: float
) -> tuple[Floats, Floats]:
    """Pages filled by stratum, what the guest has freed first; and the seconds that are left: none
    to a guest that is out of memory, for it waits until it has filled all that it wants."""
    missing = np.maximum(wanted.goal - touched, 0)
    missing[APP] = np.maximum(missing[APP] - pages.guest_swapped, 0)
    missing[FREED] = 0
    total = missing.sum(axis=0)
    each = COSTS.fill + pace.frame
    room = pages.untouched + touched[FREED]
    count = np.minimum(np.minimum(total, room), dt * wanted.runs / each)
    left = np.where(total > room + 1, 0.0, np.maximum(dt * wanted.runs - count * each, 0))
    return missing * over(count, total), left


def _seconds_of_faults(pages: Pages, pace: Pace, zero: Floats) -> Floats:
    """If all pages of a stratum that are out were wanted back: how long that would take."""
    frame = pace.frame
    device, cached = pages.device[APP], pages.cached[APP]
    read = np.maximum(device - cached - zero, 0) + pages.merged_out[APP]
    return (
        pages.pooled[APP] * (COSTS.decompress + frame)
        + read * (COSTS.device * pace.queue + frame)
        + zero * (COSTS.cached + frame)
        + cached * COSTS.cached
    )


def _operations(
    wait: Floats, touch: Touch, each: Floats, *, left: Floats, most: Floats, before: Floats
) -> tuple[Floats, Floats]:
    """Operations done in the seconds `left`, and the part of each stratum's pages that they touch.

    An operation takes `each` seconds; to fetch all that is out of a stratum takes `wait`.
    """
    operations = np.minimum(most, np.where(before > 0, before, left / each))
    for _ in range(_ROUNDS):
        hit = touch.part(operations)
        cost = over((wait * hit).sum(axis=0), operations)
        operations = np.minimum(most, left / (each + cost))
    return operations, touch.part(operations)
