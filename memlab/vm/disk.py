"""Guest disks: files that the guest reads and writes past the host's page cache.

memlab opens them with O_DIRECT and hands the descriptor over, so that a page of the guest stands
once in machine memory and not a second time in the host's cache, where it would be charged.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.units import MIB, PAGE

_HINT: Final = "choose a directory on ext4, xfs or btrfs with room (MEMLAB_DIR), not tmpfs"


def open_guest_disk(
    directory: Path, size: int, *, name: str | None = None, fill: bool = False
) -> int:
    """Descriptor of a new disk of `size` bytes (whole pages), opened O_DIRECT and allocated.

    Without a `name` the file has none and ends with its last descriptor. `fill` writes random
    bytes, so that what a guest reads from it is neither shared nor compressible; a file that was
    only allocated reads as zeros. Raises HostError where it cannot be.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT
    try:
        if name is None:
            fd = os.open(directory, flags | os.O_TMPFILE, 0o600)
        else:
            fd = os.open(directory / name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError(f"no guest disk in {directory}: {error.strerror}", hint=_HINT) from error
    try:
        os.posix_fallocate(fd, 0, size // PAGE * PAGE)
        if fill:
            _fill(fd, size // PAGE * PAGE)
    except OSError as error:
        os.close(fd)
        if name is not None:
            (directory / name).unlink(missing_ok=True)
        raise HostError(f"no guest disk in {directory}: {error.strerror}", hint=_HINT) from error
    return fd


def _fill(fd: int, size: int) -> None:
    """Random bytes through a page-aligned buffer, as O_DIRECT wants it."""
    with mmap.mmap(-1, MIB) as buffer:
        for offset in range(0, size, MIB):
            length = min(MIB, size - offset)
            buffer.seek(0)
            buffer.write(os.urandom(length))
            with memoryview(buffer) as view, view[:length] as part:
                if os.pwrite(fd, part, offset) != length:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
