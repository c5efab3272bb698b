"""The estimate of active memory by DAMON: the kernel samples the accessed bits of the VMs.

`kernel.damon` has the kdamond; this asks it, in a thread, since each answer is waited for. It looks
from outside only, at the VMs' processes. `nr_kdamonds` is the plan's: journalled, and given back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

from memlab.errors import KernelError
from memlab.kernel.damon import Counts, Kdamond, Pace, Watched
from memlab.kernel.files import HOST, Roots
from memlab.kernel.procs import cpu_ns
from memlab.lab.activespec import Active, Damon
from memlab.units import PAGE
from memlab.vm.base import Target

Columns = Mapping[str, int | None]
Tell = Callable[[str, Columns], None]
"""Hears of a VM's name and its raw columns of vm_medium."""

_TRIES: Final = 3
"""Refusals in a row, after which it gives up."""
_LEAST_PAUSE: Final = 0.2
_NOTHING: Final = Counts()


class Note(Protocol):
    """Hears once why a VM, or all of them ("" for the name), is not watched."""

    def __call__(self, vm: str, why: str, /) -> None:
        """`why` in a few words."""


class Machine(Protocol):
    """A VM, as far as it is looked at."""

    @property
    def target(self) -> Target:
        """Where its memory is."""

    def ended(self) -> object:
        """Something true if it does not run any more."""


def pace(settings: Damon) -> Pace:
    """What a lab file asks for, as the kernel is told."""
    return Pace(
        settings.sample,
        settings.period,
        settings.regions.min,
        settings.regions.max,
        settings.threshold,
    )


@dataclass(slots=True)
class _Known:
    """One VM: what was counted of it so far, and its bytes in use (None at first)."""

    watched: Watched
    counts: Counts = _NOTHING
    estimate: int | None = None


class Reckoning:
    """From the kernel's growing counters to estimates, and each VM's part of the cost."""

    def __init__(self, vms: Mapping[str, Watched], cpu: dict[str, float]) -> None:
        """`cpu` has the ns spent on each VM so far, and goes on."""
        self._known = {name: _Known(watched) for name, watched in vms.items()}
        self._cpu = cpu
        self._charged = 0

    def add(self, counts: Sequence[Counts], spent: int) -> dict[str, Columns]:
        """The columns of every VM after one more look; `spent` is CPU time in all, ns.

        An estimate is the mean over the aggregations since the look before, if one has ended. The
        time since then is each VM's by its regions: a look at one takes as long as at another.
        """
        before = [one.counts for one in self._known.values()]
        regions = [now.regions - was.regions for now, was in zip(counts, before, strict=True)]
        if not any(regions):
            return {}
        each = (spent - self._charged) / sum(regions)
        self._charged = spent
        for (name, one), now, number in zip(self._known.items(), counts, regions, strict=True):
            _estimate(one, now)
            self._cpu[name] = self._cpu.get(name, 0.0) + each * number
        return {
            name: {
                "damon_pages": None if one.estimate is None else one.estimate // PAGE,
                "damon_cpu_us": round(self._cpu[name] / 1000),
            }
            for name, one in self._known.items()
        }


def _estimate(one: _Known, now: Counts) -> None:
    used, rest = now.used - one.counts.used, now.rest - one.counts.rest
    if used + rest > 0:
        one.estimate = round(one.watched.length * used / (used + rest))
    one.counts = now


class DamonWatch:
    """The thread. `tick` is the main thread's side: the VMs that live go in, estimates come out."""

    def __init__(self, active: Active, *, tell: Tell, note: Note, roots: Roots = HOST) -> None:
        self._on = active.monitors
        self._kdamond = Kdamond(pace(active.damon), roots)
        self._pause = max(_LEAST_PAUSE, active.damon.period / 4)
        self._tell, self._note, self._roots = tell, note, roots
        self._lock = threading.Lock()
        self._wanted: dict[str, Watched] = {}
        self._found: dict[str, tuple[Watched, Columns]] = {}
        self._failed = ""
        self._noted: set[str] = set()
        self._due = 0.0
        # The thread's own:
        self._settled: dict[str, Watched] = {}
        self._watched: dict[str, Watched] = {}
        self._reckoning = Reckoning({}, {})
        self._cpu: dict[str, float] = {}
        self._began = 0
        self._tries = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="damon", daemon=True)

    def __enter__(self) -> Self:
        if self._on:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            self._stop.set()
            self._thread.join()

    def tick(self, machines: Mapping[str, Machine], now: float) -> None:
        """Say which VMs live, a few times a period; tell what was found meanwhile."""
        if not self._on or now < self._due:
            return
        self._due = now + self._pause / 2
        wanted = dict(self._living(machines))
        with self._lock:
            self._wanted, found, failed = wanted, self._found, self._failed
            self._found, self._failed = {}, ""
        for name, (watched, columns) in found.items():
            if wanted.get(name) == watched:  # it may have ended, and begun anew
                self._tell(name, columns)
        if failed:
            self._note("", failed)
            for name in wanted:
                self._tell(name, {"damon_pages": None})  # absent, never what was last seen

    def _living(self, machines: Mapping[str, Machine]) -> list[tuple[str, Watched]]:
        living = []
        for name, machine in machines.items():
            if machine.ended():
                continue
            target = machine.target
            if target.ram_start is None or target.ram_bytes is None:
                if name not in self._noted:
                    self._noted.add(name)
                    self._note(name, "not watched: it is a program, without guest memory")
                continue
            living.append((name, Watched(target.pid, target.ram_start, target.ram_bytes)))
        return living

    def _run(self) -> None:
        while not self._stop.wait(self._pause) and self._tries < _TRIES:
            try:
                self._look()
            except KernelError as error:
                self._refused(error)
            else:
                self._tries = 0
        try:
            self._kdamond.stop()
        except KernelError as error:
            self._say(f"it is not ended: {error.message}")

    def _look(self) -> None:
        with self._lock:
            wanted = self._wanted
        if wanted != self._settled:
            self._settled = wanted  # VMs start one after the other: once for all of them
        elif any(self._watched.get(name) != one for name, one in wanted.items()):
            self._began = time.thread_time_ns()
            self._kdamond.watch(list(wanted.values()))
            self._watched, self._reckoning = wanted, Reckoning(wanted, self._cpu)
        elif wanted:
            counts = self._kdamond.counts()
            columns = self._reckoning.add(counts, self._spent())
            with self._lock:
                self._found |= {name: (self._watched[name], one) for name, one in columns.items()}

    def _spent(self) -> int:
        """CPU time of the kdamond and of this thread, ns, since the kdamond began."""
        pid = self._kdamond.pid
        kernel = 0 if pid is None else cpu_ns(pid, self._roots) or 0
        return kernel + time.thread_time_ns() - self._began

    def _refused(self, error: KernelError) -> None:
        """A VM that ends just then is no fault; neither is a kdamond that ends with all of them."""
        self._tries += 1
        if self._tries == _TRIES:
            self._say(f"VMs are not watched any more: {error.message}")

    def _say(self, why: str) -> None:
        with self._lock:
            self._failed = why
