"""A comparison for the terminal, for programs, and as Markdown for a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from rich.table import Table

from memlab.study.compare import Comparison, Row, Spread
from memlab.units import MIB, format_duration

SCHEMA_VERSION: Final = 1
DID_NOT_ACT: Final = "did not act"


def notes(row: Row) -> str:
    """What a reader has to know beside the figures."""
    found = [] if row.acted or not row.runs > len(row.void) else [DID_NOT_ACT]
    if row.out_of_memory:
        found.append(f"guests out of memory: {row.out_of_memory}")
    if row.void:
        found.append(f"{len(row.void)} of {row.runs} runs void: {row.void[0]}")
    return "; ".join(found)


def saved(row: Row) -> float | None:
    """Bytes that all mechanisms saved together; None if one of them is not known."""
    parts = [spread.middle for spread in row.saved.values()]
    return None if not parts or None in parts else sum(part or 0.0 for part in parts)


def percent(value: float | None) -> str:
    """A fraction as it stands in a table."""
    return "–" if value is None else f"{value:.1%}"


def with_spread(spread: Spread, show: Callable[[float | None], str]) -> str:
    """`87.1% (85.0%–88.2%)`, the range left out where there is but one run."""
    if spread.middle is None or spread.low == spread.high:
        return show(spread.middle)
    return f"{show(spread.middle)} ({show(spread.low)}–{show(spread.high)})"


def _seconds(value: float | None) -> str:
    return "–" if value is None else format_duration(value)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


COLUMNS: Final[tuple[tuple[str, Callable[[Row], str]], ...]] = (
    ("work", lambda row: with_spread(row.work, percent)),
    ("fairness", lambda row: "–" if row.fairness.middle is None else f"{row.fairness.middle:.3f}"),
    ("p99", lambda row: _seconds(row.p99.middle)),
    ("saved, MiB", lambda row: "–" if (one := saved(row)) is None else f"{one / MIB:,.0f}"),
    ("major faults /s", lambda row: _rate(row.major_faults.middle)),
    ("swapped in /s", lambda row: _rate(row.swapped_in.middle)),
    ("ksmd", lambda row: percent(row.ksmd_cpu.middle)),
    ("actions", lambda row: _rate(row.actions.middle)),
)
"""Head and cell of each column, for all three forms."""


def heading(found: Comparison) -> str:
    """What was compared, and how it was scaled."""
    time, size = found.scales
    scaled = f"; time_scale {time:g}, size_scale {size:g}" if (time, size) != (1.0, 1.0) else ""
    repeats = max((row.runs for row in found.rows), default=0)
    return (
        f"{found.lab}: work relative to {found.against} "
        f"({found.reference.total:,.0f} operations/s); {repeats} repeats{scaled}"
    )


def table(found: Comparison) -> Table:
    """For a terminal."""
    shown = Table(title=heading(found), title_justify="left", box=None, pad_edge=False)
    shown.add_column("policy")
    for head, _ in COLUMNS:
        shown.add_column(head, justify="right")
    shown.add_column("")
    for row in found.rows:
        style = "bold" if row is found.best else None
        shown.add_row(row.policy, *(cell(row) for _, cell in COLUMNS), notes(row), style=style)
    return shown


def markdown(found: Comparison) -> Iterator[str]:
    """For a document, line by line."""
    yield "| policy | " + " | ".join(head for head, _ in COLUMNS) + " | |"
    yield "|---|" + "---:|" * len(COLUMNS) + "---|"
    for row in found.rows:
        cells = " | ".join(cell(row) for _, cell in COLUMNS)
        name = f"**{row.policy}**" if row is found.best else row.policy
        yield f"| {name} | {cells} | {notes(row)} |"


def figures(found: Comparison) -> dict[str, Any]:
    """For programs: base units, what is absent is a key that is absent."""
    return {
        "schema_version": SCHEMA_VERSION,
        "lab": found.lab,
        "against": found.against,
        "time_scale": found.scales[0],
        "size_scale": found.scales[1],
        "reference": dict(found.reference.work),
        "rows": [_figures(row) for row in found.rows],
    }


def _figures(row: Row) -> dict[str, Any]:
    spreads = {
        name: getattr(row, name)
        for name in (
            *("work", "fairness", "p99", "major_faults", "swapped_in", "stalled"),
            *("ksmd_cpu", "observer_cpu", "actions"),
        )
    }
    return {
        "policy": row.policy,
        "runs": row.runs,
        "void": list(row.void),
        "acted": row.acted,
        "out_of_memory": row.out_of_memory,
        "each": _spreads(row.each),
        "saved": _spreads({str(name): spread for name, spread in row.saved.items()}),
        **_spreads(spreads),
    }


def _spreads(found: dict[str, Spread]) -> dict[str, Any]:
    return {
        name: {"median": one.middle, "low": one.low, "high": one.high}
        for name, one in found.items()
        if one.middle is not None
    }
