"""The memory controller of cgroup v1, with a cgroup2 directory beside it where there is one.

Limits and charges are v1's. On hybrid hosts each group also has a cgroup2 directory of the same
name, without controllers: it gives memory.pressure, cgroup.kill and cgroup.freeze. The compressed
pool is charged to nobody here, so there is no per-group zswap, and no min or high.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from memlab.kernel import cgroup_tree as tree
from memlab.kernel import psi
from memlab.kernel.cgroup_tree import GroupFiles, LimitWrite, MemoryStat
from memlab.kernel.files import Applied, parse_names, read_bytes, read_int, write_text
from memlab.kernel.task import members
from memlab.kernel.undone import undone_on_failure

_RECLAIM_SECONDS: Final = 0.25
_UNLIMITED: Final = 2**62
"""v1 prints no limit as the largest whole number of pages, 9223372036854771712."""


class V1Group:
    """One group: `path` in the memory hierarchy, `unified_path` in cgroup2 or None."""

    def __init__(self, path: Path, unified_path: Path | None) -> None:
        self.path = path
        self.unified_path = unified_path
        self._swap_limit: int | None = None

    def child(self, name: str) -> Self:
        """The group `name` below this one; not made yet."""
        unified = self.unified_path / name if self.unified_path else None
        return type(self)(self.path / name, unified)

    @property
    def _directories(self) -> tuple[Path, ...]:
        return (self.path, self.unified_path) if self.unified_path else (self.path,)

    @property
    def files(self) -> GroupFiles:
        """The files to keep open for sampling."""
        return files_of(self.path, self.unified_path)

    def create(self) -> None:
        """Make both directories; none is left behind if the second cannot be made."""
        tree.make(self.path)
        if self.unified_path:
            with undone_on_failure(lambda: tree.remove_tree(self.path, timeout=0)):
                tree.make(self.unified_path)

    def remove(self, *, timeout: float = 5.0) -> None:
        """Remove both directories and all below them; they must hold no process any more."""
        for directory in self._directories:
            tree.remove_tree(directory, timeout=timeout)

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        tree.add(self._directories, pid)

    def procs(self) -> tuple[int, ...]:
        """Processes in this group and below it."""
        return members(self.path)

    def usage(self) -> int | None:
        """Bytes charged: anonymous, page cache, kernel and swap cache. Fuzzy by 64 pages a CPU."""
        return read_int(self.path / "memory.usage_in_bytes")

    def swap_usage(self) -> int | None:
        """Bytes of swap charged, compressed pages included; None without swap accounting."""
        raw = read_bytes(self.path / "memory.stat")
        return None if raw is None else tree.parse_stat(raw).swap

    def memsw(self) -> int | None:
        """Bytes of memory and swap together (`memory.memsw.usage_in_bytes`)."""
        return read_int(self.path / "memory.memsw.usage_in_bytes")

    def limit(self) -> int | None:
        """The limit in bytes; None if there is none."""
        return _limit_in(self.path / "memory.limit_in_bytes")

    def set_limit(self, size: int | None, *, timeout: float = 5.0) -> LimitWrite:
        """Limit the group's memory; waits for the kernel's reclaim, at most `timeout` seconds.

        v1 wants memory ≤ memory and swap at every moment, so the second moves first upward.
        """
        if self._swap_limit is None:
            return self._write("memory.limit_in_bytes", size, timeout)
        both = None if size is None else size + self._swap_limit
        before = self.limit()
        if before is not None and (size is None or size > before):
            self._write("memory.memsw.limit_in_bytes", both, timeout)
            return self._write("memory.limit_in_bytes", size, timeout)
        written = self._write("memory.limit_in_bytes", size, timeout)
        if written.took:
            self._write("memory.memsw.limit_in_bytes", both, timeout)
        return written

    def set_swap_limit(self, size: int | None, *, timeout: float = 5.0) -> LimitWrite:
        """Limit the group's swap: v1 limits the sum, so it is kept at limit + `size`."""
        self._swap_limit = size
        limit = self.limit()
        both = None if size is None or limit is None else limit + size
        return self._write("memory.memsw.limit_in_bytes", both, timeout)

    def _write(self, name: str, size: int | None, timeout: float) -> LimitWrite:
        file = self.path / name
        value = "-1" if size is None else str(size)
        seconds, refused = tree.write_limit(file, value, timeout=timeout)
        return LimitWrite(file, size, _limit_in(file), seconds, refused)

    def set_min(self, size: int) -> Applied | None:
        """None: v1 protects nothing."""
        return None

    def set_zswap_max(self, size: int | None) -> Applied | None:
        """None: v1 charges the compressed pool to nobody (see `zswap.PoolGate`)."""
        return None

    def set_control(self, file: str, value: str) -> Applied | None:
        """None: v1 has other files, of other meanings."""
        return None

    def reclaim(self, size: int) -> int | None:
        """Push `size` bytes out, the oldest on the kernel's lists: bytes by which usage fell.

        v1 has no file for it (force_empty takes all): the limit goes down for a moment. Where
        there is nothing cold the kernel works on until it is stopped, after `_RECLAIM_SECONDS`; the
        limit that holds meanwhile is the old one. It decides by statistics that only a read brings
        up to date.
        """
        self.stat()
        before, limit = self.usage(), self.limit()
        if before is None:
            return None
        self._write("memory.limit_in_bytes", max(before - size, 0), _RECLAIM_SECONDS)
        write_text(self.path / "memory.limit_in_bytes", "-1" if limit is None else str(limit))
        after = self.usage()
        return None if after is None else max(before - after, 0)

    def stat(self) -> MemoryStat | None:
        """`memory.stat` of the subtree; None if the group is gone."""
        raw = read_bytes(self.path / "memory.stat")
        return None if raw is None else tree.parse_stat(raw)

    def pressure(self) -> psi.Pressure | None:
        """Memory pressure, by the cgroup2 directory beside; None without one."""
        return psi.read(self.unified_path / "memory.pressure") if self.unified_path else None

    def oom_kills(self) -> int | None:
        """Processes of the subtree that the kernel killed for memory (4.13; per group on v1)."""
        found = [
            parse_names(raw).get("oom_kill")
            for file in self.path.rglob("memory.oom_control")
            if (raw := read_bytes(file)) is not None
        ]
        counts = [count for count in found if count is not None]
        return sum(counts) if counts else None

    def freeze(self) -> Applied | None:
        """Stop all tasks (cgroup2 directory); None where that cannot be done."""
        return tree.freeze(self.unified_path, frozen=True)

    def thaw(self) -> Applied | None:
        """Let them run again."""
        return tree.freeze(self.unified_path, frozen=False)

    def kill(self, *, timeout: float = 5.0) -> tuple[int, ...]:
        """End every process of the group and below; the numbers of those that would not end."""
        if self.unified_path is None or tree.kill_by_kernel(self.unified_path) is None:
            self.freeze()
        left = tree.kill_members(self._directories, timeout=timeout)
        self.thaw()
        return left


def files_of(path: Path, unified_path: Path | None) -> GroupFiles:
    """The sampler's files of a v1 group."""
    memsw = path / "memory.memsw.usage_in_bytes"
    return GroupFiles(
        usage=path / "memory.usage_in_bytes",
        swap=memsw if memsw.exists() else None,
        stat=path / "memory.stat",
        pressure=unified_path / "memory.pressure" if unified_path else None,
        cpu=unified_path / "cpu.stat" if unified_path else None,
    )


def _limit_in(file: Path) -> int | None:
    value = read_int(file)
    return None if value is None or value >= _UNLIMITED else value
