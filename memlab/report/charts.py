"""Which charts a report has, and the numbers of each; how they are drawn is said elsewhere.

A layer has one paint in all charts, by what it means and not by where it stands: memory in private
use is blue in the guest's view and in the host's, what the balloon holds is orange everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from memlab.record.columns import COLUMNS, Entity, Unit
from memlab.record.series import Source
from memlab.report import facts
from memlab.report.window import LAB, LEDGER_BOUND, VM, held, mean
from memlab.units import format_size

Values = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One area or line: its label, its paint (a CSS class), its values; `rest` is what its legend
    shows while nothing is pointed at: the mean over the measured window."""

    label: str
    paint: str
    values: Values
    rest: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Areas stacked from the bottom up, and lines over them, on one time axis.

    `absent` are the layers that this run does not have, each with the reason. `top` is the least
    upper end of the axis, so that a VM's layers can be compared.
    """

    name: str
    title: str
    unit: Unit
    times: tuple[float, ...]
    areas: tuple[Layer, ...] = ()
    lines: tuple[Layer, ...] = ()
    absent: tuple[str, ...] = ()
    top: float = 0.0
    vm: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not (self.areas or self.lines)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A layer to be looked up. `less` is taken away from it: mapped less touched is untouched."""

    name: str
    label: str
    paint: str
    less: str = ""
    group: str = ""


_VIRTUAL: Final = (
    Wanted("touched", "touched", "private"),
    Wanted("mapped", "mapped, not touched", "empty", less="touched"),
)
_GUEST: Final = (
    Wanted("used", "used", "private"),
    Wanted("cache", "cache", "cache"),
    Wanted("reserved", "reserved", "overhead"),
    Wanted("ballooned", "ballooned", "balloon"),
    Wanted("free", "free", "empty"),
)
_HOST: Final = (
    Wanted("private", "private", "private"),
    Wanted("shared", "shared", "sharing"),
    Wanted("zero", "zero", "zero"),
    Wanted("out", "out", "swap"),
    Wanted("not_backed", "not backed", "empty"),
)
_USED: Final = (
    Wanted("private", "private", "private"),
    Wanted("unique_frames", "shared frames", "sharing"),
    Wanted("swap_cache", "swap cache", "cache"),
    Wanted("overhead", "overhead", "overhead"),
    Wanted("pool", "compressed pool", "compression"),
)
_SAVED: Final = (
    Wanted("saved_sharing", "saved by sharing", "sharing-saved"),
    Wanted("saved_balloon", "balloon", "balloon"),
    Wanted("saved_compression", "compression", "compression-saved"),
    Wanted("saved_swap", "swap", "swap"),
    Wanted("never_touched", "never touched", "empty"),
)
_BUDGET: Final = Wanted("budget", "host budget", "budget")


