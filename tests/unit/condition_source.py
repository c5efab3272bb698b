"""A run written out by hand, for the tests of conditions and timelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memlab.record.columns import COLUMNS, Entity
from memlab.record.series import Choice, Event, Series, Tick

Samples = Mapping[float, float | None]


@dataclass
class WrittenRun:
    """A Source whose series are given as `owner.column` → {time: value}."""

    columns: Mapping[str, Samples] = field(default_factory=dict)
    vms: tuple[str, ...] = ("web-1", "web-2")
    window: tuple[float, float] = (0.0, 100.0)
    happened: Sequence[Event] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def series(self, entity: Entity, name: str, vm: str = "") -> Series:
        samples = self.columns.get(f"{vm or entity}.{name}", {})
        return Series(COLUMNS[entity, name], vm, tuple(samples), tuple(samples.values()))

    def events(self) -> tuple[Event, ...]:
        return tuple(self.happened)

    def ticks(self) -> tuple[Tick, ...]:
        return ()

    def choices(self) -> tuple[Choice, ...]:
        return ()

    def percentile(self, vm: str, part: float, start: float, end: float) -> float | None:
        return None

    def latest(self, entity: Entity, name: str, vm: str = "") -> float | None:
        values = self.series(entity, name, vm).values
        return values[-1] if values else None
