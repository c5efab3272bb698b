"""Starting and killing the lab in miniature, and holding the host against its snapshot."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import memlab
from memlab.kernel.task import state
from tests.hoststate import HostState, snapshot, wait_same
from tests.pace import slowness

SCRIPT = Path(__file__).with_name("lab_in_miniature.py")
ROOT = Path(memlab.__file__).parents[1]


@dataclass
class Miniature:
    """A folder, a run and the host as it was before."""

    folder: Path
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    before: HostState = field(init=False)

    def __post_init__(self) -> None:
        self.lab.mkdir(parents=True)
        (self.lab / "results").mkdir()
        self.before = snapshot(marks=self.marks)

    @property
    def lab(self) -> Path:
        return self.folder / self.run_id

    @property
    def run(self) -> Path:
        return self.lab / "run"

    @property
    def marks(self) -> tuple[str, ...]:
        return (f"memlab-{self.run_id}", str(self.run))

    @contextmanager
    def started(self, *words: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Main, killed and reaped at the end whatever happened."""
        main = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.lab), self.run_id, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        try:
            with main:
                yield main
                main.kill()
        finally:
            main.kill()

    def wait_given_back(self, within: float = 10.0) -> float:
        """Seconds until the host is as before and no file of the lab is left.

        `within` is for a machine of the usual kind.
        """
        seconds = wait_same(self.before, within=within * slowness(), marks=self.marks)
        left = {path.name for path in self.lab.iterdir()} - {"run", "results"}
        left |= {path.name for path in self.run.glob(".*")}
        assert not left, f"files of the lab are left: {left}"
        return seconds

    def journal_is_gone(self) -> bool:
        return not (self.run / "journal").exists()


def ended(pid: int) -> bool:
    """Whether a process that is not our child has ended."""
    return state(pid) in (None, "Z")


def line(main: subprocess.Popen[str]) -> str:
    """The next line that main says; empty when it has ended."""
    assert main.stdout is not None
    return main.stdout.readline().strip()


def tell(main: subprocess.Popen[str]) -> None:
    """Let main go on to its clean-up."""
    assert main.stdin is not None
    main.stdin.write("go\n")
    main.stdin.flush()
