"""The verdict in the terminal: the same figures as the page, as one table."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memlab.record.series import Source
from memlab.report import facts
from memlab.report.answer import answer, price, question
from memlab.report.predictions import predictions
from memlab.report.verdict import NO_BASELINE, Line, Verdict, verdict
from memlab.report.waterfall import NO_SAMPLE, told
from memlab.report.window import Figure
from memlab.report.words import ABSENT, TITLES, change, figure, mib

_COLOURS: Final = {
    "passed": "green",
    "failed": "red",
    "invalid": "red",
    "inconclusive": "yellow",
    "unknown": "yellow",
}


def summary(source: Source, baseline: Source | None = None) -> RenderableType:
    """Question, answer, the table of what was saved and what it cost, expectations, the host."""
    found = verdict(source, baseline)
    parts: list[RenderableType] = [
        Text(question(found), style="bold"),
        Text(answer(found)),
        Text(price(found), style="dim"),
        *([Text(where, style="dim")] if (where := facts.place(source)) else []),
        Text(),
        verdict_table(found) if found.samples else Text(NO_SAMPLE, style="yellow"),
        Text(),
        *_work(found),
        *_predictions(source),
        *_expects(source),
        *_host(source),
        *_standing(source),
    ]
    return Group(*parts)


def verdict_table(found: Verdict) -> Table:
    """From Σ configured down to the machine memory used, each mechanism with its costs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("Mechanism", no_wrap=True)
    table.add_column("MiB, mean", justify="right", no_wrap=True)
    table.add_column("What it cost", ratio=1)
    table.add_row("", "Σ configured", _mib(found.configured), "")
    for line in found.lines:
        table.add_row("−", TITLES[line.mechanism], _mib(line.saved), _costs(line))
    table.add_row("−", "Never touched", _mib(found.never_touched), "")
    table.add_row("+", "Overhead", _mib(found.overhead), "")
    table.add_row("+", "Swap cache", _mib(found.swap_cache), "", end_section=True)
    table.add_row("=", "Machine memory used", _mib(found.used), _within(found), style="bold")
    table.add_row("", "Residual", _mib(found.residual), "")
    return table


def _mib(value: Figure) -> Text:
    if value.value is None:
        return Text(ABSENT, style="dim italic")
    return Text(mib(value.value))


def _costs(line: Line) -> Text:
    """Its costs; if the saving is absent, first the reason for that."""
    if line.enabled is False:
        return Text("switched off in the lab file", style="dim italic")
    text = Text()
    if line.saved.value is None:
        text.append(line.saved.why, style="dim italic")
    for cost in told(line.costs, but=line.saved.why):
        text.append("; " if text else "")
        text.append_text(Text(cost, "dim italic") if isinstance(cost, str) else _said(cost))
    return text


def _said(cost: Figure) -> Text:
    text = Text(f"{cost.label} ")
    if cost.value is None:
        return text.append(f"{ABSENT}: {cost.why}" if cost.why else ABSENT, style="dim italic")
    return text.append(figure(cost.value, cost.unit), style="bold")


def _within(found: Verdict) -> str:
    if found.peak.value is None or found.budget.value is None:
        return ""
    return f"peak in the window {mib(found.peak.value)}; the budget is {mib(found.budget.value)}"


def _predictions(source: Source) -> list[RenderableType]:
    return [
        Text(f"predicted {one.given}, measured {one.real} {one.off}: {one.ask}")
        for one in predictions(source)
    ]


def _work(found: Verdict) -> list[RenderableType]:
    """One line each: work beside its baseline, pressure, and the observer's own cost."""
    rows: list[RenderableType] = []
    for cost in found.performance:
        text = _said(cost)
        if cost.value is not None and cost.against:
            word = change(cost.value, cost.against)
            text.append(f", {word} {figure(cost.against, cost.unit)} of the {found.baseline}")
        elif cost.value is not None and not found.baseline:
            text.append(f"  baseline {NO_BASELINE}", style="dim italic")
        rows.append(text)
    rows += [_said(cost) for cost in (*found.pressure, *found.observer)]
    return rows


def _expects(source: Source) -> list[RenderableType]:
    found = facts.expects(source)
    if not found:
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("", "Expectation", "measured", "expected"):
        table.add_column(head)
    for row in found:
        word = Text(row.outcome, style=_COLOURS.get(row.outcome, ""))
        said = Text(row.name or row.text)
        if row.text and row.name:
            said.append(f"\n{row.text}", style="dim")
        table.add_row(word, said, Text(row.measured or ABSENT), Text(row.expected or "–"))
    return [Text(), table]


def _host(source: Source) -> list[RenderableType]:
    found = facts.restored(source)
    words = {
        True: ("yes", "green"),
        False: ("no", "bold red"),
        None: ("not written down", "yellow"),
    }
    word, style = words[found.ok]
    line = Text("Host restored: ").append(word, style=style)
    if found.given_back:
        line.append(f", {len(found.given_back)} changes given back", style="dim")
    rows = [Text(f"  not restored: {item}", style="red") for item in found.failed]
    rows += [Text(f"  left as somebody else set it: {item}") for item in found.left]
    return [Text(), line, *rows]


def _standing(source: Source) -> list[RenderableType]:
    found = facts.standing(source)
    line = Text("Verdict: ").append(found.outcome, style=f"bold {_COLOURS.get(found.outcome, '')}")
    return [line, *(Text(f"  {reason}") for reason in found.reasons)]
