"""The guard on the real kernel: what it holds, where it lives, how fast it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memlab.errors import OwnedError
from memlab.kernel import cgroup
from memlab.kernel.entries import Header
from memlab.kernel.files import HOST, parse_names, read_text
from memlab.kernel.owner import Owner, acquire
from tests.hoststate import assert_same, snapshot
from tests.kernel.miniature import ROOT, Miniature, ended, line, tell
from tests.pace import slowness

pytestmark = pytest.mark.kernel

TICK_CPU_SECONDS = 0.02
"""Most CPU per second that a waiting guard may take: ten ticks, each one look at meminfo."""


@pytest.fixture
def lab(tmp_path: Path) -> Miniature:
    return Miniature(tmp_path)


def own(folder: Path, *groups: Path) -> Owner:
    header = Header.of_this_process("guarded", "g1", folder)
    return acquire(header, path=folder / "run", guard_groups=groups)


def status(pid: int) -> dict[str, int]:
    return parse_names((HOST.proc / str(pid) / "status").read_bytes())


def test_its_memory_is_locked_and_small(tmp_path: Path) -> None:
    with own(tmp_path) as owner:
        facts = owner.guard.facts
        assert facts.locked <= status(facts.task.pid)["VmLck"]
        assert 0 < facts.locked <= 20 * 1024**2
        score = read_text(HOST.proc / str(facts.task.pid) / "oom_score_adj")
        assert score == str(facts.oom_score_adj)


def test_it_lives_in_a_cgroup_of_its_own_and_takes_it_along(tmp_path: Path) -> None:
    before = snapshot(marks=("memlab-g1",))
    group = cgroup.own_memory_group() / "memlab-g1-guard"
    with own(tmp_path, group) as owner:
        pid = owner.guard.facts.task.pid
        assert (group / "cgroup.procs").read_text().split() == [str(pid)]
    assert not group.exists()
    assert_same(before, snapshot(marks=("memlab-g1",)))


def test_a_new_guard_lives_where_the_old_one_did(tmp_path: Path) -> None:
    group = cgroup.own_memory_group() / "memlab-g1-guard"
    with own(tmp_path, group) as owner:
        os.kill(owner.guard.facts.task.pid, signal.SIGKILL)
        while owner.guard.alive():
            time.sleep(0.01)
        owner.guard = owner.guard.replace(owner.journal)
        pid = owner.guard.facts.task.pid
        assert (group / "cgroup.procs").read_text().split() == [str(pid)]
    assert owner.restored is not None
    assert owner.restored.ok
    assert not group.exists()


def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    with own(tmp_path) as owner:
        stat = HOST.proc / str(owner.guard.facts.task.pid) / "stat"

        def cpu() -> float:
            words = (read_text(stat) or "").rpartition(")")[2].split()
            return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

        begin = cpu()
        time.sleep(3)
        assert (cpu() - begin) / 3 <= TICK_CPU_SECONDS * slowness()


def test_a_second_run_is_refused_within_a_second(lab: Miniature) -> None:
    with lab.started() as main:
        line(main)
        assert line(main) == "ready"
        begin = time.monotonic()
        with pytest.raises(OwnedError, match="miniature"):
            acquire(Header.of_this_process("second", "s1", lab.lab), path=lab.run)
        assert time.monotonic() - begin < 1.0 * slowness()
        tell(main)
        assert line(main) == "done"
    lab.wait_given_back(1.0)


def test_the_guard_killed_alone_costs_nothing_at_the_end(lab: Miniature) -> None:
    with lab.started() as main:
        guard = int(line(main))
        assert line(main) == "ready"
        os.kill(guard, signal.SIGKILL)
        while not ended(guard):
            time.sleep(0.01)
        tell(main)
        assert line(main) == "done"
    lab.wait_given_back(1.0)
    assert lab.journal_is_gone()


def test_a_hundred_vms_are_given_back_in_time(lab: Miniature) -> None:
    """kill -9 of main with 100 VMs in 100 cgroups (of both hierarchies): ≤ 10 s."""
    with lab.started(100, 64 * 1024) as main:
        line(main)
        assert line(main) == "ready"
        main.kill()
        begin = time.monotonic()
        lab.wait_given_back(10.0)
        seconds = time.monotonic() - begin
    print(f"100 VMs given back by the guard in {seconds:.2f} s")  # noqa: T201  read with -s


def test_it_needs_the_standard_library_only() -> None:
    """In the very interpreter that runs it: isolated, without site-packages."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import memlab.kernel.guard_process"
    words = [sys.executable, "-I", "-S", "-c", script, str(ROOT)]
    assert subprocess.run(words, check=False).returncode == 0
