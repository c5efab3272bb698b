"""A small real lab to break, and the host as it was before, to hold the end against.

Runs are started by `memlab up`, as anybody does, and are looked at from outside only: through
`/run/memlab`, the control socket, and the recording.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from memlab.errors import MemlabError
from memlab.kernel.entries import Record
from memlab.kernel.journal import NAME as JOURNAL
from memlab.kernel.journal import Journal
from memlab.kernel.lock import FACTS
from memlab.kernel.rundir import RunDir, place
from memlab.lab.channel import NAME as CONTROL
from memlab.lab.channel import ask
from memlab.lab.place import RECORDING, VARIABLE
from memlab.record.derive import Derived
from tests.hoststate import HostState, snapshot, wait_same

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).with_name("small.yaml")
WITHIN = 10.0
"""Seconds in which the host must be given back, whatever was done to the run."""

_MARKS = ("memlab-agent", f" {place()} ", "memlab.record.sampler")
"""Agents, guards of this host's real run directory, samplers."""


@dataclass(frozen=True)
class Committed:
    """The newest numbers of a recording: what its writers had been told is safe."""

    sample: int = 0
    event: int = 0
    choice: int = 0


@dataclass
class Run:
    """One `memlab up`, from outside."""

    main: subprocess.Popen[bytes]
    home: Path
    directory: Path

    @property
    def said(self) -> str:
        """Everything that it has printed so far."""
        return (self.home / "said").read_text(errors="replace")

    @property
    def recording(self) -> Path | None:
        """Its recording, once there is one."""
        return next(iter(self.directory.glob(f"*/runs/*/{RECORDING}")), None)

    def until(self, holds: Callable[[], object], what: str, *, within: float = 20.0) -> None:
        """Wait until `holds()`; fails when `main` ends or the time is over before."""
        deadline = time.monotonic() + within
        while not holds():
            assert self.main.poll() is None, f"it ended before {what}:\n{self.said}"
            assert time.monotonic() < deadline, f"not within {within} s: {what}\n{self.said}"
            time.sleep(0.01)

    def until_pressed(self) -> None:
        """Wait until all VMs run and pages have been merged, ballooned, compressed, swapped."""
        self.until(lambda: "compression → swap" in self.said, "the swap device is in use")

    def committed(self) -> Committed:
        """What is safe in the recording now; nothing if there is none, or an empty one."""
        return Committed() if self.recording is None else committed(self.recording)

    def events(self, kind: str) -> list[str]:
        """Names of the VMs of all events of one kind so far."""
        if self.recording is None:
            return []
        with closing(_read_only(self.recording)) as connection:
            rows = connection.execute("SELECT vm FROM event WHERE kind = ?", (kind,)).fetchall()
        return [vm for (vm,) in rows]

    def ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """A question through the control socket."""
        return ask(place() / CONTROL, question, timeout=10)

    def end(self, within: float = 30.0) -> int:
        """Its exit status, once it has ended by itself; no traceback may have been printed."""
        status = self.main.wait(within)
        assert "Traceback" not in self.said, self.said
        return status

    @property
    def guard(self) -> int:
        """The newest guard's process."""
        return journal().guards[-1].task.pid

    @property
    def sampler(self) -> int:
        """The sampler's process: main's child that is no VM."""
        return next(pid for pid in children(self.main.pid) if "record.sampler" in words(pid))

    def vm(self, name: str) -> int:
        """The process of one VM."""
        found = [
            one.task.pid
            for one in journal().processes
            if one.cgroup is not None and one.cgroup.name == name
        ]
        return found[-1]

    def group(self, name: str) -> Path:
        """The memory cgroup of one VM."""
        return next(one for one in journal().cgroups if one.name == name)


