"""Runs side by side: relative work, fairness, spreads, void runs, and three ways to show them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from memlab.control.policy import Mechanism
from memlab.record.series import Choice, Event
from memlab.study.compare import Spread, compare, geometric_mean, jain, relative
from memlab.study.measured import Measured, measured
from memlab.study.overview import overview
from memlab.study.page import page
from memlab.study.table import figures, heading, markdown, table
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


def shown(found: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(found))
    return console.export_text()


def test_the_table_says_what_did_not_act_and_how_it_was_scaled() -> None:
    found = compare([run("x", a=50.0, b=150.0), run("y", 0, a=100.0, b=300.0)], REFERENCE)
    text = shown(found)
    assert "time_scale 10" in text and "400 operations/s" in text
    assert "50.0%" in text and "did not act" in text
    lines = list(markdown(found))
    assert lines[2].startswith("| x | 50.0% |") and lines[3].startswith("| **y** | 100.0%")
    assert len({line.count("|") for line in lines}) == 1
    assert "1 repeats" in heading(found)


def test_figures_for_programs_leave_out_what_is_not_known() -> None:
    found = json.loads(json.dumps(figures(compare([run("x", a=50.0, b=150.0)], REFERENCE))))
    (row,) = found["rows"]
    assert row["work"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert row["each"]["b"]["median"] == 0.5
    assert row["saved"]["sharing"]["median"] == 2 * MIB
    assert "ksmd_cpu" not in row and found["schema_version"] == 1


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
    assert found[6] == "- calm: 1–2 runs of each."
    assert found[7] == (
        "- storm: 1 runs of each; y: did not act; z: 1 of 1 runs void: w."
    )  # fmt: skip
