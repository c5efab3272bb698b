"""What somebody predicted before the run, beside what the run says: of exercises.

The predictions are in the recording, under the notes of its lab file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memlab.errors import MemlabError
from memlab.record.quantity import Amount, parse_quantity
from memlab.record.series import Source
from memlab.report import facts
from memlab.report.markup import Markup, tag
from memlab.report.sections import section, table


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question, what was predicted, what the run says, and the deviation of it."""

    ask: str
    given: str
    real: str
    error: float | None

    @property
    def off(self) -> str:
        """The deviation in words."""
        return "" if self.error is None else f"{self.error:+.0%}"


def predictions(source: Source) -> list[Prediction]:
    """Of an exercise's run; none of any other."""
    return list(_read(source))


def _read(source: Source) -> Iterator[Prediction]:
    notes = facts.mapping(source.manifest.get("notes"))
    found = facts.mapping(notes.get("exercise")).get("predictions")
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield _prediction(source, one)


def _prediction(source: Source, one: Mapping[str, Any]) -> Prediction:
    given, real = str(one.get("given", "")), _amount(source, str(one.get("is", "")))
    guess = _amount(source, given)
    error = None
    if guess and real and real.value and guess.value is not None:
        error = guess.value / real.value - 1
    return Prediction(str(one.get("ask", "")), given, str(real or "not known"), error)


def _amount(source: Source, text: str) -> Amount | None:
    """The value of an expression, None if it is none: a recording may come from anybody."""
    try:
        return parse_quantity(text).of(source)
    except (MemlabError, KeyError):
        return None


def shown(source: Source) -> Markup | None:
    """The report's section, if there is something to show."""
    found = predictions(source)
    if not found:
        return None
    rows = [(one.ask, tag("b", one.given), tag("b", one.real), one.off or "–") for one in found]
    return section(
        "predictions",
        "Prediction and reality",
        "What was written down before the run, and what the run says.",
        table(("", "predicted", "measured", "off by"), rows, numbers=3),
    )
