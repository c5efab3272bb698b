"""What the box's tests share: an ordinary user, with a box that this user has built.

The box is kept in /var/cache/memlab/test-box, or in MEMLAB_TEST_BOX, so that it is built once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

NOBODY = 65534
FIGURES = pytest.StashKey[list[str]]()
"""Lines on the kernel tests in the box, shown at the end."""
READ = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
"""For a checkout, or a Python, in a folder that only root can enter; no other right of root's."""


@dataclass(frozen=True)
class User:
    """Runs commands as an ordinary user in a folder of its own."""

    folder: Path
    boxes: Path

    def words(self, *words: str) -> list[str]:
        """The command line of `memlab WORDS` as this user."""
        memlab = [sys.executable, "-m", "memlab", *words]
        if os.geteuid() != 0:
            return memlab
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        # In a child of it again: whether it can start itself, as pip has to be started.
        script = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
        reads = subprocess.run(
            [*become, sys.executable, "-c", script], capture_output=True, check=False
        )
        return [*become, *([] if reads.returncode == 0 else READ), *memlab]

    def environment(self) -> dict[str, str]:
        """What it is run with."""
        plain = {name: value for name, value in os.environ.items() if name[:7] != "MEMLAB_"}
        more = {"HOME": str(self.folder), "MEMLAB_BOX_DIR": str(self.boxes), "COLUMNS": "100"}
        return {**plain, **more}

    def start(
        self, *words: str, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        """`memlab WORDS`, running."""
        return subprocess.Popen(
            self.words(*words), cwd=self.folder, env=self.environment(),
            stdout=stdout, stderr=stderr,
        )  # fmt: skip

    def run(
        self, *words: str, timeout: float = 300, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """`memlab WORDS`, to its end."""
        return subprocess.run(
            self.words(*words), cwd=self.folder, env=self.environment(), timeout=timeout,
            input=stdin, capture_output=True, check=False,
        )  # fmt: skip


def give(*paths: Path) -> None:
    """Make these the ordinary user's."""
    for path in paths:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)


@pytest.fixture(scope="session")
def boxes() -> Path:
    """Where this user's boxes are."""
    home = Path(os.environ.get("MEMLAB_TEST_BOX") or "/var/cache/memlab/test-box")
    if os.geteuid() != 0 and "MEMLAB_TEST_BOX" not in os.environ:
        home = Path.home() / ".cache/memlab/test-box"
    home.mkdir(parents=True, exist_ok=True)
    give(home)
    return home


def user_in(folder: Path, boxes: Path) -> User:
    """The user in `folder`, which it can reach."""
    for path in (folder, *folder.parents):
        if path != Path("/") and path.stat().st_uid == os.geteuid() and path.name != "tmp":
            path.chmod(path.stat().st_mode | 0o011 | 0o044)
    give(folder)
    return User(folder, boxes)


@pytest.fixture
def user(tmp_path: Path, boxes: Path, built: Sequence[str]) -> User:
    """An ordinary user in an empty folder, with a box."""
    return user_in(tmp_path, boxes)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, boxes: Path) -> list[str]:
    """Build the box, as the ordinary user; what `box build` printed."""
    return build(user_in(tmp_path_factory.mktemp("build"), boxes), "trixie")


def build(user: User, release: str) -> list[str]:
    """Build a box with pytest in it, or bring it up to date; what was printed."""
    extras = ("--with", "pytest", "--with", "hypothesis")
    done = user.run("box", "build", "--release", release, *extras, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    return (done.stderr + done.stdout).decode().splitlines()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What came of the kernel tests in the box."""
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)
