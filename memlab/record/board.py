"""The board of a process VM, read from outside: counters, histogram and the list of frames.

Only the agent writes it. `sequence` is odd while it does; a reader takes its copy again until the
sequence was even and the same before and after. See `guest.wire`.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from itertools import compress
from operator import itemgetter, ne
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

_HISTOGRAM: Final = struct.Struct(f"<{HISTOGRAM_BUCKETS}q")
_SEQUENCE: Final = struct.Struct("<Q")
_SEQUENCE_OFFSET: Final = BOARD_HEADER.size - _SEQUENCE.size
assert BOARD_HEADER.size == COUNTERS_OFFSET  # so that one unpacking takes both
_ABSENT: Final = -1
"""`wire.ABSENT` as a signed number."""
_TRIES: Final = 50
_PAUSE: Final = 20e-6


class Selection:
    """Some of the board's counters, in its order, for a reader that wants no others."""

    __slots__ = ("form", "of")

    def __init__(self, names: Sequence[str]) -> None:
        places = [BOARD_FIELDS.index(name) for name in names]
        if places != sorted(places):
            raise ValueError("a selection has the board's order")
        # Signed, as SQLite's integers are: a counter beyond 2**63 is a fault of the agent.
        fields = ("q" if name in names else "8x" for name in BOARD_FIELDS)
        self.form = struct.Struct("<Q" + "".join(fields))
        self.of = itemgetter(*places)
        """These of a tuple of all counters."""


def _known(values: list[int]) -> tuple[int | None, ...]:
    return tuple(values if _ABSENT not in values else (None if v == _ABSENT else v for v in values))


class Board:
    """A board mapped read-only. The descriptor stays the caller's."""

    def __init__(self, fd: int, vm: str) -> None:
        self.vm = vm
        self._map = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ)
        self._view = memoryview(self._map)
        self._histogram = bytes(_HISTOGRAM.size)
        magic, version, frames, _ = BOARD_HEADER.unpack_from(self._map)
        if magic not in (0, BOARD_MAGIC) or (magic and version != BOARD_VERSION):
            self.close()
            raise RecordingError(
                f"VM {vm} has a board of version {version}, not {BOARD_VERSION}",
                hint="the agent is of another memlab: install both anew",
            )
        self.frames = frames
        """Entries of the list of frames; 0: this kind of guest has none."""

    def counters(self, chosen: Selection) -> tuple[int | None, ...] | None:
        """The chosen counters, None for one that is not known; None before any was published.

        None as well if the agent was stopped while it wrote them.
        """
        for attempt in range(_TRIES):
            sequence, *values = chosen.form.unpack_from(self._map, _SEQUENCE_OFFSET)
            if sequence % 2 == 0:
                (after,) = _SEQUENCE.unpack_from(self._map, _SEQUENCE_OFFSET)
                if after == sequence:
                    return _known(values) if sequence else None
            if attempt > 2:
                time.sleep(_PAUSE)  # the writer may wait for this very core
        return None

    def changed_buckets(self) -> list[tuple[int, int]]:
        """Buckets of the histogram that have grown since the last call, with their counts."""
        raw = self._view[HISTOGRAM_OFFSET : HISTOGRAM_OFFSET + _HISTOGRAM.size].tobytes()
        before, self._histogram = self._histogram, raw
        if raw == before:
            return []
        # Most buckets stay empty for ever: look between the first and the last that do not.
        end = -(-len(raw.rstrip(b"\0")) // 8)
        begin = (len(raw) - len(raw.lstrip(b"\0"))) // 8
        form = f"<{end - begin}q"
        counts = struct.unpack_from(form, raw, begin * 8)
        grown = map(ne, counts, struct.unpack_from(form, before, begin * 8))
        return list(compress(zip(range(begin, end), counts, strict=True), grown))

    def frame_map(self, frames: int) -> memoryview:
        """One byte a guest frame: 1 = touched and not given back. It changes while it is read."""
        return self._view[FRAME_MAP_OFFSET : FRAME_MAP_OFFSET + frames]

    def close(self) -> None:
        """Unmap it."""
        self._view.release()
        self._map.close()
