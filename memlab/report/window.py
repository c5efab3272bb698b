"""The measured window of a run, asked for figures: means, at the times of the deep samples where
sums must close. A figure that the run does not have is None, with the reason."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from memlab.record.columns import COLUMNS, Entity, Unit
from memlab.record.series import Series, Source
from memlab.report import facts

LAB, VM = Entity.LAB, Entity.VM
LEDGER_BOUND: Final = 0.01
"""Part of configured above which a VM's residual is a defect (the plan, "The ledger")."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its unit and formula; `value` None comes with the reason in `why`.

    `against` is the same figure of the baseline.
    """

    label: str
    value: float | None
    unit: Unit
    how: str
    why: str = ""
    against: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The measured window of a run, asked for means. `times` are those of its deep samples."""

    source: Source
    start: float
    end: float
    times: tuple[float, ...]

    @classmethod
    def of(cls, source: Source) -> Window:
        """The window that the lab file names."""
        start, end = source.window
        deep = source.series(LAB, "not_backed").between(start, end)
        times = tuple(t for t, v in zip(deep.times, deep.values, strict=True) if v is not None)
        return cls(source, start, end, times)

    def part(self, entity: Entity, name: str, vm: str = "") -> Series:
        """The column's samples in the window."""
        return self.source.series(entity, name, vm).between(self.start, self.end)

    def mean(self, entity: Entity, name: str, vm: str = "") -> float | None:
        """Mean of the known samples in the window, or None if there is none."""
        return mean(self.part(entity, name, vm).known)

    def at_deep(self, name: str) -> float | None:
        """Mean of a lab column at the times of the deep samples, so that sums can close."""
        series = self.source.series(LAB, name)
        values = (held(series, time) for time in self.times)
        return mean([value for value in values if value is not None])

    def over_vms(self, name: str, join: Callable[[Sequence[float]], float]) -> float | None:
        """The VMs' means, joined: by sum, mean, max."""
        means = [self.mean(VM, name, vm) for vm in self.source.vms]
        known = [value for value in means if value is not None]
        return join(known) if known else None

    def slowest(self) -> float | None:
        """The p99 of the VM whose p99 over the whole window is largest."""
        found = (self.source.percentile(vm, 0.99, self.start, self.end) for vm in self.source.vms)
        return max((value for value in found if value is not None), default=None)

    def figure(
        self, label: str, name: str, value: float | None, how: str, unit: Unit | None = None
    ) -> Figure:
        """A figure of a lab column, with the reason if it is absent."""
        unit = COLUMNS[LAB, name].unit if unit is None else unit
        why = "" if value is not None else self.why(LAB, name)
        return Figure(label, value, unit, how, why)

    def why(self, entity: Entity, name: str) -> str:
        """Why a column has no value in the window."""
        if entity is VM and not self.source.vms:
            return "no VM has run"
        known = self.source.series(entity, name, self.a_vm(entity)).known
        if known:
            return "no sample of it in the measured window"
        return facts.why_absent(self.source, entity, name)

    def a_vm(self, entity: Entity) -> str:
        """A VM to ask for a VM's column; nobody for the lab's."""
        return self.source.vms[0] if entity is VM and self.source.vms else ""


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean, None of nothing."""
    return sum(values) / len(values) if values else None


def held(series: Series, time: float) -> float | None:
    """The series' last value at or before `time`."""
    at = bisect_right(series.times, time) - 1
    return series.values[at] if at >= 0 else None


def integral(series: Series) -> float | None:
    """∫ series dt over the whole run, each value standing for the time since the one before."""
    steps = zip(series.times, series.times[1:], series.values[1:], strict=False)
    parts = [(after - before) * value for before, after, value in steps if value is not None]
    return sum(parts) if parts else None
