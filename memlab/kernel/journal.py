"""What a run changes on this host, written down and synced before it is changed.

The journal is the only source of the clean-up: what stands in it is undone, by whoever does it,
and nothing else is touched. It is append-only, one JSON object a line (see entries.py).

Synced means fsync: on the tmpfs that /run normally is that costs nothing, and on a disk it is
what lets the next boot remove the files of a run that lost its power.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from memlab.errors import HostError, KernelError, MemlabError
from memlab.kernel.entries import Header, Process, Record, SwapKind, encode, parse
from memlab.kernel.failpoint import failpoint
from memlab.kernel.files import HOST, Applied, Roots, chosen, read_int, read_text, write_text
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import Task
from memlab.kernel.undone import undone_on_failure

NAME: Final = "journal"


class Journal:
    """The open journal of a run. Each method returns when its entry is on disk.

    `MemlabError` if it cannot be written: then the change must not be made either.
    """

    def __init__(self, run: RunDir, fd: int, roots: Roots = HOST) -> None:
        self.run = run
        self.roots = roots
        self._fd = fd
        self._merging = False

    @classmethod
    def create(cls, run: RunDir, header: Header, *, roots: Roots = HOST) -> Self:
        """A new journal. HostError if there is one already: its run was not cleaned up."""
        try:
            fd = run.file(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        except FileExistsError as error:
            raise HostError(
                f"{run.path / NAME} is the journal of a run that was not cleaned up",
                hint="give back what it left: memlab clean",
            ) from error
        journal = cls(run, fd, roots)
        with undone_on_failure(journal._unmake):
            journal._append([{"do": "begin", **header.as_json()}])
            run.sync()
        return journal

    def _unmake(self) -> None:
        self.close()
        self.run.remove(NAME)  # an empty one, which names nothing, would refuse every later run

    @classmethod
    def open(cls, run: RunDir, *, roots: Roots = HOST) -> Self | None:
        """The journal that is there, to go on with it; None if there is none."""
        try:
            fd = run.file(NAME, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        journal = cls(run, fd, roots)
        if not _ends_whole(fd):
            journal._write(b"\n")  # so that a half line spoils itself only
        return journal

    @staticmethod
    def load(run: RunDir) -> Record | None:
        """What the journal in `run` says; None if there is none.

        A journal without one whole line is none: nothing is changed before its first is synced.
        """
        raw = run.read(NAME)
        return None if raw is None or b"\n" not in raw else parse(raw)

    def record(self) -> Record:
        """What this journal says so far."""
        return parse(self.run.read(NAME) or b"")

    # What a run may change. Each is called before the change.

    def knob(self, path: Path, old: str, new: str) -> None:
        """`path` is about to be turned from `old` to `new`."""
        self._append([{"do": "knob", "path": str(path), "old": old, "new": new}])

    def cgroup(self, *paths: Path) -> None:
        """These cgroup directories are about to be made; parents first."""
        self._append([{"do": "cgroup", "path": str(path)} for path in paths])

    def process(self, pid: int, start_time: int, cgroup: Path | None = None) -> None:
        """This process is ours. Start it so that it waits until this was said."""
        self.processes([Process(Task(pid, start_time), cgroup)])

    def processes(self, started: Iterable[Process]) -> None:
        """All of these processes are ours: one sync for many VMs."""
        self._append(
            {
                "do": "process",
                "pid": one.task.pid,
                "start_time": one.task.start_time,
                "cgroup": None if one.cgroup is None else str(one.cgroup),
            }
            for one in started
        )

    def swap(self, path: Path, kind: SwapKind) -> None:
        """This swap file is about to be made, or this zram device (just added) to be used.

        The file is removed at the end. A zram device gets its number when it is added, so it
        cannot be named before: a death between the two leaves an empty device without memory.
        """
        self._append([{"do": "swap", "path": _real(path), "kind": kind.value}])

    def file(self, path: Path) -> None:
        """This file or socket is about to be made, and is removed at the end."""
        self._append([{"do": "file", "path": _real(path)}])

    def network(self, path: Path) -> None:
        """The lab's network is about to get this name: a file, which is mounted and removed."""
        self._append([{"do": "network", "path": _real(path)}])

    def ksm(self, pages_shared: int) -> None:
        """KSM is about to merge; `pages_shared` is its counter now. The first one counts."""
        self._append([{"do": "ksm", "pages_shared": pages_shared}])
        self._merging = True

    def guard(self, task: Task, groups: tuple[Path, ...] = (), home: Path | None = None) -> None:
        """`task` is this run's guard; `groups` are about to be made for it."""
        entry = {
            "do": "guard",
            "pid": task.pid,
            "start_time": task.start_time,
            "groups": [str(group) for group in groups],
            "home": None if home is None else str(home),
        }
        self._append([entry])

    def turn(self, path: Path, value: str) -> Applied:
        """Write `value` to the knob `path`, journalled first, and read it back.

        KernelError if there is no such knob or the kernel refuses. A knob that has the value
        already is neither written nor journalled.
        """
        present = read_text(path)
        if present is None:
            raise KernelError(path, "turn", errno.ENOENT, hint="see memlab doctor")
        done = Applied(path, value, present)
        if done.took:
            return done
        self._note_side_effects(path)
        self.knob(path, chosen(present), value)
        failpoint("knob-before-write")
        applied = write_text(path, value)
        failpoint("knob-after-write")
        if applied.got is not None and not applied.took:
            self._append([{"do": "got", "path": str(path), "value": chosen(applied.got)}])
        return applied

    def _note_side_effects(self, path: Path) -> None:
        """Journal what a knob changes besides itself: merged pages, and the advisor's choice."""
        ksm = self.roots.ksm
        if path == ksm / "run" and not self._merging:
            shared = read_int(ksm / "pages_shared")
            if shared is not None:
                self.ksm(shared)
        if path == ksm / "advisor_mode":
            # Since 6.8 a new advisor sets pages_to_scan by itself (mm/ksm.c, set_advisor_defaults).
            scan = ksm / "pages_to_scan"
            present = read_text(scan)
            if present is not None:
                self.knob(scan, present, present)

    def close(self) -> None:
        """Give the descriptor back. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._write(b"".join(encode(entry) for entry in entries))

    def _write(self, raw: bytes) -> None:
        before = os.fstat(self._fd).st_size
        try:
            failpoint("journal-before-write")
            written = os.write(self._fd, raw)
            if written < len(raw):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            failpoint("journal-before-fsync")
            os.fsync(self._fd)
            failpoint("journal-after-fsync")
        except OSError as error:
            # The half line goes, so that it cannot swallow the next one.
            os.ftruncate(self._fd, before)
            raise MemlabError(
                f"cannot write {self.run.path / NAME}: {error.strerror}; nothing was changed",
                hint=f"make room in {self.run.path}: df {self.run.path}",
            ) from error


def _real(path: Path) -> str:
    """The path without links on its way: so /proc/swaps says it, and so a later link is seen."""
    return str(path.parent.resolve() / path.name)


def _ends_whole(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"
