"""The verdict for programs: plain values in base units; what is absent is a key that is absent."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from memlab.record.series import Source
from memlab.report import facts
from memlab.report.answer import answer, price, question
from memlab.report.verdict import verdict
from memlab.report.window import Figure

SCHEMA_VERSION: Final = 1


def figures(source: Source, baseline: Source | None = None) -> dict[str, Any]:
    """Everything that the verdict says. Bytes, seconds, fractions of one, per second."""
    found = verdict(source, baseline)
    sums = (found.configured, found.budget, found.used, found.peak, found.never_touched)
    rest = (found.overhead, found.swap_cache, found.held_against, found.residual)
    return {
        "schema_version": SCHEMA_VERSION,
        "lab": facts.lab_name(source),
        "question": question(found),
        "answer": answer(found),
        "price": price(found),
        "window_seconds": found.window,
        "deep_samples": found.samples,
        "sums": [_figure(value) for value in (*sums, *rest)],
        "mechanisms": {
            line.mechanism.value: _present(
                {
                    "enabled": line.enabled,
                    "saved": _figure(line.saved),
                    "costs": [_figure(cost) for cost in line.costs],
                }
            )
            for line in found.lines
        },
        "performance": [_figure(value) for value in found.performance],
        "pressure": [_figure(value) for value in found.pressure],
        "observer": [_figure(value) for value in found.observer],
        "expects": [_present(asdict(row)) for row in facts.expects(source)],
        "restored": _present(asdict(facts.restored(source))),
        "verdict": asdict(facts.standing(source)),
        **({"baseline": found.baseline} if found.baseline else {}),
    }


def _figure(value: Figure) -> dict[str, Any]:
    return _present(
        {
            "label": value.label,
            "value": value.value,
            "unit": value.unit.value,
            "formula": value.how,
            "against": value.against,
            "why": value.why or None,
        }
    )


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}
