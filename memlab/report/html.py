"""A recording as one HTML file that needs no network, no server and (but for pointing) no script.

Every text of the recording is escaped, and the page's policy lets run only the two scripts and two
styles whose digests it names: a VM called `</script><script>…` is a VM with a long name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import Any, Final

from memlab.record.columns import Entity, Unit
from memlab.record.series import Event, Source
from memlab.report import facts, predictions, sections
from memlab.report.answer import answer, price, question
from memlab.report.axis import axis
from memlab.report.charts import Chart, Layer, Maker
from memlab.report.decisions import LEFT_ALONE, decisions
from memlab.report.markup import Markup, join, tag, text
from memlab.report.pack import STEP, TIME, pack
from memlab.report.sections import badge, section
from memlab.report.still import still
from memlab.report.verdict import Verdict, verdict
from memlab.report.waterfall import waterfall
from memlab.report.words import figure, mib

_MARKED: Final = frozenset(
    {
        *("set", "phase", "mark", "vm-started", "vm-ended", "oom-kill", "pool-full", "drift"),
        "policy-failed",
    }
)
_BAD: Final = frozenset({"oom-kill", "pool-full", "drift", "policy-failed"})
_MOST_STILLS: Final = 12
"""VMs whose charts are in the file as stills too: each VM's take about 25 kB."""
_CLOCK: Final = (Entity.LAB, "used")
_WIDE: Final = (1150, 340)
_SMALL: Final = (368, 158)
_HALF: Final = (560, 170)


def page(source: Source, baseline: Source | None = None) -> str:
    """The whole report."""
    return _Page(source, verdict(source, baseline)).html()


