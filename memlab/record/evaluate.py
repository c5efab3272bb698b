"""The value of a condition's tree against a recording or the latest values. See condition.py."""

from __future__ import annotations

import math
import operator
import statistics
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from memlab.record.columns import Entity, Tier
from memlab.record.expression import Call, Infix, Literal, Node, Prefix, Ref, Word
from memlab.record.meaning import FUNCTIONS, Family, refs
from memlab.record.series import Event, Series, Source

TOLERATED: Final = 0.1
"""Part of the samples that may be absent where one figure is made of many."""

Latest = Callable[[Entity, str, str], float | None]
"""Newest value of a column, or None: `Derived.latest`."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number or a truth value; None with the reason if it cannot be known."""

    known: float | bool | None
    where: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a node is evaluated: for which VM (under each_vm), and at which sample (under max)."""

    view: Recorded | Instant
    vm: str = ""
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Instant:
    """The latest values."""

    latest: Latest
    vms: tuple[str, ...]
    event_list: tuple[Event, ...]

    def read(self, entity: Entity, name: str, vm: str) -> Value:
        """The latest value of one column."""
        value = self.latest(entity, name, vm)
        reason = f"{vm or entity}.{name} is absent" if value is None else ""
        return Value(value, None, reason)

    def events(self) -> tuple[Event, ...]:
        """The events so far."""
        return self.event_list


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run and a part of it; events count up to `until`; series are fetched once."""

    source: Source
    window: tuple[float, float]
    until: float = math.inf
    cache: dict[tuple[Entity, str, str], Series] = field(default_factory=dict)

    @property
    def vms(self) -> tuple[str, ...]:
        """Names of the VMs."""
        return self.source.vms

    @property
    def time_scale(self) -> float:
        """What the run's times were multiplied by: `at(x, 12s)` means the lab file's 12 s."""
        return float(self.source.manifest.get("time_scale") or 1.0)

    def series(self, entity: Entity, name: str, vm: str) -> Series:
        """One column over the whole run."""
        key = (entity, name, vm)
        if key not in self.cache:
            self.cache[key] = self.source.series(entity, name, vm)
        return self.cache[key]

    def events(self) -> tuple[Event, ...]:
        """The events up to `until`."""
        return tuple(event for event in self.source.events() if event.time <= self.until)


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of a recording, at which columns have values."""

    view: Recorded
    time: float
    tier: Tier

    def read(self, entity: Entity, name: str, vm: str) -> Value:
        """One column at this very sample, or (of a faster tier) its newest value before it."""
        series = self.view.series(entity, name, vm)
        index = bisect_right(series.times, self.time) - 1
        same = series.column.tier is self.tier
        if index < 0 or (same and series.times[index] != self.time):
            value = None
        else:
            value = series.values[index]
        reason = f"{vm or entity}.{name} is absent at {self.time:.1f} s" if value is None else ""
        return Value(value, self.time, reason)


def evaluate(node: Node, scope: Scope) -> Value:
    """The value of a tree that `meaning.check` has accepted."""
    match node:
        case Literal():
            return Value(node.value)
        case Ref():
            return _column(node, scope)
        case Prefix():
            return _prefix(node, evaluate(node.operand, scope))
        case Infix():
            return _infix(node, evaluate(node.left, scope), evaluate(node.right, scope))
        case Call():
            return _call(node, scope)
    raise AssertionError(node)  # parse() has refused text


def _column(node: Ref, scope: Scope) -> Value:
    owners = {"host": Entity.HOST, "lab": Entity.LAB}
    entity = owners.get(node.owner, Entity.VM)
    vm = "" if node.owner in owners else scope.vm if node.owner == "vm" else node.owner
    if scope.sample is not None:
        return scope.sample.read(entity, node.name, vm)
    assert isinstance(scope.view, Instant)  # parse() has asked for any(…) or max(…)
    return scope.view.read(entity, node.name, vm)


def _prefix(node: Prefix, value: Value) -> Value:
    if value.known is None:
        return value
    return replace(value, known=not value.known if node.sign == "not" else -value.known)


_SIGNS: Final[dict[str, Callable[[float, float], float | bool]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def _infix(node: Infix, left: Value, right: Value) -> Value:
    if node.sign in ("and", "or"):
        return _logical(node.sign == "or", left, right)
    where = left.where if left.where is not None else right.where
    for value in (left, right):
        if value.known is None:
            return value
    assert left.known is not None and right.known is not None
    if node.sign == "/" and not right.known:
        return Value(None, where, "it divides by zero")
    return Value(_SIGNS[node.sign](left.known, right.known), where)


def _logical(decisive: bool, left: Value, right: Value) -> Value:
    """Kleene's `and` and `or`: one decisive side is enough, whatever the other is."""
    for value in (left, right):
        if value.known is decisive:
            return value
    for value in (left, right):
        if value.known is None:
            return value
    return left if left.where is not None else right


