"""Memory cgroups: one contract, two versions behind it, and the group of a lab.

`lab_group("4f2a")` is the group `memlab-4f2a` below our own (never elsewhere in the tree), with a
child for each VM. Which version this host has is found by looking: the root of a v2 tree has
`cgroup.controllers`, v1 has a `memory` directory, hybrid hosts have v1 with a cgroup2 tree beside.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self

from memlab.errors import HostError
from memlab.kernel import cgroup_v1, cgroup_v2
from memlab.kernel.cgroup_tree import GroupFiles, LimitWrite, MemoryStat, parse_stat, stat_names
from memlab.kernel.files import HOST, Applied, Roots, read_text
from memlab.kernel.psi import Pressure

__all__ = [
    "GroupFiles",
    "Layout",
    "LimitWrite",
    "MemoryGroup",
    "MemoryStat",
    "files_of",
    "group_at",
    "lab_group",
    "layout",
    "own_memory_group",
    "own_unified_group",
    "parse_stat",
    "stat_names",
]


class Layout(StrEnum):
    """How this host mounts its cgroups."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"


class MemoryGroup(Protocol):
    """A memory cgroup of either version. Sizes are bytes; None is "this version cannot tell"."""

    path: Path
    unified_path: Path | None

    def child(self, name: str) -> Self:
        """The group `name` below this one; not made yet."""

    @property
    def files(self) -> GroupFiles:
        """The files to keep open for sampling."""

    def create(self) -> None:
        """Make the directory (both on hybrid hosts); HostError if that is not allowed here."""

    def remove(self, *, timeout: float = 5.0) -> None:
        """Remove it and all below; harmless if gone. KernelError if it is still busy then."""

    def add(self, pid: int) -> None:
        """Move a process in."""

    def procs(self) -> tuple[int, ...]:
        """Processes in it and below."""

    def usage(self) -> int | None:
        """Bytes charged to it and below."""

    def swap_usage(self) -> int | None:
        """Bytes of swap charged, compressed pages included."""

    def memsw(self) -> int | None:
        """Memory and swap together."""

    def limit(self) -> int | None:
        """Its limit; None if there is none."""

    def set_limit(self, size: int | None, *, timeout: float = 5.0) -> LimitWrite:
        """Set or lift (None) the limit; in a child with a deadline, since v1 blocks."""

    def set_swap_limit(self, size: int | None, *, timeout: float = 5.0) -> LimitWrite:
        """Set or lift the limit of swap."""

    def set_min(self, size: int) -> Applied | None:
        """Memory that is never reclaimed (v2)."""

    def set_zswap_max(self, size: int | None) -> Applied | None:
        """Cap of its compressed pool (v2)."""

    def set_control(self, file: str, value: str) -> Applied | None:
        """Any other control of v2, by its file; None where there is no such file."""

    def reclaim(self, size: int) -> int | None:
        """Push `size` bytes out, the oldest by the kernel's lists: bytes by which usage fell."""

    def stat(self) -> MemoryStat | None:
        """`memory.stat` of the subtree; None if the group is gone."""

    def pressure(self) -> Pressure | None:
        """Memory pressure of the subtree."""

    def oom_kills(self) -> int | None:
        """Processes of the subtree that the kernel killed for memory."""

    def freeze(self) -> Applied | None:
        """Stop all its tasks."""

    def thaw(self) -> Applied | None:
        """Let them run again."""

    def kill(self, *, timeout: float = 5.0) -> tuple[int, ...]:
        """End every process of it and below; the numbers of those that would not end."""


def layout(roots: Roots = HOST) -> Layout:
    """How this host mounts its cgroups; HostError if there is no memory controller at all."""
    if (roots.cgroup / "cgroup.controllers").exists():
        return Layout.V2
    if _memory_mount(roots) is None:
        raise HostError(
            f"there is no memory controller in {roots.cgroup}",
            hint="Mount it, or boot without cgroup_disable=memory.",
        )
    return Layout.V1 if _unified_mount(roots) is None else Layout.HYBRID


def lab_group(lab_id: str, roots: Roots = HOST) -> MemoryGroup:
    """The group of a lab, not made yet: `memlab-<id>` below our own group."""
    name = f"memlab-{lab_id}"
    own = own_memory_group(roots)
    if layout(roots) is Layout.V2:
        return cgroup_v2.V2Group(cgroup_v2.place(own, roots.cgroup) / name)
    unified = own_unified_group(roots)
    return cgroup_v1.V1Group(own / name, unified / name if unified else None)


def group_at(path: Path, unified_path: Path | None = None) -> MemoryGroup:
    """A group by the directories that were written down for it, whether it still exists or not."""
    if unified_path == path or _is_v2(path.parent):
        return cgroup_v2.V2Group(path)
    return cgroup_v1.V1Group(path, unified_path)


def files_of(path: Path, unified_path: Path | None = None) -> GroupFiles:
    """The sampler's files of an existing group."""
    return group_at(path, unified_path).files


def own_memory_group(roots: Roots = HOST) -> Path:
    """Directory of the memory group in which this process is."""
    if layout(roots) is Layout.V2:
        return _own(roots, roots.cgroup, "")
    mount = _memory_mount(roots)
    assert mount is not None  # layout() has looked
    return _own(roots, mount, "memory")


def own_unified_group(roots: Roots = HOST) -> Path | None:
    """Directory of the cgroup2 group in which this process is; None without a cgroup2 tree."""
    mount = roots.cgroup if _is_v2(roots.cgroup) else _unified_mount(roots)
    return None if mount is None else _own(roots, mount, "")


def _own(roots: Roots, mount: Path, controller: str) -> Path:
    """/proc/self/cgroup's path below the mount: lines `4:memory:/a/b`, of cgroup2 `0::/a/b`.

    A container may show only its own part of the tree at the mount, while the line gives the
    host's whole path: then the mount itself is our group.
    """
    for line in (read_text(roots.proc / "self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and (controller or not controllers):
            own = mount / path.lstrip("/")
            return own if own.is_dir() else mount
    return mount


def _memory_mount(roots: Roots) -> Path | None:
    """v1's memory hierarchy; some hosts mount it together with others (`memory,hugetlb`)."""
    if not roots.cgroup.is_dir():
        return None
    found = [each for each in roots.cgroup.iterdir() if "memory" in each.name.split(",")]
    return found[0] if found else None


def _unified_mount(roots: Roots) -> Path | None:
    mount = roots.cgroup / "unified"
    return mount if _is_v2(mount) else None


def _is_v2(directory: Path) -> bool:
    return (directory / "cgroup.controllers").exists()
