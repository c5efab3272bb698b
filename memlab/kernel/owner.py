"""One run owns the knobs of this host: becoming the owner, giving all back, following the dead.

    with acquire(header) as owner:
        owner.journal.turn(...)     # journalled, then done
    # everything is given back here; owner.restored says what came of it

A program watches `owner.guard.fileno()`: readable means that the guard speaks or has died.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, Roots
from memlab.kernel.guard import Guard
from memlab.kernel.journal import NAME as JOURNAL
from memlab.kernel.journal import Journal
from memlab.kernel.lock import LEFT, finish, lock, owned_error, owner, write_down
from memlab.kernel.restore import restore
from memlab.kernel.restored import NAME as RESTORED
from memlab.kernel.restored import Restored
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import is_alive
from memlab.kernel.undone import undone_on_failure

FORGOTTEN: Final = "journal.forgotten"
_GUARD_SECONDS: Final = 12.0
_END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Owner:
    """This process owns the host's knobs, with a journal and a guard, until `close`."""

    def __init__(self, run: RunDir, journal: Journal, guard: Guard, roots: Roots) -> None:
        self.run = run
        self.journal = journal
        self.guard = guard
        self.restored: Restored | None = None
        self._roots = roots

    def close(self, *, force: bool = False) -> Restored:
        """Give everything back from the journal and let the guard go. Closing twice is harmless.

        SIGINT, SIGTERM and SIGHUP wait until it is done: a second Ctrl-C stops no clean-up.
        """
        if self.restored is None:
            with _uninterrupted():
                self.restored = restore(self.run, roots=self._roots, force=force)
                write_down(self.run, self.restored)
                self.journal.close()
                self._release(self.restored)
                self.run.close()
        return self.restored

    def _release(self, restored: Restored) -> None:
        if self.guard.release(restored):
            return
        # The guard was killed before: its part falls to this process.
        fd = lock(self.run, timeout=1.0)
        if fd is not None:
            try:
                finish(self.run, restored)
            finally:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def acquire(
    header: Header,
    *,
    path: Path | None = None,
    roots: Roots = HOST,
    guard_groups: tuple[Path, ...] = (),
) -> Owner:
    """Make the calling process, named in `header`, the owner of this host's knobs.

    OwnedError within a second if another run is; RestoreError if a dead run's leavings cannot be
    given back, which is tried first. `guard_groups` are cgroup directories to be made for the
    guard, outside the lab's own.
    """
    if (leavings := recover(path, roots=roots)) is not None:
        leavings.check()
    run = RunDir.made(path)
    with undone_on_failure(run.close):
        if owner(run, roots=roots) is not None:
            raise owned_error(run)
        guard = Guard.start(run, header, roots=roots)
        with undone_on_failure(lambda: guard.release(Restored())):
            journal = Journal.create(run, header, roots=roots)
            guard.settle(journal, guard_groups)
    return Owner(run, journal, guard, roots)


def recover(
    path: Path | None = None, *, roots: Roots = HOST, force: bool = False
) -> Restored | None:
    """Give back what a dead run left; None if there is nothing to do. Every command begins so.

    A living run is left alone, and one whose guard is at work is waited for. OwnedError if that
    guard does not come to an end. What could not be given back stays in the journal.
    """
    with RunDir.open(path, create=False) or _nothing() as run:
        if run is None or run.read(JOURNAL) is None:
            return None
        found = Journal.load(run)
        header = None if found is None else found.header
        if header is not None and is_alive(header.main, roots):
            return None
        with _locked(run, _GUARD_SECONDS):
            return _restore_and_finish(run, roots, force)


def restore_left(path: Path | None = None, *, roots: Roots = HOST) -> Restored | None:
    """Give back by force what the last clean-up left because others had changed it."""
    with RunDir.open(path, create=False) or _nothing() as run:
        if run is None:
            return None
        with _locked(run, _GUARD_SECONDS):
            if run.read(JOURNAL) is None:
                if run.read(LEFT) is None:
                    return None
                run.rename(LEFT, JOURNAL)
            return _restore_and_finish(run, roots, force=True)


def forget(path: Path | None = None) -> bool:
    """Give up on a dead run's journal that cannot be undone; it is kept under another name."""
    with RunDir.open(path, create=False) or _nothing() as run:
        if run is None or run.read(JOURNAL) is None:
            return False
        with _locked(run, 0.0):
            run.rename(JOURNAL, FORGOTTEN)
            run.sync()
        return True


def last_restored(path: Path | None = None) -> Restored | None:
    """What the last clean-up on this host came to, if it left something; None if all is well."""
    with RunDir.open(path, create=False) or _nothing() as run:
        raw = None if run is None else run.read(RESTORED)
    return None if raw is None else Restored.from_json(raw)


def _restore_and_finish(run: RunDir, roots: Roots, force: bool) -> Restored | None:
    if run.read(JOURNAL) is None:
        return None  # its guard was quicker
    restored = restore(run, roots=roots, force=force)
    finish(run, restored)
    return restored


@contextmanager
def _locked(run: RunDir, timeout: float) -> Iterator[None]:
    fd = lock(run, timeout=timeout)
    if fd is None:
        raise owned_error(run)
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


@contextmanager
def _uninterrupted() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _END_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
