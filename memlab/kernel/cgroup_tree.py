"""What both versions of the memory controller share: directories, processes, and the figures.

A group is a directory; making, filling, emptying and removing it is the same on both. What the
files below it are called is in `cgroup_v1` and `cgroup_v2`; the contract is in `cgroup`.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from memlab.errors import HostError, KernelError
from memlab.kernel.child import in_child, write_once
from memlab.kernel.files import Applied, parse_pairs, read_text, write_text
from memlab.kernel.task import has_ended, kill, members, open_pid
from memlab.units import PAGE

KILL_ROUNDS: Final = 50
_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class LimitWrite:
    """A limit asked for and got, bytes; None is no limit.

    `seconds` is how long the kernel took for it (v1 reclaims first). `refused` is the kernel's
    word when it kept the old limit (EBUSY: less than can be reclaimed; or the deadline passed).
    """

    path: Path
    asked: int | None
    got: int | None
    seconds: float
    refused: str = ""

    @property
    def took(self) -> bool:
        """Whether the limit is now what was asked, in whole pages."""
        if self.asked is None or self.got is None:
            return self.asked is self.got
        return self.asked // PAGE == self.got // PAGE


@dataclass(frozen=True, slots=True)
class MemoryStat:
    """`memory.stat` of a group and all below it, bytes; events are counts of pages.

    None where this version has no such line: `swap` is v1's, `zswap`, `zswapped` and `kernel` are
    v2's. Reading it makes the kernel flush its per-CPU counters, without which reclaim decides
    by stale figures: read it at ≥ 5 Hz while a lab runs (kernel-support.md).
    """

    anon: int | None = None
    file: int | None = None
    shmem: int | None = None
    mapped: int | None = None
    active_anon: int | None = None
    inactive_anon: int | None = None
    kernel: int | None = None
    swap: int | None = None
    swapcached: int | None = None
    zswap: int | None = None
    zswapped: int | None = None
    pgfault: int | None = None
    pgmajfault: int | None = None
    refault_anon: int | None = None
    refault_file: int | None = None
    zswpin: int | None = None
    zswpout: int | None = None
    zswpwb: int | None = None


_V2_NAMES: Final = {
    "mapped": b"file_mapped",
    "refault_anon": b"workingset_refault_anon",
    "refault_file": b"workingset_refault_file",
    **{
        name: name.encode()
        for name in (
            *("anon", "file", "shmem", "active_anon", "inactive_anon", "kernel", "swapcached"),
            *("zswap", "zswapped", "pgfault", "pgmajfault", "zswpin", "zswpout", "zswpwb"),
        )
    },
}
_V1_NAMES: Final = {
    "anon": b"total_rss",
    "file": b"total_cache",
    "shmem": b"total_shmem",
    "mapped": b"total_mapped_file",
    "active_anon": b"total_active_anon",
    "inactive_anon": b"total_inactive_anon",
    "swap": b"total_swap",
    "swapcached": b"total_swapcached",
    "pgfault": b"total_pgfault",
    "pgmajfault": b"total_pgmajfault",
    "refault_anon": b"total_workingset_refault_anon",
    "refault_file": b"total_workingset_refault_file",
}


def stat_names(fields: Iterable[str], raw: bytes) -> tuple[bytes, ...]:
    """What these fields of MemoryStat are called in a memory.stat of this version.

    A field that this version has not gets a name that no line has.
    """
    names = _V1_NAMES if b"total_rss " in raw else _V2_NAMES
    return tuple(names.get(field, b"") for field in fields)


def parse_stat(raw: bytes) -> MemoryStat:
    """`memory.stat` of either version. Of v1 the `total_` lines, which include the subtree."""
    found = parse_pairs(raw)
    names = _V1_NAMES if b"total_rss" in found else _V2_NAMES
    return MemoryStat(**{field: int(found[name]) for field, name in names.items() if name in found})


@dataclass(frozen=True, slots=True)
class GroupFiles:
    """The files of a group that a sampler keeps open; None where this kernel has no such file.

    `swap` counts swap alone on v2, memory and swap together (memsw) on v1. `pressure` and `cpu` are
    of the cgroup2 directory, whoever has the controllers.
    """

    usage: Path
    swap: Path | None
    stat: Path
    pressure: Path | None
    cpu: Path | None


def make(directory: Path) -> None:
    """Make a cgroup; HostError with the repair where the tree cannot be written."""
    try:
        directory.mkdir()
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise HostError(
                f"cgroups cannot be made in {directory.parent}: {os.strerror(error.errno)}",
                hint="Run memlab as root; in a container, one with a writable /sys/fs/cgroup.",
            ) from error
        raise KernelError(directory, "make", error.errno or 0) from error


def remove_tree(directory: Path, *, timeout: float) -> None:
    """Remove a cgroup and those below it; harmless if it is gone.

    EBUSY is tried again until `timeout`: a group stays busy for a moment after its last process.
    """
    deadline = time.monotonic() + timeout
    for folder, _, _ in os.walk(directory, topdown=False):
        while not _removed(Path(folder), last_try=time.monotonic() > deadline):
            time.sleep(_PAUSE)


def _removed(folder: Path, *, last_try: bool) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY or last_try:
            hint = f"Still in it: {read_text(folder / 'cgroup.procs') or 'no process'}"
            raise KernelError(folder, "remove", error.errno or 0, hint=hint) from error
        return False
    return True


def add(directories: Iterable[Path], pid: int) -> None:
    """Move a process into each directory (one of each hierarchy)."""
    for directory in directories:
        write_text(directory / "cgroup.procs", str(pid))


def move_all(source: Path, target: Path) -> None:
    """Move every process of `source` (not of groups below it) into `target`.

    In rounds, since a process may fork meanwhile; one that ends meanwhile is no fault.
    """
    for _ in range(KILL_ROUNDS):
        pids = (read_text(source / "cgroup.procs") or "").split()
        if not pids:
            return
        for pid in pids:
            try:
                write_text(target / "cgroup.procs", pid)
            except KernelError as error:
                if error.errno != errno.ESRCH:
                    raise
    raise KernelError(source, "empty", errno.EBUSY)


def kill_members(directories: Sequence[Path], *, timeout: float) -> tuple[int, ...]:
    """End all processes of these groups by pidfd, ≤ 50 rounds; those that did not end."""
    deadline = time.monotonic() + timeout
    for _ in range(KILL_ROUNDS):
        left = _living(directories)
        if not left or time.monotonic() > deadline:
            break
        for pid in left:
            _kill_member(pid, directories)
        time.sleep(_PAUSE)
    return _living(directories)


def _living(directories: Sequence[Path]) -> tuple[int, ...]:
    found = {pid for directory in directories for pid in members(directory)}
    return tuple(sorted(found - {os.getpid()}))


def _kill_member(pid: int, directories: Sequence[Path]) -> None:
    if pid == 0:
        return  # a process of another PID namespace; cgroup.kill reaches it, we cannot
    pidfd = open_pid(pid)
    if pidfd is None:
        return
    try:
        # Asked again after the pidfd is open: the number may have been another's meanwhile.
        if pid in _living(directories):
            kill(pidfd)
            has_ended(pidfd, _PAUSE)
    finally:
        os.close(pidfd)


def kill_by_kernel(group: Path) -> Applied | None:
    """Write cgroup.kill, which reaches forks in flight and groups below; None if there is none.

    Since 5.14 (661ee6280931 "cgroup: introduce cgroup.kill"), on cgroup2 only.
    """
    switch = group / "cgroup.kill"
    return write_text(switch, "1") if switch.exists() else None


def freeze(group: Path | None, *, frozen: bool) -> Applied | None:
    """Write cgroup.freeze (5.2); None where there is none. Frozen tasks can still be killed."""
    if group is None or not (group / "cgroup.freeze").exists():
        return None
    return write_text(group / "cgroup.freeze", str(int(frozen)))


def write_limit(file: Path, value: str, *, timeout: float) -> tuple[float, str]:
    """Write a limit in a child with a deadline: seconds it took, and the kernel's refusal or "".

    v1 reclaims within the write: 260 → 40 MiB took 0.36 s with lzo and 7.7 s with deflate, and for
    a hot VM up to 46 s, or EBUSY at once.
    """
    outcome = in_child(partial(write_once, str(file), value.encode()), timeout=timeout)
    if outcome.errno in (0, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT):
        return outcome.seconds, os.strerror(outcome.errno) if outcome.errno else ""
    raise KernelError(file, f"write {value!r} to", outcome.errno)
