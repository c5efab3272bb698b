"""The one way to clean up: from the journal. Whoever does it calls `restore`.

Main calls it at its normal end, the guard when main died, the next command when both died. It can
be interrupted anywhere and done again: every step first looks whether there is anything to do.

The order follows from the kernel (docs/safety.md): processes end first, because their memory must
be free before swapoff brings pages back; merged pages are pruned before the knobs that refuse to
change while any page is merged; knobs, cgroups and files follow; then everything is read again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from memlab.errors import KernelError, MemlabError
from memlab.kernel import damon, ksm, swap
from memlab.kernel.cgroup_v2 import V2Group
from memlab.kernel.ending import end_processes, remaining
from memlab.kernel.entries import GuardEntry, Knob, Record, Swap, SwapKind, boot_id, machine_id
from memlab.kernel.failpoint import failpoint
from memlab.kernel.files import (
    HOST,
    Roots,
    chosen,
    parse_names,
    read_bytes,
    read_int,
    read_text,
    same_value,
    write_text,
)
from memlab.kernel.journal import Journal
from memlab.kernel.knob import in_restoring_order, is_managed, label
from memlab.kernel.namespace import unpin
from memlab.kernel.restored import Failed, Left, Restored
from memlab.kernel.rundir import RunDir
from memlab.kernel.task import is_alive, members

SWAPOFF_SECONDS: Final = 30.0
PRUNE_SECONDS: Final = 5.0
_RMDIR_ROUNDS: Final = 50
_RMDIR_PAUSE: Final = 0.02


def restore(run: RunDir, *, roots: Roots = HOST, force: bool = False) -> Restored:
    """Undo everything that the journal in `run` names, and say what came of it.

    `force` gives back also the knobs that somebody else changed meanwhile. The journal itself
    stays: see `owner.finish`. A journal of another boot has only its files removed; one of
    another machine is left alone.
    """
    record = Journal.load(run)
    if record is None:
        return Restored()
    work = _Work(run, record, roots, force)
    if record.header is None:
        work.fail("journal", f"its first line is damaged; look at {run.path / 'journal'}")
    elif record.header.machine != machine_id():
        work.fail("journal", f"it was written on another machine ({record.header.machine})")
    elif record.header.boot != boot_id(roots):
        work.notes.append("the machine was restarted since: only files were removed")
        work.remove_files()
    else:
        work.everything()
    if record.damaged:
        work.fail("journal", f"{record.damaged} damaged line(s): what they named is not known")
    return work.outcome()


def drifted(record: Record, *, roots: Roots = HOST) -> tuple[Left, ...]:
    """The knobs that the run holds and that somebody else has changed, while it still runs."""
    found = []
    for knob in record.knobs:
        now = read_text(knob.path)
        mine = now is not None and (knob.is_ours(now) or same_value(now, knob.before))
        if not mine and not is_managed(knob.path, roots):
            found.append(_left(knob, now, roots))
    return tuple(found)


@dataclass(slots=True)
class _Work:
    """One clean-up under way."""

    run: RunDir
    record: Record
    roots: Roots
    force: bool
    given_back: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def outcome(self) -> Restored:
        return Restored(
            tuple(self.given_back), tuple(self.left), tuple(self.failed), tuple(self.notes)
        )

    def fail(self, what: str, reason: str) -> None:
        self.failed.append(Failed(what, reason))

    def attempt(self, what: str, step: Callable[..., None], *subject: object) -> None:
        """Do one step. Its failure is noted and keeps no other step from being done."""
        failpoint("restore-step")
        try:
            step(*subject)
        except MemlabError as error:
            self.fail(what, error.message)
        except OSError as error:
            self.fail(what, error.strerror or str(error))

    def everything(self) -> None:
        self.attempt("processes", self.end_all)
        for area in reversed(self.record.swaps):
            self.attempt(f"swap {area.path}", self.swap_off, area)
        self.attempt("ksm/pages_shared", self.prune)
        for knob in in_restoring_order(self.record.knobs, self.roots):
            self.attempt(label(knob.path, self.roots), self.give_back, knob)
        self.attempt("cgroups", self.remove_groups)
        for path in self.record.networks:
            self.attempt(f"network {path}", self.let_go, path)
        for guard in self.record.guards:
            self.attempt("the guard's cgroup", self.leave_guard_group, guard)
        self.remove_files()
        self.read_back()

    # Processes

    def end_all(self) -> None:
        record = self.record
        ended = end_processes(record.processes, record.cgroups, self.roots)
        if ended:
            self.given_back.append(f"{len(ended)} process(es) ended")
        for one in remaining(record.processes, record.cgroups, self.roots):
            self.fail(one, "it does not end")

    # Swap

    def swap_off(self, area: Swap) -> None:
        if self.is_active(area.path):
            swap.swapoff_in_child(area.path, timeout=SWAPOFF_SECONDS)
            self.given_back.append(f"swap {area.path} off")
        if area.kind is SwapKind.ZRAM and (self.roots.sys / "block" / area.path.name).exists():
            swap.remove_zram(area.path, self.roots)
            self.given_back.append(f"{area.path} removed")

    def is_active(self, path: Path) -> bool:
        return any(area.path == path for area in swap.areas(self.roots))

    # KSM

    def prune(self) -> None:
        """Let ksmd forget the merged pages of the VMs that have ended; `run=0` alone never does."""
        before = self.record.pages_shared
        if before is None or not self.has_more_shared(before):
            return
        self.announce_pruning()
        if ksm.prune(self.roots, until_pages_shared=before, timeout=PRUNE_SECONDS):
            self.given_back.append(f"ksm/pages_shared is {before} again")
            return
        now = f"it is {read_int(self.roots.ksm / 'pages_shared')}, before the lab it was {before}"
        # Asked more than once, since others merge while they are counted.
        if any(ksm.merged_by_living(self.roots) for _ in range(3)):
            # Not one of them is ours, and there is nothing to give back: a fact, and no leaving.
            self.notes.append(f"ksm/pages_shared: {now}; all are of processes that live")
        else:
            self.fail("ksm/pages_shared", now)

    def announce_pruning(self) -> None:
        """Journal the knobs that pruning turns: it may be interrupted like anything else.

        What somebody else has set them to is theirs to have back from then on: so say it now.
        """
        turned = {label(self.roots.ksm / name, self.roots) for name in ksm.PRUNING}
        told = {one.what for one in self.left}
        others = drifted(self.record, roots=self.roots)
        self.left += [one for one in others if one.what in turned - told]
        journal = Journal.open(self.run, roots=self.roots)
        if journal is None:
            return
        try:
            for name, value in ksm.PRUNING.items():
                present = read_text(self.roots.ksm / name)
                if present is not None and not same_value(present, value):
                    journal.knob(self.roots.ksm / name, present, value)
            self.record = journal.record()
        finally:
            journal.close()

    def has_more_shared(self, before: int) -> bool:
        now = read_int(self.roots.ksm / "pages_shared")
        return now is not None and now > before

    # Knobs

    def give_back(self, knob: Knob) -> None:
        now = read_text(knob.path)
        if now is not None and same_value(now, knob.before):
            return
        mine = now is not None and (knob.is_ours(now) or is_managed(knob.path, self.roots))
        if now is None or not (mine or self.force):
            self.left.append(_left(knob, now, self.roots))
            return
        if knob.path == damon.list_path(self.roots) and not self.end_kdamond():
            self.left.append(_left(knob, now, self.roots))
            return
        failpoint("restore-before-write")
        applied = write_text(knob.path, knob.before)
        failpoint("restore-after-write")
        if applied.took:
            name = label(knob.path, self.roots)
            self.given_back.append(f"{name} {chosen(now)} → {knob.before}")
        else:
            self.fail(label(knob.path, self.roots), f"wrote {knob.before}, it says {applied.got}")

    def end_kdamond(self) -> bool:
        """nr_kdamonds refuses with EBUSY while one runs; False if that is somebody else's."""
        if not damon.is_ours({one.task.pid for one in self.record.processes}, self.roots):
            return False
        damon.stop(self.roots)
        return True

    def read_back(self) -> None:
        """A second look at all knobs: one may have changed another after it was given back."""
        told = {one.what for one in self.left} | {one.what for one in self.failed}
        for knob in self.record.knobs:
            now, name = read_text(knob.path), label(knob.path, self.roots)
            right = now is not None and same_value(now, knob.before)
            if name not in told and not right and not is_managed(knob.path, self.roots):
                self.fail(name, f"it is {now}, before the lab it was {knob.before}")

    # Cgroups

    def remove_groups(self) -> None:
        there = [group for group in reversed(self.record.cgroups) if group.is_dir()]
        for group, code in _remove_all(there).items():
            self.fail(str(group), f"cannot be removed: {os.strerror(code)}")
        for group in reversed(self.record.cgroups):
            if (group.parent / "cgroup.controllers").exists():
                V2Group(group).remove()  # who stepped aside for the lab's group comes back
        gone = [group for group in there if not group.exists()]
        if gone:
            self.given_back.append(f"{len(gone)} cgroup(s) removed")
        if gone and (dying := _dying_groups(self.roots)):
            self.notes.append(
                f"{dying} memory cgroup(s) of ended processes stay in the kernel, invisible, "
                "until the last page charged to them is gone"
            )

    def leave_guard_group(self, guard: GuardEntry) -> None:
        """Remove a guard's cgroups: its own from inside, a dead one's from outside.

        Those of another living guard stay: it removes them itself when it is released.
        """
        me = os.getpid()
        for group in guard.groups:
            if group.is_dir() and not self.is_seat_of_another(group):
                if me in members(group):
                    _move_out(me, group, guard.home)
                for left, code in _remove_all([group]).items():
                    self.fail(str(left), f"cannot be removed: {os.strerror(code)}")

    def is_seat_of_another(self, group: Path) -> bool:
        sitting = [one.task for one in self.record.guards if group in one.groups]
        return any(one.pid != os.getpid() and is_alive(one, self.roots) for one in sitting)

    # Networks

    def let_go(self, path: Path) -> None:
        """Take its name away: all that was on it has ended, so the kernel removes its links."""
        if path.parent.resolve() == path.parent and unpin(path):
            self.given_back.append(f"network {path} removed")

    # Files

    def remove_files(self) -> None:
        for path in reversed(self.record.files):
            self.attempt(str(path), self.remove_file, path)

    def remove_file(self, path: Path) -> None:
        try:
            kind = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        if path.parent.resolve() != path.parent:
            self.fail(str(path), "a directory on its way has become a symbolic link")
        elif not (stat.S_ISREG(kind) or stat.S_ISSOCK(kind) or stat.S_ISFIFO(kind)):
            self.left.append(Left(str(path), "something else", "a file", "nothing"))
        elif self.is_active(path):
            self.fail(str(path), "it is still in use as a swap area")
        else:
            path.unlink()
            self.given_back.append(f"{path} removed")


