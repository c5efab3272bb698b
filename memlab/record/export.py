"""A recording as tables for other tools: csv, JSON lines or Parquet.

Derived columns (the default) give one table for host, lab and VMs and tier, a row a sample (and
VM), named as in `record.columns`; raw ones give the recording's tables as they are. Events and the
journal of decisions are tables too. Absent is an empty field, a missing key, or null; never 0.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

from memlab.errors import MemlabError, UsageError
from memlab.record.columns import COLUMNS, Entity, Tier
from memlab.record.derive import Derived
from memlab.record.sample import FIXED, TABLES

Value = float | int | str | None
_BATCH: Final = 50_000


class Format(StrEnum):
    """How a table is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Table:
    """A table to be written: names and types of its columns, and its rows when asked for."""

    name: str
    columns: Mapping[str, type]
    rows: Iterable[tuple[Value, ...]]


def export(run: Derived, place: Path, form: Format, *, raw: bool = False) -> tuple[Path, ...]:
    """Write the run's tables below the directory `place`; the files that were made.

    If `place` ends in the format's name it is one file: that of the VMs' fast columns (or the raw
    table of these). Tables without rows are left out. Raises UsageError without pyarrow, and
    MemlabError where the files cannot be written.
    """
    tables = raw_tables(run) if raw else derived_tables(run)
    only = place.suffix == f".{form}"
    writer = _WRITERS[form]
    made = []
    try:
        if not only:
            place.mkdir(parents=True, exist_ok=True)
        for table in tables:
            if only and table.name != "vm_fast":
                continue
            path = place if only else place / f"{table.name}.{form}"
            if writer(table, path):
                made.append(path)
    except OSError as error:
        raise MemlabError(
            f"cannot write {error.filename or place}: {error.strerror}",
            hint="name another place with -o",
        ) from error
    return tuple(made)


def derived_tables(run: Derived) -> Iterator[Table]:
    """The documented columns, one table an entity and tier; then events and decisions."""
    for entity in Entity:
        for tier in Tier:
            names = [
                name for (owner, name), c in COLUMNS.items() if (owner, c.tier) == (entity, tier)
            ]
            if names:
                keys: dict[str, type] = {"time": float}
                if entity is Entity.VM:
                    keys["vm"] = str
                columns = keys | dict.fromkeys(names, float)
                yield Table(f"{entity}_{tier}", columns, _derived_rows(run, entity, names))
    yield _events(run)
    yield _choices(run)


def _derived_rows(run: Derived, entity: Entity, names: list[str]) -> Iterator[tuple[Value, ...]]:
    for vm in run.vms if entity is Entity.VM else ("",):
        columns = [run.series(entity, name, vm) for name in names]
        key = (vm,) if entity is Entity.VM else ()
        values = zip(*(column.values for column in columns), strict=True)
        for time, row in zip(columns[0].times, values, strict=True):
            yield (time, *key, *row)


def _events(run: Derived) -> Table:
    columns = {"time": float, "kind": str, "vm": str, "data": str}
    rows = ((e.time, e.kind, e.vm, json.dumps(dict(e.data))) for e in run.events())
    return Table("events", columns, rows)


def _choices(run: Derived) -> Table:
    names = ("policy", "state", "action", "mechanism", "vm", "reason", "asked", "got")
    columns = {"time": float} | dict.fromkeys(names, str) | {"seconds": float}
    rows = (tuple(getattr(choice, name) for name in columns) for choice in run.choices())
    return Table("decisions", columns, rows)


def raw_tables(run: Derived) -> Iterator[Table]:
    """The tables of the recording as they are; times are microseconds."""
    for name in (*FIXED, *(table.name for table in TABLES)):
        columns = run.recording.columns(name)
        rows = iter(run.recording.rows(f"SELECT {', '.join(columns)} FROM {name}"))
        yield Table(name, columns, rows)


def _write_csv(table: Table, path: Path) -> bool:
    rows = iter(table.rows)
    first = next(rows, None)
    if first is None:
        return False
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerow(first)
        writer.writerows(rows)
    return True


def _write_jsonl(table: Table, path: Path) -> bool:
    rows = iter(table.rows)
    first = next(rows, None)
    if first is None:
        return False
    with path.open("w", encoding="utf-8") as file:
        _dump(file, table, first)
        for row in rows:
            _dump(file, table, row)
    return True


def _dump(file: IO[str], table: Table, row: tuple[Value, ...]) -> None:
    known = {name: v for name, v in zip(table.columns, row, strict=True) if v is not None}
    file.write(json.dumps(known) + "\n")


def _write_parquet(table: Table, path: Path) -> bool:
    arrow, parquet = _pyarrow()
    kinds = {float: arrow.float64(), int: arrow.int64(), str: arrow.string()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    rows = iter(table.rows)
    batch = _take(rows)
    if not batch:
        return False
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch:
            columns = [list(column) for column in zip(*batch, strict=True)]
            arrays = [
                arrow.array(column, field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            batch = _take(rows)
    return True


def _take(rows: Iterator[tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    return [row for _, row in zip(range(_BATCH), rows, strict=False)]


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "Parquet needs the library pyarrow, which is not installed",
            hint="pip install 'memlab[parquet]', or use -f csv",
        ) from error
    return pyarrow, parquet


_WRITERS: Final = {
    Format.CSV: _write_csv,
    Format.JSONL: _write_jsonl,
    Format.PARQUET: _write_parquet,
}
