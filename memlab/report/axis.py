"""Axes from 0: where the ticks of a chart stand and what is written beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from memlab.record.columns import Unit
from memlab.report.charts import Chart, stacked
from memlab.units import MIB

_MOST_TICKS: Final = 4
_ROOM: Final = 1.08
"""A line's highest point stays below the upper edge."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A vertical axis: its ends in the chart's unit, its ticks, and the unit of their texts."""

    bottom: float
    top: float
    ticks: tuple[float, ...]
    texts: tuple[str, ...]
    unit: str


def axis(chart: Chart) -> Axis:
    """The axis that holds all of the chart, from 0 unless a value is below it."""
    edges = [*stacked(chart.areas)[-1:], *(line.values for line in chart.lines)]
    known = [value for edge in edges for value in edge if value is not None]
    highest, lowest = max(known, default=0.0), min(known, default=0.0)
    top = max(chart.top, highest if chart.areas else highest * _ROOM)
    word, scale = _scale(chart.unit, max(top, -lowest))
    top = top or scale * (1 if chart.unit is not Unit.FRACTION else 0.01)
    step = _step(top - min(0.0, lowest), scale, binary=chart.unit is Unit.BYTES)
    bottom = math.floor(min(0.0, lowest) / step) * step
    count = math.floor((top - bottom) / step + 1e-9)
    ticks = tuple(bottom + i * step for i in range(count + 1))
    return Axis(bottom, top, ticks, tuple(_text(tick / scale) for tick in ticks), word)


def _scale(unit: Unit, top: float) -> tuple[str, float]:
    """The word of the axis, and how much of the chart's unit one of it is."""
    match unit:
        case Unit.BYTES:
            return "MiB", MIB
        case Unit.BYTES_PER_SECOND:
            return "MiB/s", MIB
        case Unit.FRACTION:
            return "%", 0.01
        case Unit.SECONDS:
            known = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
            return next((row for row in known if top >= row[1]), known[-1])
        case Unit.PER_SECOND:
            return ("thousand per second", 1e3) if top >= 10_000 else ("per second", 1.0)
        case _:
            return "", 1.0


def _step(top: float, scale: float, *, binary: bool) -> float:
    """A round step with at most four ticks above 0: a power of two for bytes, else 1, 2 or 5."""
    least = top / _MOST_TICKS / scale
    if binary:
        return float(2 ** math.ceil(math.log2(least))) * scale
    power = float(10 ** math.floor(math.log10(least)))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * 0.999) * scale


def _text(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")