class _Page:
    """One page in the making: collects the charts that its sections ask for."""

    def __init__(self, source: Source, found: Verdict) -> None:
        self._source = source
        self._verdict = found
        self._charts: list[Chart] = []
        times = source.series(*_CLOCK).times
        self._end = max([*(event.time for event in source.events()), *times[-1:], 1.0])
        self._marked = [event for event in source.events() if event.kind in _MARKED]

    def html(self) -> str:
        plot_script, script = _asset("vendor/uPlot.iife.min.js"), _asset("page.js")
        plot_style, style = _asset("vendor/uPlot.min.css"), _asset("page.css")
        body = self._body()
        return Template(_asset("page.html")).substitute(
            policy=_policy((plot_script, script), (plot_style, style)),
            title=text(f"{facts.lab_name(self._source)} – memlab report"),
            plot_style=plot_style,
            style=style,
            body=body,
            data=_json(self._data()),
            plot_script=plot_script,
            script=script,
        )

    def _body(self) -> Markup:
        return join(
            self._head(),
            self._main(),
            predictions.shown(self._source),
            sections.expectations(self._source),
            self._price(),
            self._vms(),
            sections.ledger(self._source, self._verdict),
            decisions(self._source),
            sections.events(self._source),
            sections.restored(self._source),
            sections.run_facts(self._source),
            self._foot(),
            tag("div", id="pointer", class_="pointer", aria_hidden="true"),
        )

    def _head(self) -> Markup:
        source, standing = self._source, facts.standing(self._source)
        host = facts.mapping(source.manifest.get("host"))
        links = ("verdict", "price", "vms", "ledger", "decisions", "host", "facts")
        bar = tag(
            "header",
            tag("b", facts.lab_name(source)),
            badge(standing.outcome),
            tag("span", (facts.text_of(source.manifest.get("began")) or "").replace("T", " ", 1)),
            tag("span", f"Linux {host['kernel']}") if "kernel" in host else None,
            tag("span", where) if (where := facts.place(source)) else None,
            tag(
                "nav",
                *(tag("a", link, href=f"#{link}") for link in links),
                tag("button", "light / dark", id="theme", type="button", hidden=True),
            ),
            class_="top",
        )
        reasons = [tag("p", reason) for reason in standing.reasons]
        return join(
            bar,
            tag("h1", question(self._verdict)),
            tag("p", answer(self._verdict), class_="lead"),
            tag("p", price(self._verdict), class_="lead"),
            tag("div", *reasons, class_=f"reasons {standing.outcome}") if reasons else None,
        )

    def _main(self) -> Markup:
        start, end = self._verdict.window
        maker = Maker(self._source)
        hint = (
            f"Means over the measured window, {start:.1f} s to {end:.1f} s, "
            f"{self._verdict.samples} samples of all page tables."
        )
        # A part that is not there is said in the chart, not left out of the sum in silence.
        chart = self.figure(maker.where(), _WIDE, wide=True)
        note = (
            "The whole height is what the VMs were given, and the swap cache once more: it is in "
            "a frame and in swap at once. The dark areas at the bottom are in "
            "machine memory and have to stay below the dashed budget; the areas above them are "
            "what the mechanisms saved. The blue bracket is the measured window. Point to read "
            "figures, drag to zoom, double-click to see all."
        )
        return join(
            tag("div", chart, self._key(), class_="card"),
            tag("p", note, class_="hint"),
            section("verdict", "The verdict", hint, waterfall(self._verdict)),
        )

    def _key(self) -> Markup:
        """What the numbered marks of the wide charts are."""
        rows = [
            tag("li", tag("b", str(number)), tag("span", f"{event.time:.1f} s  {_mark(event)}"))
            for number, event in enumerate(self._marked, 1)
        ]
        return tag("ul", *rows, class_="marks")

    def _price(self) -> Markup:
        maker = Maker(self._source)
        charts = [self.figure(chart, _HALF) for chart in maker.price()]
        return section(
            "price",
            "The price, over time",
            "Small marks on the time axis are actions of the policy, in their mechanism's colour.",
            sections.work(self._verdict),
            sections.sharing(self._source),
            tag("div", self.figure(maker.budget(), _WIDE, wide=True), class_="card"),
            tag("div", tag("div", *charts, class_="grid2"), class_="card"),
        )

    def _vms(self) -> Markup:
        maker = Maker(self._source)
        stills = len(self._source.vms) <= _MOST_STILLS
        cards = []
        for vm in self._source.vms:
            layers = [self.figure(c, _SMALL, drawn=stills) for c in maker.layers(vm)]
            work = [self.figure(c, _SMALL, drawn=stills) for c in maker.work(vm)]
            cards.append(
                tag(
                    "article",
                    sections.vm_head(self._source, vm),
                    tag("div", *layers, class_="grid3"),
                    tag("div", *work, class_="grid3 work"),
                    class_="card",
                )
            )
        return section(
            "vms",
            "The VMs, by layer",
            "The same memory three times: what the applications mapped, what the guest believes it "
            "has, what the host gives. All three axes end at the configured size.",
            *cards,
        )

    def figure(
        self, chart: Chart, size: tuple[int, int], *, wide: bool = False, drawn: bool = True
    ) -> Markup:
        """A chart: its caption, its still, and a legend with the mean of the window."""
        start, end = self._verdict.window
        number = len(self._charts)
        absent = tag("p", f"not measured: {'; '.join(chart.absent)}", class_="absent")
        unit = "" if chart.empty else axis(chart).unit
        caption = tag("figcaption", chart.title, tag("span", unit, class_="unit"))
        if chart.empty:
            return tag("figure", caption, tag("div", "not measured in this run", class_="none"))
        self._charts.append(chart)
        marks = [event.time for event in self._marked] if wide else []
        window = (start, end)
        picture = still(chart, size, end=self._end, window=window, marks=marks) if drawn else None
        return tag(
            "figure",
            caption,
            tag("div", picture, class_="plot"),
            *_legends(chart),
            absent if chart.absent else None,
            class_="wide" if wide else None,
            data_chart=number,
            data_height=size[1],
        )

    def _foot(self) -> Markup:
        cpu, gaps = self._verdict.observer
        words = [
            f"memlab itself took {figure(cpu.value, cpu.unit)}"
            f"{' of one core' if cpu.value is not None else ''} in the measured window",
            f"{gaps.value or 0:.0f} gaps in the sampling",
            "one file, no network; made by memlab report",
        ]
        return tag("footer", "; ".join(words), ".", class_="foot")

    def _data(self) -> dict[str, Any]:
        series: list[tuple[Iterable[float | None], float]] = []
        seen: dict[tuple[float, ...], int] = {}

        def put(values: Iterable[float | None], step: float) -> int:
            series.append((values, step))
            return len(series) - 1

        def layers(rows: Sequence[Layer], unit: Unit) -> list[dict[str, Any]]:
            return [{"paint": row.paint, "y": put(row.values, STEP[unit])} for row in rows]

        charts = []
        for chart in self._charts:
            if chart.times not in seen:
                seen[chart.times] = put(chart.times, TIME)
            edge = axis(chart)
            charts.append(
                {
                    "x": seen[chart.times],
                    "unit": chart.unit.value,
                    "vm": chart.vm,
                    "areas": layers(chart.areas, chart.unit),
                    "lines": layers(chart.lines, chart.unit),
                    "bottom": edge.bottom,
                    "top": edge.top,
                    "ticks": edge.ticks,
                    "texts": edge.texts,
                }
            )
        packed = pack(series)
        return {
            "series": {
                "text": packed.text,
                "lengths": packed.lengths,
                "steps": packed.steps,
                "size": 4 * sum(packed.lengths),
            },
            "charts": charts,
            "marks": self._marks(),
            "window": self._verdict.window,
            "end": self._end,
        }

    def _marks(self) -> list[dict[str, Any]]:
        happened = [
            {"t": event.time, "n": number, "vm": event.vm, "bad": event.kind in _BAD}
            for number, event in enumerate(self._marked, 1)
        ]
        done = [
            {"t": round(choice.time, 3), "vm": choice.vm, "paint": choice.mechanism}
            for choice in self._source.choices()
            if choice.action != LEFT_ALONE
        ]
        return [*happened, *done]


def _asset(name: str) -> str:
    return files("memlab.report").joinpath(name).read_text(encoding="utf-8").strip()


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Nothing from anywhere, but these scripts and styles, named by their digest."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_digest, scripts))}",
            f"style-src {' '.join(map(_digest, styles))}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(inline: str) -> str:
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _json(value: Any) -> str:
    """JSON that may stand in a script element: no `<` ends it."""
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _mark(event: Event) -> str:
    return " ".join(part for part in (event.vm, event.kind, sections.said(event)) if part)


def _legends(chart: Chart) -> list[Markup]:
    """A legend for each group of layers; a figure is the window's mean until something is pointed
    at. Layers are numbered as the page's script knows them: areas from 0, then lines."""
    groups: dict[str, list[Markup]] = {}
    for at, row in enumerate((*chart.areas, *chart.lines)):
        rest = _rest(row, chart.unit)
        key = tag("i", class_=f"key {row.paint}{' thin' if at >= len(chart.areas) else ''}")
        number = tag("b", rest, data_layer=at, data_rest=rest)
        groups.setdefault(row.group, []).append(tag("li", key, f"{row.label} ", number))
    heads = {name: tag("li", name, class_="group") if name else None for name in groups}
    return [tag("ul", heads[name], *rows, class_="legend") for name, rows in groups.items()]


def _rest(row: Layer, unit: Unit) -> str:
    if row.rest is None:
        return "–"
    return mib(row.rest) if unit in (Unit.BYTES, Unit.BYTES_PER_SECOND) else figure(row.rest, unit)
