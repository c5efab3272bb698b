"""What a reader of a run is given: series, events, decisions, and the `Source` that has them.

`record.derive.Derived` is the one Source; conditions, reports, live views and tests only need this
page. Times are seconds since the run began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from memlab.record.columns import Column, Entity


@dataclass(frozen=True, slots=True)
class Series:
    """One column over time, for the host, the lab or one VM. `values[i]` is None where absent."""

    column: Column
    vm: str
    times: tuple[float, ...]
    values: tuple[float | None, ...]

    def between(self, start: float, end: float) -> Series:
        """The part from `start` (included) to `end` (included)."""
        chosen = [i for i, time in enumerate(self.times) if start <= time <= end]
        times = tuple(self.times[i] for i in chosen)
        return Series(self.column, self.vm, times, tuple(self.values[i] for i in chosen))

    @property
    def known(self) -> tuple[float, ...]:
        """The values that are not absent."""
        return tuple(value for value in self.values if value is not None)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `set`, `vm-started`, `vm-ended`, `oom-kill`, `balloon`, `pool-full`,
    `phase`, `gap`, `expect`, `verify`, `restored`, … `data` is what is known of it."""

    time: float
    kind: str
    vm: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of the journal of decisions: an action with what was asked and got, or (with
    `action` = "left-alone") something not done, each with its reason."""

    time: float
    policy: str
    state: str
    action: str
    mechanism: str
    vm: str
    reason: str
    asked: str | None = None
    got: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of a policy: where it stood, how long it took to decide, and the view that it saw,
    as `control.view.to_json` writes it."""

    time: float
    policy: str
    state: str
    seconds: float
    view: str


class Source(Protocol):
    """A run that can be asked: a finished recording, or one that is still being written."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Lab file, seed, host facts, versions, how it ended; see `docs/recording.md`."""

    @property
    def vms(self) -> tuple[str, ...]:
        """Names of the VMs, in the order of the lab file."""

    @property
    def window(self) -> tuple[float, float]:
        """The measured window: seconds from and until."""

    def series(self, entity: Entity, name: str, vm: str = "") -> Series:
        """One column; all values None if this run does not have it. KeyError: no such column."""

    def latest(self, entity: Entity, name: str, vm: str = "") -> float | None:
        """The newest value of a column, cheaply; None if absent or nothing was sampled yet."""

    def percentile(self, vm: str, part: float, start: float, end: float) -> float | None:
        """Latency, seconds, below which `part` (0…1) of a VM's operations from `start` to `end`
        stayed, over the merged histograms: a mean of percentiles is none. None: no operation."""

    def events(self) -> tuple[Event, ...]:
        """All events, by time."""

    def choices(self) -> tuple[Choice, ...]:
        """The journal of decisions, by time."""

    def ticks(self) -> tuple[Tick, ...]:
        """The policy's ticks with what it saw, by time; none in recordings before 0.2."""
