"""Active memory and the idle memory tax on the real kernel: the paper's figures 6 and 7."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memlab.control.entitlement import Client, targets
from memlab.errors import HostError
from memlab.kernel import damon
from memlab.kernel.files import HOST, read_text, write_text
from memlab.kernel.probe_extra import probe_damon
from memlab.lab.load import load, loads, resolve
from memlab.lab.outcome import RunOutcome, Said
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.lab.stretch import stretch
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.units import MIB, PAGE
from tests.guests import liar
from tests.pace import slow_motion

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def _runs_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLAB_DIR", str(tmp_path))


def run(name: str, *sets: str) -> RunOutcome:
    outcome = Session(prepare(load(resolve(name), sets=sets)), Nobody()).run()
    outcome.restored.check()
    return outcome


def at(source: Derived, vm: str, name: str, time: float) -> float:
    series = source.series(Entity.VM, name, vm)
    known = [
        (abs(t - time), v)
        for t, v in zip(series.times, series.values, strict=True)
        if v is not None
    ]
    return min(known)[1]


@pytest.mark.parametrize("lab", ["active", "active-pressure"])
def test_an_estimate_follows_the_staircase_whatever_the_workload_says(
    lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By random pages, by accessed bits, by pressing: no estimator reads the ground truth, which
    here is that of a liar. What is expected in the lab files are figures."""
    liar(tmp_path, monkeypatch, says=7)
    outcome = run(lab)
    assert outcome.said is Said.PASSED, outcome.reasons
    with Derived.open(outcome.recording) as source:
        assert set(source.series(Entity.VM, "working_set", "staircase").known) == {7 * PAGE}


def test_damon_follows_the_staircase_or_is_refused_where_it_is_somebody_elses() -> None:
    """Within 8 MiB of the truth whenever that was the same for two periods and a look."""
    free, before = probe_damon(HOST), read_text(damon.list_path())
    if free.works:
        slower = slow_motion()
        loaded = stretch(load(resolve("active-damon"), sets=("expect=[]",)), slower)
        outcome = Session(prepare(loaded), Nobody()).run()
        outcome.restored.check()
        late = slower * (2 * 2.0 + 1.5)
        with Derived.open(outcome.recording) as source:
            found = settled(source, "staircase", "active_damon", seconds=late)
            cost = source.series(Entity.VM, "damon_cpu", "staircase").known
        levels = {round(truth / MIB) for truth, _ in found}
        assert {64, 192, 128, 32} <= levels
        farthest = max(abs(truth - guess) for truth, guess in found)
        assert farthest <= 8 * MIB, (farthest / MIB, found)
        assert 0 < sum(cost) / len(cost) <= 0.1
    else:
        with pytest.raises(HostError) as refused:
            run("active-damon")
        assert refused.value.message == free.reason and refused.value.hint
    assert read_text(damon.list_path()) == before


def settled(source: Derived, vm: str, name: str, *, seconds: float) -> list[tuple[float, float]]:
    """The truth and an estimate of it, wherever the truth had not moved for so long."""
    truth = source.series(Entity.VM, "working_set", vm)
    guess = source.series(Entity.VM, name, vm)
    found, level, since = [], -1.0, 0.0
    for time, true, guessed in zip(truth.times, truth.values, guess.values, strict=True):
        if true is None or abs(true - level) > MIB:
            level, since = -1.0 if true is None else true, time
        elif guessed is not None and time - since >= seconds:
            found.append((true, guessed))
    return found


TWO = """
name: two
host: {memory: 160MiB}
mechanisms: {tps: off, balloon: off, compression: off, swap: off}
policy: static
active: {damon: {sample: 100ms, period: 1s}}
defaults: {memory: 64MiB}
vms:
  less: {workload: {name: toucher, size: 48MiB, args: {levels: [8MiB], period: 200ms}}}
  more: {start: 4s, workload: {name: toucher, size: 48MiB, args: {period: 200ms}}}
sample: {fast: 250ms, medium: 250ms, deep: 5s}
duration: 24s
"""


def test_damon_tells_vms_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone, and then a second one beside it: the kdamond is begun anew for both. It does not
    ask the workloads, which lie here."""
    liar(tmp_path, monkeypatch, says=7)
    loaded = loads(TWO, name="two.memlab.yaml")
    if not probe_damon(HOST).works:
        with pytest.raises(HostError):
            prepare(loaded)
        return
    outcome = Session(prepare(loaded), Nobody()).run()
    outcome.restored.check()
    with Derived.open(outcome.recording) as source:
        for vm, size in (("less", 8 * MIB), ("more", 48 * MIB)):
            found = settled(source, vm, "active_damon", seconds=2 * 1.0 + 2.5)
            assert found, vm
            assert {said for said, _ in found} == {7 * PAGE}, vm
            assert max(abs(size - guess) for _, guess in found) <= 3 * MIB, (vm, found)
            assert sum(source.series(Entity.VM, "damon_cpu", vm).known) > 0
    assert read_text(damon.list_path()) == "0"


@pytest.fixture
def somebody_elses() -> Iterator[str | None]:
    """A list of kdamonds that is not empty: this host's own, or else one made here."""
    there = read_text(damon.list_path())
    if there == "0":
        write_text(damon.list_path(), "2")
    yield read_text(damon.list_path())
    if there == "0":
        write_text(damon.list_path(), "0")


def test_damon_that_somebody_uses_is_refused_and_left_as_it_is(
    somebody_elses: str | None,
) -> None:
    with pytest.raises(HostError) as refused:
        prepare(load(resolve("active-damon")))
    said = "no DAMON" if somebody_elses is None else f"nr_kdamonds is {somebody_elses}"
    assert said in refused.value.message and "--box" in refused.value.hint
    assert read_text(damon.list_path()) == somebody_elses
    prepare(load(resolve("active-damon"), sets=("active.damon=off",)))


def test_the_tax_moves_idle_memory_as_the_formula_says() -> None:
    outcome = run("idle-tax")
    assert outcome.said is Said.PASSED, outcome.reasons
    with Derived.open(outcome.recording) as source:
        end = source.window[1] - 1
        clients = [
            Client(vm, 1000, 64 * MIB, active=int(at(source, vm, "active", end)))
            for vm in ("idle", "active")
        ]
        wanted = targets(clients, 90 * MIB, tax=0.75)
        for vm in ("idle", "active"):
            held = at(source, vm, "private", end)
            assert abs(held - wanted[vm]) <= 0.05 * wanted[vm], (vm, held / MIB, wanted[vm] / MIB)


def test_without_the_tax_nothing_moves() -> None:
    steps = (
        "timeline=[{at: 12s, set: {vms.active.workload: "
        "{name: keyvalue, size: 63MiB, args: {zipf: 0, writes: 10%, think: 70us}}}}]"
    )
    outcome = run("idle-tax", steps, "expect=[]", "duration=50s", "window.until=50s")
    with Derived.open(outcome.recording) as source:
        for vm in ("idle", "active"):
            before, after = (at(source, vm, "private", time) for time in (28.0, 49.0))
            assert abs(after - before) <= 0.03 * before, (vm, before / MIB, after / MIB)
