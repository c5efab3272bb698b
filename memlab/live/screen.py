"""One moment of a running lab, as a table for a terminal or as one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memlab.record.columns import Entity
from memlab.record.series import Source
from memlab.units import MIB, format_duration

LAB, VM = Entity.LAB, Entity.VM
ABSENT: Final = "–"
_BAR: Final = 30


@dataclass(frozen=True, slots=True)
class Shown:
    """One column of the table: whose layer it is, its head, and its colour."""

    name: str
    layer: str
    head: str
    style: str = ""


_COLUMNS: Final = (
    Shown("configured", "", "configured", "bold"),
    Shown("used", "guest", "used", "blue"),
    Shown("cache", "", "cache", "bright_blue"),
    Shown("free", "", "free", "dim"),
    Shown("ballooned", "", "balloon", "yellow"),
    Shown("private", "host", "private", "blue"),
    Shown("shared", "", "shared", "green"),
    Shown("zero", "", "zero", "green"),
    Shown("out", "", "out", "red"),
    Shown("not_backed", "", "not backed", "dim"),
)
_FIRST_TO_GO: Final = ("not_backed", "free", "zero", "cache", "configured", "shared")
_NAME: Final = 20
_WORK: Final = 24
"""Width of the columns of work: operations and p99."""
_SAVINGS: Final = (
    ("sharing", "saved_sharing", "green"),
    ("balloon", "saved_balloon", "yellow"),
    ("compression", "saved_compression", "magenta"),
    ("swap", "saved_swap", "red"),
    ("never touched", "never_touched", "dim"),
)


def screen(
    source: Source, time: float, phase: str, state: str, *, width: int, rows: int
) -> RenderableType:
    """The table of the first `rows` VMs, and what the lab has used and saved.

    Where `width` is too small for all columns, those that are told by the others go first.
    """
    columns = fitting(width - min(_NAME, max(map(len, source.vms), default=0)))
    shown = source.vms[:rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    table.add_column("MiB\nVM", no_wrap=True, max_width=_NAME, overflow="ellipsis")
    for column in columns:
        head = Text(f"{column.layer}\n{column.head}")
        table.add_column(head, justify="right", no_wrap=True, style=column.style)
    table.add_column("\nops/s", justify="right", no_wrap=True)
    table.add_column("\np99", justify="right", no_wrap=True)
    for vm in shown:
        table.add_row(*_row(source, vm, columns))
    parts: list[RenderableType] = [_head(time, phase, state), table]
    if len(shown) < len(source.vms):
        parts.append(Text(f"… and {len(source.vms) - len(shown)} more VMs", style="dim"))
    return Group(*parts, Text(), *_lab(source))


def fitting(width: int) -> tuple[Shown, ...]:
    """The columns that fit into `width` characters beside the work."""
    columns: tuple[Shown, ...] = _COLUMNS
    for name in _FIRST_TO_GO:
        # Two spaces stand between columns; five digits of MiB are 97 GiB.
        if sum(max(len(c.head), 5) + 2 for c in columns) + _WORK <= width:
            break
        columns = tuple(column for column in columns if column.name != name)
    return columns


def plain_line(source: Source, time: float, phase: str, state: str) -> str:
    """The lab in one line, for a log."""
    saved = ", ".join(f"{head} {_mib(_lab_value(source, name))}" for head, name, _ in _SAVINGS)
    policy = f", policy {state}" if state else ""
    return (
        f"{time:6.1f} s  {phase}: used {_mib(_lab_value(source, 'used'))} of "
        f"{_mib(_lab_value(source, 'budget'))} MiB; saved {saved} MiB; "
        f"{_rate(_lab_value(source, 'operations'))} operations/s{policy}"
    )


def _head(time: float, phase: str, state: str) -> Text:
    text = Text(f"{format_duration(time)}  ").append(phase, style="bold")
    return text.append(f"   policy: {state}", style="dim") if state else text


def _row(source: Source, vm: str, columns: tuple[Shown, ...]) -> list[Text]:
    cells = [Text(vm, style="bold")]
    cells += [Text(_whole(source.latest(VM, column.name, vm))) for column in columns]
    p99 = source.latest(VM, "p99", vm)
    cells.append(Text(_rate(source.latest(VM, "operations", vm))))
    cells.append(Text(ABSENT if p99 is None else format_duration(p99)))
    return cells


def _lab(source: Source) -> list[Text]:
    """Three lines: machine memory against the budget, what was saved, what it cost."""
    used, budget = _lab_value(source, "used"), _lab_value(source, "budget")
    memory = Text("machine memory  ").append(f"{_mib(used)} of {_mib(budget)} MiB  ", style="bold")
    memory.append_text(_bar(used, budget))
    memory.append(f"  pool {_mib(_lab_value(source, 'pool'))}", style="magenta")
    saved = Text("saved, MiB      ")
    for head, name, style in _SAVINGS:
        saved.append(f"{head} ").append(_mib(_lab_value(source, name)), style=f"bold {style}")
        saved.append("   ")
    cost = Text("cost            ")
    for head, name in (("ksmd", "ksmd_cpu"), ("memlab", "observer_cpu"), ("waiting", "stall_some")):
        cost.append(f"{head} ").append(_part(_lab_value(source, name)), style="bold").append("   ")
    cost.append(_rate(_lab_value(source, "operations")), style="bold").append(" operations/s")
    return [memory, saved, cost]


def _bar(used: float | None, budget: float | None) -> Text:
    if used is None or not budget:
        return Text()
    full = min(_BAR, round(_BAR * used / budget))
    style = "red" if used > budget else "blue"
    return Text("█" * full, style=style).append("░" * (_BAR - full), style="dim")


def _lab_value(source: Source, name: str) -> float | None:
    return source.latest(LAB, name)


def _mib(value: float | None) -> str:
    return ABSENT if value is None else f"{value / MIB:.1f}"


def _whole(value: float | None) -> str:
    return ABSENT if value is None else f"{value / MIB:.0f}"


def _rate(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}"


def _part(value: float | None) -> str:
    return ABSENT if value is None else f"{value * 100:.1f} %"
