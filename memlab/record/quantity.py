"""A value asked of a run: the language of conditions, without the comparison.

    median(lab.saved_sharing)
    at(guest.ghost, 18s) / at(guest.free, 18s)

Exercises hold what people have predicted or answered against it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from memlab.record.columns import Unit
from memlab.record.condition import shown
from memlab.record.evaluate import Instant, Recorded, Scope, evaluate
from memlab.record.expression import ConditionError, Node, parse_expression
from memlab.record.meaning import check_value, sort_of
from memlab.record.series import Source


@dataclass(frozen=True, slots=True)
class Amount:
    """A value with its unit; None with the reason if the run cannot tell. `where` is the moment
    that it was taken at, seconds since the run began, if there is one."""

    value: float | None
    unit: Unit | None
    why: str = ""
    where: float | None = None

    def __str__(self) -> str:
        return shown(self.value, self.unit)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value's expression that has been read and checked."""

    text: str
    tree: Node
    unit: Unit | None

    def constant(self) -> Amount:
        """Its value if no column and no event is in it: what can be computed without a run."""
        nothing = Instant(lambda *_: None, (), ())
        found = evaluate(self.tree, Scope(nothing))
        return Amount(None if found.known is None else float(found.known), self.unit, found.reason)

    def of(self, source: Source) -> Amount:
        """Its value over the run's measured window."""
        found = evaluate(self.tree, Scope(Recorded(source, source.window)))
        value = None if found.known is None else float(found.known)
        return Amount(value, self.unit, found.reason, found.where)


def parse_quantity(text: str, *, vms: Collection[str] | None = None) -> Quantity:
    """The value asked for in `text`. ConditionError with everything that is wrong with it."""
    tree = parse_expression(text)
    if findings := check_value(tree, vms=vms):
        raise ConditionError(text, findings)
    return Quantity(text, tree, sort_of(tree).unit)


def literal(value: float, unit: Unit | None) -> str:
    """A value as it stands in an expression, exactly enough: `1048576B`, `0.0125s`, `15%`."""
    number = f"{abs(value):.12f}".rstrip("0").rstrip(".")
    match unit:
        case Unit.BYTES:
            word = f"{abs(value):.0f}B"
        case Unit.BYTES_PER_SECOND:
            word = f"{abs(value):.0f}B/s"
        case Unit.SECONDS:
            word = f"{number}s"
        case _:
            word = number
    return f"(-{word})" if value < 0 else word
