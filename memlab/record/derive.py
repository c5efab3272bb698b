"""`Derived`: the one `Source`, all documented columns computed from a recording's raw samples.

It works on a finished recording and on one that is still being written: `refresh` looks for new
samples, `latest` computes the newest value of one column without its whole series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from memlab.record.columns import COLUMNS, Entity
from memlab.record.formulas import FORMULAS
from memlab.record.raw import Moment, Raw
from memlab.record.series import Choice, Event, Series, Tick
from memlab.record.store import Recording, find_run
from memlab.record.terms import quantile


class Derived:
    """A run that can be asked. Closing it closes the recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._raw = Raw(recording)
        self._manifest: dict[str, Any] | None = None
        self._series: dict[tuple[Entity, str, str], Series] = {}

    @classmethod
    def open(cls, path: Path, *, check: bool = True) -> Self:
        """The run at `path`: a recording, a run's or a lab's directory (its newest run).

        Raises RecordingError. `check` = False skips the integrity check, for a live recording.
        """
        return cls(Recording.open(find_run(path), check=check))

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Lab file, seed, host facts, versions, how it ended."""
        if self._manifest is None:
            self._manifest = self.recording.manifest
        return self._manifest

    @property
    def vms(self) -> tuple[str, ...]:
        """Names of the VMs, in the order of the lab file."""
        return tuple(vm.name for vm in self._raw.vms.values())

    @property
    def window(self) -> tuple[float, float]:
        """The measured window: the manifest's `window`, else all that was recorded."""
        window = self.manifest.get("window")
        if window is not None:
            return float(window[0]), float(window[1])
        return 0.0, self._raw.ended.get(self._raw.horizon, 0) / 1e6

    def series(self, entity: Entity, name: str, vm: str = "") -> Series:
        """One column over time; a value is stamped with the end of its sample.

        KeyError: there is no such column, or no such VM.
        """
        key = (entity, name, vm)
        if key not in self._series:
            column, formula = COLUMNS[entity, name], FORMULAS[entity][name]
            number = self._number(entity, vm)
            rows = self._raw.rows(f"{entity}_{column.tier}", number)
            self._series[key] = Series(
                column,
                vm,
                tuple(self._raw.ended[sample] / 1e6 for sample in rows),
                tuple(
                    formula(Moment(self._raw, number, sample, before))
                    for sample, before in rows.items()
                ),
            )
        return self._series[key]

    def latest(self, entity: Entity, name: str, vm: str = "") -> float | None:
        """The newest value of a column, or None if that is absent or nothing was sampled yet.

        KeyError as in `series`; a VM that has not been seen yet has no values.
        """
        column, formula = COLUMNS[entity, name], FORMULAS[entity][name]
        if entity is Entity.VM and vm not in self.vms:
            return None
        number = self._number(entity, vm)
        rows = self._raw.rows(f"{entity}_{column.tier}", number)
        newest = next(reversed(rows), None)
        if newest is None:
            return None
        return formula(Moment(self._raw, number, newest, rows[newest]))

    def percentile(self, vm: str, part: float, start: float, end: float) -> float | None:
        """Latency, seconds, below which `part` (0…1) of a VM's operations from `start` to `end`
        stayed; over the merged histograms, not a mean of percentiles. None: no operation."""
        number = self._number(Entity.VM, vm)
        added: Counter[int] = Counter()
        for sample, before in self._raw.rows("vm_medium", number).items():
            if before is not None and self._raw.began[before] >= start * 1e6 - 1:
                if self._raw.ended[sample] > end * 1e6:
                    break
                added.update(self._raw.latencies(number, sample))
        return quantile(added, part)

    def events(self) -> tuple[Event, ...]:
        """All events, by time."""
        return self.recording.events()

    def choices(self) -> tuple[Choice, ...]:
        """The journal of decisions, by time."""
        return self.recording.choices()

    def ticks(self) -> tuple[Tick, ...]:
        """The policy's ticks with what it saw, by time."""
        return self.recording.ticks()

    def refresh(self) -> bool:
        """Take in what was recorded since; whether there are new samples."""
        self._manifest = None
        moved = self._raw.refresh()
        if moved:
            self._series.clear()
        return moved

    def close(self) -> None:
        """Close the recording."""
        self.recording.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _number(self, entity: Entity, vm: str) -> int:
        if entity is not Entity.VM:
            return 0
        for number, info in self._raw.vms.items():
            if info.name == vm:
                return number
        raise KeyError(vm)
