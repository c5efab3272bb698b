"""KSM's counters against processes whose contents are known."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from memlab.kernel import ksm, procs, smaps
from tests.kernel.lacking import kernel
from tests.kernel.owner import PAGE, Owner, owner, wait_until

pytestmark = pytest.mark.kernel

COMMON, UNIQUE = 307, 101


def counters() -> ksm.KsmCounters:
    found = ksm.read_counters()
    assert found
    return found


def test_n_processes_keep_one_frame_of_each_common_page(merging: None) -> None:
    before = counters()
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(owner(COMMON + UNIQUE)) for _ in range(4)]
        for process in many:
            fill(process)
        assert wait_until(lambda: sum(merged(one) for one in many) == 4 * COMMON)
        now = counters()
        assert grew(now.pages_shared, before.pages_shared) == COMMON
        assert grew(now.pages_sharing, before.pages_sharing) == 3 * COMMON
        assert now.saved is not None and before.saved is not None
        assert now.saved - before.saved == 3 * COMMON * PAGE
        for process in many:
            mapping = smaps.mapping_at(process.pid, process.start)
            assert mapping and mapping.ksm == (COMMON * PAGE if kernel() >= (6, 6) else None)
            assert ksm.ksm_merging_pages(process.pid) == COMMON
            found = ksm.read_process(process.pid)
            # Both lines of ksm_stat came with 6.15.
            assert found and found.mergeable in (True, None) and not found.merge_any
            assert found.rmap_items is not None and found.rmap_items >= COMMON


def fill(process: Owner) -> None:
    """Pages that are alike in all processes (their number is their content), then unique ones."""
    process.write(0, COMMON, "numbered")
    process.write(COMMON, UNIQUE, "unique")
    process.ask("merge", 0, COMMON + UNIQUE)


def merged(process: Owner) -> int:
    return ksm.ksm_merging_pages(process.pid) or 0


def grew(now: int | None, before: int | None) -> int:
    assert now is not None and before is not None
    return now - before


def test_merges_of_the_dead_stay_until_they_are_pruned(merging: None) -> None:
    run = Path("/sys/kernel/mm/ksm/run")
    before = counters().pages_shared or 0
    with owner(COMMON * 2) as process:
        process.write(0, COMMON * 2, "pairs")
        process.ask("merge", 0, COMMON * 2)
        assert wait_until(lambda: merged(process) == 2 * COMMON)
        run.write_text("0")
    assert grew(counters().pages_shared, before) == COMMON, "nobody has them, and they are counted"
    begin = time.monotonic()
    assert ksm.prune(until_pages_shared=before)
    assert time.monotonic() - begin < 5
    assert counters().pages_shared == before
    assert run.read_text() == "0\n", "pruning gives its knobs back"


def test_unmerging_in_a_child_leaves_nothing_merged() -> None:
    before = counters()
    if before.pages_shared:
        pytest.skip("other processes have merged pages; run it when none has")
    run = Path("/sys/kernel/mm/ksm/run")
    with owner(200) as process:
        process.write(0, 200, "pairs")
        process.ask("merge", 0, 200)
        try:
            for name, value in ksm.PRUNING.items():
                (run.parent / name).write_text(value)
            assert wait_until(lambda: merged(process) == 200)
            assert ksm.unmerge(shared_before_lab=0)
            assert merged(process) == 0
            assert counters().pages_shared == 0
        finally:
            run.write_text(str(before.run))
            (run.parent / "pages_to_scan").write_text(str(before.pages_to_scan))
            (run.parent / "sleep_millisecs").write_text(str(before.sleep_millisecs))


def test_ksmd_is_found_and_its_cpu_grows(merging: None) -> None:
    pid = procs.ksmd_pid()
    assert pid is not None
    assert Path(f"/proc/{pid}/comm").read_text() == "ksmd\n"
    begin = procs.cpu_ns(pid)
    with owner(4000) as process:
        process.write(0, 4000, "pairs")
        process.ask("merge", 0, 4000)
        assert wait_until(lambda: merged(process) == 4000)
        spent = grew(procs.cpu_ns(pid), begin)
    assert 0 < spent < 10e9


def test_every_knob_can_be_written_with_what_it_has() -> None:
    """EBUSY only for the two that want nothing merged on the whole host."""
    assert set(ksm.knobs()) <= set(ksm.KNOBS)
    writable = {
        file.name for file in Path("/sys/kernel/mm/ksm").iterdir() if file.stat().st_mode & 0o200
    }
    assert writable == set(ksm.knobs())
