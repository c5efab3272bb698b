"""qcow2 disks of the user's own: looked at, and an empty one over each for what a guest writes.

Format: docs/interop/qcow2.rst of QEMU. Numbers are big-endian; a cluster has 64 KiB here.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from memlab.errors import HostError
from memlab.kernel.undone import undone_on_failure

_MAGIC: Final = b"QFI\xfb"
_BITS: Final = 16
_CLUSTER: Final = 1 << _BITS
_HEADER: Final = struct.Struct(">4sIQIIQIIQQIIQQQQII")
"""Of version 3: magic, version, backing file's offset and length, cluster bits, size, encryption,
L1 entries and offset, refcount table's offset and clusters, snapshots' number and offset, feature
bits (incompatible, compatible, autoclear), refcount order, length of this header."""
_EXTERNAL_DATA: Final = 1 << 2
_HINT: Final = "name a disk of its own: qemu-img convert -O qcow2 OLD.qcow2 NEW.qcow2"


def check_disk(path: Path) -> int:
    """Bytes of the disk `path` as its guest sees it. HostError if it is none that can be used."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError as error:
        hint = "a path in a lab file is relative to the lab file"
        raise _refused(path, "there is no such file", hint) from error
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read", "") from error
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        hint = "convert it: qemu-img convert -O qcow2 OLD NEW.qcow2"
        raise _refused(path, "it is no qcow2 file", hint)
    _, _, backing, _, _, size, encrypted, *_, incompatible, _, _, _, _ = _HEADER.unpack(head)
    if backing or encrypted or incompatible & _EXTERNAL_DATA:
        raise _refused(path, "it is encrypted, or needs other files than itself", _HINT)
    return int(size)


def open_disk(path: Path) -> int:
    """Descriptor of the disk `path`, through which nothing can be written. HostError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read", "") from error


def make_overlay(folder: Path, size: int) -> int:
    """Descriptor of a new disk of `size` bytes that is empty: what is read from it comes from the
    one below. It has no name, grows with what is written, and ends with its last descriptor."""
    entries = -(-size // (_CLUSTER * _CLUSTER // 8))
    tables = -(-entries * 8 // _CLUSTER)
    try:
        fd = os.open(folder, os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE, 0o600)
    except OSError as error:
        raise HostError(
            f"no guest disk in {folder}: {error.strerror}",
            hint="choose a directory on ext4, xfs or btrfs with room (MEMLAB_DIR)",
        ) from error
    with undone_on_failure(lambda: os.close(fd)):
        os.ftruncate(fd, (3 + tables) * _CLUSTER)
        os.pwrite(fd, _header(size, entries), 0)
        os.pwrite(fd, struct.pack(">Q", 2 * _CLUSTER), _CLUSTER)
        os.pwrite(fd, struct.pack(">H", 1) * (3 + tables), 2 * _CLUSTER)
    return fd


def _header(size: int, entries: int) -> bytes:
    """Clusters: this header, the refcount table, its one block, the L1 table."""
    return _HEADER.pack(
        _MAGIC, 3, 0, 0, _BITS, size, 0, entries, 3 * _CLUSTER, _CLUSTER, 1, 0, 0, 0, 0, 0,
        4, _HEADER.size,
    )  # fmt: skip


def _refused(path: Path, why: str, hint: str) -> HostError:
    return HostError(f"the guest's disk {path} cannot be used: {why}", hint=hint)
