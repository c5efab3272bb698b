"""A disk that a BIOS boots: GRUB before the first partition, which holds the root filesystem.

Made in a file, without a loop device and without mounting anything.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

SECTOR: Final = 512
START: Final = 2048
"""Where the partition begins, in sectors: 1 MiB, as all tools do today."""
_CODE: Final = 440
"""Bytes of the first sector that are code; a disk's signature and its partitions come after."""
_ENTRY: Final = struct.Struct("<B3sB3sII")
_NO_CHS: Final = b"\xfe\xff\xff"
"""Cylinder, head and sector of what is not addressed by them."""
_BOOTS: Final = 0x80
_LINUX: Final = 0x83

FEATURES: Final = (
    *("has_journal", "ext_attr", "dir_index", "filetype", "extent", "flex_bg", "sparse_super"),
    *("large_file", "huge_file", "dir_nlink", "extra_isize"),
)
"""Of the filesystem: those that every GRUB and every kernel of the releases can read."""


def boot_area(boot: bytes, core: bytes, sectors: int) -> bytes:
    """What is before the partition on a disk of so many sectors: `boot`, the table, `core`.

    GRUB's boot.img loads sector 1 as it is delivered, and core.img says itself how long it is.
    Source: grub-core/boot/i386/pc/boot.S. ValueError if `core` does not fit.
    """
    if len(core) > (START - 1) * SECTOR:
        raise ValueError(f"core.img has {len(core)} bytes: no room before the partition")
    entry = _ENTRY.pack(_BOOTS, _NO_CHS, _LINUX, _NO_CHS, START, sectors - START)
    first = boot[:_CODE].ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa"
    return first + core


def filesystem(tree: Path, disk: Path, *, mib: int, label: str) -> list[str]:
    """The command that makes the partition of `disk`, of `mib` MiB in all, from `tree`."""
    return [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-O", ",".join(("none", *FEATURES)), "-I", "256"),
        *("-b", "4096", "-m", "1", "-L", label, "-d", str(tree)),
        *("-E", f"offset={START * SECTOR},nodiscard", str(disk), f"{mib - 1}M"),
    ]
