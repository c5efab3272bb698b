"""Delays grow when a process swaps in, and when it writes merged pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.kernel import vmstat
from memlab.kernel.taskstats import Taskstats, delayacct, delayacct_path
from tests.kernel.owner import owner, turned, wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def counting() -> Iterator[Taskstats]:
    before = delayacct_path().read_text()
    delayacct_path().write_text("1")
    try:
        assert delayacct() is True
        with Taskstats() as stats:
            yield stats
    finally:
        delayacct_path().write_text(before)


def test_swapping_in_is_waited_for(swap_area: Path, counting: Taskstats) -> None:
    # Into zswap, which takes only what gets smaller: what goes to a device stays in the swap cache
    # for a while, and costs no wait.
    with turned(enabled="Y"), owner(701) as process:
        process.write(0, 701, "half")
        first = counting.of_group(process.pid)
        assert first and first.swapin and first.swapin.count == 0
        process.ask("pageout", 0, 701)
        process.ask("read", 0, 701)
        then = counting.of_group(process.pid)
        assert then and then.swapin
        # Read-ahead brings several pages at once, so fewer waits than pages.
        assert 0 < then.swapin.count <= 701 and then.swapin.ns > 1000
        alone = counting.of_task(process.pid)
        assert alone and alone.swapin == then.swapin, "it has one thread"


def test_writing_merged_pages_is_a_copy_each(merging: None, counting: Taskstats) -> None:
    with owner(400) as process:
        process.write(0, 400, "pairs")
        process.ask("merge", 0, 400)
        merged = Path(f"/proc/{process.pid}/ksm_merging_pages")
        assert wait_until(lambda: merged.read_text() == "400\n")
        Path("/sys/kernel/mm/ksm/run").write_text("0")
        before, copied = counting.of_group(process.pid), vmstat.read().cow_ksm
        process.write(0, 200, "unique")
        after, then = counting.of_group(process.pid), vmstat.read().cow_ksm
        assert before and after and before.wpcopy and after.wpcopy
        assert copied is not None and then is not None
        assert after.wpcopy.count - before.wpcopy.count >= 200
        assert then - copied >= 200, "the host's counter is the second witness"
        assert after.wpcopy.ns > before.wpcopy.ns


def test_an_ended_process_is_none(counting: Taskstats) -> None:
    with owner(1) as process:
        pid = process.pid
        assert counting.of_group(pid)
    assert counting.of_group(pid) is None and counting.of_task(pid) is None
