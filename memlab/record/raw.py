"""The raw columns of a recording, read when they are asked for and extended while it is written.

A column is named as in the file, `vm_fast.usage`; host and lab have the VM number 0. What is read
ends at a horizon, the newest sample at the last `refresh`, so that all columns tell of the same
samples although they are read one after the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from memlab.record.columns import Entity, Tier
from memlab.record.sample import TABLES
from memlab.record.store import Recording

Values = Mapping[int, int | None]
"""A raw column of one VM: value by sample."""

_TABLES: Final = {table.name: table for table in TABLES}
_NOTHING: Final[Values] = {}


@dataclass(slots=True)
class _Column:
    """What has been read of one column: up to which row, and the values by VM and sample."""

    row: int = 0
    horizon: int = 0
    values: dict[int, dict[int, int | None]] = field(default_factory=dict)


@dataclass(slots=True)
class _Histograms:
    """Latency counts: the newest cumulative ones, and what each sample added to them."""

    row: int = 0
    horizon: int = 0
    newest: dict[tuple[int, int], int] = field(default_factory=dict)
    added: dict[int, dict[int, dict[int, int]]] = field(default_factory=dict)


class Raw:
    """The raw samples of a recording, by column."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.horizon = 0
        self.began: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.samples: dict[Tier, list[int]] = {tier: [] for tier in Tier}
        self._present = {
            f"{table}.{name}" for table in _TABLES for name in recording.columns(table)
        }
        self._columns: dict[str, _Column] = {}
        self._rows: dict[str, _Column] = {}
        self._histograms = _Histograms()
        self._kills: tuple[int, ...] = ()
        self.vms = recording.vms()
        self.refresh()

    def refresh(self) -> bool:
        """Move the horizon to the newest sample; whether it moved."""
        new = self.recording.rows(
            "SELECT id, tier, began, ended FROM sample WHERE id > ? ORDER BY id", (self.horizon,)
        )
        for number, tier, began, ended in new:
            self.samples[Tier(tier)].append(number)
            self.began[number], self.ended[number] = began, ended
            self.horizon = number
        if new:
            self.vms = self.recording.vms()
            self._kills = tuple(
                time
                for (time,) in self.recording.rows(
                    "SELECT time FROM event WHERE kind = 'oom-kill' ORDER BY time"
                )
            )
        return bool(new)

    def column(self, name: str, vm: int = 0) -> Values:
        """Values by sample; empty if this recording does not have the column."""
        if name not in self._present:
            return _NOTHING
        column = self._columns.setdefault(name, _Column())
        if column.horizon < self.horizon:
            self._extend(column, *name.split("."))
        return column.values.get(vm, _NOTHING)

    def rows(self, table: str, vm: int = 0) -> Mapping[int, int | None]:
        """The samples in which the VM (0: host, lab) has a row, each with its sample before."""
        rows = self._rows.setdefault(table, _Column())
        if rows.horizon < self.horizon:
            self._extend(rows, table)
        return rows.values.get(vm, _NOTHING)

    def _extend(self, column: _Column, table: str, name: str = "") -> None:
        """Read the rows since the last time; without a `name`, only which samples have one."""
        vm = "vm" if _TABLES[table].entity is Entity.VM else "0"
        for row, sample, number, value in self.recording.rows(
            f"SELECT rowid, sample, {vm}, {name or 'NULL'} FROM {table}"
            " WHERE rowid > ? AND sample <= ? ORDER BY rowid",
            (column.row, self.horizon),
        ):
            found = column.values.setdefault(number, {})
            found[sample] = value if name else next(reversed(found), None)
            column.row = row
        column.horizon = self.horizon

    def latencies(self, vm: int, sample: int) -> Mapping[int, int]:
        """Operations by histogram bucket since the medium sample before; empty at a VM's first."""
        if self.rows("vm_medium", vm).get(sample) is None:
            return {}
        histograms = self._histograms
        if histograms.horizon < self.horizon:
            self._extend_histograms(histograms)
        return histograms.added.get(vm, {}).get(sample, {})

    def _extend_histograms(self, histograms: _Histograms) -> None:
        for row, sample, vm, bucket, count in self.recording.rows(
            "SELECT rowid, sample, vm, bucket, count FROM latency"
            " WHERE rowid > ? AND sample <= ? ORDER BY rowid",
            (histograms.row, self.horizon),
        ):
            added = count - histograms.newest.get((vm, bucket), 0)
            histograms.newest[vm, bucket] = count
            histograms.row = row
            if added > 0:
                histograms.added.setdefault(vm, {}).setdefault(sample, {})[bucket] = added
        histograms.horizon = self.horizon

    def kills(self, sample: int) -> int:
        """OOM kills that were recorded as events until `sample` ended."""
        return bisect_right(self._kills, self.ended[sample])


@dataclass(frozen=True, slots=True)
class Moment:
    """One entity at one sample, with the sample before: what a formula looks at.

    `vm` is 0 for the host and the lab. `previous` is None at the first sample.
    """

    raw: Raw
    vm: int
    sample: int
    previous: int | None

    def now(self, name: str) -> int | None:
        """A raw column at this sample. Host and lab columns can be asked of a VM's moment too."""
        return self.raw.column(name, self._owner(name)).get(self.sample)

    def before(self, name: str) -> int | None:
        """The same column at the sample before."""
        if self.previous is None:
            return None
        return self.raw.column(name, self._owner(name)).get(self.previous)

    def _owner(self, name: str) -> int:
        return self.vm if name.startswith("vm_") else 0

    @property
    def seconds(self) -> float | None:
        """Time since the sample before."""
        if self.previous is None:
            return None
        return (self.raw.began[self.sample] - self.raw.began[self.previous]) / 1e6

    def each(self, table: str) -> Sequence[Moment]:
        """The moments of the VMs that have a row in this sample."""
        found = []
        for vm in self.raw.vms:
            rows = self.raw.rows(table, vm)
            if self.sample in rows:
                found.append(Moment(self.raw, vm, self.sample, rows[self.sample]))
        return found
