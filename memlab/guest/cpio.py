"""A cpio archive as the kernel unpacks it at boot (newc; initramfs-buffer-format.rst)."""

from __future__ import annotations

import stat
from collections.abc import Mapping


def archive(files: Mapping[str, tuple[bytes, int]], folders: tuple[str, ...]) -> bytes:
    """The archive of these files, by name with content and mode, and of these folders."""
    parts = [_entry(name, b"", stat.S_IFDIR | 0o755) for name in folders]
    parts += [_entry(name, data, stat.S_IFREG | mode) for name, (data, mode) in files.items()]
    parts.append(_entry("TRAILER!!!", b"", 0))
    return b"".join(parts)


def _entry(name: str, data: bytes, mode: int) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
