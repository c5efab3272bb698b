"""The lock on this host's knobs: taking it, saying who holds it, and putting the journal away.

The lock is held by the run's guard, so that it lives as long as somebody will clean up. A run is
the owner while the lock is held *or* its main process lives: so the moment in which a killed
guard is replaced is no gap. Threads and children of main never have the lock's descriptor.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from typing import Final

from memlab.errors import OwnedError
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, Roots
from memlab.kernel.journal import NAME as JOURNAL
from memlab.kernel.restored import NAME as RESTORED
from memlab.kernel.restored import Restored
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import is_alive
from memlab.units import format_duration

LOCK: Final = "lock"
LOG: Final = "guard.log"
"""The guard's last words."""
FACTS: Final = "owner"
LEFT: Final = "journal.left"
"""Where the journal goes when all was given back but what somebody else had changed."""
_PAUSE: Final = 0.02


def lock(run: RunDir, *, timeout: float = 0.0) -> int | None:
    """A descriptor that holds the host's lock, or None if somebody has it after `timeout` s.

    Close it to let go; it is not inherited by programs started meanwhile.
    """
    fd = run.file(LOCK, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(_PAUSE)
        else:
            return fd


def announce(run: RunDir, header: Header) -> None:
    """Write down who the owner is, in place of how the last run ended. Lock holder only.

    What that one left to others goes with it: the host as it is now is what this run gives back,
    and forcing an older state on it later would undo what nobody remembers.
    """
    for name in (RESTORED, LEFT):
        run.remove(name)
    run.write(FACTS, json.dumps(header.as_json()).encode())


def holder(run: RunDir) -> Header | None:
    """Who owned the host last: the owner now, if the lock is held or its main lives."""
    raw = run.read(FACTS)
    try:
        data = json.loads(raw) if raw else None
    except ValueError:
        return None
    return Header.from_json(data) if isinstance(data, dict) else None


def owner(run: RunDir, *, roots: Roots = HOST) -> Header | None:
    """The run that owns this host now, None if it is free. Takes no lock away from anybody.

    A run whose main and guard have both died does not own it; its journal waits for `recover`.
    """
    found = holder(run)
    if found is not None and is_alive(found.main, roots):
        return found
    fd = lock(run)
    if fd is None:
        return found
    os.close(fd)
    return None


def owned_error(run: RunDir) -> OwnedError:
    """Who holds the host, since when, and the command that ends it."""
    found = holder(run)
    if found is None:
        return OwnedError(
            "another run is starting on this host", hint="try again in a moment; see memlab status"
        )
    age = format_duration(max(0.0, time.time() - found.began))
    return OwnedError(
        f"lab {found.lab!r} owns this host since {age} "
        f"(pid {found.main.pid}, directory {found.directory})",
        hint=f"end it: memlab down {found.lab}\nor take over: memlab up --replace",
    )


def write_down(run: RunDir, restored: Restored) -> None:
    """Write down what a clean-up came to. A full disk keeps the words, not the clean-up."""
    with suppress(OSError):
        run.write(RESTORED, restored.as_json().encode())


def finish(run: RunDir, restored: Restored) -> None:
    """Put the journal away if all was given back; write down what came of it if it was not.

    Only for the one who holds the lock.
    """
    write_down(run, restored)
    if not restored.ok or run.read(JOURNAL) is None:
        return
    if restored.left:
        run.rename(JOURNAL, LEFT)
    else:
        # Only what somebody has to read is left.
        for name in (JOURNAL, RESTORED, LOG):
            run.remove(name)
    run.remove(FACTS)
    run.sync()
