"""What applications get done in one tick, and what that does to their pages.

A stratum of n pages that gets λ accesses a second and page has 1 − exp(−λ·dt) of its pages touched
in dt; those that are out fault. An operation takes its own time and its part of the faults, copies
and reclaim; how many are done follows from that, by two rounds of iteration from the tick before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from memlab.simulate.applications import Wanted
from memlab.simulate.arrays import APP, FREED, Flags, Floats, over
from memlab.simulate.costs import COSTS
from memlab.simulate.demand import Demand
from memlab.simulate.flows import Flows, Pace
from memlab.simulate.pages import Pages

_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class Touch:
    """Which pages operations come to, by stratum: `per_page` is the chance of each at one.

    Who goes through its pages in turn comes to those next that it has not used for longest, and
    these are the ones that are out: until it has had them all back, each operation is a fault.
    """

    per_page: Floats
    in_turn: Flags
    out: Floats | None

    @classmethod
    def of(cls, pages: Pages, wanted: Wanted, demand: Demand, there: Floats) -> Self:
        """Of the pages that are `there` for the applications, by stratum."""
        out = pages.out[APP].sum(axis=0) if demand.in_turn.any() else None
        return cls(wanted.parts / np.maximum(there[APP], 1), demand.in_turn, out)

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
    on_disk = _on_disk(pages, demand, touched)
    touch = Touch.of(pages, wanted, demand, touched if on_disk is None else touched + on_disk)
    slow = _seconds_of_faults(pages, pace, zero)
    wait = slow + pages.merged[APP] * (demand.writes * (COSTS.copy + pace.frame))
    if on_disk is not None:
        wait += on_disk[APP] * COSTS.disk
    each = COSTS.operation + demand.think
    operations, hit = _operations(
        wait, touch, each, left=left, most=wanted.rate * dt, before=before
    )
    wants, guest_in = _from_disk(pages, touched, fill, on_disk, hit)
    filled = fill.sum(axis=0)
    rates = np.zeros_like(touched)
    rates[APP] = touch.per_page * (operations / dt)
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


def _on_disk(pages: Pages, demand: Demand, touched: Floats) -> Floats | None:
    """Pages by stratum that guests have on disks of their own, files and swap; None if none has."""
    if not demand.reads_files.any() and not pages.guest_swapped.any():
        return None
    found = np.zeros_like(touched)
    found[APP] = np.maximum(demand.sizes - touched[APP], 0) * demand.reads_files
    found[APP] += pages.guest_swapped
    return found


def _from_disk(
    pages: Pages, touched: Floats, fill: Floats, on_disk: Floats | None, hit: Floats
) -> tuple[Floats, Floats]:
    """What guests want from their disks, by VM, and what comes from their swap; into `fill` goes
    what they have free pages for."""
    if on_disk is None:
        return np.zeros(hit.shape[1]), np.zeros_like(hit)
    room = np.maximum(pages.untouched + touched[FREED] - fill.sum(axis=0), 0)
    wants = (on_disk[APP] * hit).sum(axis=0)
    had = hit * np.minimum(1, over(room, wants))
    fill[APP] += on_disk[APP] * had
    return wants, pages.guest_swapped * had


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
