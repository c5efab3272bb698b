"""The page says what the verdict says, holds everything itself, and cannot be broken out of."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from memlab.record.columns import Entity, Unit
from memlab.record.derive import Derived
from memlab.record.series import Choice, Event
from memlab.report.axis import axis
from memlab.report.charts import Chart, Layer, Maker, stacked
from memlab.report.decisions import grouped
from memlab.report.html import page
from memlab.report.markup import Markup, join, tag
from memlab.report.pack import Packed, unpack
from memlab.report.still import still
from memlab.units import MIB
from tests.recordings import build
from tests.unit.fake_run import FakeRun, squeeze, steady

HOSTILE = "</script></style><script>document.title=1</script><img src=x onerror=alert(1)>\"'&"


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes, text, inline scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, str]] = []
        self.words = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        kind = dict(attrs).get("type")
        self._in = f"{name}:{kind}" if kind == "application/json" else name

    def handle_endtag(self, _name: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style", "script:application/json"):
            self.inline.append((self._in, data))
        else:
            self.words += data

    def only(self, kind: str) -> list[str]:
        return [text for name, text in self.inline if name == kind]


def data_of(reader: Reader) -> dict[str, Any]:
    (text,) = reader.only("script:application/json")
    found: dict[str, Any] = json.loads(text)
    return found


def hostile() -> FakeRun:
    run = squeeze()
    renamed = {
        (entity, name, HOSTILE if vm == "web-1" else vm): wave
        for (entity, name, vm), wave in run.waves.items()
    }
    manifest = {
        **run.manifest,
        "lab": HOSTILE,
        "source": HOSTILE,
        "expects": [dict.fromkeys(("name", "that", "outcome", "measured", "text"), HOSTILE)],
        "vms": [{"name": HOSTILE, "workload": HOSTILE}],
        "host": {HOSTILE: HOSTILE, "kernel": HOSTILE},
        "restored": {"ok": False, "failed": [HOSTILE]},
        "verdict": {"outcome": HOSTILE, "reasons": [HOSTILE]},
        "absent": {"vm.mapped": HOSTILE},
    }
    return replace(
        run,
        names=(HOSTILE, *run.names[1:]),
        waves=renamed,
        manifest=manifest,
        happened=(Event(1.0, "set", HOSTILE, {HOSTILE: HOSTILE}),),
        chosen=(
            Choice(1.0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
            Choice(2.0, "ladder", "soft", "left-alone", HOSTILE, HOSTILE, HOSTILE),
        ),
    )


def test_the_figures_of_the_verdict_are_in_the_text_without_any_script() -> None:
    words = Reader(page(squeeze())).words
    for text in (
        "How did 768 MiB of VMs fit into 384 MiB?",
        "Page sharing saved 142 MiB",
        "ksmd took 30.9 % of a core",
        "the swap device holds at least 64 MiB",
        "1 of 2 passed",
        "free part of the budget is 12 %, below 15 %; web-3 is most idle",
        "/sys/kernel/mm/ksm/run: 1 → 0",
        "name: quickstart",
        "verify: 0 bad of 28672 pages",
        "40 ×",
    ):
        assert text in words, text


def test_nothing_is_fetched() -> None:
    reader = Reader(page(squeeze()))
    for name, attributes in reader.elements:
        assert name not in ("link", "img", "iframe", "object", "base", "form")
        assert "src" not in attributes, (name, attributes)
        assert "style" not in attributes, "the policy would refuse it"
        assert not any(key.startswith("on") for key in attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_the_policy_names_exactly_the_scripts_and_styles_of_the_page() -> None:
    reader = Reader(page(squeeze()))
    policy = next(a["content"] for n, a in reader.elements if n == "meta" and "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for kind, rule in (("script", "script-src"), ("style", "style-src")):
        digests = {
            f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'"
            for t in reader.only(kind)
        }
        assert len(digests) == 2
        assert set(rules[rule].split()) == digests


def test_a_hostile_recording_stays_text() -> None:
    plain, reader = Reader(page(squeeze())), Reader(page(hostile()))
    assert len(reader.only("script")) == len(plain.only("script"))
    assert not any(name == "img" for name, _ in reader.elements)
    assert not any(a.get("onerror") for _, a in reader.elements)
    assert HOSTILE in reader.words
    assert any(mark["vm"] == HOSTILE for mark in data_of(reader)["marks"])


def test_a_name_that_steers_a_terminal_is_made_harmless() -> None:
    run = squeeze()
    run.manifest = {**run.manifest, "lab": "x\x1b]0;owned\x07y\u202e"}
    assert "\x1b" not in page(run)


def test_the_packed_series_are_those_of_the_run() -> None:
    run = squeeze()
    found = data_of(Reader(page(run)))
    series = found["series"]
    back = unpack(Packed(series["text"], tuple(series["lengths"]), tuple(series["steps"])))
    chart = next(c for c in found["charts"] if c["vm"] == "web-3" and len(c["areas"]) == 5)
    assert tuple(back[chart["x"]]) == run.series(Entity.VM, "private", "web-3").times
    for area, name in zip(
        chart["areas"], ("private", "shared", "zero", "out", "not_backed"), strict=True
    ):
        want = run.series(Entity.VM, name, "web-3").values
        assert back[area["y"]] == pytest.approx(list(want), abs=512, nan_ok=False)


def test_a_real_recording_is_drawn_and_stays_small(tmp_path: Path) -> None:
    with Derived.open(build(tmp_path)) as source:
        text = page(source)
    assert len(text) < 1_000_000
    assert "Host restored: " in Reader(text).words


def test_an_empty_or_broken_manifest_is_no_error() -> None:
    assert "What did each mechanism save" in page(FakeRun())
    broken = dict.fromkeys(
        ("expects", "restored", "mechanisms", "vms", "results", "host", "verdict", "baseline"), 7
    )
    assert "unnamed lab" in page(FakeRun(names=("a",), manifest=broken))


def test_a_run_that_died_early_has_charts_and_no_sum() -> None:
    text = page(replace(squeeze(), length=10.0))
    assert "No sample lies in the measured window" in text
    assert "Σ configured" not in text
    assert text.count('class="still"') > 20


def test_a_session_writes_results_as_the_agent_gave_them() -> None:
    run = squeeze()
    told = {"stats": {"operations": 222304, "p99_ns": 1792}, "verify": {"checked": 7, "bad": 1}}
    vms = [{"name": "web-1", "workload": {"name": "keyvalue", "size": 104857600}}]
    run.manifest = {**run.manifest, "results": {"web-1": told}, "vms": vms}
    words = Reader(page(run)).words
    assert "workload keyvalue222\u202f304 operationsp99 1.8 µsverify: 1 bad of 7 pages" in words


def test_a_long_event_is_cut() -> None:
    run = squeeze()
    run.happened = (Event(1.0, "mark", "", {"mark": "batch starts", "answer": "x" * 5000}),)
    text = page(run)
    assert "batch starts, answer x" in text
    assert "x" * 300 not in text


def test_what_was_not_measured_says_so() -> None:
    run = squeeze()
    for vm in run.names:
        del run.waves[Entity.VM, "mapped", vm]
    run.manifest = {**run.manifest, "absent": {"vm.mapped": "the guest does not tell"}}
    words = Reader(page(run)).words
    assert "not measured: mapped, not touched: the guest does not tell" in words


def test_many_vms_have_their_stills_left_out() -> None:
    few, many = page(squeeze(4)), page(squeeze(20))
    assert few.count('class="still"') > 4 * 6
    assert many.count('class="still"') < 10


# Parts


def test_markup_escapes_what_is_not_markup() -> None:
    assert tag("b", "<i>", title='"') == '<b title="&quot;">&lt;i&gt;</b>'
    assert join(Markup("<i>"), "<") == "<i>&lt;"
    assert tag("td", class_=None, hidden=True) == "<td hidden></td>"


def area(*values: float | None) -> Layer:
    return Layer("x", "private", values)


def test_a_stack_with_a_hole_is_a_hole() -> None:
    assert stacked([area(1.0, 2.0, None), area(3.0, None, 5.0)]) == [
        (1.0, None, None),
        (4.0, None, None),
    ]


def test_axes_begin_at_zero_and_have_round_ticks() -> None:
    chart = Chart("x", "X", Unit.BYTES, (0.0, 1.0), areas=(area(1.0, 2.0),), top=192.0 * MIB)
    found = axis(chart)
    assert (found.bottom, found.top) == (0, 192 * MIB)
    assert found.texts == ("0", "64", "128", "192")
    line = Layer("x", "ink", (0.0, 4.2e-4))
    latency = axis(Chart("x", "X", Unit.SECONDS, (0.0, 1.0), lines=(line,)))
    assert latency.unit == "µs"
    assert latency.texts[:3] == ("0", "200", "400")


def test_axes_of_nothing_and_below_zero() -> None:
    flat = axis(Chart("x", "X", Unit.FRACTION, (0.0,), lines=(Layer("x", "ink", (0.0,)),)))
    assert flat.top > 0
    below = Layer("x", "ink", (-3.0 * MIB, 1.0 * MIB))
    found = axis(Chart("x", "X", Unit.BYTES, (0.0, 1.0), lines=(below,)))
    assert found.bottom <= -3 * MIB
    assert "0" in found.texts


def test_a_still_stays_in_its_picture() -> None:
    chart = Maker(squeeze()).where()
    picture = still(chart, (400, 200), end=45.0, window=(30.0, 99.0), marks=(1.0, 44.0))
    numbers = re.findall(r"[ML]([\d.]+) ([\d.]+)", picture)
    assert len(numbers) > 100
    assert all(0 <= float(x) <= 400 and 0 <= float(y) <= 200 for x, y in numbers)


def test_the_main_chart_is_as_high_as_all_vms() -> None:
    chart = Maker(squeeze()).where()
    assert stacked(chart.areas)[-1][-1] == pytest.approx(768 * MIB + 3 * MIB, rel=0.001)


def test_every_kind_of_action_has_a_button_that_shows_it() -> None:
    words = ("sharing", "balloon", "compression", "swap", "age", "block")
    rows = tuple(Choice(1.0, "p", "s", "does", word, "a", "it is asked to") for word in words)
    seen = Reader(page(FakeRun(names=("a",), chosen=rows))).elements
    buttons = [known.get("data-mechanism") for name, known in seen if name == "button"]
    assert [word for word in buttons if word] == list(words)
    shown = [known.get("data-mechanism") for name, known in seen if name == "tr"]
    assert [word for word in shown if word] == list(words)


def test_reasons_that_differ_in_numbers_are_one() -> None:
    rows = [
        Choice(t, "p", "s", "left-alone", "swap", "a", f"a has {t} MiB free") for t in (1.0, 2.0)
    ]
    rows.append(Choice(3.0, "p", "s", "left-alone", "swap", "a", "a is idle"))
    first, second = grouped(rows)
    assert (first.count, first.last.time, second.count) == (2, 2.0, 1)


def test_a_switched_off_mechanism_is_called_so() -> None:
    run = squeeze()
    run.put(Entity.LAB, saved_swap=steady(0))
    run.manifest = {**run.manifest, "mechanisms": {"swap": {"enabled": False}}}
    assert "switched off in the lab file" in Reader(page(run)).words
