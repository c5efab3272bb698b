"""DAMON: the kdamond of ours and nobody else's, and what its counters come to."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from memlab.errors import HostError, KernelError, LabFileError
from memlab.kernel import damon
from memlab.kernel.damon import Counts, Kdamond, Pace, Watched
from memlab.kernel.entries import Process
from memlab.kernel.files import Roots, read_text
from memlab.kernel.restore import restore
from memlab.kernel.task import Task
from memlab.lab import plan
from memlab.lab.activespec import Active
from memlab.lab.damonwatch import Columns, DamonWatch, Reckoning, pace
from memlab.lab.load import loads
from memlab.lab.prepare import prepare
from memlab.lab.stretch import stretch
from memlab.units import MIB, PAGE
from memlab.vm.base import Target
from tests.unit.fake_damon import FakeDamon
from tests.unit.fake_host import FakeHost

PACE = Pace(sample=0.1, period=2.0, least=10, most=100)
START = 0x7F00_0000_0000

LAB = """
name: t
host: {memory: 300MiB}
mechanisms: {tps: off, balloon: off, compression: off, swap: off}
active: {damon: %s}
vms: {a: {memory: 64MiB, workload: {name: toucher, size: 16MiB}}}
"""


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost.make(tmp_path)


@pytest.fixture
def fake(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeDamon:
    fake = FakeDamon(host.roots.sys)
    fake.install(monkeypatch)
    return fake


def watched(pid: int, mib: int) -> Watched:
    return Watched(pid, START, mib * MIB)


class TestWhoseItIs:
    def test_free(self, fake: FakeDamon) -> None:
        damon.must_be_free(fake.roots)

    def test_a_kernel_without_it(self, tmp_path: Path) -> None:
        with pytest.raises(HostError, match="no DAMON") as refused:
            damon.must_be_free(Roots(sys=tmp_path))
        assert "CONFIG_DAMON_SYSFS" in refused.value.hint

    def test_a_kernel_whose_damon_cannot_count_by_vm(self, fake: FakeDamon) -> None:
        release = fake.roots.proc / "sys/kernel/osrelease"
        release.parent.mkdir(parents=True)
        release.write_text("6.5.0-18-generic\n")
        with pytest.raises(HostError, match=r"Linux 6\.5 .* came with 6\.6") as refused:
            damon.must_be_free(fake.roots)
        assert "--box" in refused.value.hint
        release.write_text("6.12.43+deb13-amd64\n")
        damon.must_be_free(fake.roots)

    @pytest.mark.parametrize(("state", "said"), [("on", "1 and one is on,"), ("off", "1, and")])
    def test_somebody_elses_whether_it_runs_or_not(
        self, fake: FakeDamon, state: str, said: str
    ) -> None:
        fake.write(fake.list, "1")
        (fake.home / "state").write_text(state + "\n")
        with pytest.raises(HostError) as refused:
            damon.must_be_free(fake.roots)
        assert said in refused.value.message and "somebody else's" in refused.value.message
        assert "--box" in refused.value.hint and "active.damon=off" in refused.value.hint
        assert fake.commands == []

    def test_nobody_pushes_out_where_nobody_has_it(self, fake: FakeDamon, tmp_path: Path) -> None:
        assert damon.pushes_out(fake.roots) is None
        assert damon.pushes_out(Roots(sys=tmp_path / "without")) is None

    @pytest.mark.parametrize(
        ("state", "operations", "action", "who"),
        [
            ("on", "paddr", "pageout", "kdamond 0"),
            ("off", "paddr", "pageout", None),
            ("on", "vaddr", "pageout", None),
            ("on", "paddr", "stat", None),
        ],
    )
    def test_a_kdamond_that_pushes_out_whatever_is_cold(
        self, fake: FakeDamon, state: str, operations: str, action: str, who: str | None
    ) -> None:
        fake.write(fake.list, "1")
        fake.write(fake.home / "contexts/nr_contexts", "1")
        fake.write(fake.context / "schemes/nr_schemes", "2")
        (fake.context / "operations").write_text(operations + "\n")
        (fake.context / "schemes/1/action").write_text(action + "\n")
        (fake.home / "state").write_text(state + "\n")
        assert damon.pushes_out(fake.roots) == who
        assert fake.commands == []

    def test_a_lock_that_is_taken_ends_no_lab(
        self, fake: FakeDamon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(path: Path) -> str | None:
            if path.name == "state":
                raise KernelError(path, "read", errno.EBUSY)
            return plainly(path)

        fake.write(fake.list, "1")
        fake.write(fake.home / "contexts/nr_contexts", "1")
        fake.write(fake.context / "schemes/nr_schemes", "1")
        plainly = read_text
        monkeypatch.setattr(damon, "read_text", busy)
        assert damon.pushes_out(fake.roots) is None
        with pytest.raises(HostError, match="somebody else's"):
            damon.must_be_free(fake.roots)

    def test_the_kernels_own_reclaim(self, fake: FakeDamon) -> None:
        file = fake.roots.sys / "module/damon_reclaim/parameters/enabled"
        file.parent.mkdir(parents=True)
        file.write_text("Y\n")
        assert damon.pushes_out(fake.roots) == "damon_reclaim"

    @pytest.mark.parametrize("name", damon.MODULES)
    def test_the_kernels_own_users(self, fake: FakeDamon, name: str) -> None:
        file = fake.roots.sys / f"module/{name}/parameters/enabled"
        file.parent.mkdir(parents=True)
        file.write_text("N\n")
        damon.must_be_free(fake.roots)
        file.write_text("Y\n")
        with pytest.raises(HostError, match=name):
            damon.must_be_free(fake.roots)

    def test_a_lab_is_refused_with_nothing_changed(self, host: FakeHost, fake: FakeDamon) -> None:
        fake.write(fake.list, "1")
        (fake.home / "state").write_text("on\n")
        (host.roots.cgroup / "cgroup.controllers").write_text("memory\n")
        before = host.tree()
        with pytest.raises(HostError) as refused:
            prepare(loads(LAB % "on"), roots=host.roots)
        assert refused.value.exit_code == 3 and "nr_kdamonds is 1" in refused.value.message
        assert host.tree() == before and fake.commands == []
        prepare(loads(LAB % "on", sets=("active.damon=off",)), roots=host.roots)

    def test_who_may_not_look_sees_the_change_in_the_plan(
        self, fake: FakeDamon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> str:
            raise KernelError(path, "open", errno.EACCES)

        monkeypatch.setattr(damon, "read_text", refuse)
        changes = plan.plan(loads(LAB % "on").lab, roots=fake.roots).changes
        found = next(one for one in changes if one.path == fake.list)
        assert (found.old, found.new, found.needed) == ("0", "1", True)


class TestKdamond:
    @pytest.fixture
    def ours(self, fake: FakeDamon) -> Kdamond:
        fake.write(fake.list, "1")
        return Kdamond(PACE, fake.roots)

    def test_it_is_told_of_guest_memory_and_of_nothing_else(
        self, fake: FakeDamon, ours: Kdamond
    ) -> None:
        ours.watch([watched(7, 64), Watched(8, START + PAGE, 3 * PAGE)])
        assert fake.runs() and fake.targets() == [7, 8]
        assert fake.read("operations") == "fvaddr"
        names = ("intervals/sample_us", "intervals/aggr_us", "nr_regions/min", "nr_regions/max")
        found = [fake.read(f"monitoring_attrs/{name}") for name in names]
        assert found == ["100000", "2000000", "20", "200"]  # of two VMs
        for number, pieces, start, length in ((0, 10, START, 64 * MIB),
                                              (1, 3, START + PAGE, 3 * PAGE)):  # fmt: skip
            assert fake.read(f"targets/{number}/regions/nr_regions") == str(pieces)
            ends = [start]
            for piece in range(pieces):
                here = f"targets/{number}/regions/{piece}"
                assert int(fake.read(f"{here}/start")) == ends[-1]
                ends.append(int(fake.read(f"{here}/end")))
                assert ends[-1] > ends[-2] and not ends[-1] % PAGE
            assert ends[-1] == start + length

    def test_two_schemes_that_only_count_divide_each_vm(
        self, fake: FakeDamon, ours: Kdamond
    ) -> None:
        Kdamond(Pace(0.1, 2.0, 10, 100, threshold=3), fake.roots).watch([watched(7, 64)])
        used, rest = "schemes/0", "schemes/1"
        for scheme, least, most in ((used, "3", str(2**32 - 1)), (rest, "0", "2")):
            assert fake.read(f"{scheme}/action") == "stat"
            assert fake.read(f"{scheme}/access_pattern/nr_accesses/min") == least
            assert fake.read(f"{scheme}/access_pattern/nr_accesses/max") == most
            assert fake.read(f"{scheme}/filters/0/type") == "target"
            assert fake.read(f"{scheme}/filters/0/damon_target_idx") == "0"

    def test_its_counts_are_each_vms_own(self, fake: FakeDamon, ours: Kdamond) -> None:
        ours.watch([watched(7, 64), watched(8, 32)])
        fake.active = (16, 32)
        assert ours.counts() == (Counts(16 * MIB, 48 * MIB, 64), Counts(32 * MIB, 0, 32))

    def test_a_lock_that_is_taken_for_a_moment(self, fake: FakeDamon, ours: Kdamond) -> None:
        fake.busy = 3
        ours.watch([watched(7, 64)])
        assert fake.runs()

    def test_one_that_does_not_run_is_not_asked_and_can_be_stopped(
        self, fake: FakeDamon, ours: Kdamond
    ) -> None:
        ours.watch([watched(7, 64)])
        (fake.home / "state").write_text("off\n")  # as when all that it watched has ended
        with pytest.raises(KernelError) as refused:
            ours.counts()
        assert refused.value.errno == errno.EINVAL and ours.pid is None
        ours.stop()

    def test_one_that_somebody_else_has_taken_is_neither_stopped_nor_turned(
        self, fake: FakeDamon, ours: Kdamond
    ) -> None:
        ours.watch([watched(7, 64)])
        (fake.context / "targets/0/pid_target").write_text("4711\n")
        fake.commands.clear()
        for act in (ours.stop, lambda: ours.watch([watched(8, 64)])):
            with pytest.raises(KernelError, match="somebody else's"):
                act()
        assert fake.commands == [] and fake.runs()


class TestGivingBack:
    def begin(self, host: FakeHost, fake: FakeDamon, *, theirs: bool = False) -> None:
        """A lab whose main dies while the kdamond runs."""
        journal = host.journal()
        assert journal.turn(fake.list, "1").took
        ended = Task(os.getpid(), 1)  # this number, long ago: not this process
        journal.processes([Process(ended, None)])
        Kdamond(PACE, host.roots).watch([watched(os.getpid() + theirs, 64)])
        journal.close()

    def test_a_kdamond_that_runs_is_ended_first(self, host: FakeHost, fake: FakeDamon) -> None:
        self.begin(host, fake)
        restored = restore(host.run, roots=host.roots)
        assert restored.ok and "damon/nr_kdamonds 1 → 0" in restored.given_back
        assert fake.list.read_text().strip() == "0" and not fake.home.exists()
        assert restore(host.run, roots=host.roots).given_back == ()

    def test_somebody_elses_is_left_alone_and_told(self, host: FakeHost, fake: FakeDamon) -> None:
        self.begin(host, fake, theirs=True)
        restored = restore(host.run, roots=host.roots)
        assert restored.ok and [one.what for one in restored.left] == ["damon/nr_kdamonds"]
        assert fake.runs() and "off" not in fake.commands[1:]

    def test_a_list_that_somebody_else_has_made_longer_too(
        self, host: FakeHost, fake: FakeDamon
    ) -> None:
        journal = host.journal()
        journal.turn(fake.list, "1")
        fake.write(fake.list, "2")
        restored = restore(host.run, roots=host.roots)
        assert [(one.what, one.now) for one in restored.left] == [("damon/nr_kdamonds", "2")]
        assert fake.list.read_text().strip() == "2"


VMS = {"a": watched(7, 64), "b": watched(8, 32)}


class TestReckoning:
    def test_an_estimate_is_the_mean_since_the_last_look(self) -> None:
        reckoning = Reckoning(VMS, {})
        found = reckoning.add([Counts(16 * MIB, 48 * MIB, 3), Counts(0, 32 * MIB, 1)], 0)
        assert [found[vm]["damon_pages"] for vm in "ab"] == [16 * MIB // PAGE, 0]
        # Two aggregations of `a`, 32 and 64 MiB; none yet of `b`.
        more = [Counts(112 * MIB, 80 * MIB, 9), Counts(0, 32 * MIB, 1)]
        found = reckoning.add(more, 0)
        assert [found[vm]["damon_pages"] for vm in "ab"] == [48 * MIB // PAGE, 0]

    def test_nothing_is_said_before_an_aggregation_has_ended(self) -> None:
        reckoning = Reckoning(VMS, {})
        assert reckoning.add([Counts(), Counts()], 5000) == {}
        found = reckoning.add([Counts(MIB, 63 * MIB, 3), Counts()], 8000)
        assert found["a"] == {"damon_pages": MIB // PAGE, "damon_cpu_us": 8}
        assert found["b"] == {"damon_pages": None, "damon_cpu_us": 0}

    def test_the_cost_is_each_vms_by_its_regions_and_goes_on_with_a_new_kdamond(self) -> None:
        cpu: dict[str, float] = {}
        for _ in range(2):
            reckoning = Reckoning(VMS, cpu)
            found = reckoning.add([Counts(0, MIB, 30), Counts(0, MIB, 10)], 4_000_000)
        assert [found[vm]["damon_cpu_us"] for vm in "ab"] == [6000, 2000]


@dataclass
class Machine:
    """As much of a VM as is looked at."""

    target: Target
    over: bool = False

    def ended(self) -> bool:
        return self.over


def machine(name: str, pid: int, mib: int | None) -> Machine:
    start, size = (None, None) if mib is None else (START, mib * MIB)
    return Machine(Target(name, pid, 64 * MIB, start, size, Path(), None, True))


class Trial:
    """A watch on a fake kdamond, with the main thread's side of it."""

    def __init__(self, fake: FakeDamon) -> None:
        self.told: dict[str, Columns] = {}
        self.notes: list[tuple[str, str]] = []
        self.machines: dict[str, Machine] = {}
        active = Active.model_validate({"damon": {"period": "100ms", "sample": "50ms"}})
        self.watch = DamonWatch(
            active, tell=self.told.__setitem__, note=self._note, roots=fake.roots
        )

    def _note(self, vm: str, why: str, /) -> None:
        self.notes.append((vm, why))

    def until(self, holds: Callable[[], object]) -> None:
        """Go on ticking until it holds."""
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline, (self.told, self.notes)
            self.watch.tick(self.machines, time.monotonic())
            time.sleep(0.02)

    def says(self, vm: str, mib: int) -> Callable[[], bool]:
        """Whether the last estimate of a VM is that."""
        return lambda: self.told.get(vm, {}).get("damon_pages") == mib * MIB // PAGE


