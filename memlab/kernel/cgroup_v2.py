"""The memory controller of cgroup v2, and where on a v2 host a lab may make its group.

A group hands the memory controller to those below it only while it holds no process itself (the
no-internal-process rule; the root of the tree is exempt). So the lab's group goes:

1. below our own group, if that hands memory down already (or is the root of the tree);
2. below our own group, if that was delegated to us (`systemd-run --scope -p Delegate=yes`, or the
   root group of a container): its processes, ourselves among them, first move into a leaf
   `memlab-<id>-beside`, and return when the lab's group is removed;
3. as root in an ordinary session: below the nearest group above that hands memory down, which is
   our slice. systemd leaves alone what it did not make; a delegated scope is the tidier way.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final, Self

from memlab.errors import HostError, KernelError
from memlab.kernel import cgroup_tree as tree
from memlab.kernel import psi
from memlab.kernel.cgroup_tree import GroupFiles, LimitWrite, MemoryStat
from memlab.kernel.files import Applied, parse_names, read_bytes, read_int, read_text, write_text
from memlab.kernel.task import members

BESIDE: Final = "-beside"
_DELEGATED: Final = ("trusted.delegate", "user.delegate")
"""Marks that systemd (since 236; for users 251) puts on a delegated group."""


class V2Group:
    """One group of the unified tree; `unified_path` is the same directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unified_path: Path | None = path

    def child(self, name: str) -> Self:
        """The group `name` below this one; not made yet."""
        return type(self)(self.path / name)

    @property
    def _beside(self) -> Path:
        return self.path.with_name(self.path.name + BESIDE)

    @property
    def files(self) -> GroupFiles:
        """The files to keep open for sampling."""
        return files_of(self.path)

    def create(self) -> None:
        """Make the directory, with the memory controller; our processes step aside if need be."""
        parent = self.path.parent
        if not hands_down(parent):
            if must_be_empty(parent) and (read_text(parent / "cgroup.procs") or ""):
                tree.make(self._beside)
                tree.move_all(parent, self._beside)
            _hand_down(parent)
        tree.make(self.path)

    def remove(self, *, timeout: float = 5.0) -> None:
        """Remove the directory and all below it; processes that stepped aside return."""
        tree.remove_tree(self.path, timeout=timeout)
        if self._beside.exists():
            write_text(self.path.parent / "cgroup.subtree_control", "-memory")
            tree.move_all(self._beside, self.path.parent)
            tree.remove_tree(self._beside, timeout=timeout)

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        tree.add((self.path,), pid)

    def procs(self) -> tuple[int, ...]:
        """Processes in this group and below it."""
        return members(self.path)

    def usage(self) -> int | None:
        """Bytes charged (`memory.current`): swap cache and the compressed pool included."""
        return read_int(self.path / "memory.current")

    def swap_usage(self) -> int | None:
        """Bytes of swap charged, compressed pages included; None without swap accounting."""
        return read_int(self.path / "memory.swap.current")

    def memsw(self) -> int | None:
        """Memory and swap together; pages of the swap cache, which are in both, counted once."""
        usage, swap, stat = self.usage(), self.swap_usage(), self.stat()
        if usage is None or swap is None:
            return None
        return usage + swap - ((stat.swapcached or 0) if stat else 0)

    def limit(self) -> int | None:
        """The limit in bytes; None if there is none."""
        return read_int(self.path / "memory.max")

    def set_limit(self, size: int | None, *, timeout: float = 5.0) -> LimitWrite:
        """Limit the group's memory. v2 takes any limit, and kills if it cannot reclaim."""
        return self._write("memory.max", size, timeout)

    def set_swap_limit(self, size: int | None, *, timeout: float = 5.0) -> LimitWrite:
        """Limit the group's swap, apart from its memory."""
        return self._write("memory.swap.max", size, timeout)

    def _write(self, name: str, size: int | None, timeout: float) -> LimitWrite:
        file = self.path / name
        seconds, refused = tree.write_limit(file, _word(size), timeout=timeout)
        return LimitWrite(file, size, read_int(file), seconds, refused)

    def set_min(self, size: int) -> Applied | None:
        """Memory that is never reclaimed (4.18); None where the file is absent."""
        return self.set_control("memory.min", str(size))

    def set_zswap_max(self, size: int | None) -> Applied | None:
        """Cap of the group's compressed pool (5.19); None where the file is absent."""
        return self.set_control("memory.zswap.max", _word(size))

    def set_control(self, file: str, value: str) -> Applied | None:
        """Any other control, such as memory.high; None where the kernel has no such file."""
        path = self.path / file
        return write_text(path, value) if path.exists() else None

    def reclaim(self, size: int) -> int | None:
        """Push `size` bytes out now (`memory.reclaim`, 5.19): bytes by which usage fell, or None.

        EAGAIN is the kernel's word for "less than asked", which the figure tells as well.
        """
        file = self.path / "memory.reclaim"
        before = self.usage()
        if before is None or not file.exists():
            return None
        try:
            write_text(file, str(size))
        except KernelError as error:
            if error.errno != errno.EAGAIN:
                raise
        after = self.usage()
        return None if after is None else max(before - after, 0)

    def stat(self) -> MemoryStat | None:
        """`memory.stat` of the subtree; None if the group is gone."""
        raw = read_bytes(self.path / "memory.stat")
        return None if raw is None else tree.parse_stat(raw)

    def pressure(self) -> psi.Pressure | None:
        """Memory pressure of the subtree; None where PSI is off."""
        return psi.read(self.path / "memory.pressure")

    def oom_kills(self) -> int | None:
        """Processes of the subtree that the kernel killed for memory."""
        raw = read_bytes(self.path / "memory.events")
        return None if raw is None else parse_names(raw).get("oom_kill")

    def freeze(self) -> Applied | None:
        """Stop all tasks; None where that cannot be done."""
        return tree.freeze(self.path, frozen=True)

    def thaw(self) -> Applied | None:
        """Let them run again."""
        return tree.freeze(self.path, frozen=False)

    def kill(self, *, timeout: float = 5.0) -> tuple[int, ...]:
        """End every process of the group and below; the numbers of those that would not end."""
        if tree.kill_by_kernel(self.path) is None:
            self.freeze()
        left = tree.kill_members((self.path,), timeout=timeout)
        self.thaw()
        return left


