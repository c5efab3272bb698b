"""Host figures against other witnesses: psutil, the files themselves, PSI's own growth."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from memlab.kernel import meminfo, procs, psi, smaps, thp, vmstat
from memlab.kernel.files import KeptFile
from memlab.kernel.task import state
from tests.kernel.lacking import RSS_IN_STOCK
from tests.kernel.owner import owner, wait_until

pytestmark = pytest.mark.kernel


def test_meminfo_agrees_with_psutil() -> None:
    ours, theirs = meminfo.read(), psutil.virtual_memory()
    assert ours.total == theirs.total
    assert ours.available is not None and abs(ours.available - theirs.available) < 64 << 20
    assert ours.swap_total == psutil.swap_memory().total


def test_a_kept_file_says_the_same() -> None:
    with KeptFile(vmstat.path()) as kept:
        for _ in range(2):
            raw = kept.read()
            assert raw
            found, again = vmstat.parse(raw), vmstat.read()
            assert found.pgfault is not None and again.pgfault is not None
            assert found.pgfault <= again.pgfault
            assert found.oom_kill == again.oom_kill


def test_statm_agrees_with_smaps_rollup() -> None:
    with owner(1103) as process:
        process.write(0, 1103, "unique")
        assert wait_until(lambda: state(process.pid) == "S"), "it touches pages until it waits"
        raw = Path(f"/proc/{process.pid}/statm").read_bytes()
        rollup = smaps.read_rollup(process.pid)
        assert rollup and rollup.rss is not None
        assert abs(rollup.rss - procs.parse_statm(raw).resident) <= RSS_IN_STOCK
        mapping = smaps.mapping_at(process.pid, process.start)
        assert mapping and mapping.private_dirty is not None
        assert mapping.private_dirty >= 1103 * 4096


def test_cpu_time_agrees_with_psutil() -> None:
    with owner(4000) as process:
        process.write(0, 4000, "unique")
        ours = procs.cpu_ns(process.pid)
        times = psutil.Process(process.pid).cpu_times()
        assert ours is not None
        assert abs(ours / 1e9 - (times.user + times.system)) < 0.05


def test_pressure_and_huge_pages_are_as_the_files_say() -> None:
    found = psi.read_host()
    path = psi.host_path()
    assert (found is not None) == path.exists()
    if found:
        assert found.some_total_us is not None and found.full_total_us is not None
        assert found.full_total_us <= found.some_total_us
    mode = thp.mode()
    text = (thp.directory() / "enabled").read_text()
    assert mode is not None and f"[{mode}]" in text
    assert procs.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