class TestTheThread:
    @pytest.fixture
    def trial(self, fake: FakeDamon) -> Trial:
        fake.write(fake.list, "1")
        return Trial(fake)

    def test_estimates_come_out_and_a_program_is_told_of_once(
        self, fake: FakeDamon, trial: Trial
    ) -> None:
        fake.active = (16,)
        trial.machines = {"a": machine("a", 7, 64), "program": machine("program", 9, None)}
        with trial.watch:
            trial.until(trial.says("a", 16))
            fake.active = (24,)
            trial.until(trial.says("a", 24))
        assert [vm for vm, _ in trial.notes] == ["program"] and "program" not in trial.told
        assert not fake.runs() and fake.commands[-1] == "off"

    def test_a_vm_that_comes_later_or_anew_is_watched_too(
        self, fake: FakeDamon, trial: Trial
    ) -> None:
        fake.active = (16, 8)
        trial.machines = {"a": machine("a", 7, 64)}
        with trial.watch:
            trial.until(trial.says("a", 16))
            trial.machines["b"] = machine("b", 8, 32)
            trial.until(trial.says("b", 8))
            assert fake.targets() == [7, 8] and fake.commands.count("on") == 2
            trial.machines["a"].over = True
            fake.active = (0, 9)
            trial.until(trial.says("b", 9))
            assert fake.commands.count("on") == 2  # one that ends is no reason to begin again
            trial.machines["a"] = machine("a", 10, 64)
            fake.active = (5, 9)
            trial.until(trial.says("a", 5))
            assert sorted(fake.targets()) == [8, 10]

    def test_when_somebody_ends_the_kdamond_it_says_so_and_does_not_begin_again(
        self, fake: FakeDamon, trial: Trial
    ) -> None:
        fake.active = (16,)
        trial.machines = {"a": machine("a", 7, 64)}
        with trial.watch:
            trial.until(trial.says("a", 16))
            (fake.home / "state").write_text("off\n")
            trial.until(lambda: trial.notes)
        assert "not watched any more" in trial.notes[0][1]
        assert trial.told["a"]["damon_pages"] is None
        assert fake.commands.count("on") == 1

    def test_when_all_vms_have_ended_nothing_is_wrong(self, fake: FakeDamon, trial: Trial) -> None:
        fake.active = (16,)
        trial.machines = {"a": machine("a", 7, 64)}
        with trial.watch:
            trial.until(trial.says("a", 16))
            trial.machines["a"].over = True
            (fake.home / "state").write_text("off\n")
            trial.watch.tick(trial.machines, time.monotonic() + 1)
            time.sleep(0.8)
            trial.watch.tick(trial.machines, time.monotonic() + 2)
        assert trial.notes == []

    def test_it_does_nothing_unless_it_is_asked_for(self, fake: FakeDamon) -> None:
        idle = DamonWatch(Active(), tell=_never, note=_never, roots=fake.roots)
        with idle:
            idle.tick({"a": machine("a", 7, 64)}, 1.0)
        assert fake.commands == []


