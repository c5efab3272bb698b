"""The sampler on real VMs, each figure held against a second witness."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from memlab.errors import RecordingError
from memlab.kernel import ksm
from memlab.record.columns import Entity, Tier
from memlab.record.derive import Derived
from memlab.record.observer import LabTarget, Notice, Observer, Periods
from memlab.record.reading import cpu_ns
from memlab.units import MIB, PAGE
from memlab.vm.base import Content, Image, VmConfig, WorkloadConfig
from memlab.vm.mirror import BoardMirror
from memlab.vm.process import ProcessVm
from tests.kernel.small_lab import BUDGET, add_all, boottime_ns, new_recording, small_lab

pytestmark = pytest.mark.kernel

IMAGE = Image("test", 5 * MIB, Content(zero=0.1, common=0.4, compressible=2))
QUICK = Periods(fast=0.1, medium=0.25, deep=0.25, deep_share=0.5)
CONFIGS = [
    VmConfig("idle", 1, 23 * MIB, image=IMAGE),
    VmConfig("busy", 2, 23 * MIB, image=IMAGE, workload=WorkloadConfig("keyvalue", 7 * MIB)),
]

Lab = tuple[LabTarget, list[ProcessVm]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_lab(CONFIGS) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_recording(tmp_path)


def observe(path: Path, target: LabTarget, periods: Periods = QUICK) -> Observer:
    return Observer.start(path, clock_zero=boottime_ns(), lab=target, periods=periods)


def wait_until(condition: Callable[[], bool], *, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def wait_for(observer: Observer, tier: Tier, count: int = 2) -> list[Notice]:
    """Wait for `count` samples of a tier; all notices until then."""
    seen: list[Notice] = []

    def enough() -> bool:
        notices = observer.notices(timeout=0.1)
        assert all(isinstance(notice, Notice) for notice in notices), notices
        seen.extend(notice for notice in notices if isinstance(notice, Notice))
        return sum(notice.tier is tier for notice in seen) >= count

    wait_until(enough)
    return seen


def rollup(pid: int, name: str) -> int:
    """Bytes of one line of smaps_rollup: the second witness."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{name}: +(\d+) kB", text, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def test_what_is_recorded_is_what_other_witnesses_say(lab: Lab, path: Path) -> None:
    target, vms = lab
    with observe(path, target) as observer:
        add_all(observer, vms)
        wait_for(observer, Tier.DEEP, 3)
        wait_for(observer, Tier.MEDIUM, 3)
        resident = rollup(vms[0].pid, "Rss")
        stats = vms[0].link.call("stats")
        merging = ksm.ksm_merging_pages(vms[0].pid)
    with Derived.open(path) as run:
        assert run.vms == ("idle", "busy")
        last = {name: run.latest(Entity.VM, name, "idle") for name in ("resident", "used", "free")}
        assert last["resident"] == pytest.approx(resident, abs=64 * PAGE)
        assert last["used"] == stats["used_pages"] * PAGE
        assert last["free"] == stats["free_pages"] * PAGE
        assert merging is not None
        assert run.latest(Entity.VM, "merged", "idle") == merging * PAGE
        operations = run.series(Entity.VM, "operations", "busy").known
        assert operations and min(operations) > 0
        assert run.series(Entity.VM, "operations", "idle").values[-1] == 0
        typical = run.latest(Entity.VM, "p50", "busy")
        assert typical is not None and 1e-8 < typical < 1e-3
        consumed = run.latest(Entity.LAB, "consumed")
        usage = target.memory_group / "memory.usage_in_bytes"
        if usage.exists():
            assert consumed == pytest.approx(int(usage.read_text()), abs=2 * MIB)
        total = run.latest(Entity.HOST, "total")
        assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_both_identities_close_in_every_deep_sample(lab: Lab, path: Path) -> None:
    target, vms = lab
    with observe(path, target) as observer:
        add_all(observer, vms)
        wait_for(observer, Tier.DEEP, 4)
    with Derived.open(path) as run:
        for config in CONFIGS:
            for name in ("residual_guest", "residual_host", "frames_differ"):
                residuals = run.series(Entity.VM, name, config.name).known
                assert len(residuals) >= 3
                assert max(map(abs, residuals)) <= config.memory / 100
        residual, used = run.latest(Entity.LAB, "residual"), run.latest(Entity.LAB, "used")
        assert residual is not None and used is not None
        # The cgroup's own figure is fuzzy: a stock of 64 pages a CPU, of the lab and of each VM.
        fuzz = (len(vms) + 1) * 64 * PAGE * (os.cpu_count() or 1)
        assert abs(residual) <= 0.02 * used + fuzz


def test_samples_keep_the_timetable_and_every_cost_is_recorded(lab: Lab, path: Path) -> None:
    target, vms = lab
    with observe(path, target, Periods(fast=0.05, medium=1, deep=1)) as observer:
        add_all(observer, vms)
        before, began = cpu_ns(observer.pid) or 0, time.monotonic()
        wait_for(observer, Tier.FAST, 40)
        spent = ((cpu_ns(observer.pid) or 0) - before) / 1e3
        seconds = time.monotonic() - began
    with Derived.open(path) as run:
        rows = run.recording.rows(
            "SELECT began, ended, cpu_us, missed FROM sample WHERE tier = 'fast' ORDER BY id"
        )
        phases = [began % 50_000 for began, *_ in rows]
        # One sample may be late; that most stand at one phase is what absolute deadlines mean.
        off = [median(distance(phase, one, 50_000) for phase in phases) for one in phases]
        assert min(off) < 5_000, "deadlines drift"
        # From the first to the last all are there or told missed, and there are enough of them.
        after = len(rows) - 1 + sum(missed for *_, missed in rows[1:])
        assert after == pytest.approx((rows[-1][0] - rows[0][0]) / 50_000, abs=1)
        assert after >= seconds / 0.05 - 6
        assert all(began <= ended for began, ended, *_ in rows)
        recorded = run.recording.rows("SELECT sum(cpu_us) FROM sample")[0][0]
        assert 0.3 * spent < recorded < 2 * spent + 50_000
        share = run.series(Entity.LAB, "observer_cpu").known
        assert share and 0 < sum(share) / len(share) < 0.5


