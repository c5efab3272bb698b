"""Where memlab keeps what is dear to make: images of guests, boxes, saved states."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from memlab.errors import MemlabError

UNFINISHED: Final = ".making-"
"""Folders in which something is made begin with it."""


def cache_folder(name: str, variable: str) -> Path:
    """The folder `name`: where `variable` of the environment says, else root's for everybody's
    labs on this machine, or below the user's own cache."""
    if moved := os.environ.get(variable):
        return Path(moved).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/memlab") / name
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home).absolute() / "memlab" / name


@contextmanager
def locked(folder: Path, *, alone: bool, variable: str) -> Iterator[Path]:
    """`folder`, made if it is missing; `alone`: nobody else makes, removes or uses it meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise MemlabError(
            f"cannot write to {folder}: {os.strerror(error.errno or 0)}",
            hint=f"name another folder in {variable}",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(lock)


def discard_unfinished(folder: Path) -> None:
    """Remove what somebody who was killed has left half made; for whoever holds the lock alone."""
    for path in folder.glob(f"{UNFINISHED}*"):
        discard(path)


def discard(path: Path) -> None:
    """Remove a file or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
