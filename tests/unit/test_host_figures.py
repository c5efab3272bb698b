"""meminfo, vmstat, THP and processes, on a captured tree."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from memlab.errors import HostError
from memlab.kernel import meminfo, procs, thp, vmstat
from memlab.kernel.files import Roots
from tests.captured import HYBRID, PID

KIB = 1024


def test_meminfo_is_bytes() -> None:
    found = meminfo.read(HYBRID)
    assert found.total == 24684096 * KIB
    assert found.zswap == 4152 * KIB and found.zswapped == 7588 * KIB
    assert found.swap_total == 131068 * KIB and found.swap_free == 123068 * KIB
    assert None not in [getattr(found, name) for name in found.__slots__]


def test_meminfo_of_an_older_kernel() -> None:
    found = meminfo.parse(b"MemTotal:  100 kB\nHugePages_Total:  3\n")
    assert found == meminfo.Meminfo(total=100 * KIB)


def test_no_proc_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="meminfo"):
        meminfo.read(Roots(proc=tmp_path))
    assert vmstat.read(Roots(proc=tmp_path)) == vmstat.Vmstat()


def test_vmstat_by_name() -> None:
    found = vmstat.read(HYBRID)
    assert found.zswpout is not None and found.zswpout >= 2000
    assert found.zswpin is not None and found.cow_ksm is not None
    assert None not in [getattr(found, name) for name in found.__slots__]
    assert vmstat.parse(b"pswpin 4\nnew_name 9\n") == vmstat.Vmstat(pswpin=4)


def test_thp(tmp_path: Path) -> None:
    assert thp.mode(HYBRID) is thp.Mode.MADVISE
    knobs = thp.knobs(HYBRID)
    assert knobs["enabled"] == "madvise" and knobs["khugepaged/max_ptes_none"] == "511"
    assert thp.huge_page_size(HYBRID) == 2 << 20
    nothing = Roots(sys=tmp_path)
    assert thp.mode(nothing) is None and thp.huge_page_size(nothing) is None
    assert thp.knobs(nothing) == {}


def test_processes() -> None:
    statm = procs.parse_statm((HYBRID.proc / f"{PID}/statm").read_bytes())
    assert statm.size > statm.resident > statm.shared > 0
    assert statm.resident % 4096 == 0
    cpu = procs.cpu_ns(PID, HYBRID)
    assert cpu is not None and 0 < cpu < 60e9
    assert procs.cpu_ns(1, HYBRID) is None
    assert procs.parse_cpu_ns(b"123 456 7\n") == 123


def test_ksmd_is_a_child_of_kthreadd_or_not_ksmd(tmp_path: Path) -> None:
    roots = Roots(proc=tmp_path)
    assert procs.ksmd_pid(roots) is None
    for pid, comm in {2: "kthreadd", 31: "kswapd0", 32: "ksmd", 900: "ksmd"}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(comm + "\n")
    (tmp_path / "2/task/2").mkdir(parents=True)
    (tmp_path / "2/task/2/children").write_text("31 32 ")
    assert procs.ksmd_pid(roots) == 32
    (tmp_path / "2/comm").write_text("bash\n")
    assert procs.ksmd_pid(roots) is None


def test_the_clock_goes_on() -> None:
    first = procs.boottime_ns()
    time.sleep(0.01)
    assert 10_000_000 <= procs.boottime_ns() - first < 10_000_000_000
