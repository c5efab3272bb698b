"""Who gives up frames when there are none: which VMs, and which of their pages.

What a policy has made old goes first, unless it was used since. Of the rest a part comes from VMs
in proportion to their frames, and a part in proportion to those of their frames that are not used
within one round of reclaim over the host: the kernel gives a page that was used since it was last
looked at a second chance, but not every one (mm/vmscan.c).

Within a VM the pages that have not been used for longest go first: with T the age of the oldest, a
stratum of R pages used λ times a second and page reaches that age at R·λ ÷ (e^λT − 1) pages a
second (the characteristic time of an LRU list: Che, Tung, Wang, IEEE JSAC 2002). What has not been
used since it was filled is older than all of that, and the image is the oldest of it: the guest had
it first. T grows with the clock and falls by what is taken. Linux's two lists are a coarse form of
this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from memlab.simulate.arrays import APP, IMAGE, Floats, over
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages, Shared

BLIND: Final = 0.7
"""Part of the frames that VMs give by their size. Under `none` the sleepers of contention-hot had
an eighth of the frames and gave 53 % of what was pushed out, the file server of contention-cache
4 % and 22 %; that is 0.5 and 0.8. Chosen between them with the labs' totals in view."""
_OLDEST: Final = 1e6
_LONGEST: Final = 60.0
_STEEPEST: Final = 60.0
_IDLE: Final = 1e-6
_MERGED: Final = slice(-1, None)
"""The row of the application's merged frames, after the strata and those of the images."""
_FIRST: Final = 1e6
"""How much sooner a page goes that has not been used since it was filled: it is the oldest."""
_BEFORE: Final = 1e3
"""How much sooner than these a page of the image goes."""


@dataclass(frozen=True, slots=True)
class Frames:
    """All frames of the VMs: rows of their own pages by stratum and of their part of the merged,
    and the accesses a second and page of the application's, `merged` those of its merged ones."""

    rows: Floats
    rates: Floats
    merged: Floats
    own: Floats

    @classmethod
    def of(cls, pages: Pages, shared: Shared, rates: Floats, fleet: Fleet) -> Self:
        """As the state is; `rates` by stratum."""
        rows = np.concatenate((pages.private, shared.common(fleet)))
        used = (rates[APP] * pages.merged[APP]).sum(axis=0)
        by_all = fleet.images.spread(fleet.images.sum(over(used, shared.by_vm[1])))
        return cls(rows, rates[APP], by_all, rows.sum(axis=0))


class Victims:
    """It remembers how old the oldest page of each VM is, and how long a round took, seconds."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._age = np.ones(fleet.count)
        self._since_aged = np.full(fleet.count, np.inf)
        self._round = np.ones(fleet.hosts.count)

    def go_on(self, dt: float) -> None:
        """`dt` seconds have gone by."""
        self._age = np.minimum(self._age + dt, _OLDEST)
        self._since_aged += dt

    def make_old(self, vm: int) -> None:
        """All pages of the VM are old from now on, until they are used."""
        self._since_aged[vm] = 0.0

    def shares(self, frames: Frames, count: Floats, dt: float) -> Floats:
        """What each VM gives of the `count` pages that its host needs in `dt` seconds."""
        hosts = self._fleet.hosts
        first = self._from_the_aged(frames, count)
        rest, left = frames.own - first, np.maximum(count - hosts.sum(first), 0)
        cold = np.minimum(self._cold(frames, count / dt), rest)
        given = cold * hosts.spread(np.minimum(1, over((1 - BLIND) * left, hosts.sum(cold))))
        rest -= given
        left -= hosts.sum(given)
        found: Floats = first + given + rest * hosts.spread(over(left, hosts.sum(rest)))
        return found

    def oldest(self, frames: Frames, wanted: Floats) -> Floats:
        """Of each VM's frames the oldest, `wanted` in all: pages by row."""
        return self._oldest_first(
            frames.rows, ((APP, frames.rates), (_MERGED, frames.merged)), wanted
        )

    def oldest_own(self, private: Floats, rates: Floats, wanted: Floats) -> Floats:
        """The same of the VM's own pages alone: pages by stratum."""
        return self._oldest_first(private, ((APP, rates[APP]),), wanted)

    def _cold(self, frames: Frames, speed: Floats) -> Floats:
        """Frames, by VM, that are not used in a round: the host's over the speed at which those
        that are not used are taken, frames a second."""
        hosts, round_ = self._fleet.hosts, self._fleet.hosts.spread(self._round)
        used = frames.rows[APP] * (1 - np.exp(-np.minimum(frames.rates * round_, _STEEPEST)))
        merged = frames.rows[-1] * (1 - np.exp(-np.minimum(frames.merged * round_, _STEEPEST)))
        cold: Floats = np.maximum(frames.own - used.sum(axis=0) - merged, 0)
        longest = np.minimum(over(hosts.sum(cold), speed), _LONGEST)
        self._round = np.where(speed > 0, np.sqrt(self._round * longest), self._round)
        return cold

    def _from_the_aged(self, frames: Frames, count: Floats) -> Floats:
        """What VMs give before all others: pages not used since they were made old. By VM."""
        aged = np.isfinite(self._since_aged)
        if not aged.any():
            return np.zeros_like(self._age)
        since = np.where(aged, self._since_aged, 0.0)
        unused = frames.rows[: APP.stop + 1] * aged
        unused[APP] *= np.exp(-np.minimum(frames.rates * since, _STEEPEST))
        cold: Floats = unused.sum(axis=0)
        on_hosts = self._fleet.hosts.sum(cold)
        return cold * self._fleet.hosts.spread(over(np.minimum(count, on_hosts), on_hosts))

    def _oldest_first(
        self, rows: Floats, used: tuple[tuple[slice, Floats], ...], wanted: Floats
    ) -> Floats:
        """`used` are the accesses a second and page of the rows that can have any."""
        weight = rows * (_FIRST / self._age)
        weight[IMAGE] *= _BEFORE
        for which, rates in used:
            x = np.clip(rates * self._age, _IDLE, _STEEPEST)
            # Not expm1, which takes twice as long: x is large enough for ten digits.
            weight[which] *= np.where(x > _IDLE, x / (np.exp(x) - 1) / _FIRST, 1.0)
        total = weight.sum(axis=0)
        taken: Floats = np.minimum(weight * over(wanted, total), rows)
        left = wanted - taken.sum(axis=0)
        if left.max() > 1:  # what a row could not give is asked of the others, by their age
            weight *= taken < rows
            taken += np.minimum(weight * over(left, weight.sum(axis=0)), rows - taken)
            left = wanted - taken.sum(axis=0)
        rest = rows - taken
        taken += rest * np.minimum(1, over(left, rest.sum(axis=0)))
        self._age = np.maximum(self._age - over(wanted, total), 0.3 * self._age)
        return taken
