"""Conditions on what was measured: the one language of `expect`, `when` and checks.

`parse` reads and checks a condition; `Condition.judge` holds it against a run's measured window,
`Condition.now` against the latest values. Three outcomes: an absent value makes it inconclusive,
with the reason, unless the rest decides it alone (`false and ?` is false). Nothing is evaluated by
Python itself.

Samples: what stands inside one `max(…)` or `any(…)` is taken at the samples of its slowest tier;
columns of that tier at the very same sample, faster ones by their newest value before it.
A figure over time (`max`, `mean`, …) leaves out absent samples if they are `TOLERATED` at most.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from memlab.record.columns import Unit
from memlab.record.evaluate import (
    Instant,
    Latest,
    Recorded,
    Scope,
    Value,
    evaluate,
    samples,
)
from memlab.record.expression import (
    Call,
    ConditionError,
    Infix,
    Node,
    Prefix,
    children,
    parse_expression,
)
from memlab.record.meaning import check, refs, sort_of
from memlab.record.series import Event, Source
from memlab.units import format_duration, format_size

__all__ = ["Condition", "ConditionError", "Latest", "Outcome", "Verdict", "parse"]


class Outcome(StrEnum):
    """How a condition stands."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a condition stands against a run.

    `measured` and `expected` are texts (`48.2 MiB`, `>= 32.0 MiB`), `why` a sentence; `where` is
    the moment that decided, seconds since the run began, if there is one.
    """

    outcome: Outcome
    measured: str
    expected: str
    why: str
    where: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that has been read and checked."""

    text: str
    tree: Node

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Owner and name of each column in it."""
        return tuple(dict.fromkeys((ref.owner, ref.name) for ref in refs(self.tree)))

    def judge(self, source: Source, *, within: float | None = None) -> Verdict:
        """How it stands over the run's measured window, or over its first `within` seconds."""
        view = Recorded(source, source.window)
        if within is not None:
            view = Recorded(source, (0.0, within), within)
        return _verdict(self, evaluate(self.tree, Scope(view)), Scope(view))

    def now(self, latest: Latest, *, vms: Sequence[str], events: Sequence[Event] = ()) -> Verdict:
        """How it stands at the latest values; for a condition parsed with `instant`."""
        scope = Scope(Instant(latest, tuple(vms), tuple(events)))
        return _verdict(self, evaluate(self.tree, scope), scope)


def parse(text: str, *, vms: Collection[str] | None = None, instant: bool = False) -> Condition:
    """The condition in `text`. `vms` are the names it may use (None: any), `instant` for `when`.

    Raises ConditionError with everything that is wrong, each with its column.
    """
    tree = parse_expression(text)
    if findings := check(tree, vms=vms, instant=instant):
        raise ConditionError(text, findings)
    return Condition(text, tree)


def _verdict(condition: Condition, value: Value, scope: Scope) -> Verdict:
    """The result with the figures that made it."""
    tree, text = condition.tree, condition.text
    told = _shown(tree, scope, text)
    measured = "; ".join(f"{name} = {figure}" for name, figure in told.items()) or "nothing"
    expected = text
    if isinstance(tree, Infix) and tree.compares:
        measured = next(iter(told.values()), measured)
        unit = _unit(tree)
        right = evaluate(tree.right, scope)
        expected = f"{tree.sign} {shown(right.known, unit)}"
    if value.known is None:
        return Verdict(Outcome.INCONCLUSIVE, measured, expected, value.reason, value.where)
    outcome = Outcome.PASS if value.known else Outcome.FAIL
    moment = f" at {value.where:.1f} s" if value.where is not None else ""
    name = next(iter(told), "") if isinstance(tree, Infix) and tree.compares else ""
    why = f"{name} was {measured}{moment}" if name else f"{measured}{moment}"
    return Verdict(outcome, measured, expected, f"{why}, expected {expected}", value.where)


def _shown(node: Node, scope: Scope, text: str) -> dict[str, str]:
    """The left side of each comparison with its value, at the sample and VM that decide."""
    if isinstance(node, Infix) and node.compares:
        left = evaluate(node.left, scope)
        name = text[node.left.start : node.left.end]
        return {f"{scope.vm}: {name}" if scope.vm else name: shown(left.known, _unit(node))}
    inside: Scope | None = scope
    if isinstance(node, Call):
        inside = _telling(node, scope)
    found: dict[str, str] = {}
    for child in children(node) if inside is not None else ():
        found |= _shown(child, inside or scope, text)
    return found


def _telling(node: Call, scope: Scope) -> Scope | None:
    """The one VM or sample by which `node` is best explained.

    For any: the sample at which most of its comparisons held; for all: at which fewest did.
    """
    scopes: list[Scope] = []
    if node.name in ("each_vm", "some_vm"):
        scopes = [replace(scope, vm=vm) for vm in scope.view.vms]
    elif node.name in ("any", "all") and isinstance(scope.view, Recorded):
        found = samples(node.arguments[0], scope, *scope.view.window)
        scopes = [replace(scope, sample=sample) for sample in found]
    parts = _conditions(node.arguments[0]) if scopes else []

    def held(inside: Scope) -> int:
        return sum(evaluate(part, inside).known is True for part in parts)

    choose = max if node.name in ("any", "some_vm") else min
    return choose(scopes, key=held, default=None)


def _conditions(node: Node) -> list[Node]:
    """The parts that `and`, `or` and `not` join."""
    if (isinstance(node, Infix) and node.sign in ("and", "or")) or isinstance(node, Prefix):
        return [part for child in children(node) for part in _conditions(child)]
    return [node]


def _unit(node: Infix) -> Unit | None:
    """The unit in which a comparison is printed."""
    units = [sort_of(node.left).unit, sort_of(node.right).unit]
    if Unit.FRACTION in units:
        return Unit.FRACTION
    return next((unit for unit in units if unit is not None), None)


def shown(value: float | bool | None, unit: Unit | None) -> str:
    """A value as people read it: `48.2 MiB`, `1.2 s`, `15 %`, `true`, `absent`."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "true" if value else "false"
    match unit:
        case Unit.BYTES:
            return format_size(value)
        case Unit.BYTES_PER_SECOND:
            return f"{format_size(value)}/s"
        case Unit.SECONDS:
            return format_duration(value)
        case Unit.FRACTION:
            return f"{value * 100:.4g} %"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
