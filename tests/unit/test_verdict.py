"""The verdict is plain arithmetic over the window, and what is absent stays so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from memlab.control.policy import Mechanism
from memlab.record.columns import Entity, Unit
from memlab.report import facts
from memlab.report.answer import answer, price, question
from memlab.report.verdict import Line, Verdict, cache_dropped, verdict
from memlab.report.window import Figure, Window, held, integral
from memlab.report.words import change, count, figure, mib
from memlab.units import MIB
from tests.unit.fake_run import FakeRun, ramp, squeeze, steady

LAB, VM = Entity.LAB, Entity.VM


def line(found: Verdict, mechanism: Mechanism) -> Line:
    return next(row for row in found.lines if row.mechanism is mechanism)


def cost(found: Verdict, mechanism: Mechanism, label: str) -> Figure:
    return next(row for row in line(found, mechanism).costs if label in row.label)


def known(value: float | None) -> float:
    assert value is not None
    return value


def with_manifest(run: FakeRun, **more: Any) -> FakeRun:
    return replace(run, manifest={**run.manifest, **more})


def test_savings_and_the_untouched_close_on_what_was_not_used() -> None:
    found = verdict(squeeze())
    parts = [known(row.saved.value) for row in found.lines]
    parts.append(known(found.never_touched.value))
    parts += [-known(found.overhead.value), -known(found.swap_cache.value)]
    balance = sum(parts) - known(found.held_against.value)
    assert known(found.residual.value) == pytest.approx(balance)
    assert known(found.residual.value) == pytest.approx(0.3 * MIB, abs=0.4 * MIB)
    assert known(found.held_against.value) == pytest.approx(
        known(found.configured.value) - known(found.used.value)
    )


def test_a_mean_is_over_the_window_alone() -> None:
    run = squeeze()
    run.put(LAB, saved_sharing=lambda t: 100.0 if t < 30 else 7.0 * MIB)
    assert line(verdict(run), Mechanism.SHARING).saved.value == pytest.approx(7 * MIB)


def test_a_fast_column_is_taken_at_the_times_of_the_deep_samples() -> None:
    run = squeeze()
    run.put(LAB, used=lambda t: 300.0 * MIB if t == int(t) else 900.0 * MIB)
    found = verdict(run)
    assert found.used.value == pytest.approx(300 * MIB)
    assert found.peak.value == pytest.approx(900 * MIB)
    assert "above the budget of 384 MiB" in answer(found)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (384, "384 MiB of machine memory in use, within the budget of 384 MiB."),
        (388, "388 MiB of machine memory in use, within 2 % of the budget of 384 MiB."),
        (396, "396 MiB of machine memory in use, at its peak 12 MiB above the budget of 384 MiB."),
    ],
)
def test_a_figure_above_the_budget_is_not_called_within_it(used: float, said: str) -> None:
    run = squeeze()
    run.put(LAB, used=lambda _: used * MIB)
    assert answer(verdict(run)).endswith(said)


def test_costs_have_the_units_that_people_say() -> None:
    run = squeeze()
    found = verdict(run)
    assert cost(found, Mechanism.COMPRESSION, "decompressed").value == pytest.approx(850)
    assert cost(found, Mechanism.SWAP, "swapped in").value == pytest.approx(310)
    assert cost(found, Mechanism.BALLOON, "own swap-ins").value == pytest.approx(4 * 12)
    assert cost(found, Mechanism.SHARING, "copied").unit is Unit.PER_SECOND
    spent = known(cost(found, Mechanism.SHARING, "whole run").value)
    assert 41 * 0.25 < spent < 41 * 0.37


def test_an_absent_column_is_absent_with_its_reason_and_so_is_a_sum_with_it() -> None:
    run = squeeze()
    del run.waves[LAB, "saved_compression", ""]
    run = with_manifest(run, absent={"lab.saved_compression": "no zswap in this kernel"})
    found = verdict(run)
    saved = line(found, Mechanism.COMPRESSION).saved
    assert saved.value is None
    assert saved.why == "no zswap in this kernel"
    assert found.residual.value is None
    assert "compression saved was not measured" in answer(found)


def test_a_switched_off_mechanism_is_left_out_of_the_sentence() -> None:
    run = squeeze()
    run.put(LAB, saved_swap=steady(0))
    off = {**run.manifest["mechanisms"], "swap": {"enabled": False}}
    found = verdict(with_manifest(run, mechanisms=off))
    assert line(found, Mechanism.SWAP).enabled is False
    assert "swap held" not in answer(found)


def test_the_lab_files_word_for_sharing_is_understood() -> None:
    run = with_manifest(squeeze(), mechanisms={"tps": {"enabled": False}})
    assert facts.enabled(run, Mechanism.SHARING) is False
    assert facts.enabled(run, Mechanism.SWAP) is None


def test_without_a_baseline_the_work_is_not_held_against_anything() -> None:
    found = verdict(squeeze())
    assert found.baseline == ""
    assert all(row.against is None and row.value for row in found.performance)
    assert "baseline" not in price(found)


def test_a_baseline_run_is_held_beside_it() -> None:
    calm = squeeze(budget=1024)
    calm.put(LAB, operations=steady(200_000.0))
    found = verdict(squeeze(), calm)
    operations = found.performance[0]
    assert operations.against == pytest.approx(200_000)
    below = round((1 - known(operations.value) / 200_000) * 100)
    assert f"{below} % below the baseline" in price(found)


def test_a_phase_of_the_same_run_can_be_the_baseline() -> None:
    run = with_manifest(squeeze(), baseline={"name": "calm", "from": 14, "until": 19})
    found = verdict(run)
    assert found.baseline == "phase calm"
    assert known(found.performance[0].against) > known(found.performance[0].value)


def test_a_run_that_died_before_its_window_says_so() -> None:
    run = replace(squeeze(), length=10.0)
    found = verdict(run)
    assert found.samples == 0
    assert found.used.value is None
    assert found.used.why == "no sample of it in the measured window"
    assert "nothing can be said" in answer(found)
    assert {row.why for row in found.performance} == {"no sample of it in the measured window"}


def test_an_empty_recording_is_no_error() -> None:
    found = verdict(FakeRun())
    assert {row.saved.value for row in found.lines} == {None}
    assert question(found) == "What did each mechanism save, and what did it cost?"
    assert price(found) == "The price was not measured."


def test_the_question_names_both_sizes() -> None:
    assert question(verdict(squeeze())) == "How did 768 MiB of VMs fit into 384 MiB?"
    roomy = verdict(squeeze(budget=1024))
    assert question(roomy) == "How much of 1024 MiB did 768 MiB of VMs use?"


def test_a_price_of_nothing_is_said_so() -> None:
    run = squeeze()
    run.put(LAB, ksmd_cpu=steady(0.0), decompressed=steady(0.0), swap_in=steady(0.0))
    assert price(verdict(run)) == "The price: ksmd slept, and no page had to be brought back."


def test_cache_counts_as_dropped_only_while_the_balloon_grows() -> None:
    run = FakeRun(names=("a",), length=20)
    run.put(VM, "a", cache=lambda t: 40.0 * MIB - t * MIB, ballooned=ramp(10, 20, 20))
    assert cache_dropped(run, "a") == pytest.approx(10 * MIB)
    assert cache_dropped(FakeRun(names=("b",)), "b") is None


def test_helpers() -> None:
    run = FakeRun(length=4)
    run.put(LAB, used=lambda t: t)
    series = run.series(LAB, "used")
    assert held(series, 2.1) == 2.0
    assert held(series, -1) is None
    assert integral(series) == pytest.approx(8.5)
    assert Window(run, 1, 2, ()).mean(LAB, "used") == pytest.approx(1.5)


def test_words() -> None:
    assert figure(None, Unit.BYTES) == "not measured"
    assert figure(-1.5 * MIB, Unit.BYTES) == "−1.5 MiB"
    assert figure(0.031, Unit.FRACTION) == "3.1 %"
    assert mib(-1.0) == "0.0"
    assert count(12345.0) == "12\u202f345"
    assert math.isclose(float(count(3.14159)), 3.1)
    assert change(97, 100) == "3 % below"
    assert change(100.1, 100) == "as in"


def test_the_manifest_is_read_leniently() -> None:
    killed = FakeRun(manifest={"lab": "x"})
    assert facts.standing(killed).outcome == "unknown"
    assert facts.restored(killed).ok is None
    assert facts.expects(killed) == ()
    plain = FakeRun(manifest={"verdict": "invalid", "reasons": ["web-2 was killed"]})
    assert facts.standing(plain).reasons == ("web-2 was killed",)