class Maker:
    """Makes the charts of one run."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def where(self) -> Chart:
        """The main chart: what is in machine memory, and above it what need not be."""
        used = tuple(replace(want, group="in machine memory") for want in _USED)
        saved = tuple(replace(want, group="not in machine memory") for want in _SAVED)
        budget = replace(_BUDGET, group="limit")
        return self._chart("where", "Where the VMs' memory is", LAB, (*used, *saved), (budget,))

    def budget(self) -> Chart:
        """Machine memory by part at the rate of the fast samples, held against the budget."""
        used = Wanted("used", "used, by the cgroup", "ink")
        grid = self._source.series(LAB, "used").times
        chart = self._chart("budget", "Machine memory", LAB, _USED, (used, _BUDGET), grid=grid)
        free = self._room(chart)
        return chart if free is None else replace(chart, areas=(*chart.areas, free))

    def price(self) -> tuple[Chart, ...]:
        """What the mechanisms cost over time."""
        operations = Wanted("operations", "operations per second", "ink")
        flows = (
            Wanted("decompressed", "decompressed", "compression"),
            Wanted("swap_in", "swapped in", "swap"),
            Wanted("copied", "copied on write", "sharing"),
        )
        stalls = (
            Wanted("stall_some", "some task waits", "cache"),
            Wanted("stall_full", "all wait", "swap"),
        )
        cpu = (Wanted("ksmd_cpu", "ksmd", "sharing"), Wanted("observer_cpu", "memlab", "ink"))
        return (
            self._chart("operations", "Operations, all VMs", LAB, (), (operations,)),
            self._chart("flows", "Pages brought back", LAB, (), flows),
            self._chart("stalls", "Waiting for memory", LAB, (), stalls),
            self._chart("cpu", "CPU, of one core", LAB, (), cpu),
        )

    def layers(self, vm: str) -> tuple[Chart, ...]:
        """The three layers of one VM, all on the scale of its configured size."""
        top = max(self._source.series(VM, "configured", vm).known, default=0.0)
        rows = (
            ("virtual", "Virtual memory", _VIRTUAL),
            ("guest", "Guest physical memory", _GUEST),
            ("host", "Machine memory", _HOST),
        )
        return tuple(
            self._chart(name, title, VM, wanted, (), vm=vm, top=top) for name, title, wanted in rows
        )

    def work(self, vm: str) -> tuple[Chart, ...]:
        """Work and latency of one VM, and what its ledger leaves over."""
        latency = (Wanted("p99", "p99", "swap"), Wanted("p50", "p50", "cache"))
        residual = (
            Wanted("residual_guest", "guest", "private"),
            Wanted("residual_host", "host", "sharing"),
            Wanted("frames_differ", "frames that differ", "balloon"),
        )
        operations = Wanted("operations", "operations per second", "ink")
        return (
            self._chart("ops", "Operations", VM, (), (operations,), vm=vm),
            self._chart("latency", "Latency", VM, (), latency, vm=vm),
            self.active(vm),
            self._residual(self._chart("residual", "Ledger residual", VM, (), residual, vm=vm)),
        )

    def active(self, vm: str) -> Chart:
        """What the VM uses: the estimates, and the truth that they do not know; the title has the
        mean error of each over the measured window."""
        lines = (
            Wanted("active", "by random pages", "balloon"),
            Wanted("active_referenced", "by accessed bits", "sharing"),
            Wanted("active_pressure", "by pressing", "compression"),
            Wanted("active_damon", "by DAMON", "swap"),
            Wanted("active_guest", "by the guest", "private"),
            Wanted("working_set", "by the workload", "ink"),
        )
        asked = {one for one in lines[1:-2] if any(self._source.series(VM, one.name, vm).known)}
        # What the guest calls in use is in its own chart: here beside estimates only.
        shown = {lines[0], *asked, *(lines[-2:] if asked else lines[-1:])}
        wanted = tuple(one for one in lines if one in shown)
        chart = self._chart("active", "Active memory", VM, (), wanted, vm=vm)
        if len(chart.lines) < len(wanted):
            return chart
        *guesses, truth = chart.lines
        errors = [
            f"{guess.label} {format_size(error)}"
            for guess in guesses
            if (error := self._error(chart.times, guess.values, truth.values)) is not None
        ]
        title = f"Active memory, mean error: {', '.join(errors)}"
        return replace(chart, title=title) if errors else chart

    def _error(self, times: tuple[float, ...], guess: Values, truth: Values) -> float | None:
        """Mean distance from the truth over the measured window, where both are known."""
        pairs = zip(guess, truth, strict=True)
        return self._rest(
            times, tuple(None if a is None or b is None else abs(a - b) for a, b in pairs)
        )

    def _residual(self, chart: Chart) -> Chart:
        """With the bound drawn, so that a noise of a few pages does not look like a defect."""
        configured = max(self._source.series(VM, "configured", chart.vm).known, default=None)
        if configured is None or chart.empty:
            return chart
        bound = LEDGER_BOUND * configured
        limit = Layer("1 % of configured", "budget", (bound,) * len(chart.times), bound)
        return replace(chart, lines=(*chart.lines, limit))

    def _room(self, chart: Chart) -> Layer | None:
        """What is left between the parts and the budget: where the two are known."""
        budget = next((line for line in chart.lines if line.paint == "budget"), None)
        if budget is None or not chart.areas:
            return None
        pairs = zip(budget.values, stacked(chart.areas)[-1], strict=True)
        free = tuple(None if a is None or b is None else max(0.0, a - b) for a, b in pairs)
        return Layer("free", "empty", free, self._rest(chart.times, free))

    def _rest(self, times: tuple[float, ...], values: Values) -> float | None:
        """Mean over the measured window."""
        start, end = self._source.window
        pairs = zip(times, values, strict=True)
        return mean([v for time, v in pairs if v is not None and start <= time <= end])

    def _chart(
        self,
        name: str,
        title: str,
        entity: Entity,
        areas: Sequence[Wanted],
        lines: Sequence[Wanted],
        *,
        vm: str = "",
        top: float = 0.0,
        grid: tuple[float, ...] = (),
    ) -> Chart:
        first = (*areas, *lines)[0]
        times = grid or self._source.series(entity, first.name, vm).times
        found = {want: self._layer(entity, want, vm, times) for want in (*areas, *lines)}
        absent = tuple(
            f"{want.label}: {facts.why_absent(self._source, entity, want.name)}"
            for want, layer in found.items()
            if layer is None
        )
        return Chart(
            name=name,
            title=title,
            unit=COLUMNS[entity, first.name].unit,
            times=times,
            areas=tuple(la for want in areas if (la := found[want]) and any(la.values)),
            lines=tuple(layer for want in lines if (layer := found[want])),
            absent=absent,
            top=top,
            vm=vm,
        )

    def _layer(
        self, entity: Entity, want: Wanted, vm: str, times: tuple[float, ...]
    ) -> Layer | None:
        """The layer on the chart's own times, or None if the run does not have it."""
        values = self._values(entity, want.name, vm, times)
        if want.less:
            others = self._values(entity, want.less, vm, times)
            pairs = zip(values, others, strict=True)
            values = tuple(None if a is None or b is None else max(0.0, a - b) for a, b in pairs)
        if all(value is None for value in values):
            return None
        return Layer(want.label, want.paint, values, self._rest(times, values), want.group)

    def _values(self, entity: Entity, name: str, vm: str, times: tuple[float, ...]) -> Values:
        series = self._source.series(entity, name, vm)
        if series.times == times:
            return series.values
        return tuple(held(series, time) for time in times)


def stacked(areas: Sequence[Layer]) -> list[Values]:
    """The upper edge of each area. Where one of them is absent, so are all: a stack with a hole
    would show the wrong sum."""
    if not areas:
        return []
    edges: list[list[float | None]] = [[] for _ in areas]
    for column in zip(*(area.values for area in areas), strict=True):
        height: float | None = 0.0
        for edge, value in zip(edges, column, strict=True):
            height = None if None in column else (height or 0.0) + max(0.0, value or 0.0)
            edge.append(height)
    return [tuple(edge) for edge in edges]