def _call(node: Call, scope: Scope) -> Value:
    family = FUNCTIONS[node.name].family
    if family is Family.RUN:
        return _of_run(node, scope)
    if family is Family.VMS:
        return _over_vms(node, scope)
    if family is Family.VALUE:
        value = evaluate(node.arguments[0], scope)
        return value if value.known is None else replace(value, known=abs(value.known))
    return _over_time(node, scope)


def _of_run(node: Call, scope: Scope) -> Value:
    events = scope.view.events()
    if node.name == "bad_pages":
        found = [event.data.get("bad") for event in events if event.kind == "verify"]
        counts = [float(count) for count in found if isinstance(count, int)]
        if not counts or len(counts) < len(found):
            return Value(
                None, None, "not every VM was verified" if counts else "nothing was verified"
            )
        return Value(sum(counts))
    words = [argument.text for argument in node.arguments if isinstance(argument, Word)]
    kind, vm = words[0], words[1] if len(words) > 1 else None
    times = [event.time for event in events if event.kind == kind and vm in (None, event.vm)]
    return Value(float(len(times)), times[0] if times else None)


def _over_vms(node: Call, scope: Scope) -> Value:
    values = [evaluate(node.arguments[0], replace(scope, vm=vm)) for vm in scope.view.vms]
    if not values:
        return Value(None, None, "there is no VM")
    if node.name in ("each_vm", "some_vm"):
        result = values[0]
        for value in values[1:]:
            result = _logical(node.name == "some_vm", result, value)
        return result
    for value in values:
        if value.known is None:
            return value
    numbers = [value.known for value in values if value.known is not None]
    if node.name in ("min_vms", "max_vms"):
        chosen = (min if node.name == "min_vms" else max)(numbers)
        return values[numbers.index(chosen)]
    total = sum(numbers)
    return replace(values[0], known=total if node.name == "sum_vms" else total / len(numbers))


def _over_time(node: Call, scope: Scope) -> Value:
    assert isinstance(scope.view, Recorded)
    inner = node.arguments[0]
    start, end = scope.view.window
    if node.name == "at" and isinstance(limit := node.arguments[1], Literal):
        start, end = 0.0, limit.value * scope.view.time_scale
    values = [evaluate(inner, replace(scope, sample=sample)) for sample in
              samples(inner, scope, start, end)]  # fmt: skip
    if not values:
        return Value(None, None, f"there is no sample from {start:.1f} s to {end:.1f} s")
    if node.name in ("any", "all"):
        return _exists(node.name == "any", values)
    if node.name in ("first", "last", "at"):
        return values[0 if node.name == "first" else -1]
    return _figure(node.name, values)


def samples(inner: Node, scope: Scope, start: float, end: float) -> list[Sample]:
    """The samples of the slowest tier of the columns in `inner`, from `start` to `end`."""
    assert isinstance(scope.view, Recorded)
    needed = [scope.view.series(*key) for key in _keys(inner, scope)]
    order = list(Tier)
    slowest = max((series.column.tier for series in needed), key=order.index)
    times = {time for series in needed if series.column.tier is slowest for time in series.times}
    return [
        Sample(scope.view, time, slowest) for time in sorted(times) if start <= time <= end
    ]  # fmt: skip


def _keys(inner: Node, scope: Scope) -> list[tuple[Entity, str, str]]:
    keys = []
    for ref in refs(inner):
        if ref.owner in ("host", "lab"):
            keys.append((Entity(ref.owner), ref.name, ""))
        elif ref.owner != "vm":
            keys.append((Entity.VM, ref.name, ref.owner))
        else:
            bound = (scope.vm,) if scope.vm else scope.view.vms
            keys.extend((Entity.VM, ref.name, vm) for vm in bound)
    return keys


def _exists(decisive: bool, values: list[Value]) -> Value:
    result = values[0]
    for value in values[1:]:
        if result.known is decisive:
            break
        result = _logical(decisive, result, value)
    return result


def _figure(name: str, values: list[Value]) -> Value:
    known = [value for value in values if value.known is not None]
    if len(values) - len(known) > TOLERATED * len(values) or not known:
        missing = len(values) - len(known)
        reason = next(value.reason for value in values if value.known is None)
        return Value(None, None, f"{reason}, and in {missing} of {len(values)} samples in all")
    numbers = [float(value.known or 0) for value in known]
    if name in ("max", "min"):
        chosen = (max if name == "max" else min)(numbers)
        return known[numbers.index(chosen)]
    figures: dict[str, Callable[[], float]] = {
        "mean": lambda: statistics.fmean(numbers),
        "median": lambda: statistics.median(numbers),
        "rise": lambda: numbers[-1] - numbers[0],
        "count": lambda: sum(numbers),
        "share": lambda: statistics.fmean(numbers),
    }
    if name == "count" and len(known) < len(values):
        # A sample that is absent may or may not be one of those that are counted.
        return Value(None, None, next(value.reason for value in values if value.known is None))
    return Value(figures[name]())
