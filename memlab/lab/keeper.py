"""The keeper: a thread that keeps the lab within its budget and alive.

Two duties of kernel-notes §3, both measured, both of cgroup v1:

- Reclaim there decides by memcg statistics that are stale until somebody reads `memory.stat`: a
  squeezed VM is OOM-killed within milliseconds, with swap free (4 of 4 runs; read at 1 Hz 4 of 5,
  2 Hz 2 of 5, ≥ 4 Hz none of 14). So the lab's and each VM's is read at 10 Hz, in every lab alike.
- The compressed pool is charged to nobody and has no cap of a lab's size. So its size is looked at
  50 times a second, and zswap takes no new pages while it is at the cap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from memlab.kernel.files import HOST, KeptFile, Roots
from memlab.kernel.zswap import PoolGate, read_pool

POOL_PERIOD: Final = 0.02
STAT_PERIOD: Final = 0.1


class Keeper:
    """The thread. `gate` is None where the kernel caps the pool itself (v2), or without one."""

    def __init__(
        self,
        gate: PoolGate | None,
        *,
        roots: Roots = HOST,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gate = gate
        self._say = say
        self._meminfo = KeptFile(roots.proc / "meminfo")
        self._stats: dict[Path, KeptFile] = {}
        self._lock = threading.Lock()
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

    @contextmanager
    def past_the_pool(self) -> Iterator[None]:
        """While this lasts pages go to the device, not into the pool."""
        if self._gate is None:
            yield
            return
        with self._lock:
            was_closed = self._gate.closed
            self._gate.close()
            try:
                yield
            finally:
                if not was_closed:
                    self._gate.open()

    @property
    def pool_open(self) -> bool:
        """Whether the pool takes pages now."""
        return self._gate is None or not self._gate.closed

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            for kept in self._stats.values():
                kept.close()
            self._stats.clear()
        self._meminfo.close()

    def _run(self) -> None:
        next_stat = 0.0
        while not self._stop.wait(POOL_PERIOD if self._gate else STAT_PERIOD):
            with self._lock:
                self._keep_pool()
                if time.monotonic() >= next_stat:
                    next_stat = time.monotonic() + STAT_PERIOD
                    for kept in self._stats.values():
                        kept.read()

    def _keep_pool(self) -> None:
        raw = self._meminfo.read() if self._gate else None
        pool = read_pool(raw) if raw else None
        if self._gate is None or pool is None:
            return
        if self._gate.tick(pool.pool_bytes):
            self._say("pool-closed" if self._gate.closed else "pool-open")
