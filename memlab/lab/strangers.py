"""Whose memory ksmd has scanned beside the lab's: it makes sharing come later, and nobody sees why.

A virtual machine of somebody else's is enough: QEMU marks guest memory as mergeable by default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from memlab.kernel import ksm
from memlab.kernel.files import HOST, Roots
from memlab.record.store import Recording
from memlab.units import MIB, format_size

WORTH_TELLING: Final = 16 * MIB
"""From which on people are told; the recording has all of it."""


def record_strangers(
    ours: Collection[int],
    recording: Recording,
    now: float,
    *,
    note: Callable[[str], object],
    roots: Roots = HOST,
) -> None:
    """An event `foreign-sharer` for each process not of `ours` that ksmd has scanned."""
    for one in ksm.scanned_beside(ours, roots):
        data = {"pid": one.pid, "name": one.name, "size": one.size}
        recording.event(now, "foreign-sharer", "", data)
        if one.size >= WORTH_TELLING:
            note(
                f"ksmd has scanned {format_size(one.size)} of {one.name} (process {one.pid}) too, "
                "which is not of this lab: sharing came later than without it"
            )
