"""A read-only file system of a few files, as every Linux reads it: ISO 9660 (ECMA-119), level 1.

Chosen because it is written in a few lines without any tool, and because cloud images have its
driver: it is how cloud-init is told what to do. Linux shows the names in lower case and, as no
modes are stored, lets every file be run (fs/isofs/inode.c).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

SECTOR: Final = 2048
_SYSTEM: Final = 16
"""Sectors at the begin that are left to boot loaders."""
_ROOT: Final = _SYSTEM + 4
"""Of the root folder: after two descriptors and two path tables."""
_DATE: Final = bytes((126, 1, 1, 0, 0, 0, 0))
"""1 January 2026: the same content is the same image."""
_NO_DATE: Final = b"0" * 16 + b"\0"


def image(label: str, files: Mapping[str, bytes]) -> bytes:
    """The file system: `files` by name in lower case, all in one folder that fits one sector."""
    places, at = {}, _ROOT + 1
    for name, content in files.items():
        places[name] = at
        at += _sectors(len(content))
    folder = _record(b"\0", _ROOT, SECTOR, folder=True) + _record(b"\1", _ROOT, SECTOR, folder=True)
    for name in sorted(files):
        folder += _record(f"{name.upper()}.;1".encode(), places[name], len(files[name]))
    if len(folder) > SECTOR:
        raise ValueError("the folder of an agent's drive is longer than a sector")
    head = _volume(label, at) + _padded(b"\xffCD001\1")
    tables = _padded(_path_table("<")) + _padded(_path_table(">"))
    contents = b"".join(_padded(content) for content in files.values())
    return bytes(_SYSTEM * SECTOR) + head + tables + _padded(folder) + contents


def _volume(label: str, sectors: int) -> bytes:
    """The primary volume descriptor, ECMA-119 §8.4."""
    return _padded(
        b"\1CD001\1\0"
        + _text("LINUX", 32)
        + _text(label, 32)
        + bytes(8)
        + _both(sectors, 4)
        + bytes(32)
        + _both(1, 2)
        + _both(1, 2)
        + _both(SECTOR, 2)
        + _both(len(_path_table("<")), 4)
        + struct.pack("<II", _SYSTEM + 2, 0)
        + struct.pack(">II", _SYSTEM + 3, 0)
        + _record(b"\0", _ROOT, SECTOR, folder=True)
        + _text("", 128 * 4 + 37 * 3)
        + _NO_DATE * 4
        + b"\1"
    )


def _record(name: bytes, sector: int, size: int, *, folder: bool = False) -> bytes:
    """An entry of a folder, ECMA-119 §9.1; its length is even."""
    length = 33 + len(name) + (len(name) + 1) % 2
    head = struct.pack("BB", length, 0) + _both(sector, 4) + _both(size, 4) + _DATE
    head += struct.pack("BBB", 2 if folder else 0, 0, 0) + _both(1, 2)
    return (head + struct.pack("B", len(name)) + name).ljust(length, b"\0")


def _path_table(order: str) -> bytes:
    """Of the root alone, ECMA-119 §9.4."""
    return struct.pack(f"{order}BBIH", 1, 0, _ROOT, 1) + b"\0\0"


def _both(value: int, size: int) -> bytes:
    """A number in both byte orders, as this format likes it."""
    return value.to_bytes(size, "little") + value.to_bytes(size, "big")


def _text(text: str, length: int) -> bytes:
    return text.encode().ljust(length)


def _sectors(size: int) -> int:
    return -(-size // SECTOR)


def _padded(content: bytes) -> bytes:
    return content.ljust(_sectors(len(content)) * SECTOR, b"\0")
