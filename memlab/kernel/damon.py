"""DAMON, the kernel's data access monitor: one kdamond of ours that watches guest memories.

It is turned through /sys/kernel/mm/damon/admin/kdamonds (5.18; filters by target, which this needs,
6.6). Writing `nr_kdamonds` makes all kdamonds of the host anew, so the list has one user at a time:
it is taken only when it is 0, as a journalled knob (0 → 1), and given back as 0 by the clean-up.

One kdamond watches all VMs, each a target, by its guest memory alone (`fvaddr`). With a kdamond for
each VM its cost would be known to the kernel, but commands are answered one at a time and each is
waited for in steps of 100 ms (mm/damon/sysfs.c), so that a look at 20 VMs would take 2 s; and one
thread wakes up once for all. Each VM has two schemes with the action `stat`, kept to its target by
a filter: one counts the bytes of regions in which used pages were found, the other the rest, at the
end of each aggregation. These counters only grow. To read them takes 0.1 s (6.12, measured), while
`update_schemes_tried_bytes` waits for the end of an aggregation and holds DAMON's lock meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.errors import HostError, KernelError
from memlab.kernel.files import HOST, Roots, read_int, read_text, write_text
from memlab.kernel.procs import release_of
from memlab.units import PAGE

MODULES: Final = ("damon_reclaim", "damon_lru_sort", "damon_stat")
"""Users of DAMON in the kernel itself: while one is on, it refuses all others."""

FIRST: Final = (6, 6)
"""The first kernel whose schemes can be kept to one target (filters of the type `target`)."""

_LARGEST: Final = 2**32 - 1
_LARGEST_SIZE: Final = 2**64 - 1
_BUSY_SECONDS: Final = 2.0
_BUSY_PAUSE: Final = 0.02
_NOT_RUNNING: Final = frozenset({errno.EPERM, errno.EINVAL, errno.ENOENT})


@dataclass(frozen=True, slots=True)
class Watched:
    """A mapping of a process that is to be watched: its start and length, bytes."""

    pid: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How closely. Each `sample` seconds one page of each region is looked at; after `period`
    seconds a region counts as used if that found a used page `threshold` times or more. `least` and
    `most` are regions for each process: the kernel splits and merges between them."""

    sample: float
    period: float
    least: int
    most: int
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one process, summed over the aggregations so far: bytes of regions that were used, bytes
    of all others, and regions of both."""

    used: int = 0
    rest: int = 0
    regions: int = 0


def list_path(roots: Roots = HOST) -> Path:
    """The file that says how many kdamonds there are on this host."""
    return roots.sys / "kernel/mm/damon/admin/kdamonds/nr_kdamonds"


def must_be_free(roots: Roots = HOST) -> None:
    """HostError if this kernel has no DAMON, one that is too old, or somebody else uses it. Looks.

    KernelError for a user who may not look: the files are root's alone.
    """
    count = read_text(list_path(roots))
    if count is None:
        raise HostError(
            "this kernel has no DAMON with a sysfs interface",
            hint="use a kernel with CONFIG_DAMON_SYSFS, or --box; or leave out active.damon",
        )
    if (0, 0) < (release := release_of(roots)) < FIRST:
        raise HostError(
            f"DAMON of Linux {release[0]}.{release[1]} cannot count for one VM alone: filters by "
            "target came with 6.6",
            hint="use a kernel of 6.6 or later, or --box; or leave out active.damon",
        )
    if count != "0":
        raise HostError(
            f"DAMON is somebody else's on this host: nr_kdamonds is {count}{_running(roots)}, and "
            "its one list of kdamonds cannot be shared",
            hint="leave it alone and run the lab with --box, or with --set active.damon=off; or "
            "let its owner end it (state off, then nr_kdamonds 0)",
        )
    for name in MODULES:
        if _is_on(name, roots):
            raise HostError(
                f"DAMON is in use by {name}, which lets nobody else use it",
                hint=f"echo N > /sys/module/{name}/parameters/enabled, or --box; or leave out "
                "active.damon",
            )


def pushes_out(roots: Roots = HOST) -> str | None:
    """Who of DAMON's users here pushes out what has not been used for a while, of all processes;
    None if nobody does, or if the lock is taken just now. It looks; KernelError as `must_be_free`.

    That is `damon_reclaim`, or a kdamond with the action `pageout` on physical addresses
    (mm/damon/paddr.c). Neither knows of cgroups: what it takes goes to whatever swap there is.
    """
    if _is_on("damon_reclaim", roots):
        return "damon_reclaim"
    for action in sorted(list_path(roots).parent.glob("*/contexts/*/schemes/*/action")):
        context = action.parents[2]
        kdamond = context.parents[1]
        here = (kdamond / "state", context / "operations", action)
        if tuple(map(_unlocked, here)) == ("on", "paddr", "pageout"):
            return f"kdamond {kdamond.name}"
    return None


def _is_on(module: str, roots: Roots) -> bool:
    return read_text(roots.sys / "module" / module / "parameters/enabled") in ("Y", "1")


def _unlocked(path: Path) -> str | None:
    """What a file says; None, too, while its owner has DAMON's lock (EBUSY: mm/damon/sysfs.c)."""
    try:
        return read_text(path)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise
        return None


def _running(roots: Roots) -> str:
    states = {_unlocked(path) for path in list_path(roots).parent.glob("*/state")}
    return " and one is on" if "on" in states else ""