def distance(one: int, other: int, around: int) -> int:
    """How far two phases of a period are apart."""
    apart = abs(one - other)
    return min(apart, around - apart)


def test_a_vm_that_ends_costs_its_row_and_nothing_else(path: Path) -> None:
    with small_lab(CONFIGS) as (target, vms), observe(path, target) as observer:
        add_all(observer, vms)
        wait_for(observer, Tier.DEEP)
        os.kill(vms[1].pid, signal.SIGKILL)
        wait_for(observer, Tier.DEEP, 3)
        observer.remove("busy")
        observer.remove("nobody")
        wait_for(observer, Tier.FAST)
    with Derived.open(path) as run:
        idle, busy = (run.series(Entity.VM, "resident", vm) for vm in ("idle", "busy"))
        assert busy.times[-1] < idle.times[-1]
        assert None not in idle.values and None not in busy.values
        assert run.latest(Entity.LAB, "private") is not None


def test_an_added_vm_is_in_the_next_sample_and_deep_now_is_now(lab: Lab, path: Path) -> None:
    target, vms = lab
    with observe(path, target, Periods(fast=0.1, medium=60, deep=60)) as observer:
        wait_for(observer, Tier.FAST)
        add_all(observer, vms[:1])
        wait_for(observer, Tier.FAST)
        observer.deep_now()
        wait_for(observer, Tier.DEEP, 1)
    with Derived.open(path) as run:
        assert run.latest(Entity.LAB, "configured") == 23 * MIB
        assert run.latest(Entity.LAB, "overcommitment") == 23 * MIB / BUDGET


def test_a_guest_in_a_kernel_of_its_own_is_read_by_its_mirror(lab: Lab, path: Path) -> None:
    target, vms = lab
    mirror = BoardMirror(owner=1)
    with observe(path, target) as observer:
        observer.add(vms[0].target, owner=1, board_fd=mirror.fd)
        wait_for(observer, Tier.FAST)
        mirror.update({"used_pages": 5, "published_ns": 1}, [(7, 3)])
        wait_for(observer, Tier.FAST, 3)
        wait_for(observer, Tier.DEEP)
    mirror.close()
    with Derived.open(path) as run:
        used = run.series(Entity.VM, "used", "idle")
        assert used.values[0] is None and used.values[-1] == 5 * PAGE
        assert run.latest(Entity.VM, "frames_differ", "idle") is None


def test_the_sampler_ends_when_the_main_process_is_gone(lab: Lab, path: Path) -> None:
    target, _ = lab
    child = os.fork()
    if child == 0:
        try:
            observer = observe(path, target)
            path.with_name("pid").write_text(str(observer.pid))
            wait_for(observer, Tier.FAST)
        finally:  # whatever happened: it must not go on as a second pytest
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    sampler = int(path.with_name("pid").read_text())
    wait_until(lambda: not Path(f"/proc/{sampler}/statm").exists() or is_zombie(sampler))
    with Derived.open(path) as run:
        assert run.series(Entity.LAB, "consumed").known


def is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_sampler_that_dies_is_told_with_what_is_safe(lab: Lab, path: Path) -> None:
    target, _ = lab
    with observe(path, target) as observer:
        wait_for(observer, Tier.FAST)
        os.kill(observer.pid, signal.SIGKILL)
        with pytest.raises(RecordingError, match="sampler has ended") as ended:
            for _ in range(100):
                observer.notices(timeout=0.1)
        assert "safe" in ended.value.hint


def test_more_vms_than_files_are_refused_with_the_remedy(lab: Lab, path: Path) -> None:
    import resource

    target, vms = lab
    with observe(path, target) as observer:
        resource.prlimit(observer.pid, resource.RLIMIT_NOFILE, (45, 45))
        with pytest.raises(RecordingError, match="no more files") as refused:
            for number in range(20):
                again = vms[0].target
                renamed = type(again)(
                    name=f"vm-{number}",
                    **{
                        field: getattr(again, field)
                        for field in again.__dataclass_fields__
                        if field != "name"
                    },
                )
                observer.add(renamed, owner=number, board_fd=vms[0].board_fd)
        assert "ulimit" in refused.value.hint
        wait_for(observer, Tier.FAST)


def test_the_sampler_loads_the_standard_library_alone(lab: Lab, path: Path) -> None:
    target, _ = lab
    with observe(path, target) as observer:
        wait_for(observer, Tier.FAST)
        mapped = Path(f"/proc/{observer.pid}/maps").read_text()
        resident = rollup(observer.pid, "Pss")
    assert not re.search(r"pydantic|ruamel|numpy|click|rich/", mapped)
    assert resident < 40 * MIB
    assert sys.executable
