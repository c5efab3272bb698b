"""The question of a run, and its answer in one sentence of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from memlab.control.policy import Mechanism
from memlab.report.verdict import Line, Verdict
from memlab.report.window import Figure
from memlab.report.words import change, count, figure, short_mib

_VERBS: Final = {
    Mechanism.SHARING: "page sharing saved",
    Mechanism.BALLOON: "the balloon gave back",
    Mechanism.COMPRESSION: "compression saved",
    Mechanism.SWAP: "swap held",
}
_SLEEP: Final = 0.0005
"""Part of a core below which a figure would be printed as 0.0 %."""
_TOLERATED: Final = 1.02
"""Part of the budget up to which a peak is not told in MiB: the ledger's own bound is 2 %."""


def question(verdict: Verdict) -> str:
    """`How did 768 MiB of VMs fit into 384 MiB?`"""
    configured, budget = verdict.configured.value, verdict.budget.value
    if configured is None or budget is None:
        return "What did each mechanism save, and what did it cost?"
    if configured <= budget:
        return f"How much of {short_mib(budget)} did {short_mib(configured)} of VMs use?"
    return f"How did {short_mib(configured)} of VMs fit into {short_mib(budget)}?"


def answer(verdict: Verdict) -> str:
    """What was saved, by which mechanism, and what machine memory was left to use."""
    used = verdict.used.value
    if used is None:
        return "The measured window has no sample, so nothing can be said: see how the run ended."
    parts = [part for line in verdict.lines if (part := _saved(line))]
    if verdict.never_touched.value is not None:
        parts.append(f"{short_mib(verdict.never_touched.value)} was never touched")
    head = _capital(_list(parts)) if parts else "What each mechanism saved was not measured"
    return f"{head}: that left {short_mib(used)} of machine memory in use{_peak(verdict)}."


def price(verdict: Verdict) -> str:
    """What it cost, in one sentence: work against the baseline, then the kernel's own work."""
    costs = {line.mechanism: line.costs for line in verdict.lines}
    parts = [_work(figure_) for figure_ in verdict.performance]
    ksmd, decompressed = costs[Mechanism.SHARING][0], costs[Mechanism.COMPRESSION][0]
    swapped = costs[Mechanism.SWAP][0]
    if ksmd.value and ksmd.value >= _SLEEP:
        parts.append(f"ksmd took {figure(ksmd.value, ksmd.unit)} of a core")
    for cost, words in ((decompressed, "were decompressed"), (swapped, "read from swap")):
        if cost.value and cost.value >= 1:
            parts.append(f"{count(cost.value)} pages a second {words}")
    if said := [part for part in parts if part]:
        return f"The price: {_list(said)}."
    if ksmd.value is None and decompressed.value is None and swapped.value is None:
        return "The price was not measured."
    return "The price: ksmd slept, and no page had to be brought back."


def _saved(line: Line) -> str:
    if line.enabled is False and not line.saved.value:
        return ""
    if line.saved.value is None:
        return f"what {line.mechanism} saved was not measured"
    return f"{_VERBS[line.mechanism]} {short_mib(line.saved.value)}"


def _peak(verdict: Verdict) -> str:
    """Whether that is within the budget, and by how much the peak was above it."""
    budget, peak = verdict.budget.value, verdict.peak.value
    if budget is None or peak is None:
        return ""
    if peak > budget * _TOLERATED:
        return f", at its peak {short_mib(peak - budget)} above the budget of {short_mib(budget)}"
    within = "within" if peak <= budget else f"within {(_TOLERATED - 1) * 100:.0f} % of"
    return f", {within} the budget of {short_mib(budget)}"


def _work(cost: Figure) -> str:
    if cost.value is None or not cost.against:
        return ""
    return f"{cost.label} {change(cost.value, cost.against)} the baseline"


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
