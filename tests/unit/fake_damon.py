"""DAMON's sysfs as a folder: directories that come and go with the numbers written, and a kdamond
that counts what a test lets it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from memlab.errors import KernelError
from memlab.kernel import damon, journal, restore
from memlab.kernel.files import Applied, Roots
from memlab.kernel.files import write_text as plainly

MIB = 1 << 20
_MADE = {
    "nr_kdamonds": {"state": "off", "pid": "-1", "contexts/nr_contexts": "0"},
    "nr_contexts": {
        "operations": "vaddr",
        **{f"monitoring_attrs/intervals/{name}_us": "0" for name in ("sample", "aggr", "update")},
        **{f"monitoring_attrs/nr_regions/{name}": "0" for name in ("min", "max")},
        "targets/nr_targets": "0",
        "schemes/nr_schemes": "0",
    },
    "nr_targets": {"pid_target": "0", "regions/nr_regions": "0"},
    "nr_regions": {"start": "0", "end": "0"},
    "nr_schemes": {
        "action": "stat",
        **{f"access_pattern/{what}/{end}": "0" for what in ("sz", "nr_accesses", "age")
           for end in ("min", "max")},
        "filters/nr_filters": "0",
        **{f"stats/{name}": "0" for name in ("nr_tried", "sz_tried")},
    },
    "nr_filters": {"type": "anon", "matching": "N", "damon_target_idx": "0"},
}  # fmt: skip


class FakeDamon:
    """The tree below `sys`, which refuses as the kernel does (6.12)."""

    def __init__(self, sys: Path) -> None:
        self.roots = Roots(proc=sys.parent / "proc-of-damon", sys=sys)
        self.list = damon.list_path(self.roots)
        self.list.parent.mkdir(parents=True)
        self.list.write_text("0\n")
        self.home = self.list.parent / "0"
        self.context = self.home / "contexts/0"
        self.active: Sequence[int] = ()
        """MiB of each target that are in use, for the aggregations to come."""
        self.aggregations = 1
        """How many end between two looks."""
        self.busy = 0
        """Writes that are refused because the lock is taken."""
        self.commands: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let memlab write here as it writes to the kernel."""
        for module in (damon, journal, restore):
            patch.setattr(module, "write_text", self.write)

    def write(self, path: Path, value: str) -> Applied:
        """As `files.write_text`."""
        if path.is_relative_to(self.list.parent):
            if self.busy:
                self.busy -= 1
                raise KernelError(path, "write to", errno.EBUSY)
            if not path.exists():
                raise KernelError(path, "open for writing", errno.ENOENT)
            if path.name == "state":
                return self._command(path, value)
            if path.name in _MADE:
                self._make(path, int(value))
        return plainly(path, value)

    def runs(self) -> bool:
        """Whether the first kdamond is on."""
        return self.home.exists() and (self.home / "state").read_text().strip() == "on"

    def targets(self) -> list[int]:
        """The processes that it watches."""
        found = sorted(self.context.glob("targets/*/pid_target"))
        return [int(path.read_text()) for path in found]

    def read(self, name: str) -> str:
        """A file of the first context."""
        return (self.context / name).read_text().strip()

    def _make(self, path: Path, number: int) -> None:
        if path == self.list and self.runs():
            raise KernelError(path, "write to", errno.EBUSY)
        for old in path.parent.iterdir():
            if old.name.isdigit():
                shutil.rmtree(old)
        for index in range(number):
            for name, value in _MADE[path.name].items():
                file = path.parent / str(index) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(value + "\n")

    def _command(self, path: Path, value: str) -> Applied:
        self.commands.append(value)
        if value == "on":
            plainly(path, "on")
        elif not self.runs():
            raise KernelError(path, "write to", errno.EPERM if value == "off" else errno.EINVAL)
        elif value == "off":
            plainly(path, "off")
        elif value == "update_schemes_stats":
            for _ in range(self.aggregations):
                self._aggregate()
        return Applied(path, value, None)

    def _aggregate(self) -> None:
        for scheme in sorted(self.context.glob("schemes/*/stats")):
            target = int((scheme.parent / "filters/0/damon_target_idx").read_text())
            size = self._size(target)
            used = min(size, self.active[target] * MIB)
            counts_used = int((scheme.parent / "access_pattern/nr_accesses/min").read_text()) > 0
            self._count(scheme, used if counts_used else size - used)

    def _size(self, target: int) -> int:
        ends = self.context.glob(f"targets/{target}/regions/*/end")
        starts = self.context.glob(f"targets/{target}/regions/*/start")
        return max(int(one.read_text()) for one in ends) - min(
            int(one.read_text()) for one in starts
        )

    def _count(self, stats: Path, size: int) -> None:
        for name, more in (("sz_tried", size), ("nr_tried", size // MIB)):
            plainly(stats / name, str(int((stats / name).read_text()) + more))
