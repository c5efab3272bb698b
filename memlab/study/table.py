"""A comparison for the terminal, for programs, and as Markdown for a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.table import Table

from memlab.study.cells import COLUMNS, notes, percent, scaled
from memlab.study.compare import Comparison, Row, Spread

SCHEMA_VERSION: Final = 1
_WIDEST_NAME: Final = 12
"""Of a policy's column in a terminal: with it the table fits into 100 columns."""
_MOST_VMS: Final = 8
"""Of more VMs only those with the least and the most work are named."""
_SPREADS: Final = (
    *("work", "fairness", "p99", "saved_in_all", "major_faults", "swapped_in", "stalled"),
    *("ksmd_cpu", "observer_cpu", "cpu", "vm_cpu", "actions"),
)


def heading(found: Comparison) -> str:
    """What was compared, and how it was scaled."""
    return "; ".join(_headings(found))


def _headings(found: Comparison) -> tuple[str, str]:
    repeats = max((row.runs for row in found.rows), default=0)
    void = found.reference.void
    work = (
        f"no work relative to {found.against}, which is void ({void})"
        if void
        else f"work relative to {found.against} ({found.reference.total:,.0f} operations/s)"
    )
    times = "1 repeat" if repeats == 1 else f"{repeats} repeats"
    return f"{found.lab}: {work}", f"{times}; {scaled(found.scales)}"


def below(found: Comparison) -> Iterator[str]:
    """What stands below the figures, line by line: each VM's work, and what has to be known."""
    for row in found.rows:
        if any(spread.middle is not None for spread in row.each.values()):
            yield f"{row.policy}, each VM: {_each(row)}"
    yield from remarks(found)


def remarks(found: Comparison) -> Iterator[str]:
    """What has to be known of the comparison as a whole."""
    for row in found.rows:
        if row.scales != found.scales:
            yield f"{row.policy}: not as above, but with {scaled(row.scales)}"
    makers = _makers(found)
    if len(makers) > 1:
        told = "; ".join(f"{maker}: {', '.join(names)}" for maker, names in makers.items())
        yield f"not all runs were made by the same code: {told}"


def _makers(found: Comparison) -> dict[str, list[str]]:
    """Who made the runs, and whose."""
    of_reference = (found.reference.maker,) if found.reference.maker else ()
    made_by = {found.against: of_reference, **{row.policy: row.makers for row in found.rows}}
    makers: dict[str, list[str]] = {}
    for name, known in made_by.items():
        for maker in known:
            makers.setdefault(maker, []).append(name)
    return makers


def _each(row: Row) -> str:
    """`a 50.0%, b 98.1%`: medians of the VMs' relative work."""
    shown = {vm: percent(spread.middle) for vm, spread in row.each.items()}
    if len(shown) <= _MOST_VMS:
        return ", ".join(f"{vm} {work}" for vm, work in shown.items())
    inorder = sorted(row.each, key=lambda vm: row.each[vm].middle or 0.0)
    least, most = inorder[0], inorder[-1]
    return f"{len(shown)} VMs from {shown[least]} ({least}) to {shown[most]} ({most})"


def table(found: Comparison) -> Table:
    """For a terminal; the ranges stand below the medians."""
    lines = [f"{row.policy}: {words}" for row in found.rows if (words := notes(row))]
    shown = Table(
        title=";\n".join(_headings(found)), title_justify="left", box=None, pad_edge=False,
        caption="\n".join((*lines, *below(found))), caption_justify="left", caption_style="",
    )  # fmt: skip
    shown.add_column("policy", max_width=_WIDEST_NAME, overflow="fold")
    for column in COLUMNS:
        shown.add_column(column.head.replace(" /s", "\n/s"), justify="right", no_wrap=True)
    for row in found.rows:
        style = "bold" if row is found.best else None
        shown.add_row(row.policy, *(column.stacked(row) for column in COLUMNS), style=style)
    return shown


def markdown(found: Comparison) -> Iterator[str]:
    """For a document, line by line."""
    yield "| policy | " + " | ".join(column.head for column in COLUMNS) + " | |"
    yield "|---|" + "---:|" * len(COLUMNS) + "---|"
    for row in found.rows:
        cells = " | ".join(column.whole(row) for column in COLUMNS)
        name = f"**{row.policy}**" if row is found.best else row.policy
        yield f"| {name} | {cells} | {notes(row)} |"


def figures(found: Comparison) -> dict[str, Any]:
    """For programs: base units, what is absent is a key that is absent."""
    void = found.reference.void
    return {
        "schema_version": SCHEMA_VERSION,
        "lab": found.lab,
        "against": found.against,
        "time_scale": found.scales[0],
        "size_scale": found.scales[1],
        "reference": dict(found.reference.work),
        **({"reference_void": void} if void else {}),
        "rows": [_figures(row) for row in found.rows],
        "notes": list(remarks(found)),
    }


def _figures(row: Row) -> dict[str, Any]:
    return {
        "policy": row.policy,
        "runs": row.runs,
        "void": list(row.void),
        "acted": row.acted,
        "out_of_memory": row.out_of_memory,
        "made_by": list(row.makers),
        "each": _spreads(row.each),
        "saved": _spreads({str(name): spread for name, spread in row.saved.items()}),
        **_spreads({name: getattr(row, name) for name in _SPREADS}),
    }


def _spreads(found: dict[str, Spread]) -> dict[str, Any]:
    return {
        name: {"median": one.middle, "low": one.low, "high": one.high}
        for name, one in found.items()
        if one.middle is not None
    }
