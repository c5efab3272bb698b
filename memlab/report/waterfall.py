"""The verdict as a sum that one can check: from Σ configured down to the machine memory used.

Each row is one mechanism, with its bar where it stands in the sum, and its costs beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memlab.control.policy import Mechanism
from memlab.report.markup import Child, Markup, join, tag
from memlab.report.verdict import Line, Verdict
from memlab.report.window import Figure
from memlab.report.words import ABSENT, TITLES, figure, mib

NO_SAMPLE: Final = (
    "No sample lies in the measured window: the run ended before it, or its VMs were never walked. "
    "The charts show what was recorded."
)
_WIDTH: Final = 300.0
_HEIGHT: Final = 20.0
_PAINTS: Final = {
    Mechanism.SHARING: "sharing-saved",
    Mechanism.BALLOON: "balloon",
    Mechanism.COMPRESSION: "compression-saved",
    Mechanism.SWAP: "swap",
}


@dataclass(slots=True)
class Sum:
    """Where the sum stands on its way down; `scale` is the whole width in bytes."""

    scale: float
    budget: float | None
    at: float

    def bar(self, value: float | None, paint: str) -> Markup:
        """The bar of one term, taken off where the sum stands."""
        begin = self.at
        self.at -= value or 0.0
        left, right = sorted((begin, self.at))
        return self.drawn(left, right, paint)

    def drawn(self, left: float, right: float, paint: str) -> Markup:
        """A bar from `left` to `right` bytes, the budget as a line across it."""
        x, width = left / self.scale * _WIDTH, (right - left) / self.scale * _WIDTH
        rule = None
        if self.budget is not None:
            at = self.budget / self.scale * _WIDTH
            rule = tag("line", class_="line budget", x1=at, x2=at, y1=0.0, y2=_HEIGHT)
        rect = tag("rect", class_=f"area {paint}", x=x, y=3.0, width=width, height=14.0)
        return tag(
            "svg",
            rect,
            rule,
            viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
            preserveAspectRatio="none",
            aria_hidden="true",
        )


def waterfall(verdict: Verdict) -> Markup:
    """The table: configured, less what each mechanism saved, is what was used."""
    if not verdict.samples:
        return tag("p", NO_SAMPLE, class_="none")
    configured, budget = verdict.configured.value or 0.0, verdict.budget.value
    total = Sum(max(configured, budget or 0.0, 1.0), budget, configured)
    never, overhead, cache = verdict.never_touched, verdict.overhead, verdict.swap_cache
    rows = [
        _row("", "Σ configured", verdict.configured, bar=total.drawn(0, configured, "empty")),
        *(_line(line, total) for line in verdict.lines),
        _row(
            "−",
            "Never touched",
            never,
            paint="empty",
            bar=total.bar(never.value, "empty"),
            note="no frame and no swap slot; costs nothing",
        ),
        _row(
            "+",
            "Overhead",
            overhead,
            paint="overhead",
            bar=total.bar(-(overhead.value or 0.0), "overhead"),
            note="the VMs' own memory, which no guest sees",
        ),
        _row(
            "+",
            "Swap cache",
            cache,
            paint="cache",
            bar=total.bar(-(cache.value or 0.0), "cache"),
            note="pages in a frame and in swap at once",
        ),
        _used(verdict, total),
        _row("", "Residual", verdict.residual, note=_residual_note(verdict)),
    ]
    heads = (("", ""), ("Mechanism", ""), ("MiB, mean", "n"), ("", "bar"), ("What it cost", ""))
    head = tag("tr", *(tag("th", text, class_=name or None) for text, name in heads))
    body = tag("table", tag("thead", head), tag("tbody", *rows), class_="verdict")
    return tag("div", body, class_="card scroll")


def _line(line: Line, total: Sum) -> Markup:
    paint = _PAINTS[line.mechanism]
    return _row(
        "−",
        TITLES[line.mechanism],
        line.saved,
        paint=paint,
        bar=total.bar(line.saved.value, paint),
        costs=line.costs,
        off=line.enabled is False,
    )


def _used(verdict: Verdict, total: Sum) -> Markup:
    note = ""
    if verdict.peak.value is not None and verdict.budget.value is not None:
        peak, budget = mib(verdict.peak.value), mib(verdict.budget.value)
        note = f"peak in the window {peak} MiB; the budget is {budget} MiB"
    used = verdict.used
    bar = total.drawn(0, used.value or 0.0, "private")
    return _row("=", "Machine memory used", used, paint="private", bar=bar, note=note, kind="total")


def _residual_note(verdict: Verdict) -> str:
    if verdict.residual.value is None or not verdict.configured.value:
        return ""
    part = abs(verdict.residual.value) / verdict.configured.value
    return f"{part * 100:.2f} % of Σ configured: what the sum above does not explain"


def _row(
    sign: str,
    name: str,
    value: Figure,
    *,
    paint: str = "",
    bar: Markup | None = None,
    costs: tuple[Figure, ...] = (),
    note: str = "",
    off: bool = False,
    kind: str | None = None,
) -> Markup:
    key = tag("i", class_=f"key {paint}") if paint else None
    said: Child = tag("span", note, class_="soft small") if note else None
    if costs and not off:
        rows = ([value.why] if value.value is None else []) + told(costs, but=value.why)
        said = tag("ul", *(tag("li", *_cost(row)) for row in rows), class_="costs")
    elif value.value is None and not off:
        said = tag("span", value.why, class_="absent")
    if off:
        said = tag("span", "switched off in the lab file", class_="absent")
    # The unit stands in the head of the column: a sum reads better as bare numbers.
    number = tag("span", ABSENT, class_="absent small")
    if value.value is not None:
        number = tag("b", mib(value.value), title=value.how)
    return tag(
        "tr",
        tag("td", sign, class_="sign"),
        tag("td", join(key, name), class_="name"),
        tag("td", number, class_="n"),
        tag("td", bar, class_="bar"),
        tag("td", said),
        class_=kind,
    )


def told(costs: tuple[Figure, ...], *, but: str = "") -> list[str | Figure]:
    """The costs that are known, then a text for each reason why others are not; the reason `but`
    stands elsewhere already."""
    reasons: dict[str, list[str]] = {}
    for cost in costs:
        if cost.value is None and cost.why != but:
            reasons.setdefault(cost.why, []).append(cost.label)
    known: list[str | Figure] = [cost for cost in costs if cost.value is not None]
    return [*known, *(f"{', '.join(names)}: {why}" for why, names in reasons.items())]


def _cost(cost: str | Figure) -> tuple[Child, ...]:
    if isinstance(cost, str):
        return (tag("span", cost, class_="absent"),)
    return (f"{cost.label} ", tag("b", figure(cost.value, cost.unit), title=cost.how))
