"""What each mechanism saved and what it cost, from a recording; formulas are rule 7 of the plan.

Every figure is the mean over the samples of the measured window, at the times of the deep samples
where page classes are in it. The savings are held against Σ configured − machine memory used, and
what is left over is the residual. A figure that the run does not have is None, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from memlab.control.policy import Mechanism
from memlab.record.columns import COLUMNS, Unit
from memlab.record.series import Source
from memlab.report import facts
from memlab.report.window import LAB, VM, Figure, Window, integral
from memlab.units import PAGE

NO_BASELINE: Final = "not measured: give a run without pressure, --baseline RUN"


@dataclass(frozen=True, slots=True)
class Line:
    """One mechanism: what it saved (bytes), and what that cost. `enabled` None: not known."""

    mechanism: Mechanism
    enabled: bool | None
    saved: Figure
    costs: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole answer: savings + never touched − overhead − swap cache is what it is held
    against, up to the residual."""

    window: tuple[float, float]
    samples: int
    configured: Figure
    budget: Figure
    used: Figure
    peak: Figure
    lines: tuple[Line, ...]
    never_touched: Figure
    overhead: Figure
    swap_cache: Figure
    held_against: Figure
    residual: Figure
    performance: tuple[Figure, ...]
    pressure: tuple[Figure, ...]
    observer: tuple[Figure, ...]
    baseline: str


def verdict(source: Source, baseline: Source | None = None) -> Verdict:
    """The verdict on `source`, its work held against the window of `baseline` if there is one."""
    window = Window.of(source)
    configured, used = window.at_deep("configured"), window.at_deep("used")
    peak = max(window.part(LAB, "used").known, default=None)
    lines = tuple(_line(window, mechanism) for mechanism in Mechanism)
    never = window.figure(
        "never touched", "never_touched", window.at_deep("never_touched"), "Σ not backed − balloon"
    )
    overhead = window.figure(
        "overhead", "overhead", window.at_deep("overhead"), "the VMs' memory that no guest sees"
    )
    swap_cache = window.figure(
        "swap cache", "swap_cache", window.at_deep("swap_cache"), "pages in a frame and in swap"
    )
    against = minus(configured, used)
    saved = total([*(line.saved.value for line in lines), never.value])
    own = (overhead.value or 0.0) + (swap_cache.value or 0.0)
    residual = minus(minus(saved, own), against)
    name, performance = _performance(window, baseline)
    return Verdict(
        window=(window.start, window.end),
        samples=len(window.times),
        configured=window.figure("configured", "configured", configured, "Σ configured"),
        budget=window.figure("host budget", "budget", window.at_deep("budget"), "lab file"),
        used=window.figure("machine memory used", "used", used, "cgroup usage (+ pool on v1)"),
        peak=window.figure("peak of machine memory used", "used", peak, "largest fast sample"),
        lines=lines,
        never_touched=never,
        overhead=overhead,
        swap_cache=swap_cache,
        held_against=_sum("configured − machine memory used", against, "Σ configured − used"),
        residual=_sum(
            "residual", residual, "saved + never touched − overhead − swap cache − held against"
        ),
        performance=performance,
        pressure=_pressure(window),
        observer=_observer(window),
        baseline=name,
    )


def _sum(label: str, value: float | None, how: str) -> Figure:
    return Figure(label, value, Unit.BYTES, how, "" if value is not None else "a term is absent")


