"""Derived columns of a synthetic recording whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlab.record.columns import COLUMNS, Entity, Tier
from memlab.record.derive import Derived
from memlab.record.formulas import FORMULAS
from memlab.record.sample import Sample, VmInfo
from memlab.record.store import RECORDING_NAME, Recording
from memlab.record.terms import quantile
from memlab.units import MIB, PAGE
from tests import recordings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Derived:
    return Derived.open(recordings.build(tmp_path_factory.mktemp("run")))


def at(run: Derived, entity: Entity, name: str, time: float, vm: str = "") -> float | None:
    series = run.series(entity, name, vm)
    return max(zip(series.times, series.values, strict=True), key=lambda p: -abs(p[0] - time))[1]


def test_every_documented_column_has_a_formula_and_no_other_has() -> None:
    known = {(entity, name) for entity, formulas in FORMULAS.items() for name in formulas}
    assert known == set(COLUMNS)


def test_every_column_can_be_asked_and_only_the_untold_ones_are_absent(run: Derived) -> None:
    absent = set()
    for entity, name in COLUMNS:
        series = run.series(entity, name, "vm-2" if entity is Entity.VM else "")
        assert len(series.times) == len(series.values) > 0
        if not series.known:
            absent.add((entity, name))
    on_v1 = {(Entity.VM, "compressed"), (Entity.VM, "pool"), (Entity.HOST, "ksm_profit")}
    of_pressing = {f"pressure_{what}" for what in ("cpu", "pushed", "back")}
    others = {"active_referenced", "referenced_cpu", "active_pressure", "active_damon", "damon_cpu"}
    unasked = {(Entity.VM, name) for name in others | of_pressing}
    assert absent == on_v1 | unasked
    assert run.series(Entity.VM, "active", "vm-2").known[-1] == 300 * PAGE


def test_levels_are_bytes_and_rates_are_per_second(run: Derived) -> None:
    assert at(run, Entity.VM, "shared", 30, "vm-1") == 64 * MIB
    assert at(run, Entity.VM, "operations", 20, "vm-1") == recordings.OPERATIONS
    assert at(run, Entity.LAB, "operations", 20) == 4 * recordings.OPERATIONS
    assert at(run, Entity.LAB, "ksmd_cpu", 20) == pytest.approx(0.1)
    assert at(run, Entity.VM, "cpu", 20, "vm-1") == pytest.approx(0.25)
    assert at(run, Entity.LAB, "observer_cpu", 20) == pytest.approx(0.01)
    assert at(run, Entity.HOST, "stall_some", 20) == pytest.approx(0.02)
    assert at(run, Entity.LAB, "decompressed", 20) == pytest.approx(100 * PAGE)


def test_a_rate_is_absent_at_the_first_sample(run: Derived) -> None:
    assert run.series(Entity.VM, "operations", "vm-1").values[0] is None


def test_percentiles_come_from_the_operations_between_two_samples(run: Derived) -> None:
    assert at(run, Entity.VM, "p50", 20, "vm-1") == pytest.approx(2e-6, rel=0.125)
    assert at(run, Entity.VM, "p99", 20, "vm-1") == pytest.approx(60e-6, rel=0.125)
    assert run.series(Entity.VM, "p50", "vm-1").values[0] is None
    assert run.percentile("vm-1", 0.5, 5, 25) == pytest.approx(2e-6, rel=0.125)
    assert run.percentile("vm-1", 0.5, 28.5, 28.6) is None


def test_the_ledger_closes_and_the_savings_add_up(run: Derived) -> None:
    for name in ("residual_guest", "residual_host", "frames_differ"):
        assert set(run.series(Entity.VM, name, "vm-3").values) == {0}
    assert max(abs(value) for value in run.series(Entity.LAB, "residual").known) == 0
    parts = ("saved_sharing", "saved_balloon", "saved_compression", "saved_swap", "never_touched")
    columns = [run.series(Entity.LAB, name).known for name in parts]
    configured = 4 * recordings.CONFIGURED
    used = run.series(Entity.LAB, "accounted").known
    overhead = run.series(Entity.LAB, "overhead").known
    for saved, held, own in zip(zip(*columns, strict=True), used, overhead, strict=True):
        assert sum(saved) == pytest.approx(configured - (held - own), abs=4 * PAGE)


def test_on_v1_the_pool_is_added_to_what_the_group_is_charged(run: Derived) -> None:
    used, consumed = (at(run, Entity.LAB, name, 30) for name in ("used", "consumed"))
    pool = at(run, Entity.LAB, "pool", 30)
    assert pool and consumed and used == consumed + pool
    assert at(run, Entity.LAB, "free", 30) == recordings.BUDGET - used


def test_latest_is_the_last_value_of_the_series(run: Derived) -> None:
    for entity, name in COLUMNS:
        vm = "vm-4" if entity is Entity.VM else ""
        assert run.latest(entity, name, vm) == run.series(entity, name, vm).values[-1]
    assert run.latest(Entity.VM, "used", "nobody") is None


def test_an_unknown_column_or_vm_is_a_key_error(run: Derived) -> None:
    with pytest.raises(KeyError):
        run.series(Entity.LAB, "no_such_thing")
    with pytest.raises(KeyError):
        run.series(Entity.VM, "used", "nobody")


def test_window_vms_events_and_choices(run: Derived) -> None:
    assert run.window == (10.0, 30.0)
    assert run.vms == ("vm-1", "vm-2", "vm-3", "vm-4")
    assert [event.kind for event in run.events()].count("vm-started") == 4
    assert run.choices()[0].asked == "33554432" and run.choices()[1].asked is None


def test_a_live_recording_grows_under_the_reader(tmp_path: Path) -> None:
    path = tmp_path / RECORDING_NAME
    names = ["vm-1"]
    with Recording.create(path, {}) as recording:
        recording.add_vm(VmInfo("vm-1", 1, "process", recordings.CONFIGURED))
        with Derived.open(path, check=False) as run:
            assert run.latest(Entity.LAB, "used") is None
            assert run.series(Entity.LAB, "used").values == ()
            for tick in range(3):
                recording.write_sample(recordings.fast_sample(tick / 4, names))
                assert run.refresh()
                assert len(run.series(Entity.VM, "operations", "vm-1").values) == tick + 1
            assert run.latest(Entity.VM, "operations", "vm-1") == recordings.OPERATIONS
            assert not run.refresh()
            assert run.window == (0.0, 0.502)


def test_a_vm_without_a_row_has_a_gap_and_its_rate_spans_it(tmp_path: Path) -> None:
    path = tmp_path / RECORDING_NAME
    with Recording.create(path, {}) as recording:
        for owner, name in enumerate(("vm-1", "vm-2"), 1):
            recording.add_vm(VmInfo(name, owner, "process", recordings.CONFIGURED))
        for tick in range(5):
            names = ["vm-1"] if tick == 2 else ["vm-1", "vm-2"]
            recording.write_sample(recordings.fast_sample(tick / 4, names))
        recording.finish({})
    with Derived.open(path) as run:
        series = run.series(Entity.VM, "operations", "vm-2")
        assert len(series.times) == 4
        assert series.values[1:] == (recordings.OPERATIONS,) * 3
        assert run.series(Entity.LAB, "operations").values[2] == recordings.OPERATIONS


def test_a_counter_that_went_backwards_has_no_rate(tmp_path: Path) -> None:
    path = tmp_path / RECORDING_NAME
    with Recording.create(path, {}) as recording:
        recording.add_vm(VmInfo("vm-1", 1, "process", recordings.CONFIGURED))
        later: Sample = recordings.fast_sample(5, ["vm-1"])
        again: Sample = recordings.fast_sample(0, ["vm-1"])
        again.began, again.ended = 6_000_000, 6_001_000
        recording.write_sample(later)
        recording.write_sample(again)
        recording.finish({})
    with Derived.open(path) as run:
        assert run.series(Entity.VM, "operations", "vm-1").values == (None, None)
        assert run.series(Entity.LAB, "ksmd_cpu").values == (None, None)


def test_one_uncounted_vm_makes_the_sums_over_page_classes_absent(tmp_path: Path) -> None:
    path = tmp_path / RECORDING_NAME
    with Recording.create(path, {}) as recording:
        for owner, name in enumerate(("vm-1", "vm-2"), 1):
            recording.add_vm(VmInfo(name, owner, "process", recordings.CONFIGURED))
        sample = recordings.deep_sample(20, ["vm-1", "vm-2"])
        sample.vms[1] = ("vm-2", (None,) * len(sample.vms[1][1]))
        recording.write_sample(sample)
        recording.finish({})
    with Derived.open(path) as run:
        assert run.latest(Entity.LAB, "private") is None
        assert run.latest(Entity.LAB, "saved_sharing") is None
        assert run.latest(Entity.VM, "private", "vm-1") is not None


def test_a_quantile_lies_within_its_bucket() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({5: 10}, 0.5) == pytest.approx(5.5e-9)


def test_tiers_of_lab_sums_are_those_of_their_parts() -> None:
    assert COLUMNS[Entity.LAB, "overhead"].tier is Tier.DEEP


def test_the_ledger_closes_alike_where_the_pool_is_charged(tmp_path: Path) -> None:
    """On v2 the pool is in the group's usage, and in its kernel memory: the same lab, told so."""
    path = recordings.build(tmp_path)
    with Derived.open(path) as run:
        names = ("residual", "overhead", "accounted")
        before = {name: run.series(Entity.LAB, name).known for name in names}
    with Recording.append(path) as recording:
        recording.connection.execute(
            "UPDATE lab_deep SET zswap = host_zswap, zswapped = host_zswapped,"
            " kernel = kernel + host_zswap, usage_before = usage_before + host_zswap,"
            " usage_after = usage_after + host_zswap"
        )
    with Derived.open(path) as run:
        after = {name: run.series(Entity.LAB, name).known for name in before}
    assert after == before


def test_the_swap_cache_is_what_has_a_slot_and_is_not_charged_as_swap_on_an_old_v1(
    tmp_path: Path,
) -> None:
    """Before 6.6 v1 does not tell it: the ledger of the same lab is the same, and not absent."""
    path, cached = recordings.build(tmp_path), 10 * MIB
    names = ("residual", "accounted", "unique_slots", "saved_swap", "saved_sharing")

    def told() -> dict[str, tuple[float, ...]]:
        with Derived.open(path) as run:
            return {name: run.series(Entity.LAB, name).known for name in names}

    with Recording.append(path) as recording:
        recording.connection.execute(
            f"UPDATE lab_deep SET swapcached = {cached}, swap_used = swap_used + {cached}"
        )
    before = told()
    with Recording.append(path) as recording:
        recording.connection.execute("UPDATE lab_deep SET swapcached = NULL")
    assert told() == before and all(before.values())
