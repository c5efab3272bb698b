"""The guests' own swap: what a guest does when it is to give, or wants, more than it has free.

It writes pages of its applications to its own disk, those least often used first, and has their
frames free then; the host still backs these, until the balloon takes them or they are filled again.
A page that is used again is read back into a free one. The guest's disk is not the host's swap
device: nobody waits there for others.
"""

from __future__ import annotations

import numpy as np

from memlab.simulate.arrays import APP, FREED, Floats, over
from memlab.simulate.fleet import Fleet
from memlab.simulate.pages import Pages


def make_room(pages: Pages, fleet: Fleet, wanted: Floats, files: Floats) -> None:
    """Let each guest free `wanted` pages by its own swap, as far as that has room.

    `files` is 1 for a VM whose application's pages are a cache of files: these are dropped, and
    not swapped.
    """
    if not fleet.guest_swap.any():
        return
    held = pages.touched[APP]
    room = np.maximum(fleet.guest_swap - pages.guest_swapped.sum(axis=0), 0)
    count = np.minimum(np.maximum(wanted, 0), room) * (1 - files)
    if not count.any():
        return
    part = over(_coldest_first(held, count), held)
    pages.guest_swapped += held * part
    for rows in pages.by_stratum:
        moved = rows[APP] * part
        rows[APP] -= moved
        rows[FREED] += moved.sum(axis=0)


def _coldest_first(held: Floats, count: Floats) -> Floats:
    """`count` pages of the strata, which stand from the most to the least used."""
    colder = np.cumsum(held[::-1], axis=0)[::-1] - held
    return np.clip(count - colder, 0, held)