def files_of(path: Path) -> GroupFiles:
    """The sampler's files of a v2 group."""
    swap = path / "memory.swap.current"
    return GroupFiles(
        usage=path / "memory.current",
        swap=swap if swap.exists() else None,
        stat=path / "memory.stat",
        pressure=path / "memory.pressure",
        cpu=path / "cpu.stat",
    )


def place(own: Path, top: Path) -> Path:
    """The group below which a lab's group goes, by the three rules above. `top` is the mount.

    An ordinary user is told root's place: a lab is planned before sudo is asked. HostError where
    none of the rules can be followed.
    """
    if "memory" not in (read_text(own / "cgroup.controllers") or "").split():
        above = [group for group in own.parents if group.is_relative_to(top) and hands_down(group)]
        if not above:
            raise HostError(
                f"the memory controller is not available in {own}",
                hint="In a container, start it with its own cgroup namespace and the memory "
                "controller; on a host: systemd-run --scope -p Delegate=yes memlab up …",
            )
        return above[0]
    if hands_down(own) or own == top or _is_delegated(own):
        return own
    for group in own.parents:
        if not group.is_relative_to(top):
            break
        if hands_down(group) and (os.geteuid() != 0 or os.access(group, os.W_OK)):
            return group
    raise HostError(
        f"no cgroup was delegated to this process, and none above {own} can be used",
        hint="Start it in a scope of its own: systemd-run --user --scope -p Delegate=yes "
        "memlab up … (as root without --user)",
    )


def hands_down(group: Path) -> bool:
    """Whether groups below `group` have the memory controller."""
    return "memory" in (read_text(group / "cgroup.subtree_control") or "").split()


def must_be_empty(group: Path) -> bool:
    """Whether the no-internal-process rule holds: for all but the root, which has no type."""
    return (group / "cgroup.type").exists()


def _is_delegated(group: Path) -> bool:
    for mark in _DELEGATED:
        try:
            if os.getxattr(group, mark) == b"1":
                return True
        except OSError:
            continue  # no such mark, or this filesystem has none
    return False


def _hand_down(group: Path) -> None:
    try:
        write_text(group / "cgroup.subtree_control", "+memory")
    except KernelError as error:
        raise HostError(
            f"the memory controller cannot be enabled below {group}: {os.strerror(error.errno)}",
            hint="Start memlab in a scope of its own: systemd-run --scope -p Delegate=yes …",
        ) from error


def _word(size: int | None) -> str:
    return "max" if size is None else str(size)
