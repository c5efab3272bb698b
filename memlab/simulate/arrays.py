"""Arrays of the model: one column a VM, and sums over the VMs of a host or of an image on a host.

A state has one row for each *stratum* of a VM's pages, which are alike within it in how often they
are used: the guest's image, five of the application from the most to the least used, and what the
guest has freed. Numbers are pages, as floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

IMAGE: Final = 0
LAYERS: Final = 5
"""Strata of the application."""
APP: Final = slice(1, 1 + LAYERS)
FREED: Final = 1 + LAYERS
STRATA: Final = 2 + LAYERS
REGIONS: Final = 2
"""Contents are declared for two regions: the image, and the application with what it freed."""


def over(top: Floats, bottom: Floats) -> Floats:
    """`top / bottom`; 0 of 0 is 0. Rounding leaves sums of pages a little off 0, so less than a
    billionth counts as that."""
    found: Floats = top / np.maximum(bottom, 1e-9)
    return found


def by_region(rows: Floats) -> Floats:
    """Sums of the strata: the image's row, and that of all others."""
    return np.stack((rows[IMAGE], rows[1:].sum(axis=0)))


@dataclass(frozen=True, slots=True)
class Groups:
    """VMs that belong together (a host, an image on a host), so that sums over them are quick.

    `of` is each VM's group. `order` brings members side by side (None: they are), `starts` is where
    each group begins then.
    """

    of: Ints
    order: Ints | None
    starts: Ints

    @classmethod
    def by(cls, of: Ints) -> Groups:
        """From each VM's group number; all of 0…n−1 have a member."""
        order = np.argsort(of, kind="stable")
        sorted_of = of[order]
        starts = np.flatnonzero(np.r_[True, sorted_of[1:] != sorted_of[:-1]])
        return cls(of, None if np.array_equal(of, sorted_of) else order, starts)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.starts)

    def sum(self, values: Floats) -> Floats:
        """Over the members of each group, along the last axis."""
        return np.add.reduceat(self._sorted(values), self.starts, axis=-1)

    def max(self, values: Floats) -> Floats:
        """The largest of each group's members."""
        return np.maximum.reduceat(self._sorted(values), self.starts, axis=-1)

    def spread(self, values: Floats) -> Floats:
        """Each member its group's value."""
        # take, not an index: nine times as fast for more than one row.
        return np.take(values, self.of, axis=-1, mode="clip")

    def _sorted(self, values: Floats) -> Floats:
        if self.order is None:
            return values
        return np.take(values, self.order, axis=-1, mode="clip")
