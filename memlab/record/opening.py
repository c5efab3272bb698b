"""Opening a recording for reading, whoever wrote it and however its writer ended.

A recording comes from strangers as well: it is opened read-only, with the schema untrusted, and
refused unless every table is one of ours, strict (so that a number is a number) and intact. A
killed run leaves its newest samples in a `-wal` file beside the recording; SQLite reads that by
itself, except in a directory where it may not write. Then both are copied first.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from memlab.errors import RecordingError
from memlab.record.sample import APPLICATION_ID, FIXED, LATER, SCHEMA_VERSION, TABLES

RECORDING_NAME: Final = "recording.sqlite"
"""Name of the recording in its run's directory."""

_LARGEST_VALUE: Final = 64 * 1024 * 1024
_OURS: Final = frozenset((*FIXED, *(table.name for table in TABLES)))


_RAW_DDL: Final = re.compile(
    r"CREATE TABLE \w+ \(\w+ INTEGER( NOT NULL)?(, \w+ INTEGER( NOT NULL)?)*\) STRICT"
)


def open_read_only(path: Path, stack: ExitStack, *, check: bool = True) -> sqlite3.Connection:
    """A connection that cannot write; `stack` closes it and removes what it needed.

    Raises RecordingError if there is no recording, or it is damaged, foreign or too new. `check`
    = False leaves out the reading of every page (for the writer's own, live recording).
    """
    if not path.is_file():
        raise RecordingError(f"there is no recording at {path}", hint=_NO_RECORDING)
    try:
        connection = _connect_or_copy(path, stack)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path} is not a recording ({error})", hint=_NO_RECORDING) from error
    try:
        _refuse_foreign(connection, path)
        if check:
            _refuse_damaged(connection, path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the second: a garbled schema
        raise RecordingError(f"{path} is damaged: {error}", hint=DAMAGED) from error
    return connection


_NO_RECORDING: Final = f"give a {RECORDING_NAME}, a run's directory, or a lab's directory"
DAMAGED: Final = "`sqlite3 FILE .recover` saves what can be read; keep the -wal file beside it"
"""What to do about a recording that cannot be read."""


def _connect_or_copy(path: Path, stack: ExitStack) -> sqlite3.Connection:
    try:
        return _connect(path, stack)
    except sqlite3.OperationalError:
        return _connect(_copy(path, stack), stack)


def _connect(path: Path, stack: ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5
    )
    stack.callback(connection.close)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
    for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the file, at last
    return connection


def _copy(path: Path, stack: ExitStack) -> Path:
    """A copy of the recording and of its -wal, where SQLite can make the -shm that it needs."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memlab-")))
    try:
        for part in (path, path.with_name(path.name + "-wal")):
            if part.exists():
                shutil.copyfile(part, folder / part.name)
    except OSError as error:
        raise RecordingError(
            f"cannot read {path}: {error.strerror}", hint="copy it to where you may read it"
        ) from error
    return folder / path.name


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise RecordingError(f"{path} is not a recording of memlab", hint=_NO_RECORDING)
    if version > SCHEMA_VERSION:
        raise RecordingError(
            f"{path} has schema {version}; this memlab reads up to {SCHEMA_VERSION}",
            hint="open it with the memlab that wrote it, or a newer one",
        )
    if not _has_our_tables(connection):
        raise RecordingError(
            f"{path} does not have the tables of a recording",
            hint="it was changed after it was written; use the original file",
        )


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    """Whether there are our tables and nothing else, each so declared that a number is a number."""
    found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    tables = {name: sql for kind, name, sql in found if kind == "table"}
    missing, more = _OURS - tables.keys(), tables.keys() - _OURS
    if any(kind in ("view", "trigger") for kind, *_ in found) or more or missing - LATER:
        return False
    if any(tables[name] != ddl for name, ddl in FIXED.items() if name in tables):
        return False
    return all(_RAW_DDL.fullmatch(tables[table.name]) for table in TABLES)


def _refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise RecordingError(f"{path} is damaged: {verdict}", hint=DAMAGED)


def find_run(path: Path) -> Path:
    """The recording meant by `path`: a recording, a run's directory, or (the newest run of) a
    lab's directory, the directory that has the lab's directories, or an exercise's.

    Raises RecordingError if there is none.
    """
    if path.is_file():
        return path
    if (path / RECORDING_NAME).is_file():
        return path / RECORDING_NAME
    below = ("runs/*", "*.memlab/runs/*", "runs/*.memlab/runs/*")
    runs = [run for one in below for run in path.glob(f"{one}/{RECORDING_NAME}")]
    if not runs:
        raise RecordingError(f"there is no recording at {path}", hint=_NO_RECORDING)
    return max(runs, key=lambda run: (run.parent.name, run.stat().st_mtime_ns))