def total(values: Sequence[float | None]) -> float | None:
    """The sum, None if a term is absent: a sum without one of its terms is another number."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def minus(left: float | None, right: float | None) -> float | None:
    """The difference, None if either is absent."""
    return None if left is None or right is None else left - right


_SAVED: Final = {
    Mechanism.SHARING: ("saved_sharing", "Σ shared + Σ zero − unique frames"),
    Mechanism.BALLOON: ("saved_balloon", "ballooned pages that had been backed"),
    Mechanism.COMPRESSION: ("saved_compression", "compressed − pool"),
    Mechanism.SWAP: ("saved_swap", "on the device + zero-in-swap"),
}


def _line(window: Window, mechanism: Mechanism) -> Line:
    name, how = _SAVED[mechanism]
    saved = window.figure("saved", name, window.at_deep(name), how)
    enabled = facts.enabled(window.source, mechanism)
    return Line(mechanism, enabled, saved, _COSTS[mechanism](window))


def _rate(window: Window, label: str, name: str) -> Figure:
    """A lab column of bytes per second as pages per second."""
    value = window.mean(LAB, name)
    pages = None if value is None else value / PAGE
    how = f"mean of lab.{name} ÷ 4 KiB"
    return window.figure(label, name, pages, how, Unit.PER_SECOND)


def _over_vms(
    window: Window, label: str, name: str, how: str, join: Callable[[Sequence[float]], float] = sum
) -> Figure:
    value = window.over_vms(name, join)
    unit = COLUMNS[VM, name].unit
    if value is not None and unit is Unit.BYTES_PER_SECOND:
        value, unit = value / PAGE, Unit.PER_SECOND
    return Figure(label, value, unit, how, "" if value is not None else window.why(VM, name))


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _sharing(window: Window) -> tuple[Figure, ...]:
    spent = integral(window.source.series(LAB, "ksmd_cpu"))
    return (
        window.figure("ksmd, of one core", "ksmd_cpu", window.mean(LAB, "ksmd_cpu"), "mean"),
        window.figure(
            "ksmd, CPU in the whole run", "ksmd_cpu", spent, "∫ lab.ksmd_cpu dt", Unit.SECONDS
        ),
        _rate(window, "pages copied on write", "copied"),
        _over_vms(window, "VMs waiting for copies", "delay_copy", "mean over VMs", _average),
    )


def _balloon(window: Window) -> tuple[Figure, ...]:
    falls = [cache_dropped(window.source, vm) for vm in window.source.vms]
    known = [fall for fall in falls if fall is not None]
    dropped = sum(known) if known else None
    why = "" if dropped is not None else window.why(VM, "cache")
    how = "Σ falls of guest cache while the balloon grew, whole run"
    return (
        _over_vms(window, "guest's own swap-ins", "guest_swap_in", "Σ vm.guest_swap_in ÷ 4 KiB"),
        Figure("guest cache dropped", dropped, Unit.BYTES, how, why),
    )


def cache_dropped(source: Source, vm: str) -> float | None:
    """Bytes of guest cache that went while the balloon of `vm` grew; None: not known."""
    cache, balloon = source.series(VM, "cache", vm), source.series(VM, "ballooned", vm)
    rows = [
        (held_cache, held_balloon)
        for held_cache, held_balloon in zip(cache.values, balloon.values, strict=True)
        if held_cache is not None and held_balloon is not None
    ]
    if not rows:
        return None
    return sum(max(0.0, old[0] - new[0]) for old, new in pairwise(rows) if new[1] > old[1])


def _compression(window: Window) -> tuple[Figure, ...]:
    return (
        _rate(window, "pages decompressed", "decompressed"),
        _over_vms(
            window, "VMs waiting (swap's too)", "delay_swapin", "mean over VMs of delay", _average
        ),
        window.figure("pool", "pool", window.at_deep("pool"), "mean of lab.pool"),
    )


def _swap(window: Window) -> tuple[Figure, ...]:
    return (
        _rate(window, "pages swapped in", "swap_in"),
        _over_vms(window, "major faults (zswap's too)", "major_faults", "Σ vm.major_faults"),
    )


_COSTS: Final[dict[Mechanism, Callable[[Window], tuple[Figure, ...]]]] = {
    Mechanism.SHARING: _sharing,
    Mechanism.BALLOON: _balloon,
    Mechanism.COMPRESSION: _compression,
    Mechanism.SWAP: _swap,
}


def _performance(window: Window, baseline: Source | None) -> tuple[str, tuple[Figure, ...]]:
    """Operations per second of the lab and the p99 of its slowest VM, beside the baseline's."""
    name, operations, p99 = _baseline(window.source, baseline)
    done, slowest = window.mean(LAB, "operations"), window.slowest()
    how = "largest of the VMs' p99, histograms of the window merged"
    return name, (
        replace(
            window.figure("operations per second, all VMs", "operations", done, "mean"),
            against=operations,
        ),
        Figure(
            "p99 latency, slowest VM",
            slowest,
            Unit.SECONDS,
            how,
            "" if slowest is not None else window.why(VM, "p99"),
            p99,
        ),
    )


def as_baseline(run: Source) -> dict[str, Any]:
    """What another run is held against, of this one: for the other's manifest. p99 in seconds."""
    window = Window.of(run)
    return {
        "name": f"run {facts.lab_name(run)}",
        "operations": window.mean(LAB, "operations"),
        "p99": window.slowest(),
    }


def _baseline(source: Source, other: Source | None) -> tuple[str, float | None, float | None]:
    """Name, operations and p99 of what the run is held against: another run, a phase of the same
    run, or figures that the manifest has."""
    if other is not None:
        found = as_baseline(other)
        return found["name"], found["operations"], found["p99"]
    said = facts.mapping(source.manifest.get("baseline"))
    name = str(said.get("name", "baseline"))
    start, end = facts.number(said.get("from")), facts.number(said.get("until"))
    if start is not None and end is not None:
        phase = Window(source, start, end, ())
        return f"phase {name}", phase.mean(LAB, "operations"), phase.slowest()
    if (operations := facts.number(said.get("operations"))) is not None:
        return name, operations, facts.number(said.get("p99"))
    return "", None, None


def _pressure(window: Window) -> tuple[Figure, ...]:
    return tuple(
        window.figure(label, name, window.mean(LAB, name), "Δ stall time ÷ Δ time")
        for label, name in (
            ("some task waited for memory", "stall_some"),
            ("all tasks waited for memory", "stall_full"),
        )
    )


def _observer(window: Window) -> tuple[Figure, ...]:
    gaps = sum(event.kind == "gap" for event in window.source.events())
    cpu = window.mean(LAB, "observer_cpu")
    return (
        window.figure("memlab itself, of one core", "observer_cpu", cpu, "mean"),
        Figure("gaps in the sampling", float(gaps), Unit.COUNT, "events of kind gap, whole run"),
    )