@dataclass
class Trial:
    """A folder on a disk, and the host before anything was started."""

    folder: Path
    before: HostState = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        (self.folder / "swap").mkdir()
        assert not (place() / JOURNAL).exists(), "another run is on this host, or was not cleaned"
        self.before = self.host()

    @property
    def marks(self) -> tuple[str, ...]:
        """Words that betray a process of this trial."""
        return (*_MARKS, str(self.folder))

    def host(self) -> HostState:
        """The host now."""
        return snapshot([self.folder / "swap"], marks=self.marks)

    @contextmanager
    def up(
        self,
        *more: str,
        lab: Path = SMALL,
        directory: Path | None = None,
        nofile: int | None = None,
        output: int | None = None,
        env: Mapping[str, str] | None = None,
        duration: str = "4s",
    ) -> Iterator[Run]:
        """`memlab up`, in a terminal's way but without one; killed at the end if it still runs.

        `directory` is where its recording goes, `nofile` its limit of open files, `output` its
        stdout and stderr instead of a file that `said` reads.
        """
        home = self.folder / f"run-{next(self._numbers)}"
        home.mkdir()
        settings = [f"host.swap.path={self.folder / 'swap'}", f"duration={duration}"]
        sets = [word for one in settings for word in ("--set", one)]
        limits = [] if nofile is None else ["prlimit", f"--nofile={nofile}:{nofile}", "--"]
        with (home / "said").open("wb") as said:
            main = subprocess.Popen(
                [*limits, sys.executable, "-m", "memlab", "up", str(lab), *sets, *more],
                stdin=subprocess.DEVNULL,
                stdout=said if output is None else output,
                stderr=said if output is None else output,
                cwd=home,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    VARIABLE: str(directory or home),
                    **(env or {}),
                },
                start_new_session=True,
            )
        try:
            yield Run(main, home, directory or home)
        finally:
            if main.poll() is None:
                main.kill()
            main.wait()

    def memlab(self, *words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Another command, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "memlab", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: str(self.folder)},
        )

    def given_back(self, within: float = WITHIN) -> float:
        """Seconds until the host is as before and `/run/memlab` names no run any more."""
        folders = [self.folder / "swap"]
        seconds = wait_same(self.before, within=within, folders=folders, marks=self.marks)
        left = {name for name in (JOURNAL, FACTS, CONTROL) if (place() / name).exists()}
        assert not left, f"in {place()} there is still {left}"
        return seconds


@contextmanager
def on_this_host(prefix: str) -> Iterator[Trial]:
    """The host before, and after the test the same host. Its folder lies on a disk, where a swap
    file can be."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/var/tmp") as folder:
        trial = Trial(Path(folder))
        yield trial
        trial.given_back()


def journal() -> Record:
    """What the journal of the running lab says."""
    with RunDir.made() as run:
        record = Journal.load(run)
    assert record is not None, "no lab runs"
    return record


def children(pid: int) -> list[int]:
    """Its child processes, of all threads."""
    return [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text().split()
    ]


def words(pid: int) -> str:
    """Its command line; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def committed(recording: Path) -> Committed:
    """What is safe in a recording that may be in the making."""
    try:
        with closing(_read_only(recording)) as connection:
            return Committed(
                *(
                    connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
                    for table in ("sample", "event", "choice")
                )
            )
    except sqlite3.OperationalError:
        return Committed()  # its tables are not committed yet


def assert_holds(recording: Path | None, safe: Committed) -> None:
    """The recording opens, whole, and has all that was committed, without a hole."""
    if recording is None or safe == Committed():
        assert safe == Committed()
        if recording is not None:
            _opens_or_says_why(recording)
        return
    with Derived.open(recording) as run:
        for table, least in vars(safe).items():
            rows = run.recording.rows(f"SELECT id FROM {table} ORDER BY id")
            numbers = [number for (number,) in rows]
            assert numbers == list(range(1, len(numbers) + 1)), f"{table} has holes"
            assert len(numbers) >= least, f"{table}: {least} were committed, {len(numbers)} remain"
        samples = run.recording.rows("SELECT count(*) FROM sample WHERE tier = 'fast'")[0][0]
        assert run.recording.rows("SELECT count(*) FROM host_fast")[0][0] == samples


def _opens_or_says_why(recording: Path) -> None:
    """Killed before anything was committed: it opens, or is refused in words."""
    try:
        Derived.open(recording).recording.close()
    except MemlabError as error:
        assert error.hint


def _read_only(recording: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{recording.as_uri()}?mode=ro", uri=True, timeout=2)
