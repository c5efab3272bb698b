"""All of the host that memlab could change, in one value to compare before and after.

    before = snapshot()
    ...
    assert_same(before, snapshot())          # or, while a guard is still at work:
    wait_same(before, within=10)

Counters are left out, but for the two that must come back: KSM's pages_shared, and the swap areas.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from memlab.kernel.files import HOST, Roots, read_text
from memlab.kernel.journal import NAME as JOURNAL
from memlab.kernel.lock import LEFT
from memlab.kernel.rundir import place
from memlab.kernel.swap import areas

MARKS = ("memlab-agent", "memlab.kernel.guard_process", "memlab.record.sampler", "/memlab-")
"""Words in the command line or the cgroup of a process that memlab has started."""

_KNOB_FOLDERS = (
    "kernel/mm/ksm",
    "module/zswap/parameters",
    "kernel/mm/transparent_hugepage",
    "kernel/mm/transparent_hugepage/khugepaged",
    "kernel/mm/swap",
    "kernel/mm/lru_gen",
    "kernel/mm/page_idle",
    "kernel/mm/damon/admin/kdamonds",
)
_SYSCTL_FOLDERS = ("sys/vm",)
_SYSCTLS = ("sys/kernel/task_delayacct", "sys/kernel/pid_max", "sys/fs/file-max")


@dataclass(frozen=True)
class HostState:
    """The host at one moment; every field maps a name to what stands there."""

    knobs: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    swaps: Mapping[str, str] = field(default_factory=dict)
    zram: Mapping[str, str] = field(default_factory=dict)
    cgroups: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    journals: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def snapshot(
    folders: Iterable[Path] = (), *, marks: Iterable[str] = MARKS, roots: Roots = HOST
) -> HostState:
    """The host now. `folders` are directories of ours whose files count; `marks` as in MARKS."""
    return HostState(
        knobs=_knobs(roots),
        merged=_values([roots.ksm / "pages_shared"]),
        swaps={str(area.path): f"{area.kind}, {area.size} bytes" for area in areas(roots)},
        zram={path.name: "device" for path in (roots.sys / "block").glob("zram*")},
        cgroups=_cgroups(roots),
        processes=_processes(tuple(marks), roots),
        mounts=_mounts(roots),
        links={path.name: "link" for path in (roots.sys / "class/net").glob("*")},
        journals=_journals(place()),
        files=_files(folders),
    )


def differences(before: HostState, after: HostState) -> list[str]:
    """One line for each thing that is not as it was."""
    found = []
    for one in fields(HostState):
        old, new = getattr(before, one.name), getattr(after, one.name)
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                was, now = old.get(name, "absent"), new.get(name, "absent")
                found.append(f"{one.name}: {name}: was {was!r}, is {now!r}")
    return found


def assert_same(before: HostState, after: HostState) -> None:
    """Fail with every difference there is."""
    found = differences(before, after)
    assert not found, "the host was not given back:\n" + "\n".join(found)


def wait_same(
    before: HostState,
    *,
    within: float,
    folders: Iterable[Path] = (),
    marks: Iterable[str] = MARKS,
    roots: Roots = HOST,
) -> float:
    """Seconds until the host is as before; fails with the differences after `within`."""
    begin = time.monotonic()
    folders, marks = tuple(folders), tuple(marks)
    while found := differences(before, snapshot(folders, marks=marks, roots=roots)):
        if time.monotonic() - begin > within:
            raise AssertionError(f"not given back within {within} s:\n" + "\n".join(found))
        time.sleep(0.05)
    return time.monotonic() - begin


def _journals(run: Path) -> dict[str, str]:
    """Journals of runs that have something to give back, and files that were never given their
    name; only root can look for them."""
    if not os.access(run, os.R_OK | os.X_OK):
        return {}
    found = {name: "journal" for name in (JOURNAL, LEFT) if (run / name).exists()}
    return found | {path.name: "half written" for path in run.glob(".*")}


def _knobs(roots: Roots) -> dict[str, str]:
    folders = [roots.sys / name for name in _KNOB_FOLDERS]
    folders += (roots.sys / "kernel/mm/transparent_hugepage").glob("hugepages-*")
    folders += [roots.proc / name for name in _SYSCTL_FOLDERS]
    paths = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    paths += [roots.proc / name for name in _SYSCTLS]
    return _values(path for path in paths if _is_knob(path))


def _is_knob(path: Path) -> bool:
    """A file that its owner may both read and write."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & stat.S_IWUSR) and bool(mode & stat.S_IRUSR)


def _values(paths: Iterable[Path]) -> dict[str, str]:
    read = {}
    for path in paths:
        try:
            text = read_text(path)
        except UnicodeDecodeError:
            continue
        if text is not None:
            read[str(path)] = text
    return read


def _cgroups(roots: Roots) -> dict[str, str]:
    """Every directory of ours in any hierarchy."""
    return {
        folder: "cgroup"
        for folder, _, _ in os.walk(roots.cgroup)
        if "memlab" in folder.removeprefix(str(roots.cgroup))
    }


def _processes(marks: tuple[str, ...], roots: Roots) -> dict[str, str]:
    """Living processes of ours, but for the one that asks."""
    found = {}
    for folder in roots.proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        words = (_text(folder / "cmdline") or "").replace("\0", " ").strip()
        state = (_text(folder / "stat") or "").rpartition(")")[2].split()[:1]
        everything = words + (_text(folder / "cgroup") or "")
        if state not in ([], ["Z"]) and any(mark in everything for mark in marks):
            found[folder.name] = words
    return found


def _text(path: Path) -> str | None:
    try:
        return read_text(path)
    except UnicodeDecodeError:
        return None


def _mounts(roots: Roots) -> dict[str, str]:
    lines = (read_text(roots.proc / "self/mountinfo") or "").splitlines()
    return {line.split()[4]: " ".join(line.split()[5:]) for line in lines}


def _files(folders: Iterable[Path]) -> dict[str, str]:
    return {
        str(path): "directory" if path.is_dir() else "file"
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }
