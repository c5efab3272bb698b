"""`/run/memlab`: where lock, journal and owner facts lie, and nobody else may put anything.

Everything in it is opened relative to the directory's own descriptor and never through a symbolic
link, so that a directory somebody else prepared is refused instead of followed. The place can be
moved with MEMLAB_RUN_DIR (tests).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, Self

from memlab.errors import HostError
from memlab.kernel.failpoint import failpoint

VARIABLE: Final = "MEMLAB_RUN_DIR"
DEFAULT: Final = Path("/run/memlab")
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Non-blocking, since opening a planted pipe would wait for ever."""


def place() -> Path:
    """The directory in force: MEMLAB_RUN_DIR, else /run/memlab."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


class RunDir:
    """An open, checked run directory: ours, mode 0700, not a link. Close it or use `with`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def open(cls, path: Path | None = None, *, create: bool = True) -> RunDir | None:
        """The directory, made if `create`; None if it is not there. HostError if it is not ours."""
        where = path or place()
        if create:
            _make(where)
        try:
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise HostError(
                f"only its owner may look into {where}", hint="run it as root"
            ) from error
        except OSError as error:
            raise _untrusted(where, os.strerror(error.errno or 0)) from error
        try:
            _check_directory(where, fd)
        except HostError:
            os.close(fd)
            raise
        return cls(where, fd)

    @classmethod
    def made(cls, path: Path | None = None) -> RunDir:
        """As `open`, for those who need it to exist."""
        run = cls.open(path)
        if run is None:
            raise _untrusted(path or place(), "it was removed while it was opened")
        return run

    def file(self, name: str, flags: int) -> int:
        """A descriptor of the regular file `name`. HostError if it is a link or another user's."""
        where = self.path / name
        try:
            fd = os.open(name, flags | _SAFELY, 0o600, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise _untrusted(where, "it is not a regular file") from error
            raise
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_nlink > 1:
            os.close(fd)
            raise _untrusted(where, "it is not a regular file of this user with one name")
        return fd

    def read(self, name: str) -> bytes | None:
        """The whole of `name`; None if there is no such file."""
        try:
            fd = self.file(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as stream:
            return stream.read()

    def write(self, name: str, content: bytes) -> None:
        """Put `content` in place of `name`, whole or not at all. OSError if the disk is full.

        Only one process at a time writes a name: the guard, or main before it lets the guard go.
        So what a killed one has left half written is taken over by who writes next.
        """
        fresh = f".{name}.new"
        fd = self.file(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            with os.fdopen(fd, "wb", buffering=0) as stream:
                stream.write(content)
                os.fsync(fd)
            failpoint("file-before-rename")
            os.rename(fresh, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            self.remove(fresh)
            raise

    def rename(self, old: str, new: str) -> None:
        """Give the file `old` the name `new`."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove the file `name`; harmless if it is not there."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return

    def sync(self) -> None:
        """Make new and vanished names durable."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Give the descriptor back. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise HostError(
            f"cannot make {path}: {os.strerror(error.errno or 0)}",
            hint=f"run memlab as root, or name a directory of your own in {VARIABLE}",
        ) from error


def _check_directory(path: Path, fd: int) -> None:
    facts = os.fstat(fd)
    if facts.st_uid != os.geteuid():
        raise _untrusted(path, f"it belongs to user {facts.st_uid}")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        os.fchmod(fd, 0o700)


def _untrusted(path: Path, why: str) -> HostError:
    return HostError(
        f"{path} is not safe to use: {why}",
        hint=f"look at what it is and who made it, then remove it: ls -ld {path}",
    )
