"""Swap areas: which there are, and one of the lab's own (a file, or a zram device).

`/proc/swaps` counts slots, compressed pages in zswap included. A swap file is allocated in full,
mode 0600, and gets its header from here; whether its filesystem can hold one is found by doing.
swapoff brings every page back into memory, and its caller is the kernel's first OOM victim: it
runs in a child, after the VMs have ended.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from memlab.errors import HostError, KernelError
from memlab.kernel.child import Outcome, in_child
from memlab.kernel.files import HOST, Roots, read_bytes, read_int, read_text, write_text
from memlab.kernel.undone import undone_on_failure
from memlab.units import KIB, MIB, PAGE, format_size

SWAP_FLAG_PREFER: Final = 0x8000
SWAP_PRIORITY_MAX: Final = 0x7FFF
MIN_SIZE: Final = 10 * PAGE
"""The kernel refuses an area of fewer pages as empty or silly."""

_MAGIC: Final = b"SWAPSPACE2"
_HEADER: Final = struct.Struct("=III16s16s")
"""union swap_header.info after 1024 boot bytes: version, last page, bad pages, uuid, label."""

_CANNOT: Final = {
    "tmpfs": "it keeps its files in the very memory that is to be freed",
    "ramfs": "it keeps its files in the very memory that is to be freed",
    "overlay": "a file there has no disk blocks of its own",
    "nfs": "swapping over the network can deadlock",
    "nfs4": "swapping over the network can deadlock",
    "cifs": "swapping over the network can deadlock",
    "9p": "the kernel cannot map its files to disk blocks",
    "virtiofs": "the kernel cannot map its files to disk blocks",
    "fuse": "the kernel cannot map its files to disk blocks",
    "fuseblk": "the kernel cannot map its files to disk blocks",
    "zfs": "a swap file on it can deadlock",
    "squashfs": "it cannot be written",
    "ecryptfs": "the kernel cannot map its files to disk blocks",
}

_FS_NOCOW: Final = 0x00800000
_FS_IOC_SETFLAGS: Final = 0x40086602

_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class SwapArea:
    """One line of /proc/swaps, bytes. `used` counts slots whose page is in zswap as well."""

    path: Path
    kind: str
    size: int
    used: int
    priority: int


def parse_areas(raw: bytes) -> list[SwapArea]:
    """Swap areas from the bytes of /proc/swaps. Sizes there are KiB; spaces in names are octal."""
    areas = []
    for line in raw.decode().splitlines()[1:]:
        words = line.removesuffix("\\040(deleted)").split()
        size, used, priority = (int(word) for word in words[-3:])
        areas.append(SwapArea(_unescape(words[0]), words[1], size * KIB, used * KIB, priority))
    return areas


def areas(roots: Roots = HOST) -> list[SwapArea]:
    """The swap areas in use, in the kernel's order; empty if there are none."""
    return parse_areas(read_bytes(roots.proc / "swaps") or b"")


def _unescape(word: str) -> Path:
    return Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word))


def filesystem_of(path: Path, roots: Roots = HOST) -> str:
    """Type of the filesystem on which `path` lies (`ext4`), by /proc/self/mountinfo.

    The last mount at the longest mount point that contains the path is the one that shows.
    """
    place = path.resolve()
    best, kind = -1, "unknown"
    for line in (read_text(roots.proc / "self/mountinfo") or "").splitlines():
        head, _, tail = line.partition(" - ")
        point = _unescape(head.split()[4])
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), tail.split()[0]
    return kind


def must_hold(folder: Path, roots: Roots = HOST) -> str:
    """The filesystem of `folder`; HostError if it is of a kind that holds no swap file."""
    kind = filesystem_of(folder, roots)
    if reason := _CANNOT.get(kind):
        raise _cannot_hold(folder, kind, reason)
    return kind


def make_file(path: Path, size: int, roots: Roots = HOST) -> int:
    """Make a swap file of `size` bytes: allocated, 0600, with a header. The size it has.

    HostError says which filesystem cannot hold one, or that there is no room. The file is removed
    again on any fault. An existing file is never overwritten.
    """
    kind = must_hold(path.parent, roots)
    size = max(size, MIN_SIZE) // PAGE * PAGE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KernelError(path, "create", error.errno or 0, hint=_elsewhere()) from error
    try:
        with undone_on_failure(path.unlink):
            _fill(fd, path, size, kind)
    finally:
        os.close(fd)
    return size


def _fill(fd: int, path: Path, size: int, kind: str) -> None:
    if kind == "btrfs":
        _forbid_copy_on_write(fd)
    try:
        os.fchmod(fd, 0o600)
        os.posix_fallocate(fd, 0, size)
        os.pwrite(fd, header(size), 0)
        os.fsync(fd)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise HostError(
                f"no room for a swap file of {format_size(size)} at {path}",
                hint="Free some disk space, or ask for less with host.swap.size.",
            ) from error
        raise KernelError(path, "allocate", error.errno or 0, hint=_elsewhere()) from error


