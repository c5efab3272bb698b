from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlab.record.columns import COLUMNS, Entity
from memlab.record.condition import ConditionError, Outcome, Verdict, parse
from memlab.record.meaning import EVENT_KINDS, FUNCTIONS
from memlab.record.series import Event
from memlab.units import MIB
from tests.unit.condition_source import Samples, WrittenRun

ROOT = Path(__file__).parents[2]
PASS, FAIL, OPEN = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def judge(text: str, within: float | None = None, **columns: Samples) -> Verdict:
    named = {name.replace("__", ".").replace("web_", "web-"): s for name, s in columns.items()}
    return parse(text, vms=("web-1", "web-2")).judge(WrittenRun(named), within=within)


def findings(text: str, *, instant: bool = False) -> list[tuple[int, str, str]]:
    with pytest.raises(ConditionError) as caught:
        parse(text, vms=("web-1", "web-2"), instant=instant)
    return [(f.column, f.message, f.fix) for f in caught.value.findings]


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("max", 40), ("min", 10), ("mean", 25), ("median", 25), ("first", 10), ("last", 20),
        ("rise", 10),
    ],
)  # fmt: skip
def test_figures_over_time(figure: str, value: float) -> None:
    samples = {1.0: 10.0 * MIB, 2.0: 40.0 * MIB, 3.0: 30.0 * MIB, 4.0: 20.0 * MIB}
    assert judge(f"{figure}(lab.pool) == {value}MiB", lab__pool=samples).outcome is PASS
    assert judge(f"{figure}(lab.pool) < {value}MiB", lab__pool=samples).outcome is FAIL


def test_a_verdict_has_the_figures_and_the_moment() -> None:
    samples = {1.0: 10.0 * MIB, 2.5: 48.25 * MIB}
    verdict = judge("max(lab.saved_sharing) >= 64MiB", lab__saved_sharing=samples)
    assert verdict == Verdict(
        FAIL,
        "48.2 MiB",
        ">= 64.0 MiB",
        "max(lab.saved_sharing) was 48.2 MiB at 2.5 s, expected >= 64.0 MiB",
        2.5,
    )


def test_any_means_one_and_the_same_sample() -> None:
    text = "any(lab.saved_sharing >= 32MiB and lab.saved_balloon >= 32MiB)"
    sharing = {1.0: 40.0 * MIB, 2.0: 8.0 * MIB, 3.0: 33.0 * MIB}
    apart = judge(text, lab__saved_sharing=sharing, lab__saved_balloon={1.0: 0, 2.0: 40.0 * MIB})
    assert apart.outcome is not PASS
    together = {1.0: 0.0, 2.0: 40.0 * MIB, 3.0: 35.0 * MIB}
    verdict = judge(text, lab__saved_sharing=sharing, lab__saved_balloon=together)
    assert (verdict.outcome, verdict.where) == (PASS, 3.0)
    assert verdict.measured == "lab.saved_sharing = 33.0 MiB; lab.saved_balloon = 35.0 MiB"


def test_a_faster_tier_gives_its_newest_earlier_value() -> None:
    deep = {2.0: 5.0 * MIB, 4.0: 6.0 * MIB}
    fast = {1.75: 1.0 * MIB, 2.25: 9.0 * MIB, 3.9: 2.0 * MIB}
    text = "all(lab.ballooned < 3MiB and lab.private > 0)"
    assert judge(text, lab__private=deep, lab__ballooned=fast).outcome is PASS
    verdict = judge("any(lab.private / lab.ballooned == 3)", lab__private=deep, lab__ballooned=fast)
    assert (verdict.outcome, verdict.where) == (PASS, 4.0)


def test_only_the_window_counts_and_at_looks_at_the_whole_run() -> None:
    samples = {10.0: 9.0 * MIB, 110.0: 99.0 * MIB}
    run = WrittenRun({"lab.pool": samples}, window=(100.0, 200.0))
    assert parse("max(lab.pool) == 99MiB").judge(run).outcome is PASS
    assert parse("min(lab.pool) == 99MiB").judge(run).outcome is PASS
    assert parse("at(lab.pool, 12s) == 9MiB").judge(run).outcome is PASS
    assert parse("max(lab.pool) == 9MiB").judge(run, within=50).outcome is PASS


def test_counting_samples() -> None:
    samples = {1.0: 1.0, 2.0: 0.0, 3.0: 1.0, 4.0: 1.0}
    assert judge("count(lab.ksmd_cpu > 50%) == 3", lab__ksmd_cpu=samples).outcome is PASS
    verdict = judge("share(lab.ksmd_cpu > 50%) >= 80%", lab__ksmd_cpu=samples)
    assert (verdict.outcome, verdict.measured, verdict.expected) == (FAIL, "75 %", ">= 80 %")


