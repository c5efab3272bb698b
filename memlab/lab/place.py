"""Where a lab's files go, and whose they are.

Each run has a folder of its own, `<name>.memlab/runs/<time>/`, beside the lab file; for a bundled
lab in the current folder. MEMLAB_DIR moves it. Root's run for a user leaves the user's files.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from memlab.errors import MemlabError

VARIABLE: Final = "MEMLAB_DIR"
RECORDING: Final = "recording.sqlite"
"""Name of the recording in a run's folder."""
_BUNDLED: Final = Path(__file__).parents[1] / "vmspecs"


@dataclass(frozen=True, slots=True)
class Invoker:
    """The person who started memlab, through sudo or not."""

    uid: int
    gid: int

    @classmethod
    def find(cls) -> Self:
        """Of this process: SUDO_UID and SUDO_GID if root got there by sudo."""
        if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
            return cls(int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "0")))
        return cls(os.getuid(), os.getgid())

    def give(self, *paths: Path) -> None:
        """Make these files the invoker's; what is not there is passed over."""
        if os.geteuid() != 0 or self.uid == 0:
            return
        for path in paths:
            if path.exists():
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def lab_directory(name: str, source: Path | None) -> Path:
    """The folder of the lab `name` read from `source` (None: from standard input)."""
    if moved := os.environ.get(VARIABLE):
        return Path(moved).absolute() / f"{name}.memlab"
    bundled = source is None or source.resolve().parent == _BUNDLED.resolve()
    beside = Path.cwd() if bundled or source is None else source.parent
    # Absolute: it is told to commands that run elsewhere.
    return beside.absolute() / f"{name}.memlab"


def new_run(directory: Path, invoker: Invoker) -> Path:
    """A fresh folder for one run, the invoker's. MemlabError if it cannot be made."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    runs = directory / "runs"
    try:
        fresh = [path for path in (directory, runs) if not path.exists()]
        runs.mkdir(parents=True, exist_ok=True)
        run = _first_free(runs, stamp)
    except OSError as error:
        raise MemlabError(
            f"cannot make a folder for this run in {directory}: {os.strerror(error.errno or 0)}",
            hint=f"name a folder that can be written in {VARIABLE}",
        ) from error
    invoker.give(*fresh, run)
    return run


def _first_free(runs: Path, stamp: str) -> Path:
    for number in range(1, 1000):
        run = runs / (stamp if number == 1 else f"{stamp}.{number}")
        try:
            run.mkdir()
        except FileExistsError:
            continue
        return run
    raise FileExistsError
