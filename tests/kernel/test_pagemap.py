"""Page classes of a process that knows exactly what it has done, held against other witnesses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memlab.kernel import ksm, smaps, swap
from memlab.kernel.kpage import KPF_KSM, KPF_ZERO_PAGE, read_counts, read_flags
from memlab.kernel.pagemap import PageWalker, unique_frames, zero_frame
from memlab.kernel.pagemap_scan import Category, Scanner
from tests.kernel.lacking import SLOTS_IN_STOCK, kernel, lacking
from tests.kernel.owner import PAGE, Owner, owner, turned, wait_until

pytestmark = pytest.mark.kernel

UNIQUE, MERGED, ZERO, OUT, NEVER = 701, 1202, 97, 333, 555
PAGES = UNIQUE + MERGED + ZERO + OUT + NEVER


def merged_pages(pid: int) -> int:
    found = ksm.read_process(pid)
    assert found and found.merging_pages is not None
    return found.merging_pages


def fill(process: Owner) -> None:
    """unique | merged in pairs | read only | pushed out | never touched, in this order."""
    at = 0
    process.write(at, UNIQUE, "unique")
    at += UNIQUE
    process.write(at, MERGED, "pairs")
    process.ask("merge", at, MERGED)
    at += MERGED
    process.ask("read", at, ZERO)
    at += ZERO
    process.write(at, OUT, "unique")
    process.ask("pageout", at, OUT)


def test_every_class_is_counted_exactly(swap_area: Path, merging: None) -> None:
    with owner(PAGES) as process, PageWalker(process.pid, process.start, process.length) as walker:
        fill(process)
        assert wait_until(lambda: merged_pages(process.pid) == MERGED)
        assert wait_until(lambda: walker.count(Category.SWAPPED) == OUT)
        seen = walker.walk(swap_slots=True)
        assert seen
        assert (seen.private, seen.shared, seen.zero) == (UNIQUE, MERGED, ZERO)
        assert (seen.out, seen.not_backed, seen.total) == (OUT, NEVER, PAGES)
        assert len(seen.shared_frames) == unique_frames([seen, seen]) == MERGED // 2
        assert seen.swap_slots == OUT
        agree_with_smaps(process, merged=MERGED, out=OUT)
        agree_with_frames(seen.shared_frames, sharers=2)
        assert walker.count(Category.PFNZERO) == ZERO
        assert walker.count(Category.PRESENT) == UNIQUE + MERGED + ZERO
        assert walker.walk(swap_slots=True) == seen, "nothing moved: the second walk is the same"


def agree_with_smaps(process: Owner, *, merged: int, out: int) -> None:
    """The mapping was split where a part of it became mergeable, so the parts are added up."""
    end = process.start + process.length
    every = smaps.read(process.pid) or []
    parts = [part for part in every if process.start <= part.start and part.end <= end]
    assert sum(part.end - part.start for part in parts) == process.length
    if kernel() >= (6, 6):  # a line of its own since then
        assert sum(part.ksm or 0 for part in parts) == merged * PAGE
    assert sum(part.swap or 0 for part in parts) == out * PAGE
    # The zero page is nobody's resident memory.
    assert sum(part.rss or 0 for part in parts) == (UNIQUE + merged) * PAGE
    pss = sum(part.pss or 0 for part in parts)
    assert abs(pss - (UNIQUE + merged // 2) * PAGE) < 2 * PAGE


def agree_with_frames(frames: set[int], *, sharers: int) -> None:
    listed = sorted(frames)
    assert all(flags & KPF_KSM for flags in read_flags(listed))
    assert set(read_counts(listed)) == {sharers}


def test_writing_and_swapping_in_moves_pages_between_the_classes(
    swap_area: Path, merging: None
) -> None:
    with owner(PAGES) as process, PageWalker(process.pid, process.start, process.length) as walker:
        fill(process)
        assert wait_until(lambda: merged_pages(process.pid) == MERGED)
        assert walker.walk()
        (ksm_run := Path("/sys/kernel/mm/ksm/run")).write_text("0")
        assert ksm_run.read_text() == "0\n"
        process.write(UNIQUE, 101, "unique")  # breaks one of each of 101 pairs
        process.ask("read", UNIQUE + MERGED + ZERO, 33)  # swaps in 33, and read-ahead
        process.ask("drop", 0, 51)
        seen = walker.walk()
        assert seen
        out = walker.count(Category.SWAPPED)
        assert out is not None and seen.out == out <= OUT - 33
        assert seen.not_backed == NEVER + 51
        # The other half of a broken pair has its frame for itself: it is exclusive again.
        assert seen.shared == MERGED - 2 * 101
        assert seen.private == UNIQUE - 51 + 2 * 101 + (OUT - out)
        assert seen.total == PAGES


def test_zero_pages_of_ksm_are_zero_and_not_shared(merging: None) -> None:
    with (
        turned(use_zero_pages="1"),
        owner(1000) as process,
        PageWalker(process.pid, process.start, process.length) as walker,
    ):
        process.write(0, 421, "zero")
        process.ask("merge", 0, 421)
        assert wait_until(lambda: walker.count(Category.PFNZERO) == 421)
        seen = walker.walk()
        assert seen and (seen.private, seen.shared, seen.zero) == (0, 0, 421)
        stat = ksm.read_process(process.pid)
        assert stat and stat.zero_pages == (421 if kernel() >= (6, 6) else None)


def test_the_zero_frame_is_what_the_kernel_calls_so() -> None:
    assert read_flags([zero_frame()])[0] & KPF_ZERO_PAGE


def test_the_huge_zero_page_is_zero() -> None:
    with (
        owner(3 * 512) as process,
        PageWalker(process.pid, process.start, process.length) as walker,
    ):
        process.ask("huge", 0, 3 * 512)
        process.ask("read", 0, 3 * 512)
        seen = walker.walk()
        assert seen and seen.zero == walker.count(Category.PFNZERO) == 3 * 512
        assert seen.shared == 0


def test_a_merged_page_that_went_out_has_one_slot(swap_area: Path, merging: None) -> None:
    with owner(500) as process, PageWalker(process.pid, process.start, process.length) as walker:
        process.write(0, 500, "unique")
        process.ask("pageout", 0, 500)
        assert wait_until(lambda: walker.count(Category.SWAPPED) == 500)
        seen = walker.walk(swap_slots=True)
        assert seen and seen.swap_slots == seen.out == 500
        used = {area.path: area.used for area in swap.areas()}[swap_area]
        assert 0 <= used - 500 * PAGE <= SLOTS_IN_STOCK * PAGE


def test_a_frame_list_is_held_against_the_page_tables() -> None:
    with owner(900) as process, PageWalker(process.pid, process.start, process.length) as walker:
        process.write(100, 700, "unique")
        frames = bytearray(900)
        frames[100:800] = b"\x01" * 700
        same = walker.walk(memoryview(frames))
        assert same and (same.frames_differ, same.frames_moving) == (0, 0)
        frames[100:107] = bytes(7)  # said to be given back, and are not
        frames[850:853] = b"\x01" * 3  # said to be touched, and are not
        wrong = walker.walk(memoryview(frames))
        assert wrong and (wrong.frames_differ, wrong.frames_moving) == (10, 0)


def test_a_walk_of_an_ended_process_is_none() -> None:
    process = Owner(100)
    with PageWalker(process.pid, process.start, process.length) as walker:
        process.write(0, 100, "unique")
        assert walker.walk()
        process.end()
        assert walker.walk() is None


def test_scanning_with_a_short_vector_misses_nothing() -> None:
    """Every second page: more runs than fit, where the kernel's own walk_end is wrong."""
    with owner(512) as process, PageWalker(process.pid, process.start, process.length) as walker:
        for page in range(0, 512, 2):
            process.write(page, 1, "unique")
        if walker.runs(Category.PRESENT) is None:
            lacking("PAGEMAP_SCAN", "run it on 6.7 or later")
        fd = os.open(f"/proc/{process.pid}/pagemap", os.O_RDONLY)
        try:
            end = process.start + process.length
            for vector in (1, 7, 512):
                runs = Scanner(fd, vector=vector).runs(process.start, end, Category.PRESENT)
                assert [run.pages for run in runs] == [1] * 256
        finally:
            os.close(fd)
        assert walker.count(Category.PRESENT) == 256


