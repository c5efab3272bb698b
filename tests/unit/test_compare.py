"""Runs side by side: relative work, fairness, spreads, void runs, and three ways to show them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from memlab.cli.main import main
from memlab.control.policy import Mechanism
from memlab.record.series import Choice, Event
from memlab.record.store import Recording
from memlab.study.compare import Spread, compare, geometric_mean, jain, relative
from memlab.study.measured import Measured, measured
from memlab.study.overview import overview
from memlab.study.page import page
from memlab.study.table import below, figures, heading, markdown, remarks, table
from memlab.units import MIB
from tests.unit.fake_run import squeeze


def run(policy: str, actions: int = 1, void: str = "", **work: float) -> Measured:
    return Measured(
        policy, (10.0, 1.0), "small", work, dict.fromkeys(Mechanism, 2.0 * MIB), p99=1e-3,
        major_faults=5.0, actions=actions, void=void,
    )  # fmt: skip


REFERENCE = run("none", a=100.0, b=300.0)


def test_jain_s_index_by_hand() -> None:
    assert jain([1, 1, 1, 1]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([1, 2]) == pytest.approx(9 / 10)
    assert jain([]) is None and jain([0, 0]) is None


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=20))
def test_jain_s_index_has_its_bounds(values: list[float]) -> None:
    found = jain(values)
    assert found is not None
    assert 1 / len(values) - 1e-9 <= found <= 1 + 1e-9


def test_geometric_mean() -> None:
    assert geometric_mean([1, 4]) == pytest.approx(2)
    assert geometric_mean([]) is None and geometric_mean([1, 0]) is None


def test_work_is_relative_to_the_same_vm() -> None:
    assert relative(run("x", a=50.0, b=300.0), REFERENCE) == {"a": 0.5, "b": 1.0}
    assert relative(run("x", b=30.0), REFERENCE) == {"a": 0.0, "b": 0.1}, "a did nothing"


def test_rows_have_medians_and_ranges_over_the_repeats() -> None:
    runs = [run("x", a=b, b=b) for b in (40.0, 100.0, 80.0)] + [run("y", 0, a=100.0, b=300.0)]
    found = compare(runs, REFERENCE)
    x, y = found.rows
    assert (x.runs, x.work) == (3, Spread(0.4, 0.2, 0.5))
    assert x.each["a"].middle == 0.8
    assert x.fairness.middle == pytest.approx(jain([0.8, 80 / 300]))
    assert x.acted and not y.acted
    assert found.best is y
    assert found.against == "the run without pressure"


def test_a_void_run_is_named_and_does_not_count() -> None:
    runs = [run("x", void="web was killed", a=1.0), run("x", a=100.0, b=300.0), run("z", void="w")]
    x, z = compare(runs, REFERENCE).rows
    assert x.work == Spread(1.0, 1.0, 1.0) and x.void == ("web was killed",)
    assert z.work == Spread() and z.runs == 1


def test_nothing_is_relative_to_a_void_reference() -> None:
    """Its figures are left out as those of any void run are: no work, no fairness, no best."""
    runs = [run("x", a=50.0, b=150.0), run("y", a=100.0, b=300.0)]
    found = compare(runs, replace(REFERENCE, void="b was killed"))
    assert not found.counts and found.best is None
    assert [(row.work, row.each, row.fairness) for row in found.rows] == [
        (Spread(), {}, Spread())
    ] * 2
    assert [row.p99.middle for row in found.rows] == [1e-3, 1e-3], "these are of the runs alone"
    said = "no work relative to the run without pressure, which is void (b was killed)"
    assert said in heading(found)
    assert said in shown(found).replace("\n", " ")
    assert said in page(found) and "no run counts" in page(found)
    assert figures(found)["reference_void"] == "b was killed"
    assert figures(found)["reference"] == {}
    assert next(line for line in overview({"l": found}) if line.startswith("- l:")) == (
        "- l: 1 run of each, time_scale 10, size_scale 1; the run without pressure is void: "
        "b was killed."
    )
    assert compare(runs, REFERENCE).counts
    assert "reference_void" not in figures(compare(runs, REFERENCE))


def test_nothing_is_relative_to_a_void_first_run() -> None:
    found = compare([run("a", void="killed", a=10.0), run("b", a=5.0)])
    assert not found.counts
    assert "no work relative to a, which is void (killed)" in heading(found)
    assert [row.work for row in found.rows] == [Spread(), Spread()]


def test_a_void_run_counts_against_the_whole() -> None:
    assert not compare([run("x", void="w", a=1.0), run("y", a=1.0)], REFERENCE).counts


def test_without_a_reference_the_first_run_is_it() -> None:
    found = compare([run("a", a=10.0), run("b", a=5.0)], labels=["old", "new"])
    assert found.against == "old"
    assert [row.work.middle for row in found.rows] == [1.0, 0.5]


def test_the_figures_of_a_recording() -> None:
    source = squeeze()
    source = replace(
        source,
        manifest={**source.manifest, "policy": {"name": "ladder", "time_scale": 4.0}},
        chosen=(
            Choice(1.0, "ladder", "s", "balloon", "balloon", "a", "why"),
            Choice(1.0, "ladder", "s", "left-alone", "swap", "", "why"),
        ),
    )
    found = measured(source)
    assert (found.policy, found.scales, found.actions) == ("ladder", (4.0, 1.0), 1)
    assert set(found.saved) == set(Mechanism)
    assert found.used is not None and found.used > 0
    dismissed = replace(
        source, happened=(Event(2.0, "policy-failed", "", {"why": "policy x raised"}),)
    )
    assert measured(dismissed).void == "policy x raised"
    dry = [
        Event(float(time), "out-of-memory", vm, {"asked": 4096}) for time, vm in enumerate("aab")
    ]
    assert measured(replace(source, happened=tuple(dry))).out_of_memory == 2


def test_guests_that_ran_out_of_memory_are_told() -> None:
    """Their work stands still, and nothing else in the table says why."""
    runs = [replace(run("x", a=0.0, b=1.0), out_of_memory=1), run("x", a=100.0, b=300.0)]
    found = compare(runs, REFERENCE)
    assert "guests out of memory: 1" in shown(found)
    assert figures(found)["rows"][0]["out_of_memory"] == 1
    assert "out of memory" not in shown(compare(runs[1:], REFERENCE))


def shown(found: Any, width: int = 200) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), soft_wrap=True)
    console.print(table(found))
    return console.export_text()


def test_the_table_says_what_did_not_act_and_how_it_was_scaled() -> None:
    found = compare([run("x", a=50.0, b=150.0), run("y", 0, a=100.0, b=300.0)], REFERENCE)
    text = shown(found)
    assert "time_scale 10" in text and "400 operations/s" in text
    assert "50.0%" in text and "did not act" in text
    lines = list(markdown(found))
    assert lines[2].startswith("| x | 50.0% |") and lines[3].startswith("| **y** | 100.0%")
    assert lines[0] == (
        "| policy | work | fair | p99 | saved, MiB | faults /s | swap-in /s | CPU | actions | |"
    )
    assert len({line.count("|") for line in lines}) == 1
    assert "1 repeat;" in heading(found)


def test_figures_for_programs_leave_out_what_is_not_known() -> None:
    found = json.loads(json.dumps(figures(compare([run("x", a=50.0, b=150.0)], REFERENCE))))
    (row,) = found["rows"]
    assert row["work"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert row["each"]["b"]["median"] == 0.5
    assert row["saved"]["sharing"]["median"] == 2 * MIB
    assert "ksmd_cpu" not in row and "cpu" not in row and found["schema_version"] == 1


def spread_out() -> list[Measured]:
    """Three runs whose figures are all different, as wide as they come."""
    plain = run("./mine.py:Polite", actions=12_345, a=80.0, b=240.0)
    return [
        replace(
            plain, work={"a": 100.0 - step, "b": 300.0 - step}, p99=0.0981 + step / 300,
            saved=dict.fromkeys(Mechanism, (300 + step) * MIB), major_faults=12_345.0 + 100 * step,
            swapped_in=12_345.0 + step, ksmd_cpu=0.1 + step / 500, observer_cpu=0.02, vm_cpu=1.5,
        )
        for step in (0.0, 4.0, 10.0)
    ]  # fmt: skip


def test_ranges_stand_below_the_medians_and_it_fits_into_100_columns() -> None:
    """By hand: work 400, 392 and 380 of 400; fairness 1, 0.9998 and 1.8667² ÷ (2·1.7444); p99
    98.1, 111 and 131 ms; saved 4·300, 4·304 and 4·310 MiB; faults 12,345, 12,745 and 13,345; ksmd
    10, 10.8 and 12 %, the observer 2 %."""
    found = compare(spread_out(), REFERENCE)
    lines = shown(found, width=100).splitlines()
    at = next(number for number, line in enumerate(lines) if "98.0%" in line)
    assert lines[at].split() == [
        "./mine.py:Po", "98.0%", "1.000", "111", "ms", "1,216", "12.7k", "12.3k", "12.8%", "12,345",
    ]  # fmt: skip
    assert lines[at + 1].split() == [
        "lite", "95.0–100.0%", "98.1–131", "ms", "1,200–1,240", "12.3–13.3k", "12.0–14.0%",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 100


def test_a_document_has_the_ranges_beside_the_medians() -> None:
    line = list(markdown(compare(spread_out(), REFERENCE)))[2]
    assert line == (
        "| **./mine.py:Polite** | 98.0% (95.0–100.0%) | 1.000 (0.999–1.000) | "
        "111 ms (98.1–131 ms) | 1,216 (1,200–1,240) | 12.7k (12.3–13.3k) | "
        "12.3k (12.3–12.4k) | 12.8% (12.0–14.0%) | 12,345 |  |"
    )


def test_cpu_is_of_ksmd_and_of_memlab_and_the_vms_stand_apart() -> None:
    (row,) = figures(compare(spread_out(), REFERENCE))["rows"]
    assert row["cpu"]["median"] == pytest.approx(0.128)
    assert row["ksmd_cpu"]["median"] == pytest.approx(0.108)
    assert row["vm_cpu"]["median"] == 1.5
    assert replace(REFERENCE, ksmd_cpu=0.1).cpu is None, "the half of it is not the whole"


def test_saved_is_added_up_in_each_run_before_the_median() -> None:
    """1, 2, 9 MiB of sharing and 9, 2, 1 of the balloon: 10, 4 and 10 in all; of the medians 4."""
    runs = [
        replace(
            REFERENCE,
            saved={**REFERENCE.saved, Mechanism.SHARING: one * MIB, Mechanism.BALLOON: two * MIB}
            | dict.fromkeys((Mechanism.COMPRESSION, Mechanism.SWAP), 0.0),
        )
        for one, two in ((1, 9), (2, 2), (9, 1))
    ]
    (row,) = compare(runs, REFERENCE).rows
    assert row.saved_in_all == Spread(10 * MIB, 4 * MIB, 10 * MIB)
    assert row.saved[Mechanism.SHARING].middle == 2 * MIB


def test_each_vm_s_work_stands_below() -> None:
    found = compare([run("x", a=50.0, b=294.0)], REFERENCE)
    assert list(below(found)) == ["x, each VM: a 50.0%, b 98.0%"]
    assert "x, each VM: a 50.0%, b 98.0%" in shown(found)
    many = {f"vm-{number}": 100.0 for number in range(9)}
    some = replace(REFERENCE, policy="x", work=many | {"vm-3": 25.0, "vm-5": 110.0})
    half = compare([some], replace(REFERENCE, work=many))
    assert list(below(half)) == ["x, each VM: 9 VMs from 25.0% (vm-3) to 110.0% (vm-5)"]


def test_who_made_the_runs_is_told_where_it_was_not_the_same() -> None:
    old, new = (replace(REFERENCE, memlab="0.3", code=code) for code in ("aa", "bb"))
    assert not list(remarks(compare([old, old], old)))
    assert not list(remarks(compare([REFERENCE], REFERENCE))), "nobody wrote it down"
    found = compare([old, new], old, labels=["x", "y"])
    said = (
        "not all runs were made by the same code: memlab 0.3, code aa: the run without pressure, "
        "x; memlab 0.3, code bb: y"
    )
    assert list(remarks(found)) == [said]
    assert said in " ".join(shown(found).split())
    assert said in page(found)
    assert f"; {said}." in list(overview({"l": found}))[-1]
    assert figures(found)["notes"] == [said]
    assert figures(found)["rows"][1]["made_by"] == ["memlab 0.3, code bb"]
    mixed = compare([old, new], old, labels=["x", "x"])
    assert mixed.rows[0].makers == ("memlab 0.3, code aa", "memlab 0.3, code bb")
    assert len(list(remarks(mixed))) == 1


def test_a_run_of_other_scales_is_told() -> None:
    other = replace(REFERENCE, scales=(1.0, 16.0))
    found = compare([REFERENCE, other], labels=["a", "b"])
    assert list(remarks(found)) == ["b: not as above, but with time_scale 1, size_scale 16"]


def test_scales_stand_in_every_heading_also_where_they_are_one() -> None:
    plain = replace(REFERENCE, scales=(1.0, 1.0))
    assert heading(compare([plain], plain)).endswith("time_scale 1, size_scale 1")


def test_the_page_is_whole_and_cannot_be_broken_out_of() -> None:
    bad = "<script>alert(1)</script>"
    text = page(compare([run(bad, a=50.0), run("y", void="killed", a=1.0)], REFERENCE))
    assert bad not in text and "&lt;script&gt;" in text
    assert "1 of 1 runs void: killed" in text
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")
    assert text.count("<svg") == text.count("</svg>") == 1


def test_several_labs_side_by_side_with_a_mean_over_them() -> None:
    one = [run("x", a=100.0, b=300.0), run("y", a=25.0, b=75.0), run("y", a=25.0, b=75.0)]
    other = [run("x", a=25.0, b=75.0), run("y", 0, a=100.0, b=300.0), run("z", void="w")]
    found = list(overview({"calm": compare(one, REFERENCE), "storm": compare(other, REFERENCE)}))
    assert found[0] == "| policy | calm | storm | geometric mean |"
    assert found[2] == "| x | **100.0%** | 25.0% | **50.0%** |"
    assert found[3] == "| y | 25.0% | **100.0%** | **50.0%** |"
    assert found[4] == "| z | – | – | – |", "no mean without work in all labs"
    assert found[6] == "- calm: 1–2 runs of each, time_scale 10, size_scale 1."
    assert found[7] == (
        "- storm: 1 run of each, time_scale 10, size_scale 1; y: did not act; "
        "z: 1 of 1 runs void: w."
    )


def test_of_one_lab_there_is_no_mean() -> None:
    found = list(overview({"calm": compare([run("x", a=50.0, b=150.0)], REFERENCE)}))
    assert found[:3] == ["| policy | calm |", "|---|---:|", "| x | **50.0%** |"]


def recorded(path: Path, policy: str, outcome: str) -> str:
    manifest = {"vms": [], "window": [0, 1], "lab": "small", "policy": {"name": policy}}
    with Recording.create(path, manifest) as made:
        verdict = {"outcome": outcome, "reasons": ["web was killed for memory"]}
        made.finish({"ended": "finished", "verdict": verdict})
    return str(path)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [(("passed", "passed"), 0), (("invalid", "passed"), 1), (("passed", "invalid"), 1)],
)
def test_the_exit_status_is_1_if_a_run_did_not_count_whichever(
    outcomes: tuple[str, str], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        recorded(tmp_path / policy, policy, outcome)
        for policy, outcome in zip(("mom", "best"), outcomes, strict=True)
    ]
    assert main(["compare", *names]) == status
    out = capsys.readouterr().out
    assert ("no work relative to mom, which is void (web was" in out) is (outcomes[0] == "invalid")
    assert ("1 of 1 runs void: web was killed for memory" in out) is (status == 1)
    assert main(["compare", *names, "-f", "markdown"]) == status