def is_ours(pids: Collection[int], roots: Roots = HOST) -> bool:
    """Whether the first kdamond watches none but the processes `pids`, or nothing."""
    return {read_int(path) for path in _targets(roots)} <= set(pids)


def _targets(roots: Roots) -> Iterator[Path]:
    return list_path(roots).parent.glob("0/contexts/*/targets/*/pid_target")


def stop(roots: Roots = HOST) -> None:
    """End the first kdamond; harmless if it has ended, as it does when all that it watches has."""
    try:
        _write(list_path(roots).parent / "0/state", "off")
    except KernelError as error:
        if error.errno not in _NOT_RUNNING:
            raise


class Kdamond:
    """The host's one kdamond, when `nr_kdamonds` is 1 by us. KernelError when the kernel refuses.

    Its methods wait for the kernel, up to `sample` and 0.1 s (6.6: up to `period`).
    """

    def __init__(self, pace: Pace, roots: Roots = HOST) -> None:
        self._pace = pace
        self._roots = roots
        self._home = list_path(roots).parent / "0"
        self._context = self._home / "contexts/0"
        self._pids: set[int] = set()
        self._watches = 0

    def watch(self, processes: Sequence[Watched]) -> None:
        """Watch these from now on, and nothing else; all counts begin at 0.

        Refuses with EBUSY where somebody else has made the kdamond his meanwhile.
        """
        self.stop()
        self._pids |= {one.pid for one in processes}
        self._watches = len(processes)
        _write(self._home / "contexts/nr_contexts", 1)
        _write(self._context / "operations", "fvaddr")
        self._set_attributes(len(processes))
        _write(self._context / "targets/nr_targets", len(processes))
        _write(self._context / "schemes/nr_schemes", 2 * len(processes))
        for number, one in enumerate(processes):
            self._set_target(self._context / f"targets/{number}", one)
            self._set_scheme(2 * number, number, self._pace.threshold, _LARGEST)
            self._set_scheme(2 * number + 1, number, 0, self._pace.threshold - 1)
        _write(self._home / "state", "on")

    def counts(self) -> tuple[Counts, ...]:
        """What was counted so far, in the order of `watch`. EINVAL if it does not run any more."""
        _write(self._home / "state", "update_schemes_stats")
        return tuple(self._counted(number) for number in range(self._watches))

    def stop(self) -> None:
        """End it; what it counted stays readable. EBUSY if it is somebody else's now."""
        if not is_ours(self._pids, self._roots):
            raise KernelError(self._home, "end somebody else's kdamond in", errno.EBUSY)
        stop(self._roots)

    @property
    def pid(self) -> int | None:
        """Its kernel thread; None while it does not run."""
        try:
            pid = read_int(self._home / "pid")
        except KernelError as error:
            if error.errno != errno.EBUSY:
                raise
            return None  # the lock is taken just now
        return None if pid is None or pid < 0 else pid

    def _set_attributes(self, processes: int) -> None:
        pace, folder = self._pace, self._context / "monitoring_attrs"
        for name, seconds in (
            ("sample", pace.sample),
            ("aggr", pace.period),
            ("update", pace.period),  # fvaddr has nothing to update
        ):
            _write(folder / f"intervals/{name}_us", round(seconds * 1e6))
        _write(folder / "nr_regions/min", pace.least * processes)
        _write(folder / "nr_regions/max", pace.most * processes)

    def _set_target(self, folder: Path, one: Watched) -> None:
        """Cut in equal regions at first: by halving them the kernel would need some periods."""
        _write(folder / "pid_target", one.pid)
        bounds = _cut(one, self._pace.least)
        _write(folder / "regions/nr_regions", len(bounds) - 1)
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            _write(folder / f"regions/{number}/start", start)
            _write(folder / f"regions/{number}/end", end)

    def _set_scheme(self, number: int, target: int, least: int, most: int) -> None:
        folder = self._context / f"schemes/{number}"
        _write(folder / "action", "stat")
        _write(folder / "access_pattern/sz/max", _LARGEST_SIZE)
        _write(folder / "access_pattern/nr_accesses/min", least)
        _write(folder / "access_pattern/nr_accesses/max", most)
        _write(folder / "access_pattern/age/max", _LARGEST)
        _write(folder / "filters/nr_filters", 1)
        _write(folder / "filters/0/type", "target")
        _write(folder / "filters/0/matching", "N")  # what is not of the target is filtered out
        _write(folder / "filters/0/damon_target_idx", target)

    def _counted(self, number: int) -> Counts:
        used, rest = (self._context / f"schemes/{2 * number + more}/stats" for more in (0, 1))
        return Counts(
            used=read_int(used / "sz_tried") or 0,
            rest=read_int(rest / "sz_tried") or 0,
            regions=sum(read_int(one / "nr_tried") or 0 for one in (used, rest)),
        )


def _cut(one: Watched, pieces: int) -> list[int]:
    """Bounds of equal pieces, on pages."""
    pages = one.length // PAGE
    pieces = min(pieces, pages)
    return [one.start + pages * number // pieces * PAGE for number in range(pieces + 1)]


def _write(path: Path, value: int | str) -> None:
    """Write, again for a while if DAMON's one lock is taken: the kernel does not wait for it."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            write_text(path, str(value))
        except KernelError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE)
        else:
            return
