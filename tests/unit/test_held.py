"""What a VM has in frames: of one process, or of a program's whole cgroup."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from memlab.kernel.files import KeptFile
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.held import Held, OfGroup, OfProcess
from memlab.record.reading import GroupReader
from memlab.record.store import Recording
from tests import recordings
from tests.captured import DOCUMENTED_V2, HYBRID, PID

V1 = HYBRID.cgroup / "memory/box/memlab-cap/vm1"
V2 = DOCUMENTED_V2.cgroup / "user.slice/lab.scope/memlab-cap/vm1"
PROCESS = HYBRID.proc / str(PID)


def keep(path: Path) -> KeptFile:
    return KeptFile(path)


def test_a_guest_is_its_process(tmp_path: Path) -> None:
    (tmp_path / "statm").write_text("5000 1800 300 1 0 900 0\n")
    (tmp_path / "stat").write_text("7 (a) b) S 1 7 7 0 -1 4194560 411 5 12 3 0 0\n")
    assert OfProcess(tmp_path, keep, faults=True).read() == Held(1800, 300, 411, 12)
    assert OfProcess(tmp_path, keep, faults=False).read() == Held(1800, 300, None, None)
    assert OfProcess(tmp_path / "ended", keep, faults=True).read() is None


@pytest.mark.parametrize("group", [V1, V2], ids=["v1", "v2"])
def test_a_program_is_its_cgroup(group: Path) -> None:
    found = OfGroup(PROCESS, group / "memory.stat", keep).read()
    assert found == Held(6025216 // 4096, 0, 4065 - 13, 13)


@pytest.mark.parametrize(
    ("rss", "mapped"), [("total_rss", "total_mapped_file"), ("anon", "file_mapped")]
)
def test_files_that_it_maps_are_resident(tmp_path: Path, rss: str, mapped: str) -> None:
    (tmp_path / "memory.stat").write_text(f"{rss} 40960\n{mapped} 8192\n")
    assert OfGroup(PROCESS, tmp_path / "memory.stat", keep).read() == Held(12, 2, None, None)


def test_a_program_ends_with_its_first_process(tmp_path: Path) -> None:
    assert OfGroup(tmp_path, V1 / "memory.stat", keep).read() is None
    assert OfGroup(PROCESS, tmp_path / "memory.stat", keep).read() is None


@pytest.mark.parametrize("text", ["usage_usec 250123\nuser_usec 9\n", "usage_usec 250123\n"])
def test_the_cpu_time_of_a_group_is_that_of_all_its_processes(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.stat").write_text(text)
    with ExitStack() as stack:
        assert GroupReader(V1, tmp_path, stack).cpu_ns() == 250_123_000
        assert GroupReader(V1, None, stack).cpu_ns() is None, "cgroup v1 alone"
        assert GroupReader(V1, tmp_path / "gone", stack).cpu_ns() is None


def test_the_faults_of_a_vm_are_the_hosts_even_if_a_guest_counts_its_own(tmp_path: Path) -> None:
    """A QEMU guest's faults are those of its own kernel: of the host's swap it knows nothing."""
    path = recordings.build(tmp_path)
    with Derived.open(path) as run:
        guests = run.series(Entity.VM, "major_faults", "vm-1").known
    with Recording.append(path) as recording:
        recording.connection.execute("UPDATE vm_fast SET major_faults = 3 * sample")
    with Derived.open(path) as run:
        hosts = run.series(Entity.VM, "major_faults", "vm-1").known
    assert hosts != guests and all(rate > 0 for rate in hosts)
