"""The board of a process VM, read from outside: counters, histogram and the list of frames.

Only the agent writes it. `sequence` is odd while it does; a reader takes its copy again until the
sequence was even and the same before and after. See `guest.wire`.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import Final

from memlab.errors import RecordingError
from memlab.guest.wire import (
    BOARD_FIELDS,
    BOARD_HEADER,
    BOARD_MAGIC,
    BOARD_VERSION,
    COUNTERS_OFFSET,
    FRAME_MAP_OFFSET,
    HISTOGRAM_BUCKETS,
    HISTOGRAM_OFFSET,
)

# Signed, as SQLite's integers are: a counter beyond 2**63 is a fault of the agent, not of ours.
_COUNTERS: Final = struct.Struct(f"<{len(BOARD_FIELDS)}q")
_HISTOGRAM: Final = struct.Struct(f"<{HISTOGRAM_BUCKETS}q")
_SEQUENCE: Final = struct.Struct("<Q")
_SEQUENCE_OFFSET: Final = BOARD_HEADER.size - _SEQUENCE.size
_TRIES: Final = 50
_PAUSE: Final = 20e-6


class Board:
    """A board mapped read-only. The descriptor stays the caller's."""

    def __init__(self, fd: int, vm: str) -> None:
        self.vm = vm
        self._map = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ)
        self._view = memoryview(self._map)
        self._histogram = bytes(_HISTOGRAM.size)
        self._counts: tuple[int, ...] = (0,) * HISTOGRAM_BUCKETS
        magic, version, frames, _ = BOARD_HEADER.unpack_from(self._map)
        if magic not in (0, BOARD_MAGIC) or (magic and version != BOARD_VERSION):
            self.close()
            raise RecordingError(
                f"VM {vm} has a board of version {version}, not {BOARD_VERSION}",
                hint="the agent is of another memlab: install both anew",
            )
        self._frames = frames

    def counters(self) -> tuple[int, ...] | None:
        """The counters in the order of BOARD_FIELDS; None before the guest has published any.

        None as well if the agent was stopped while it wrote them.
        """
        for attempt in range(_TRIES):
            (before,) = _SEQUENCE.unpack_from(self._map, _SEQUENCE_OFFSET)
            if before % 2 == 0:
                values = _COUNTERS.unpack_from(self._map, COUNTERS_OFFSET)
                (after,) = _SEQUENCE.unpack_from(self._map, _SEQUENCE_OFFSET)
                if before == after:
                    return values if before else None
            if attempt > 2:
                time.sleep(_PAUSE)  # the writer may wait for this very core
        return None

    def changed_buckets(self) -> list[tuple[int, int]]:
        """Buckets of the histogram that have grown since the last call, with their counts."""
        raw = self._view[HISTOGRAM_OFFSET : HISTOGRAM_OFFSET + _HISTOGRAM.size].tobytes()
        if raw == self._histogram:
            return []
        counts = _HISTOGRAM.unpack(raw)
        changed = [
            (bucket, count)
            for bucket, (count, before) in enumerate(zip(counts, self._counts, strict=True))
            if count != before
        ]
        self._histogram, self._counts = raw, counts
        return changed

    def frame_map(self, frames: int) -> memoryview:
        """One byte a guest frame: 1 = touched and not given back. It changes while it is read."""
        return self._view[FRAME_MAP_OFFSET : FRAME_MAP_OFFSET + frames]

    def close(self) -> None:
        """Unmap it."""
        self._view.release()
        self._map.close()
