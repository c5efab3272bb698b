"""How figures of a comparison stand in a table: columns, percentages, ranges, notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from memlab.study.compare import Row, Spread
from memlab.units import MIB

Show = Callable[[float | None], str]
DID_NOT_ACT: Final = "did not act"
UNKNOWN: Final = "–"


def percent(value: float | None) -> str:
    """A fraction as it stands in a table."""
    return UNKNOWN if value is None else f"{value:.1%}"


def span(spread: Spread, show: Show) -> str:
    """`85.0–88.2%`, the unit once if both have it; empty where both ends read alike."""
    low, high = show(spread.low), show(spread.high)
    if low == high:
        return ""
    unit = high.lstrip("0123456789.,-")
    return f"{low.removesuffix(unit) if unit else low}–{high}"


def with_spread(spread: Spread, show: Show) -> str:
    """`87.1% (85.0–88.2%)`, the range left out where there is but one value."""
    found = span(spread, show)
    return f"{show(spread.middle)} ({found})" if found else show(spread.middle)


def scaled(scales: tuple[float, float]) -> str:
    """What published periods and sizes of the policies were divided by."""
    time, size = scales
    return f"time_scale {time:g}, size_scale {size:g}"


def notes(row: Row) -> str:
    """What a reader has to know beside the figures."""
    found = [] if row.acted or not row.runs > len(row.void) else [DID_NOT_ACT]
    if row.out_of_memory:
        found.append(f"guests out of memory: {row.out_of_memory}")
    if row.void:
        found.append(f"{len(row.void)} of {row.runs} runs void: {row.void[0]}")
    return "; ".join(found)


def _index(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    """Three digits: `1.23 ms`, `98.1 ms`, `1200 s`."""
    if value is None:
        return UNKNOWN
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9995 * factor:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{value / 1e-9:.0f} ns"


def _rate(value: float | None) -> str:
    """`310`, `12.3k`: three digits from a thousand on."""
    if value is None:
        return UNKNOWN
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * factor:
            return f"{_three_digits(value / factor)}{unit}"
    return f"{value:.0f}"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _mebibytes(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value / MIB:,.0f}"


def _count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its head, its figure of a row, how that is written; `narrow`: a terminal has
    room for the median alone."""

    head: str
    of: Callable[[Row], Spread]
    show: Show
    narrow: bool = False

    def whole(self, row: Row) -> str:
        """Median and range on one line."""
        return with_spread(self.of(row), self.show)

    def stacked(self, row: Row) -> str:
        """The range below the median."""
        spread = self.of(row)
        below = "" if self.narrow else span(spread, self.show)
        return "\n".join((self.show(spread.middle), *([below] if below else ())))


COLUMNS: Final = (
    Column("work", lambda row: row.work, percent),
    Column("fair", lambda row: row.fairness, _index, narrow=True),
    Column("p99", lambda row: row.p99, _seconds),
    Column("saved, MiB", lambda row: row.saved_in_all, _mebibytes),
    Column("faults /s", lambda row: row.major_faults, _rate),
    Column("swap-in /s", lambda row: row.swapped_in, _rate, narrow=True),
    Column("CPU", lambda row: row.cpu, percent),
    Column("actions", lambda row: row.actions, _count, narrow=True),
)
"""For the terminal, the document and the page; `docs/compare.md` says what each is."""
