"""A chart as a still picture: SVG that prints, needs no script, and follows the page's colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from memlab.report.axis import Axis, axis
from memlab.report.charts import Chart, Values, stacked
from memlab.report.markup import Markup, join, tag

_LEFT: Final = 46
_RIGHT: Final = 8
_TOP: Final = 14
_BOTTOM: Final = 22
_NUMBER: Final = 16.0
"""Pixels that the number of a mark takes."""
_MOST_POINTS: Final = 160
_TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the plot lies in the picture, and what its edges stand for."""

    width: float
    height: float
    end: float
    axis: Axis

    def x(self, time: float) -> float:
        """Pixels from the left for seconds."""
        return _LEFT + (self.width - _LEFT - _RIGHT) * time / self.end

    def y(self, value: float) -> float:
        """Pixels from the top for a value."""
        part = (value - self.axis.bottom) / (self.axis.top - self.axis.bottom)
        return self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * part


def still(
    chart: Chart,
    size: tuple[int, int],
    *,
    end: float,
    window: tuple[float, float],
    marks: Sequence[float] = (),
) -> Markup:
    """The chart as SVG; `end` is the last second shown, `window` the measured part, `marks` the
    times that are numbered from 1."""
    width, height = size
    frame = Frame(width, height, max(end, 1e-3), axis(chart))
    keep = range(0, len(chart.times), max(1, len(chart.times) // _MOST_POINTS))
    times = tuple(chart.times[i] for i in keep)
    edges = [tuple(edge[i] for i in keep) for edge in stacked(chart.areas)]
    painted = zip(reversed(chart.areas), reversed(edges), strict=True)
    return tag(
        "svg",
        _window(frame, window),
        _grid(frame),
        *(_area(frame, layer.paint, times, edge) for layer, edge in painted),
        *(
            _line(frame, layer.paint, times, tuple(layer.values[i] for i in keep))
            for layer in chart.lines
        ),
        _measured(frame, window),
        _marks(frame, marks),
        _seconds(frame),
        class_="still",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{chart.title} {chart.vm}: {', '.join(_names(chart))}",
    )


def _names(chart: Chart) -> Iterator[str]:
    return (layer.label for layer in (*chart.areas, *chart.lines))


def _window(frame: Frame, window: tuple[float, float]) -> Markup:
    left, right = (frame.x(min(max(time, 0.0), frame.end)) for time in window)
    height = frame.height - _TOP - _BOTTOM
    return tag("rect", class_="window", x=left, y=_TOP, width=right - left, height=float(height))


def _measured(frame: Frame, window: tuple[float, float]) -> Markup:
    """The window again, as a bracket over the areas that hide its band."""
    left, right = (frame.x(min(max(time, 0.0), frame.end)) for time in window)
    return tag("line", class_="measured", x1=left, x2=right, y1=_TOP, y2=_TOP)


def _marks(frame: Frame, marks: Sequence[float]) -> Markup:
    """A dotted line each, with its number where there is room for one."""
    parts, taken = [], -_NUMBER
    for number, time in enumerate(marks, 1):
        x = frame.x(time)
        parts.append(tag("line", class_="mark", x1=x, x2=x, y1=_TOP, y2=frame.y(0)))
        if x - taken >= _NUMBER:
            parts.append(tag("text", str(number), x=x, y=_TOP - 3, text_anchor="middle"))
            taken = x
    return join(*parts)


def _grid(frame: Frame) -> Markup:
    parts = []
    for tick, text in zip(frame.axis.ticks, frame.axis.texts, strict=True):
        y = frame.y(tick)
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=frame.width - _RIGHT, y1=y, y2=y))
        parts.append(tag("text", text, x=_LEFT - 6, y=y + 3.5, text_anchor="end"))
    return join(*parts)


def _seconds(frame: Frame) -> Markup:
    room = max(2.0, (frame.width - _LEFT) / 70)
    step = next((tick for tick in _TICKS if frame.end / tick <= room), _TICKS[-1])
    times = [i * step for i in range(int(frame.end / step) + 1)]
    y = frame.height - 6
    return join(
        *(tag("text", f"{time} s", x=frame.x(time), y=y, text_anchor="middle") for time in times)
    )


def _runs(times: Sequence[float], values: Values) -> Iterator[list[tuple[float, float]]]:
    """The stretches without a hole."""
    run: list[tuple[float, float]] = []
    for time, value in zip(times, values, strict=True):
        if value is not None:
            run.append((time, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _points(frame: Frame, run: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{frame.x(time):.1f} {frame.y(value):.1f}" for time, value in run)


def _area(frame: Frame, paint: str, times: Sequence[float], edge: Values) -> Markup:
    """From the axis up to the edge: lower areas are painted over it afterwards."""
    base = frame.y(0)
    path = "".join(
        f"M{frame.x(run[0][0]):.1f} {base:.1f}L{_points(frame, run)}L{frame.x(run[-1][0]):.1f}"
        f" {base:.1f}Z"
        for run in _runs(times, edge)
    )
    return tag("path", class_=f"area {paint}", d=path)


def _line(frame: Frame, paint: str, times: Sequence[float], values: Values) -> Markup:
    path = "".join(f"M{_points(frame, run)}" for run in _runs(times, values))
    return tag("path", class_=f"line {paint}", d=path)
