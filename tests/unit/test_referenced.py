"""The accessed bits of a mapping of our own, on the kernel that runs here."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memlab.kernel.files import Roots
from memlab.kernel.referenced import Referenced
from memlab.units import PAGE

PAGES = 64


@contextmanager
def memory() -> Iterator[tuple[mmap.mmap, int]]:
    """Touched pages in a mapping that stands alone: neighbours of one kind are one mapping."""
    with mmap.mmap(-1, (PAGES + 2) * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        start = ctypes.addressof(view := ctypes.c_char.from_buffer(area))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (start, start + (PAGES + 1) * PAGE):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0
        for page in range(1, PAGES + 1):
            area[page * PAGE] = 1
        yield area, start + PAGE
        for guard in (start, start + (PAGES + 1) * PAGE):
            libc.mprotect(ctypes.c_void_p(guard), PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
        del view


def test_only_what_was_used_since_the_last_look_is_counted() -> None:
    with memory() as (area, start):
        looks = Referenced(os.getpid(), start, PAGES * PAGE, 0.0)
        assert looks.look().pages is None  # the bits were as old as the process
        for page in range(1, 11):
            assert area[page * PAGE] == 1
        # Clearing does not flush the TLB: a page that is still in it is used without a new bit.
        assert 6 <= (looks.look().pages or 0) <= 10
        assert (looks.look().pages or 0) <= 2
        assert looks.found.cpu_us >= 0


def test_within_a_period_it_does_not_look_again() -> None:
    with memory() as (area, start):
        looks = Referenced(os.getpid(), start, PAGES * PAGE, 60.0)
        looks.look()
        area[PAGE] = 2
        assert looks.look().pages is None and looks.look().pages is None


def test_a_caller_that_is_a_little_early_once_does_not_lose_a_quarter_of_a_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked every quarter of a second, more or less; once half a second late, and on from there."""
    cleared = tmp_path / "7/clear_refs"
    cleared.parent.mkdir()
    looks = Referenced(7, 0, PAGE, 1.0, roots=Roots(proc=tmp_path))
    looked: list[float] = []
    for now in (0, 0.26, 0.51, 0.76, 0.995, 1.26, 2.01, 2.3, 2.98, 4.5, 5.0, 5.4, 5.49, 6.5):
        cleared.write_text("")
        monkeypatch.setattr("memlab.kernel.referenced.time.monotonic", lambda: now)  # noqa: B023
        looks.look()
        looked += [now] if cleared.read_text() == "1" else []
    assert looked == [0, 0.995, 2.01, 2.98, 4.5, 5.49, 6.5]


def test_a_process_that_has_ended_says_nothing(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    looks = Referenced(pid, 0, PAGE, 0.0)
    assert looks.look().pages is None and looks.look().pages is None
