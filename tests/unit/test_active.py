"""The estimate of active memory: the real agent's guess against what its workload really uses."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from memlab.errors import GuestError
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.record.store import Recording
from memlab.units import MIB, PAGE
from memlab.vm.process import ProcessVm
from tests import recordings
from tests.guests import balloon, filled, liar, running, set_work, stats, until, verify, work

MEMORY = 64 * MIB
PAGES = 400
PERIOD = 0.25
ESTIMATES = ("active", "active_referenced", "active_pressure", "active_damon", "active_guest")


def watch(vm: ProcessVm, pages: int = PAGES, period: float = PERIOD) -> None:
    vm.link.call("sample", pages=pages, period=period)


def settled(vm: ProcessVm, periods: int = 12) -> float:
    """Active bytes by the slow average, which is not lifted by taking the largest of three."""
    start = stats(vm)["sample_periods"]
    until(lambda: stats(vm)["sample_periods"] >= start + periods)
    return float(stats(vm)["active_slow_pages"] * PAGE)


@pytest.mark.parametrize("part", [0.125, 0.5, 0.75])
def test_a_known_working_set_is_found_within_two_standard_errors(part: float) -> None:
    size = int(MEMORY * part)
    with running(memory=MEMORY, workload=work("toucher", size, period=PERIOD / 3)) as vm:
        filled(vm)
        watch(vm)
        found = settled(vm)
        error = math.sqrt(part * (1 - part) / PAGES) * MEMORY
        assert abs(found - size) <= 2 * error + 2 * MIB, (found / MIB, size / MIB)
        said = stats(vm)
        assert said["active_pages"] >= max(said["active_slow_pages"], said["active_fast_pages"])
        mean = said["sample_touched"] / said["sample_pages"]
        assert abs(mean - part) <= 0.06


def test_idle_memory_is_not_active_and_an_estimate_of_nothing_is_zero() -> None:
    with running(memory=MEMORY, workload=work("idle", 40 * MIB)) as vm:
        filled(vm)
        watch(vm)
        assert settled(vm, 3) == 0
        assert stats(vm)["active_pages"] == 0
        assert stats(vm)["sample_periods"] >= 3


def test_it_rises_within_two_periods_and_falls_slower() -> None:
    with running(memory=MEMORY, workload=work("idle", 40 * MIB)) as vm:
        filled(vm)
        watch(vm)
        settled(vm, 3)
        set_work(vm, "toucher", 40 * MIB, period=PERIOD / 3)
        filled(vm)
        begun = stats(vm)["sample_periods"] + 1  # that one has begun before
        until(lambda: stats(vm)["sample_periods"] >= begun + 2)
        assert stats(vm)["active_fast_pages"] * PAGE >= 0.8 * 40 * MIB
        settled(vm, 10)
        set_work(vm, "idle", 0)
        start = stats(vm)["sample_periods"]
        until(lambda: stats(vm)["sample_periods"] >= start + 2)
        said = stats(vm)
        assert said["active_pages"] == said["active_slow_pages"] >= 0.4 * 40 * MIB / PAGE
        assert said["active_fast_pages"] < said["active_slow_pages"]


def test_watching_changes_nothing_but_the_estimate() -> None:
    """Neither verify, balloon nor the image count as use; no page is lost."""
    with running(memory=MEMORY, workload=work("idle", 30 * MIB)) as vm:
        filled(vm)
        watch(vm, period=0.6)
        for _ in range(3):
            assert verify(vm)["bad"] == 0
            balloon(vm, 8 * MIB)
            balloon(vm, 0)
        said = stats(vm)
        assert said["sample_touched"] <= 0.02 * max(1, said["sample_pages"])


def test_it_ends_and_refuses_what_cannot_be_watched() -> None:
    with running(memory=MEMORY, workload=work("idle", 4 * MIB)) as vm:
        filled(vm)
        watch(vm, period=0.1)
        until(lambda: stats(vm)["sample_periods"] >= 2)
        watch(vm, pages=0)
        before = stats(vm)["sample_periods"]
        time.sleep(0.4)
        assert stats(vm)["sample_periods"] == before
        with pytest.raises(GuestError, match="at most 4096 pages"):
            watch(vm, pages=100_000)


def test_a_workload_that_lies_does_not_move_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses half of the memory, and says that it uses seven pages."""
    liar(tmp_path, monkeypatch, says=7)
    with running(memory=MEMORY, workload=work("toucher", MEMORY // 2, period=PERIOD / 3)) as vm:
        filled(vm)
        watch(vm)
        found = settled(vm)
        assert stats(vm)["working_set_pages"] == 7
        assert abs(found - MEMORY / 2) <= 2 * math.sqrt(0.25 / PAGES) * MEMORY + 2 * MIB


def test_no_estimator_reads_the_truth_from_a_recording(tmp_path: Path) -> None:
    path = recordings.build(tmp_path)
    with Derived.open(path) as run:
        before = {name: run.series(Entity.VM, name, "vm-1").values for name in ESTIMATES}
        truth = run.series(Entity.VM, "working_set", "vm-1").known
    with Recording.append(path) as recording:
        recording.connection.execute("UPDATE vm_medium SET guest_working_set_pages = 7")
    with Derived.open(path) as run:
        assert run.series(Entity.VM, "working_set", "vm-1").known != truth
        assert {name: run.series(Entity.VM, name, "vm-1").values for name in ESTIMATES} == before