def _left(knob: Knob, now: str | None, roots: Roots) -> Left:
    value = None if now is None else chosen(now)
    return Left(label(knob.path, roots), value, knob.ours[-1], knob.before)


def _remove_all(groups: list[Path]) -> dict[Path, int]:
    """Remove the directories, those below them first; what stays, with its errno.

    rmdir of a group whose last process has just ended gives EBUSY for a moment.
    """
    waiting = {folder: 0 for group in groups for folder in _bottom_up(group)}
    for _ in range(_RMDIR_ROUNDS):
        for folder in list(waiting):
            try:
                folder.rmdir()
            except FileNotFoundError:
                del waiting[folder]
            except OSError as error:
                waiting[folder] = error.errno or 0
            else:
                del waiting[folder]
        if not waiting:
            break
        time.sleep(_RMDIR_PAUSE)
    return waiting


def _bottom_up(group: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]


def _move_out(pid: int, group: Path, home: Path | None) -> None:
    """Up into the parent; on v2 that may hold no process, then back to where it came from."""
    try:
        write_text(group.parent / "cgroup.procs", str(pid))
    except KernelError:
        if home is None:
            raise
        write_text(home / "cgroup.procs", str(pid))


def _dying_groups(roots: Roots) -> int | None:
    """Memory cgroups without a directory, host-wide; None where it cannot be counted.

    cgroup2 counts them (cgroup.stat, 4.14); for v1 it is num_cgroups of /proc/cgroups less the
    directories that there are.
    """
    stat2 = read_bytes(roots.cgroup / "cgroup.stat")
    if stat2 is not None:
        return parse_names(stat2).get("nr_dying_descendants")
    hierarchy = roots.cgroup / "memory"
    for line in (read_text(roots.proc / "cgroups") or "").splitlines():
        if line.startswith("memory\t") and hierarchy.is_dir():
            return int(line.split()[2]) - len(_bottom_up(hierarchy))
    return None
