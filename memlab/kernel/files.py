"""The only open() below /proc, /sys and cgroupfs.

`Roots` says where those trees are, so that a test passes a captured one. Reading distinguishes
*absent* (no such file, no such device, not supported: None) from every other fault (KernelError).
Writing goes through os.write, never through a buffered file: Python's buffer reports success and
the kernel's EINVAL or EBUSY appears only at close, where it is easily lost.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from memlab.errors import KernelError

ABSENT: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.ESRCH, errno.ENXIO})
"""What absence looks like: ESRCH is a /proc file of an ended task, ENODEV a removed cgroup's."""

_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the kernel's trees are mounted. The defaults are the running machine."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    cgroup: Path = Path("/sys/fs/cgroup")

    @property
    def ksm(self) -> Path:
        """Directory of KSM's knobs and counters."""
        return self.sys / "kernel/mm/ksm"

    @property
    def zswap(self) -> Path:
        """Directory of zswap's parameters."""
        return self.sys / "module/zswap/parameters"


HOST: Final = Roots()


@dataclass(frozen=True, slots=True)
class Applied:
    """A write and what the kernel made of it. `got` is None if the file cannot be read back."""

    path: Path
    asked: str
    got: str | None

    @property
    def took(self) -> bool:
        """Whether the kernel now says what was asked (compared by value, not by bytes)."""
        return self.got is not None and same_value(self.asked, self.got)


def is_read_only(path: Path) -> bool:
    """Whether `path` lies on a read-only mount, as /sys does in most containers (statvfs).

    Not for root's rights: nobody can write there. A path that is not there is not read-only.
    """
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def read_bytes(path: Path) -> bytes | None:
    """The whole file, read to its end in as many pieces as it takes; None if absent."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        _raise_unless_absent(path, "open", error)
        return None
    try:
        pieces = []
        while piece := os.read(fd, _CHUNK):
            pieces.append(piece)
        return b"".join(pieces)
    except OSError as error:
        _raise_unless_absent(path, "read", error)
        return None
    finally:
        os.close(fd)


def read_text(path: Path) -> str | None:
    """The file's text without the last newline; None if absent."""
    raw = read_bytes(path)
    return None if raw is None else raw.decode().rstrip("\n")


def read_int(path: Path) -> int | None:
    """The file's one number; None if absent. cgroup2's `max` reads as None too."""
    text = read_text(path)
    if text is None or text == "max":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise KernelError(path, f"read a number ({text!r}) in", errno.EINVAL) from error


def write_text(path: Path, value: str) -> Applied:
    """Write `value` in one system call and read it back. Raises KernelError if refused."""
    try:
        # Truncating means nothing to the kernel's files, and makes a captured tree behave as they.
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(path, "open for writing", error.errno or 0) from error
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise KernelError(path, f"write {value!r} to", error.errno or 0) from error
    finally:
        os.close(fd)
    return Applied(path, value, _read_back(path))


def _read_back(path: Path) -> str | None:
    try:
        return read_text(path)
    except KernelError:
        return None  # write-only files (memory.reclaim, cgroup.kill) have nothing to say


def chosen(text: str) -> str:
    """The value a knob has: the bracketed word of `[none] scan-time`, else the text itself."""
    for word in text.split():
        if word.startswith("[") and word.endswith("]"):
            return word[1:-1]
    return text.strip()


_SWITCH: Final = {"Y": "1", "N": "0"}


def same_value(one: str, other: str) -> bool:
    """Whether two texts mean one value: `Y` and `1`, `[none] scan-time` and `none`."""
    first, second = chosen(one), chosen(other)
    return _SWITCH.get(first, first) == _SWITCH.get(second, second)


def parse_names(raw: bytes) -> dict[str, int]:
    """`name value` and `name: value [kB]` lines by name; kB become bytes, yes/no become 1/0.

    Unknown names are kept; a line whose value is no number is left out.
    """
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        words = line.replace(b":", b" ", 1).split()
        if len(words) < 2:
            continue
        value = _number(words[1])
        if value is not None:
            found[words[0].decode()] = value * 1024 if words[-1] == b"kB" else value
    return found


def parse_pairs(raw: bytes) -> dict[bytes, bytes]:
    """As `parse_names` for files with two words in every line, values left as they are.

    A sixth of the cost (7 against 46 µs for memory.stat), for what is read at every sample.
    """
    words = raw.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _number(word: bytes) -> int | None:
    if word in (b"yes", b"no"):
        return int(word == b"yes")
    try:
        return int(word)
    except ValueError:
        return None


class KeptFile:
    """A kernel file kept open and read with pread: cheap, and never a recycled PID's file.

    `read` returns None once the task or cgroup is gone. Closing twice is harmless.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            _raise_unless_absent(path, "open", error)
            self._fd = -1

    def read(self) -> bytes | None:
        """The whole file from its beginning; None if absent, or if its task or cgroup ended."""
        if self._fd < 0:
            return None
        try:
            piece = whole = os.pread(self._fd, _CHUNK, 0)
            # smaps and vmstat come in pieces of about 4 KiB, however large the buffer.
            while len(piece) >= 3072 and (piece := os.pread(self._fd, _CHUNK, len(whole))):
                whole += piece
        except OSError as error:
            _raise_unless_absent(self.path, "read", error)
            return None
        return whole or None

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _raise_unless_absent(path: Path, operation: str, error: OSError) -> None:
    if error.errno not in ABSENT:
        raise KernelError(path, operation, error.errno or 0) from error
