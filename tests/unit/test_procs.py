"""Processes from outside, on a captured tree."""

from __future__ import annotations

import time
from pathlib import Path

from memlab.kernel import procs
from memlab.kernel.files import Roots
from tests.captured import HYBRID, PID


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
