"""A board on this side for a guest in a kernel of its own.

The agent of a process VM writes its board itself. From a QEMU guest the same counters come as
lines, and are put into a board here, so that the sampler reads both kinds of VM alike. There is no
list of frames: what a real guest does with its frames its kernel does not tell.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from memlab.guest.wire import (
    ABSENT,
    BOARD_FIELDS,
    BOARD_HEADER,
    BOARD_MAGIC,
    BOARD_VERSION,
    COUNTERS_OFFSET,
    HISTOGRAM_BUCKETS,
    HISTOGRAM_OFFSET,
    board_size,
)

_COUNTERS: Final = struct.Struct(f"<{len(BOARD_FIELDS)}Q")
_BUCKET: Final = struct.Struct("<Q")


def make_board(owner: int, frames: int) -> int:
    """A memory file of a board's size that nobody can shrink or grow under its readers."""
    fd = os.memfd_create(f"memlab-board-{owner}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, board_size(frames))
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class BoardMirror:
    """The board of one QEMU VM, which it owns; `fd` is for the sampler."""

    def __init__(self, owner: int, *, unknown: bool = False) -> None:
        """`unknown`: what is never shown is not known, and not 0."""
        self.fd = make_board(owner, 0)
        self._map = mmap.mmap(self.fd, board_size(0))
        self._sequence = 0
        self._values: dict[str, int] = dict.fromkeys(BOARD_FIELDS, ABSENT if unknown else 0)

    def update(self, fields: Mapping[str, int], histogram: Iterable[Sequence[int]] = ()) -> None:
        """Show these counters, and these (bucket, count) of the histogram; others stay."""
        self._values |= {name: fields[name] for name in BOARD_FIELDS if name in fields}
        self._head(self._sequence + 1)
        _COUNTERS.pack_into(self._map, COUNTERS_OFFSET, *self._values.values())
        for bucket, count in histogram:
            if 0 <= bucket < HISTOGRAM_BUCKETS:
                _BUCKET.pack_into(self._map, HISTOGRAM_OFFSET + 8 * bucket, count)
        self._head(self._sequence + 2)
        self._sequence += 2

    def _head(self, sequence: int) -> None:
        BOARD_HEADER.pack_into(self._map, 0, BOARD_MAGIC, BOARD_VERSION, 0, sequence)

    def close(self) -> None:
        """Unmap it and close the descriptor."""
        self._map.close()
        os.close(self.fd)
