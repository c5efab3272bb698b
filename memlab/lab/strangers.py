"""What else goes on on the host that changes a lab's figures, and nobody sees why.

ksmd scans the memory of others beside the lab's, and sharing comes later: a virtual machine of
somebody else's is enough, for QEMU marks guest memory as mergeable by default. And somebody may
push out what no process has used for a while: it comes into the lab's swap and compressed pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from memlab.kernel import damon, ksm
from memlab.lab.stage import Stage
from memlab.record.store import Recording
from memlab.units import MIB, format_size

WORTH_TELLING: Final = 16 * MIB
"""From which on people are told; the recording has all of it."""

Note = Callable[[str], object]


def record_strangers(stage: Stage, recording: Recording, now: float, note: Note) -> None:
    """Events `foreign-sharer` and `foreign-reclaim`, where the lab shares pages and has swap."""
    if stage.lab.mechanisms.tps.enabled:
        _sharers(stage, recording, now, note)
    if stage.swap_area is not None:
        _reclaim(stage, recording, now, note)


def _sharers(stage: Stage, recording: Recording, now: float, note: Note) -> None:
    """Each process that is not of the lab and that ksmd has scanned."""
    for one in ksm.scanned_beside(stage.group.procs(), stage.roots):
        data = {"pid": one.pid, "name": one.name, "size": one.size}
        recording.event(now, "foreign-sharer", "", data)
        if one.size >= WORTH_TELLING:
            note(
                f"ksmd has scanned {format_size(one.size)} of {one.name} (process {one.pid}) too, "
                "which is not of this lab: sharing came later than without it"
            )


def _reclaim(stage: Stage, recording: Recording, now: float, note: Note) -> None:
    """Whoever pushes out what has not been used for a while, of all processes."""
    if who := damon.pushes_out(stage.roots):
        recording.event(now, "foreign-reclaim", "", {"by": who})
        note(
            f"{who} of this host pushes out what has not been used for a while, whosever it is "
            "(DAMON, pageout): this lab's swap and compressed pool hold pages of others too"
        )
