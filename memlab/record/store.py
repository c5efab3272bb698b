"""A recording: one SQLite file, one transaction a sample.

While a lab runs two processes write the file: the sampler its samples, the main one events and
decisions. Write-ahead logging lets them, and any number of readers, do so at once; a writer that
is killed loses nothing that was committed. `finish` leaves one plain file behind.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from memlab.errors import RecordingError
from memlab.kernel.undone import undone_on_failure
from memlab.record.columns import Entity
from memlab.record.opening import DAMAGED, RECORDING_NAME, find_run, open_read_only
from memlab.record.sample import (
    APPLICATION_ID,
    FIXED,
    SCHEMA_VERSION,
    TABLES,
    Sample,
    VmInfo,
)
from memlab.record.series import Choice, Event, Tick

__all__ = ["RECORDING_NAME", "Recording", "find_run"]

_BUSY_SECONDS: Final = 5.0
_MICRO: Final = 1_000_000
_INSERTS: Final = {(table.entity, table.tier): table.insert for table in TABLES}
_TYPES: Final[dict[str, type]] = {"INTEGER": int, "REAL": float, "TEXT": str}
_CHOICE: Final = (
    "policy", "state", "action", "mechanism", "vm", "reason", "asked", "got", "seconds",
)  # fmt: skip


class Recording:
    """A recording that is open, for writing or for reading. Use `create`, `append` or `open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, stack: ExitStack) -> None:
        self.path = path
        self.connection = connection
        self._stack = stack
        self._vm_ids: dict[str, int] = {}

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Any]) -> Self:
        """A new recording at `path`, which must not exist. `manifest` values are JSON's."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise RecordingError(
                f"cannot create {path}: {error.strerror}",
                hint="choose another directory, or move the old recording away",
            ) from error
        recording = cls._connect(path)
        with _faults_of(path):
            recording.connection.execute("PRAGMA journal_mode=WAL")
            recording.connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            recording.connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            with recording._transaction():
                for ddl in (*FIXED.values(), *(table.ddl for table in TABLES)):
                    recording.connection.execute(ddl)
        recording.update(manifest)
        return recording

    @classmethod
    def append(cls, path: Path, *, max_size: int | None = None) -> Self:
        """An existing recording, to write to. Beyond `max_size` bytes samples are refused."""
        if not path.is_file():
            raise RecordingError(f"there is no recording at {path}")
        recording = cls._connect(path)
        if max_size is not None:
            (page_size,) = recording.connection.execute("PRAGMA page_size").fetchone()
            recording.connection.execute(f"PRAGMA max_page_count={max(1, max_size // page_size)}")
        return recording

    @classmethod
    def open(cls, path: Path, *, check: bool = True) -> Self:
        """A recording to read, finished, running, or left by a killed run.

        Raises RecordingError if it is no recording, or a damaged one; see `record.opening`.
        """
        with ExitStack() as stack:
            connection = open_read_only(path, stack, check=check)
            return cls(path, connection, stack.pop_all())
        raise AssertionError("unreachable")

    @classmethod
    def _connect(cls, path: Path) -> Self:
        with _faults_of(path), ExitStack() as stack:
            connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
            stack.callback(connection.close)
            # NORMAL: a killed process loses nothing, a power cut what came after the checkpoint.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            return cls(path, connection, stack.pop_all())
        raise AssertionError("unreachable")

    # Writing

    def update(self, manifest: Mapping[str, Any]) -> None:
        """Add these entries to the manifest, or replace them."""
        rows = [(key, json.dumps(value)) for key, value in manifest.items()]
        with _faults_of(self.path), self._transaction():
            self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def add_vm(self, vm: VmInfo) -> int:
        """The number that stands for this VM in the file; it is entered if it is new."""
        with _faults_of(self.path), self._transaction():
            self.connection.execute(
                "INSERT OR IGNORE INTO vm (name, owner, backend, configured) VALUES (?, ?, ?, ?)",
                (vm.name, vm.owner, vm.backend, vm.configured),
            )
            (number,) = self.connection.execute(
                "SELECT id FROM vm WHERE name = ?", (vm.name,)
            ).fetchone()
        self._vm_ids[vm.name] = number
        return int(number)

    def write_sample(self, sample: Sample) -> int:
        """Commit one sample, whole or not at all; its number. VMs must have been added."""
        execute, ids, tier = self.connection.execute, self._vm_ids, sample.tier
        with _faults_of(self.path), self._transaction():
            number = execute(
                "INSERT INTO sample (tier, began, ended, cpu_us, missed) VALUES (?, ?, ?, ?, ?)",
                (tier, sample.began, sample.ended, sample.cpu_us, sample.missed),
            ).lastrowid
            if sample.host is not None:
                execute(_INSERTS[Entity.HOST, tier], (number, *sample.host))
            if sample.lab is not None:
                execute(_INSERTS[Entity.LAB, tier], (number, *sample.lab))
            if sample.vms:
                rows = [(number, ids[vm], *row) for vm, row in sample.vms]
                self.connection.executemany(_INSERTS[Entity.VM, tier], rows)
            if sample.latency:
                rows = [(number, ids[vm], bucket, count) for vm, bucket, count in sample.latency]
                self.connection.executemany("INSERT INTO latency VALUES (?, ?, ?, ?)", rows)
        assert number is not None
        return number

    def event(self, time: float, kind: str, vm: str = "", data: Mapping[str, Any] = {}) -> None:
        """Commit something that happened. `time` is seconds since the run began."""
        with _faults_of(self.path):
            self.connection.execute(
                "INSERT INTO event (time, kind, vm, data) VALUES (?, ?, ?, ?)",
                (round(time * _MICRO), kind, vm, json.dumps(dict(data))),
            )

    def choice(self, choice: Choice) -> None:
        """Commit one line of the journal of decisions."""
        values = (round(choice.time * _MICRO), *(getattr(choice, name) for name in _CHOICE))
        with _faults_of(self.path):
            self.connection.execute(
                f"INSERT INTO choice (time, {', '.join(_CHOICE)})"
                f" VALUES ({', '.join('?' * len(values))})",
                values,
            )

    def tick(self, tick: Tick) -> None:
        """Commit one tick of the policy."""
        with _faults_of(self.path):
            self.connection.execute(
                "INSERT INTO tick (time, policy, state, seconds, view) VALUES (?, ?, ?, ?, ?)",
                (round(tick.time * _MICRO), tick.policy, tick.state, tick.seconds, tick.view),
            )

    def checkpoint(self) -> None:
        """Carry what was committed from the log into the file, and sync both."""
        with _faults_of(self.path):
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def finish(self, manifest: Mapping[str, Any]) -> bool:
        """Update the manifest, close, and leave one plain file; call it when the sampler has ended.

        False if somebody is reading just now: then the -wal file stays, and nothing is lost.
        """
        self.update(manifest)
        try:
            (mode,) = self.connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.OperationalError:
            mode = "wal"
        self.close()
        return bool(mode == "delete")

    # Reading

    @property
    def manifest(self) -> dict[str, Any]:
        """Lab file, seed, host facts, versions, how it ended."""
        with _faults_of(self.path):
            rows = self.connection.execute("SELECT key, value FROM meta").fetchall()
            return {key: json.loads(value) for key, value in rows}

    def vms(self) -> dict[int, VmInfo]:
        """The VMs by number, in the lab file's order."""
        rows = self.rows("SELECT id, name, owner, backend, configured FROM vm ORDER BY owner, id")
        return {number: VmInfo(*rest) for number, *rest in rows}

    def events(self) -> tuple[Event, ...]:
        """All events, by time."""
        rows = self.rows("SELECT time, kind, vm, data FROM event ORDER BY time, id")
        with _faults_of(self.path):
            return tuple(
                Event(time / _MICRO, kind, vm, json.loads(data)) for time, kind, vm, data in rows
            )

    def choices(self) -> tuple[Choice, ...]:
        """The journal of decisions, by time."""
        rows = self.rows(f"SELECT time, {', '.join(_CHOICE)} FROM choice ORDER BY time, id")
        return tuple(Choice(time / _MICRO, *rest) for time, *rest in rows)

    def ticks(self) -> tuple[Tick, ...]:
        """The policy's ticks with what it saw, by time; none where the table is not there yet."""
        if not self.columns("tick"):
            return ()
        rows = self.rows("SELECT time, policy, state, seconds, view FROM tick ORDER BY time, id")
        return tuple(Tick(time / _MICRO, *rest) for time, *rest in rows)

    def last_sample(self) -> int:
        """Number of the newest sample, 0 if there is none."""
        return int(self.rows("SELECT coalesce(max(id), 0) FROM sample")[0][0])

    def columns(self, table: str) -> dict[str, type]:
        """Names and types of a table's columns, as this recording has them."""
        found = self.rows("SELECT name, type FROM pragma_table_info(?)", (table,))
        return {name: _TYPES[kind] for name, kind in found}

    def rows(self, query: str, values: Sequence[int | str] = ()) -> list[Any]:
        """What a SELECT finds. RecordingError if the file turns out to be damaged."""
        with _faults_of(self.path):
            return self.connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file. Harmless if it is closed."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        with undone_on_failure(self._roll_back):
            yield
        self.connection.execute("COMMIT")

    def _roll_back(self) -> None:
        if self.connection.in_transaction:  # a full disk has rolled it back already
            self.connection.execute("ROLLBACK")


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into RecordingError, with what is safe and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the kind: of a full disk SQLite also says that input or output failed.
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        full = kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        hint = (
            "make room on the disk, or raise the size limit; all samples until now are safe"
            if full
            else "all that was committed before is safe in the file and its -wal"
        )
        raise RecordingError(f"cannot use {path}: {error}", hint=hint) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path} is damaged: {error}", hint=DAMAGED) from error