def _never(vm: str, what: object, /) -> None:
    raise AssertionError((vm, what))


class TestTheLabFile:
    def test_it_is_asked_for_and_a_map_asks_too(self) -> None:
        assert not loads(LAB % "off").lab.active.monitors
        assert not loads(LAB.replace("active: {damon: %s}\n", "")).lab.active.monitors
        found = loads(LAB % "on").lab.active
        assert found.monitors and pace(found.damon) == Pace(0.1, 2.0, 100, 1000, 1)
        text = "{sample: 50ms, period: 1s, regions: {min: 20}, threshold: 2}"
        assert pace(loads(LAB % text).lab.active.damon) == Pace(0.05, 1.0, 20, 1000, 2)
        assert not loads(LAB % text, sets=("active.damon=off",)).lab.active.monitors

    def test_in_slow_motion_it_looks_less_often(self) -> None:
        slow = stretch(loads(LAB % "on"), 3).lab.active.damon
        assert [slow.sample, slow.period] == pytest.approx([0.3, 6.0])

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("{regions: {min: 200, max: 100}}", "at least 200 regions are more than 100"),
            ("{sample: 500ms, threshold: 5}", "5 looks, one each 500.0 ms, do not fit"),
        ],
    )
    def test_what_cannot_be_is_a_fault(self, written: str, said: str) -> None:
        with pytest.raises(LabFileError) as refused:
            loads(LAB % written)
        (fault,) = refused.value.faults
        assert fault.code == "ML036" and said in fault.message
