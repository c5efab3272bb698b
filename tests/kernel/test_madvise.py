"""Pushing out another process's memory by pidfd."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from memlab.kernel.madvise import pageout
from memlab.kernel.pagemap import PageWalker
from memlab.kernel.pagemap_scan import Category
from tests.kernel.owner import PAGE, Owner, owner, wait_until

pytestmark = pytest.mark.kernel


def test_a_part_goes_out_and_no_more(swap_area: Path) -> None:
    with owner(3001) as process, PageWalker(process.pid, process.start, process.length) as walker:
        process.write(0, 3001, "unique")
        advised = pageout(process.pidfd, process.start, 1501 * PAGE)
        assert advised == 1501 * PAGE
        seen = walker.walk()
        assert seen and seen.out <= 1501
        assert wait_until(lambda: walker.count(Category.SWAPPED) == 1501)
        with PageWalker(process.pid, process.start, 1501 * PAGE) as first:
            assert (seen := first.walk()) and seen.out == 1501
        if runs := walker.runs(Category.SWAPPED):
            assert runs[0].start == process.start
            assert runs[-1].end == process.start + 1501 * PAGE


def test_merged_pages_stay(swap_area: Path, merging: None) -> None:
    with owner(1000) as process, PageWalker(process.pid, process.start, process.length) as walker:
        process.write(0, 600, "pairs")
        process.write(600, 400, "unique")
        process.ask("merge", 0, 600)
        assert wait_until(lambda: (seen := walker.walk()) is not None and seen.shared == 600)
        pageout(process.pidfd, process.start, process.length)
        seen = walker.walk()
        assert seen and seen.shared == 600 and seen.out == 400


def test_a_deadline_that_has_passed_stops_it(swap_area: Path) -> None:
    with owner(100) as process:
        process.write(0, 100, "unique")
        assert pageout(process.pidfd, process.start, 100 * PAGE, deadline=time.monotonic() - 1) == 0


def test_an_ended_process_has_nothing_to_push_out() -> None:
    process = Owner(16)
    try:
        process.ask("write", 0, 16, content="unique")
        process._process.kill()
        process._process.wait()
        assert pageout(process.pidfd, process.start, 16 * PAGE) == 0
    finally:
        process.end()