def test_a_walk_costs_little_more_than_the_kernels_part_of_it() -> None:
    """A ratio, since the machine may be noisy; the module's docstring has the figures measured."""
    with (
        owner(16 * 1024) as process,
        PageWalker(process.pid, process.start, process.length) as walker,
    ):
        process.write(0, 16 * 1024, "x")
        fd = os.open(f"/proc/{process.pid}/pagemap", os.O_RDONLY)

        def read_only() -> None:
            for first in range(0, 16 * 1024, 512):
                os.pread(fd, 512 * 8, (process.start // PAGE + first) * 8)

        floor, cost = cpu_of(read_only), cpu_of(walker.walk)
        os.close(fd)
        assert cost < 1.5 * floor


def cpu_of(work: Callable[[], object]) -> float:
    """The least CPU time of ten runs, seconds."""
    times = []
    for _ in range(10):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def test_a_page_read_back_from_swap_is_present(swap_area: Path) -> None:
    """It stays in the swap cache, and may be not exclusive; it is never counted as out."""
    with owner(64) as process, PageWalker(process.pid, process.start, process.length) as walker:
        process.write(0, 64, "unique")
        process.ask("pageout", 0, 64)
        assert wait_until(lambda: walker.count(Category.SWAPPED) == 64)
        process.ask("read", 0, 64)
        seen = walker.walk()
        assert seen and (seen.out, seen.zero, seen.private + seen.shared) == (0, 0, 64)
        assert not any(
            flags & (KPF_KSM | KPF_ZERO_PAGE) for flags in read_flags(seen.shared_frames)
        )
