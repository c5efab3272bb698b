"""Groups on this host's own layout: made, filled, squeezed, killed and removed."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from memlab.errors import KernelError
from memlab.kernel import cgroup, smaps
from memlab.kernel.cgroup import Layout, MemoryGroup
from memlab.kernel.cgroup_tree import add, kill_members, move_all
from memlab.kernel.madvise import cold
from memlab.kernel.pagemap import PageWalker
from memlab.kernel.task import state
from tests.kernel.lacking import is_v2, lacking
from tests.kernel.owner import PAGE, Owner, owner, wait_until

pytestmark = pytest.mark.kernel

MIB = 1 << 20
FUZZ = 64 * PAGE * (os.cpu_count() or 1)
"""Each CPU holds a stock of charges."""


def test_usage_is_what_was_touched(group: MemoryGroup) -> None:
    with owner(23 * 256, before=group.add) as process:
        before, usage, resident = group.stat(), group.usage(), own_resident(process)
        process.write(0, 23 * 256, "unique")
        after, grown = group.stat(), own_resident(process) - resident
        assert before and after and before.anon is not None and after.anon is not None
        assert 23 * MIB <= grown < 24 * MIB
        assert abs(after.anon - before.anon - grown) < FUZZ
        now = group.usage()
        assert now is not None and usage is not None
        # Page tables are charged as well.
        assert abs(now - usage - grown) < FUZZ + MIB // 2
        assert group.procs() == (process.pid,)
        assert process.pid in cgroup.group_at(group.path, group.unified_path).procs()
        assert group.files.usage.exists() and group.files.stat.exists()


def own_resident(process: Owner) -> int:
    found = smaps.read_rollup(process.pid)
    assert found and found.anonymous is not None
    return found.anonymous


def test_a_limit_is_kept_and_told(swap_area: Path, group: MemoryGroup) -> None:
    with owner(31 * 256, before=group.add) as process:
        process.write(0, 31 * 256, "unique")
        written = group.set_limit(16 * MIB, timeout=30)
        assert written.took and written.seconds > 0 and group.limit() == 16 * MIB
        usage, memsw, swapped = group.usage(), group.memsw(), group.swap_usage()
        stat = group.stat()
        assert usage is not None and memsw is not None and swapped is not None
        assert usage <= 16 * MIB and swapped > 14 * MIB
        # A page on its way out is unmapped, but charged as memory until its frame is given up: on
        # v1 as memory alone, on v2 as swap already.
        going = (stat.swapcached or 0) if stat and not is_v2() else 0
        told = Path(f"/proc/{process.pid}/status").read_text()
        vm_swap = int(told.split("VmSwap:")[1].split()[0]) * 1024
        assert abs(vm_swap - going - swapped) <= 0.1 * swapped, (vm_swap, going, swapped)
        assert memsw >= 31 * MIB
        lifted = group.set_limit(None)
        assert lifted.took and group.limit() is None


def test_a_limit_below_what_can_be_reclaimed_is_reported(group: MemoryGroup) -> None:
    """Without a swap area nothing can go out: v1 refuses, and the old limit stays."""
    if cgroup.layout() is Layout.V2:
        lacking("limits that can be refused (v2 kills)", "run it with cgroup v1")
    with owner(20 * 256, before=group.add) as process:
        process.write(0, 20 * 256, "unique")
        assert group.set_limit(64 * MIB).took
        written = group.set_limit(4 * MIB, timeout=10)
        assert not written.took and written.got == 64 * MIB
        assert written.refused == os.strerror(errno.EBUSY)


def test_what_was_not_used_is_reclaimed_first_and_the_limit_stays(
    swap_area: Path, group: MemoryGroup
) -> None:
    half = 20 * 256
    group.set_limit(256 * MIB)
    with owner(2 * half, before=group.add) as process:
        process.write(0, 2 * half, "unique")
        cold(process.pidfd, process.start, process.length)
        process.write(0, half, "unique")  # and these are young again
        done = group.reclaim(8 * MIB)
        assert done is not None and 7 * MIB < done < 12 * MIB
        assert group.limit() == 256 * MIB
        used, unused = (_out(process, first, half) for first in (0, half))
        assert unused > 7 * 256 and used < unused / 10, (used, unused)


def _out(process: Owner, first: int, count: int) -> int:
    with PageWalker(process.pid, process.start + first * PAGE, count * PAGE) as walker:
        seen = walker.walk()
    assert seen is not None
    return seen.out


def test_an_oom_kill_is_counted_for_the_group_and_its_lab(group: MemoryGroup) -> None:
    lab = cgroup.group_at(group.path.parent, group.unified_path and group.unified_path.parent)
    assert group.oom_kills() == lab.oom_kills() == 0
    process = Owner(20 * 256, before=group.add)
    try:
        assert group.set_limit(12 * MIB).took
        assert group.set_swap_limit(0).took
        with pytest.raises((AssertionError, BrokenPipeError)):
            process.write(0, 20 * 256, "unique")
        assert group.oom_kills() == lab.oom_kills() == 1
    finally:
        process.end()


def test_kill_ends_all_and_remove_leaves_nothing(group: MemoryGroup) -> None:
    many = [Owner(16, before=group.add) for _ in range(5)]
    assert set(group.procs()) == {one.pid for one in many}
    assert group.kill() == ()
    for one in many:
        one.end()
    assert group.procs() == ()
    group.remove()
    assert not group.path.exists()
    assert group.unified_path is None or not group.unified_path.exists()


def test_kill_without_cgroup_kill_goes_by_pidfd(group: MemoryGroup) -> None:
    many = [Owner(16, before=group.add) for _ in range(3)]
    assert kill_members((group.path,), timeout=5) == ()
    for one in many:
        one.end()
    assert group.procs() == ()


def test_a_busy_group_is_not_removed_and_says_why(group: MemoryGroup) -> None:
    with owner(16, before=group.add) as process:
        with pytest.raises(KernelError, match="busy") as caught:
            group.remove(timeout=0.1)
        assert str(process.pid) in caught.value.hint


def test_freezing_stops_and_thawing_goes_on(group: MemoryGroup) -> None:
    with owner(16, before=group.add) as process:
        applied = group.freeze()
        if applied is None:
            lacking("a cgroup2 tree", "run it on a hybrid or v2 host")
        assert applied.took
        assert group.unified_path
        events = group.unified_path / "cgroup.events"
        assert wait_until(lambda: "frozen 1" in events.read_text())
        assert state(process.pid) in ("S", "D")
        assert group.thaw()
        assert wait_until(lambda: "frozen 0" in events.read_text())
        process.write(0, 16, "unique")
        group.freeze()
        assert group.kill() == (), "a frozen group can be killed"


def test_pressure_grows_when_a_group_thrashes(swap_area: Path, group: MemoryGroup) -> None:
    before = group.pressure()
    assert before and before.some_total_us is not None
    with owner(24 * 256, before=group.add) as process:
        process.write(0, 24 * 256, "unique")
        group.set_limit(16 * MIB, timeout=30)
        deadline = time.monotonic() + 10
        while stalled(group) <= before.some_total_us and time.monotonic() < deadline:
            process.ask("read", 0, 24 * 256)
            group.stat()  # or reclaim decides by stale figures
        assert stalled(group) > before.some_total_us
        if process.pid in group.procs():
            assert group.unified_path
            raw = (group.unified_path / "memory.pressure").read_text()
            assert "some" in raw and "full" in raw


def stalled(group: MemoryGroup) -> int:
    found = group.pressure()
    assert found and found.some_total_us is not None
    return found.some_total_us


def test_processes_step_aside_and_come_back() -> None:
    """What a v2 host needs, on the cgroup2 tree of whatever host this is."""
    own = cgroup.own_unified_group()
    if own is None:
        lacking("a cgroup2 tree", "run it on a hybrid or v2 host")
    first, second = (own / f"memlab-test-{os.getpid()}-{name}" for name in ("a", "b"))
    first.mkdir()
    second.mkdir()
    many = []
    try:
        for _ in range(3):
            many.append(Owner(16))
            add((first,), many[-1].pid)
        move_all(first, second)
        assert (first / "cgroup.procs").read_text() == ""
        moved = {int(word) for word in (second / "cgroup.procs").read_text().split()}
        assert moved == {one.pid for one in many}
    finally:
        for one in many:
            one.end()
        first.rmdir()
        second.rmdir()
