"""zswap under a process that is pushed out, against meminfo, debugfs and vmstat."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.kernel import meminfo, smaps, vmstat, zswap
from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.files import Roots
from memlab.kernel.pagemap import PageWalker
from memlab.kernel.pagemap_scan import Category
from tests.kernel.lacking import is_v2
from tests.kernel.owner import PAGE, owner, turned, wait_until

pytestmark = pytest.mark.kernel

KNOB = Path("/sys/module/zswap/parameters")


@pytest.fixture
def debugfs(tmp_path: Path) -> Iterator[Roots]:
    place = tmp_path / "kernel/debug"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "debugfs", "none", str(place)], check=True)
    yield Roots(sys=tmp_path)
    subprocess.run(["umount", str(place)], check=True)


def pool() -> zswap.Pool:
    found = zswap.read_pool(Path("/proc/meminfo").read_bytes())
    assert found
    return found


def test_a_squeezed_group_fills_the_pool(
    swap_area: Path, group: MemoryGroup, debugfs: Roots
) -> None:
    # zbud, which kernels before 6.9 may have, wants a frame for each page that keeps half its size.
    pools = {"zpool": "zsmalloc"} if (KNOB / "zpool").exists() else {}
    with turned(enabled="Y", **pools), owner(6007, before=group.add) as process:
        assert zswap.is_enabled() is True
        before, flows = pool(), vmstat.read()
        process.write(0, 6007, "half")
        # v2 charges the pool to the group, so that its limit holds fewer of the pages.
        assert group.set_limit((19 if is_v2() else 12) << 20, timeout=20).took
        with PageWalker(process.pid, process.start, process.length) as walker:
            of_mapping = walker.count(Category.SWAPPED)
        whole = smaps.read_rollup(process.pid)
        assert of_mapping is not None and whole and whole.swap is not None
        assert 8 << 20 < of_mapping * PAGE <= whole.swap, "its heap is squeezed as well"
        now, after = pool(), vmstat.read()
        stored = now.stored_bytes - before.stored_bytes
        assert abs(stored - whole.swap) < 0.02 * whole.swap, "all of it is in zswap"
        assert 0.3 < (now.pool_bytes - before.pool_bytes) / stored < 0.75, "half random: about ½"
        assert after.zswpout is not None and flows.zswpout is not None
        assert (after.zswpout - flows.zswpout) * PAGE >= stored
        assert after.pswpout == flows.pswpout, "a page stored is not written to the device"
        debug = zswap.read_debug(debugfs)
        assert debug and debug["stored_pages"] * PAGE == pool().stored_bytes
        host = meminfo.read()
        assert (host.zswap, host.zswapped) == (pool().pool_bytes, pool().stored_bytes)


def test_the_gate_sends_pages_past_the_pool(swap_area: Path) -> None:
    with turned(enabled="Y"), owner(4001) as process:
        gate = zswap.PoolGate(Roots(), 4 << 20)
        try:
            process.write(0, 4001, "half")
            process.ask("pageout", 0, 2500)
            closed = gate.tick(pool().pool_bytes)
            assert closed and closed.took and gate.closed
            stored, written = pool().stored_bytes, vmstat.read().pswpout
            process.ask("pageout", 2500, 1501)
            assert wait_until(lambda: grew(written) >= 1501)
            assert pool().stored_bytes <= stored, "nothing more was stored"
            process.ask("drop", 0, 4001)
            assert wait_until(lambda: pool().pool_bytes < 3 << 20)
            opened = gate.tick(pool().pool_bytes)
            assert opened and opened.took and not gate.closed
            assert zswap.is_enabled()
        finally:
            gate.open()


def grew(before: int | None) -> int:
    now = vmstat.read().pswpout
    assert now is not None and before is not None
    return now - before


def test_compressors_are_found_by_trying() -> None:
    before = (KNOB / "compressor").read_text()
    with turned(enabled="Y"):
        found = zswap.available_compressors(candidates=("lzo", "lzo-rle", "lz5", "zstd"))
        assert "lz5" not in found
        assert before.strip() in zswap.available_compressors()
        with pytest.raises(HostError, match="lz5"):
            zswap.set_compressor("lz5")
        for name in found:
            assert name in Path("/proc/crypto").read_text(), "the second witness has it loaded"
    assert (KNOB / "compressor").read_text() == before


def test_debugfs_is_read_anew_each_time(debugfs: Roots) -> None:
    first, second = zswap.read_debug(debugfs), zswap.read_debug(debugfs)
    assert first and second and first.keys() == second.keys()
    assert "stored_pages" in first
