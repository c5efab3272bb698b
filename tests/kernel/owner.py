"""A process that owns memory of known content, and does with it what a test says.

Run as a program it reads commands, one a line, and answers each with one line.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = 4096
MADV_PAGEOUT = 21


def wait_until(what: Callable[[], bool], *, timeout: float = 10.0) -> bool:
    """Whether `what` became true in time; longer on a slow machine."""
    from tests.pace import slowness  # not for the program, which finds no `tests`

    deadline = time.monotonic() + timeout * slowness()
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Owner:
    """A process with one private anonymous mapping of `pages` pages, none of them touched."""

    def __init__(self, pages: int, *, before: Callable[[int], None] | None = None) -> None:
        self.pages = pages
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__, str(pages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        if before:
            before(self.pid)
        self.start = int(self.ask("start"))
        self.pidfd = os.pidfd_open(self.pid)

    @property
    def length(self) -> int:
        return self.pages * PAGE

    def ask(self, command: str, *numbers: int, content: str = "") -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(" ".join((command, *map(str, numbers), content)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, f"the owner died at {command}"
        return answer

    def write(self, first: int, count: int, content: str) -> None:
        """Content: `unique`, `zero`, `pairs` (pages i and i + count/2 alike) or one letter."""
        self.ask("write", first, count, content=content)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@contextlib.contextmanager
def owner(pages: int, *, before: Callable[[int], None] | None = None) -> Iterator[Owner]:
    process = Owner(pages, before=before)
    try:
        yield process
    finally:
        process.end()


def _content(kind: str, index: int, count: int) -> bytes:
    if kind == "unique":
        return os.urandom(PAGE)
    if kind == "half":  # half random: compresses to about 2:1
        return os.urandom(PAGE // 2).ljust(PAGE, b"h")
    if kind == "zero":
        return bytes(PAGE)
    if kind == "pairs":
        return str(index % (count // 2)).encode().ljust(PAGE, b"p")
    if kind == "numbered":
        return str(index).encode().ljust(PAGE, b"n")
    return kind.encode() * PAGE


def _serve(memory: mmap.mmap, command: str, first: int, count: int, kind: str) -> object:
    place, length = first * PAGE, count * PAGE
    match command:
        case "start":
            return ctypes.addressof(ctypes.c_char.from_buffer(memory))
        case "write":
            for index in range(count):
                at = place + index * PAGE
                memory[at : at + PAGE] = _content(kind, index, count)
        case "read":
            return sum(memory[place + index * PAGE] for index in range(count))
        case "merge":
            memory.madvise(mmap.MADV_MERGEABLE, place, length)
        case "pageout":
            memory.madvise(MADV_PAGEOUT, place, length)
        case "huge":
            memory.madvise(mmap.MADV_HUGEPAGE, place, length)
        case "drop":
            memory.madvise(mmap.MADV_DONTNEED, place, length)
        case "sum":
            return hash(memory[place : place + length])
    return "ok"


def main(pages: int) -> None:
    memory = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)  # Debian's kernels give huge pages to everybody
    for line in sys.stdin:
        words = line.split()
        first, count = (int(word) for word in (words[1:3] if len(words) > 2 else ("0", "0")))
        kind = words[3] if len(words) > 3 else ""
        sys.stdout.write(f"{_serve(memory, words[0], first, count, kind)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))


KNOBS = (
    *("kernel/mm/ksm/run", "kernel/mm/ksm/pages_to_scan", "kernel/mm/ksm/sleep_millisecs"),
    *("kernel/mm/ksm/use_zero_pages", "kernel/mm/ksm/smart_scan"),
    *("module/zswap/parameters/enabled", "module/zswap/parameters/max_pool_percent"),
    *("module/zswap/parameters/compressor", "module/zswap/parameters/zpool"),
)


@contextlib.contextmanager
def turned(**knobs: str) -> Iterator[None]:
    """Knobs by the last part of their name, each with its old value again afterwards."""
    paths = {Path("/sys") / name for name in KNOBS}
    wanted = {path: knobs[path.name] for path in paths if path.name in knobs}
    assert len(wanted) == len(knobs)
    before = {path: path.read_text().strip() for path in wanted}
    try:
        for path, value in wanted.items():
            path.write_text(value)
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)