def _forbid_copy_on_write(fd: int) -> None:
    # btrfs takes a swap file only without copy-on-write, which is set while it is still empty.
    flags = ctypes.c_long(_FS_NOCOW)
    _libc.ioctl(fd, ctypes.c_ulong(_FS_IOC_SETFLAGS), ctypes.byref(flags))


def header(size: int) -> bytes:
    """First page of a swap area of `size` bytes, as mkswap writes it (union swap_header)."""
    info = _HEADER.pack(1, size // PAGE - 1, 0, uuid.uuid4().bytes, b"memlab")
    page = bytearray(PAGE)
    page[1024 : 1024 + len(info)] = info
    page[-len(_MAGIC) :] = _MAGIC
    return bytes(page)


def swapon(path: Path, *, priority: int = SWAP_PRIORITY_MAX, roots: Roots = HOST) -> None:
    """Start swapping to `path`; the highest priority makes it the first to be filled.

    HostError if the filesystem cannot hold a swap file, or if this process may not.
    """
    flags = SWAP_FLAG_PREFER | min(priority, SWAP_PRIORITY_MAX)
    if _libc.swapon(os.fsencode(path), flags) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EINVAL:
        raise _cannot_hold(path, filesystem_of(path, roots), "the kernel refused it")
    if code == errno.EPERM:
        raise HostError(
            "this process may not turn swap on (CAP_SYS_ADMIN is missing)",
            hint="Run memlab as root on the host or in a VM; containers usually may not swap.",
        )
    raise KernelError(path, "swap on", code)


def swapoff_in_child(path: Path, *, timeout: float, tries: int = 3) -> Outcome:
    """Stop swapping to `path`; its pages come back into memory, zswap's stored ones too.

    In a child, since the kernel ends swapoff's caller first when memory is short; EINTR and
    ENOMEM are tried again. Raises nothing for an area that is not in use (EINVAL): it is off.
    """
    encoded = os.fsencode(path)
    for _ in range(tries):
        outcome = in_child(partial(_swapoff, encoded), timeout=timeout)
        if outcome.errno in (0, errno.EINVAL, errno.ENOENT):
            return Outcome(0, outcome.seconds)
        if outcome.errno not in (errno.EINTR, errno.ENOMEM):
            break
    raise KernelError(
        path,
        "swap off",
        outcome.errno,
        hint=f"It needs free memory for what is swapped. End memory users, then: swapoff {path}",
    )


def _swapoff(path: bytes) -> None:
    if _libc.swapoff(path) != 0:
        raise OSError(ctypes.get_errno(), "swapoff")


def make_zram(size: int, *, compressor: str | None = None, roots: Roots = HOST) -> Path:
    """A new zram device of `size` bytes with a swap header; the path to swap on.

    A swap area that compresses into memory, with no disk behind it. HostError without zram, or if
    it lacks that compressor; it is removed again on any fault.
    """
    number = read_int(roots.sys / "class/zram-control/hot_add")
    if number is None:
        raise HostError(
            "this kernel has no zram", hint="Try: modprobe zram. Or use host.swap.device: file."
        )
    device = Path(f"/dev/zram{number}")
    with undone_on_failure(lambda: remove_zram(device, roots)):
        _set_up_zram(device, roots.sys / f"block/zram{number}", size, compressor)
    return device


def _set_up_zram(device: Path, block: Path, size: int, compressor: str | None) -> None:
    if compressor is not None:
        try:
            write_text(block / "comp_algorithm", compressor)
        except KernelError as error:
            have = read_text(block / "comp_algorithm")
            raise HostError(
                f"zram has no compressor called {compressor!r}", hint=f"It has: {have}"
            ) from error
    write_text(block / "disksize", str(size // PAGE * PAGE))
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(fd, header(size // PAGE * PAGE), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_zram(device: Path, roots: Roots = HOST) -> None:
    """Take a zram device away that is no longer swapped on; harmless if there is none."""
    number = device.name.removeprefix("zram")
    block = roots.sys / f"block/{device.name}"
    if not block.exists():
        return
    write_text(block / "reset", "1")
    write_text(roots.sys / "class/zram-control/hot_remove", number)


def _cannot_hold(path: Path, kind: str, reason: str) -> HostError:
    return HostError(f"{kind} cannot hold a swap file at {path}: {reason}", hint=_elsewhere())


def _elsewhere() -> str:
    return (
        "Name a place on ext4 or xfs with host.swap.path, "
        f"or use host.swap.device: zram. At least {format_size(MIB)} is needed."
    )