def test_over_vms() -> None:
    run = WrittenRun({"web-1.used": {1.0: 3.0 * MIB}, "web-2.used": {1.0: 5.0 * MIB}})
    for text in (
        "max(sum_vms(vm.used)) == 8MiB", "sum_vms(max(vm.used)) == 8MiB",
        "last(mean_vms(vm.used)) == 4MiB", "last(min_vms(vm.used)) == 3MiB",
        "max_vms(last(vm.used)) == 5MiB", "each_vm(max(vm.used) >= 3MiB)",
        "some_vm(max(vm.used) > 4MiB)", "any(some_vm(vm.used > 4MiB))", "last(web-2.used) == 5MiB",
    ):  # fmt: skip
        assert parse(text).judge(run).outcome is PASS, text
    verdict = parse("each_vm(max(vm.used) < 4MiB)").judge(run)
    assert (verdict.outcome, verdict.measured) == (FAIL, "web-2: max(vm.used) = 5.0 MiB")


def test_events_and_verify() -> None:
    happened = (
        Event(3.0, "oom-kill", "web-1", {}),
        Event(9.0, "verify", "", {"checked": 9, "bad": 0}),
    )
    run = WrittenRun(happened=happened)
    assert parse('events("oom-kill") == 0').judge(run).outcome is FAIL
    assert parse('events("oom-kill", "web-2") == 0').judge(run).outcome is PASS
    assert parse('events("oom-kill") == 0').judge(run, within=2).outcome is PASS
    assert parse("bad_pages() == 0").judge(run).outcome is PASS
    verdict = parse("bad_pages() == 0").judge(WrittenRun())
    assert (verdict.outcome, verdict.why) == (OPEN, "nothing was verified")


def test_absent_is_inconclusive_with_the_reason_and_never_false() -> None:
    verdict = judge("max(lab.pool) < 1MiB", lab__pool={1.0: None, 2.0: 3.0})
    assert verdict.outcome is OPEN
    assert "lab.pool is absent at 1.0 s" in verdict.why
    assert judge("max(lab.pool) < 1MiB").why == "there is no sample from 0.0 s to 100.0 s"
    assert judge("any(lab.pool > 1MiB)", lab__pool={1.0: None, 2.0: 0.0}).outcome is OPEN
    assert judge("all(lab.pool > 1MiB)", lab__pool={1.0: None, 2.0: 0.0}).outcome is FAIL
    assert judge("count(lab.pool > 1MiB) == 0", lab__pool={1.0: None, 2.0: 0.0}).outcome is OPEN
    by_zero = "last(lab.pool) / last(lab.limit) > 1"
    zero = judge(by_zero, lab__pool={1.0: 1.0}, lab__limit={1.0: 0.0})
    assert (zero.outcome, zero.why) == (OPEN, "it divides by zero")


def test_a_figure_tolerates_a_tenth_of_absent_samples() -> None:
    samples: dict[float, float | None] = {float(t): 5.0 for t in range(1, 20)}
    assert judge("max(lab.pool) == 5B", lab__pool={0.0: None, **samples}).outcome is PASS
    assert judge("max(lab.pool) == 5B", lab__pool={0.0: None, 0.5: None, 0.6: None, **samples}
                 ).outcome is OPEN  # fmt: skip


@given(st.sampled_from([True, False, None]), st.sampled_from([True, False, None]))
def test_and_or_not_are_kleenes(left: bool | None, right: bool | None) -> None:
    def samples(value: bool | None) -> Samples:
        return {1.0: None if value is None else float(value)}

    def outcome(text: str) -> bool | None:
        verdict = judge(text, lab__pool=samples(left), lab__limit=samples(right))
        return {PASS: True, FAIL: False, OPEN: None}[verdict.outcome]

    a, b = "last(lab.pool) > 0", "last(lab.limit) > 0"
    rank: Callable[[bool | None], int] = {False: 0, None: 1, True: 2}.__getitem__
    assert outcome(f"{a} and {b}") == min(left, right, key=rank)
    assert outcome(f"{a} or {b}") == max(left, right, key=rank)
    assert outcome(f"not ({a} and {b})") == outcome(f"not ({a}) or not ({b})")


numbers = st.integers(0, 99).map(str)
sums = st.recursive(
    numbers,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner)
        | st.builds("-{}".format, inner)
        | st.builds("{} {} {}".format, inner, st.sampled_from("+-*"), inner)
    ),
    max_leaves=8,
)


@given(sums)
def test_arithmetic_binds_as_everybody_expects(text: str) -> None:
    run = WrittenRun({"lab.oom_kills": {1.0: 0.0}})
    verdict = parse(f"last(lab.oom_kills) + ({text}) == 0").judge(run)
    assert verdict.measured.replace(",", "") != ""
    python = eval(text)  # made of digits and + - * only
    assert (verdict.outcome is PASS) == (python == 0)
    exact = parse(f"last(lab.oom_kills) + ({text}) == ({python} + 0)").judge(run)
    assert exact.outcome is PASS


