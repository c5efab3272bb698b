"""The keeper: a thread that keeps the lab within its budget and alive.

Two duties of kernel-notes §3, both of cgroup v1:

- Reclaim there decides by a group's statistics, which are stale until somebody reads its
  `memory.stat`: a VM whose pages are all active finds nothing to reclaim, and is OOM-killed within
  0.1 s with swap free, zswap on or off. Populated at 1 GiB/s, 240 MiB in a limit of 96: killed in
  6 of 6 runs without reading, 6 of 6 at 10 Hz, 1 of 6 at 50 Hz, none of 6 at 100 and 500 Hz; in 12
  of 12 when only the lab's file was read and not the VM's own. So while the lab uses more than half
  of its limit and grows every VM's file is read 200 times a second (fewer for many VMs, within 3 %
  of a core), by a thread with real-time priority where that is allowed; else 10 times. In every lab
  alike. It goes on for a while after the growth: a VM that waits for reclaim, and is about to be
  killed, does not grow either (6 of 6 killed without that). And as long as the limit is met: of two
  VMs that use all of 98 MiB in 95, and do not grow, one was killed after these seconds in 2 of 5
  runs without that, in none of 14 with it.
- The compressed pool is charged to nobody and has no cap of a lab's size. So its size is looked at
  50 times a second, and after each piece that memlab itself pushes out; zswap takes no new pages
  while it is at the cap.

On v2 the kernel does both by itself, and the thread is not started.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.files import HOST, KeptFile, Roots
from memlab.kernel.zswap import PoolGate, read_pool
from memlab.units import PAGE

PRESSED: Final = 0.005
"""Between two readings of all memory.stat files under pressure, seconds, at least."""
COST: Final = 12e-6 / 0.03
"""Seconds between them for each file, so that reading (12 µs each) takes 3 % of a core at most."""
AT_EASE: Final = 0.02
"""Between two looks at usage and pool."""
STEADY: Final = 0.1
"""Between two readings while the lab does not grow."""
LINGER: Final = 3.0
"""How long it goes on reading fast after the lab has grown, seconds."""
GROWTH: Final = 64 * PAGE
"""More memory and swap than at the look before, bytes, is growth; less is the counter's noise."""


class Keeper:
    """The thread. `gate` is None in a lab without compression."""

    def __init__(
        self,
        group: MemoryGroup,
        gate: PoolGate | None,
        *,
        roots: Roots = HOST,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gate = gate
        self._say = say
        self._usage = KeptFile(group.files.usage)
        self._limit = KeptFile(group.path / "memory.limit_in_bytes")
        self._both = KeptFile(group.path / "memory.memsw.usage_in_bytes")
        self._met = KeptFile(group.path / "memory.failcnt")
        self._times_met: bytes | None = None
        self._before = 0
        self._allowed = True
        self._fast_until = 0.0
        self._meminfo = KeptFile(roots.proc / "meminfo")
        # Somebody else's compressed pages, if zswap was on before: they are not the lab's.
        self._foreign = self._pool() or 0
        self._stats: dict[Path, KeptFile] = {group.files.stat: KeptFile(group.files.stat)}
        self._lock = threading.Lock()
        self._has_duties = self._limit.read() is not None or (gate is not None and gate.has_cap)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def watch(self, stat: Path) -> None:
        """Read this memory.stat from now on."""
        with self._lock:
            self._stats[stat] = KeptFile(stat)

    def forget(self, stat: Path) -> None:
        """Read it no longer; its cgroup is about to go."""
        with self._lock:
            if kept := self._stats.pop(stat, None):
                kept.close()

    def allow(self, on: bool) -> bool:
        """Let the pool take pages, or none until it is allowed again; False without a gate."""
        if self._gate is None:
            return False
        with self._lock:
            self._allowed = on
            if not on:
                self._gate.close()
        return True

    def keep(self) -> None:
        """Look at the pool's size now: somebody is filling it."""
        with self._lock:
            self._keep_pool()

    @contextmanager
    def past_the_pool(self) -> Iterator[None]:
        """While this lasts pages go to the device, not into the pool."""
        if self._gate is None:
            yield
            return
        with self._lock:
            was_closed, was_allowed = self._gate.closed, self._allowed
            self._gate.close()
            self._allowed = False
        try:
            yield
        finally:
            with self._lock:
                self._allowed = was_allowed
                if not was_closed:
                    self._gate.open()

    @property
    def pool_open(self) -> bool:
        """Whether the pool takes pages now."""
        return self._gate is None or not self._gate.closed

    def __enter__(self) -> Self:
        if self._has_duties:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._has_duties:
            self._thread.join()
        own = (self._meminfo, self._usage, self._limit, self._both, self._met)
        for kept in (*self._stats.values(), *own):
            kept.close()
        self._stats.clear()

    def _run(self) -> None:
        _hurry()
        pause, pool_due, stat_due = AT_EASE, 0.0, 0.0
        while not self._stop.wait(pause):
            with self._lock:
                now = time.monotonic()
                if now >= pool_due:
                    pool_due = now + AT_EASE
                    self._keep_pool()
                growing = self._is_growing(now)
                if growing or now >= stat_due:
                    stat_due = now + STEADY
                    for kept in self._stats.values():
                        kept.read()
                pause = max(PRESSED, COST * len(self._stats)) if growing else AT_EASE

    def _is_growing(self, now: float) -> bool:
        """Whether the lab uses half of its limit and took more lately, in memory or in swap, or has
        met its limit."""
        usage, limit, both = self._usage.read(), self._limit.read(), self._both.read()
        if usage is None or limit is None:
            return False
        before, self._before = self._before, int(both or usage)
        met_before, self._times_met = self._times_met, self._met.read()
        pressed = self._before > before + GROWTH or self._times_met != met_before
        if 2 * int(usage) > int(limit) and pressed:
            self._fast_until = now + LINGER
        return now < self._fast_until

    def _pool(self) -> int | None:
        raw = self._meminfo.read()
        pool = read_pool(raw) if raw else None
        return None if pool is None else pool.pool_bytes

    def _keep_pool(self) -> None:
        if self._gate is None or not self._allowed or (size := self._pool()) is None:
            return
        if self._gate.tick(size - self._foreign):
            self._say("pool-closed" if self._gate.closed else "pool-open")


def _hurry() -> None:
    """Run before the VMs, whose fault it is that this thread has something to do."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
