"""What a guest without an agent tells of its memory: the statistics of its virtio-balloon driver.

QEMU asks the driver at an interval and keeps the answer (`guest-stats` of the balloon's object).
The names are those of linux/virtio_balloon.h; bytes, and 2^64 − 1 where a driver does not say.

    used = total − free − caches − ballooned, reserved = configured − total

as for guests with an agent, but that `caches` has shared memory in it (drivers/virtio/
virtio_balloon.c sends NR_FILE_PAGES): what is in tmpfs counts as cache here, as used there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from memlab.guest.wire import ABSENT
from memlab.units import PAGE
from memlab.vm.hardware import BALLOON

if TYPE_CHECKING:
    from memlab.vm.qmp import Monitor

_PATH: Final = f"/machine/peripheral/{BALLOON}"
INTERVAL: Final = 1
"""Seconds between two questions to the driver; QEMU takes whole ones."""
_COUNTS: Final = {
    "stat-minor-faults": ("minor_faults", 1),
    "stat-major-faults": ("major_faults", 1),
    "stat-swap-in": ("guest_swap_in", PAGE),
    "stat-swap-out": ("guest_swap_out", PAGE),
}


class Outside:
    """The newest statistics of one guest's balloon driver."""

    def __init__(self, memory: int, monitor: Monitor) -> None:
        """Begin to ask. VmError if QEMU does not answer."""
        self._memory = memory
        self._monitor = monitor
        self._next = 0.0
        self._updated = 0
        monitor.execute(
            "qom-set", path=_PATH, property="guest-stats-polling-interval", value=INTERVAL
        )

    def fresh(self, ballooned: int) -> dict[str, int] | None:
        """Fields of the board if the driver has told any since the last call; looks once a second.

        `ballooned` are the bytes that the balloon holds. VmError if QEMU does not answer.
        """
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + INTERVAL / 2
        said = self._monitor.execute("qom-get", path=_PATH, property="guest-stats")
        if said["last-update"] == self._updated:
            return None
        self._updated = said["last-update"]
        return fields(said["stats"], memory=self._memory, ballooned=ballooned)


def fields(stats: dict[str, Any], *, memory: int, ballooned: int) -> dict[str, int]:
    """Fields of the board as far as `stats` has them. What is not known is not among them."""
    known = {name: value for name, value in stats.items() if value < ABSENT}
    found = {
        "published_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "configured_pages": memory // PAGE,
        "ballooned_pages": ballooned // PAGE,
    }
    found |= {
        field: known[name] // unit for name, (field, unit) in _COUNTS.items() if name in known
    }
    total, free = known.get("stat-total-memory"), known.get("stat-free-memory")
    cache = known.get("stat-disk-caches")
    if total is not None:
        found["reserved_pages"] = max(memory - total, 0) // PAGE
    if free is not None:
        found["free_pages"] = free // PAGE
    if cache is not None:
        found["cache_pages"] = cache // PAGE
    if total is not None and free is not None and cache is not None:
        found["used_pages"] = max(total - free - cache - ballooned, 0) // PAGE
    return found
