"""Commands that build a box: a few of this machine, all others the box's own.

The guest's programs run here through the guest's own loader, so that nothing of them has to be
installed, and images and bytecode are made by the versions that will read them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.box.recipe import Needed
from memlab.errors import HostError, MemlabError

_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib")


def require(*needed: Needed) -> None:
    """HostError that names every command that is missing, and the line that installs them."""
    missing = [one for one in needed if shutil.which(one.command) is None]
    if missing:
        names = " and ".join(one.command for one in missing)
        packages = " ".join(one.package for one in missing)
        raise HostError(
            f"a box needs {names}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f"apt-get install {packages}",
        )


def make(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of this machine that makes a box's files: in English, and all of them readable.

    Debian's tar takes no notice of a umask that hides files; ours must not either.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return subprocess.run(
        words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}, umask=0o022,
    )  # fmt: skip


def last_words(said: str) -> str:
    """The line of an error output that tells: apt's first error, else the last that was said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Err:"))]
    return (errors or lines[-1:] or ["it said nothing"])[0]


@dataclass(frozen=True, slots=True)
class Guest:
    """The unpacked files of a box, whose programs run here."""

    tree: Path

    @property
    def python(self) -> str:
        """Name of its Python: `python3.13`."""
        return (self.tree / "usr/bin/python3").readlink().name

    def run(self, program: str, words: Sequence[str], *, name: str = "") -> bytes:
        """What `program` of the guest prints; called `name` if it goes by that.

        MemlabError with its own words if it fails.
        """
        where = [self.tree / folder / program for folder in ("usr/bin", "usr/sbin")]
        file = next((path for path in where if path.exists()), where[0])
        libraries = ":".join(str(self.tree / folder) for folder in _LIBRARIES)
        loader = [str(self.tree / _LOADER), "--library-path", libraries]
        called = ["--argv0", name] if name else []
        run = subprocess.run(
            [*loader, *called, str(file), *words], capture_output=True, check=False,
            stdin=subprocess.DEVNULL,
            env={"PYTHONHOME": str(self.tree / "usr"), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        if run.returncode:
            said = run.stderr.decode(errors="replace").strip().splitlines()
            raise MemlabError(
                f"{name or program} of the box failed: {said[-1] if said else 'it said nothing'}",
                hint="make room if the disk is full; else build it anew: memlab box build --fresh",
            )
        return run.stdout

    def compile_python(self, folder: Path, root: Path) -> None:
        """Bytecode of all modules below `folder`, which is in `root`: the box's `/`.

        Unchecked: the image is read-only, so that no source can change beside its bytecode.
        """
        self.run(
            self.python,
            ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
             "-s", str(root), "-p", "/", "-x", r"/(test|tests|bad_coding)/", str(folder)],
        )  # fmt: skip

    def image(self, tree: Path, target: Path) -> None:
        """The files of `tree` as a compressed read-only image, all of them root's."""
        target.unlink(missing_ok=True)
        self.run("mkfs.erofs", ["-zlz4hc", "--all-root", "-T0", str(target), str(tree)])