@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            ["max", "(", ")", "lab.pool", "vm.used", "web-1.free", ">=", "3MiB", "and", "or", "not",
             "-", "+", "/", ",", "1", "15%", "2s", '"oom-kill"', "events", "each_vm", "any", "at"]
        ),
        max_size=12,
    ).map(" ".join)
)  # fmt: skip
def test_no_text_at_all_makes_a_traceback(text: str) -> None:
    try:
        condition = parse(text, vms=("web-1", "web-2"))
    except ConditionError as error:
        assert all(1 <= f.column <= len(text) + 1 and f.fix for f in error.findings)
    else:
        full = {
            f"{owner if entity is not Entity.VM else vm}.{name}": {1.0: 1.0, 2.0: None}
            for entity, name in COLUMNS
            for owner in (str(entity),)
            for vm in ("web-1", "web-2")
        }
        assert condition.judge(WrittenRun(full)).outcome in Outcome
        assert condition.judge(WrittenRun()).outcome in Outcome


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("lab.saved_sharing >= 32MiB", 1, "value at each sample"),
        ("max(lab.saved_shring) >= 32MiB", 9, "no column 'saved_shring'"),
        ("max(web-3.used) >= 32MiB", 5, "no VM is called 'web-3'"),
        ("max(lab.pool) >= 32", 18, "bytes >= a number"),
        ("max(lab.pool) >= 32MB", 18, "MB is read as 1000 or as 1024"),
        ("max(lab.pool) >= 2s", 18, "bytes >= seconds"),
        ("max(lab.pool)", 1, "not a condition"),
        ("max(vm.used) > 1MiB", 1, "each VM in turn"),
        ("sum_vms(lab.used) > 1MiB", 1, "no vm.… is in it"),
        ("maximum(lab.used) > 1MiB", 1, "no function is called 'maximum'"),
        ("max(lab.used > 1MiB)", 5, "max takes a value"),
        ("any(lab.used)", 5, "any takes a condition"),
        ("max(1) > 2", 1, "no column is in it"),
        ("max(lab.used) = 3MiB", 15, "'=' is no sign here"),
        ("1 < max(lab.oom_kills) < 3", 24, "cannot be chained"),
        ("max(lab.used > 1MiB", 20, "column 4 is not closed"),
        ("free > 1MiB", 1, "'free' belongs to nothing"),
        ('events("oomkill") == 0', 8, "no event is called 'oomkill'"),
        ("at(lab.pool, lab.used) > 1", 14, "at takes a time"),
        ("not lab.pool", 1, "stands before a value"),
        ("max(lab.pool * lab.pool) > 1", 5, "bytes * bytes"),
        ("", 1, "a value is expected"),
    ],
)
def test_what_is_wrong_is_named_with_its_column(text: str, column: int, words: str) -> None:
    found = findings(text)
    assert found[0][0] == column
    assert words in found[0][1]


def test_all_that_is_wrong_is_named_at_once() -> None:
    found = findings("max(lab.saved_shring) > 1MiB and max(web-7.fre) > 1MiB and max(lab.x) > 1")
    assert [column for column, _, _ in found] == [9, 38, 68]
    assert found[0][2] == "write saved_sharing"


def test_when_is_about_the_latest_values() -> None:
    condition = parse(
        "lab.free < 10% * lab.budget and web-1.free > 1MiB", vms=("web-1",), instant=True
    )
    columns = {"lab.free": {1.0: 9.0, 2.0: 1.0}, "lab.budget": {2.0: 20.0}}
    columns["web-1.free"] = {2.0: 2.0 * MIB}
    run = WrittenRun(columns)
    assert condition.now(run.latest, vms=run.vms).outcome is PASS
    assert condition.now(WrittenRun().latest, vms=run.vms).outcome is OPEN
    assert "looks back" in findings("max(lab.free) < 1MiB", instant=True)[0][1]
    some = parse("some_vm(vm.free > 1MiB)", instant=True)
    assert some.now(run.latest, vms=("web-1", "web-2")).outcome is PASS


def test_columns_are_listed() -> None:
    condition = parse("max(lab.pool) > 1MiB and max(lab.pool + web-1.used) > 1MiB")
    assert condition.columns == (("lab", "pool"), ("web-1", "used"))


def test_every_function_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "conditions.md").read_text("utf-8")
    for name, function in FUNCTIONS.items():
        assert f"| `{name}(" in page
        assert function.meaning in page


def test_every_kind_of_event_has_a_writer_and_is_in_the_docs() -> None:
    """`events("x") == 0` must not hold because nobody ever writes x."""
    folder = ROOT / "memlab"
    rooms = (*(folder / "lab").glob("*.py"), *(folder / "vm").glob("*.py"))
    written = "".join(path.read_text("utf-8") for path in rooms)
    written += "".join(path.read_text("utf-8") for path in (folder / "guest" / "agent").glob("*.c"))
    page = (ROOT / "docs" / "conditions.md").read_text("utf-8")
    for kind in EVENT_KINDS:
        assert f'"{kind}"' in written or f'\\"event\\":\\"{kind}\\"' in written, kind
        assert f"`{kind}`" in page
