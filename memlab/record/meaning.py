"""What the words of a condition mean together: units, columns, functions, and when they hold.

`check` finds everything that is wrong with a tree at once: columns that are not documented, VMs
that the lab does not have, bytes compared with seconds, a value that varies where one figure is
needed. `docs/conditions.md` is the reader's page; a test holds it against `FUNCTIONS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from memlab.record.columns import COLUMNS, Entity, Unit, column
from memlab.record.expression import (
    Call,
    Finding,
    Infix,
    Literal,
    Node,
    Prefix,
    Ref,
    Word,
    children,
)


class Family(StrEnum):
    """What a function runs over."""

    TIME = "over the samples of the measured window"
    VMS = "over the VMs, at one sample or of one figure each"
    RUN = "over the run's events"
    VALUE = "of one value"


@dataclass(frozen=True, slots=True)
class Function:
    """One function: what it runs over, whether it takes and gives a truth value, its meaning."""

    family: Family
    takes: str
    meaning: str
    arguments: int = 1


FUNCTIONS: Final = {
    "max": Function(Family.TIME, "value", "largest value"),
    "min": Function(Family.TIME, "value", "smallest value"),
    "mean": Function(Family.TIME, "value", "mean of the samples"),
    "median": Function(Family.TIME, "value", "median of the samples"),
    "first": Function(Family.TIME, "value", "value of the first sample"),
    "last": Function(Family.TIME, "value", "value of the last sample"),
    "rise": Function(Family.TIME, "value", "last minus first"),
    "at": Function(Family.TIME, "value", "newest value at that time of the run", 2),
    "any": Function(Family.TIME, "truth", "whether the condition held at one sample or more"),
    "all": Function(Family.TIME, "truth", "whether the condition held at every sample"),
    "count": Function(Family.TIME, "truth", "number of samples at which the condition held"),
    "share": Function(Family.TIME, "truth", "part of the samples at which the condition held"),
    "sum_vms": Function(Family.VMS, "value", "sum over the VMs"),
    "mean_vms": Function(Family.VMS, "value", "mean over the VMs"),
    "min_vms": Function(Family.VMS, "value", "smallest of the VMs"),
    "max_vms": Function(Family.VMS, "value", "largest of the VMs"),
    "each_vm": Function(Family.VMS, "truth", "whether the condition holds for every VM"),
    "some_vm": Function(Family.VMS, "truth", "whether the condition holds for one VM or more"),
    "events": Function(Family.RUN, "word", "number of events of that kind since the run began"),
    "bad_pages": Function(Family.RUN, "nothing", "pages that verify found lost or changed", 0),
    "abs": Function(Family.VALUE, "value", "the value without its sign"),
}
GIVES_TRUTH: Final = frozenset({"any", "all", "each_vm", "some_vm"})

EVENT_KINDS: Final = frozenset(
    {
        "set", "exec", "mark", "refused", "phase", "gap", "verify", "restored", "aborted",
        "migrated", "no-agent", "program-ended", "guest-silent", "guest-answers", "agent-killed",
        "vm-started", "vm-ended", "oom-kill", "guard-replaced", "pool-closed", "pool-open",
        "balloon", "out-of-memory", "bad-page", "guest-swap-error",
        "foreign-sharer", "foreign-reclaim",
    }
)  # fmt: skip
"""Kinds of events that `events("…")` may count: those that a run writes, and no others, because a
count of events that nobody writes is 0 whatever happens. A test looks for the writer of each."""

PLAIN: Final = frozenset({None, Unit.FRACTION, Unit.PER_SECOND, Unit.COUNT, Unit.RATIO})
_QUOTIENTS: Final[dict[tuple[Unit | None, Unit | None], Unit]] = {
    (Unit.BYTES, Unit.SECONDS): Unit.BYTES_PER_SECOND,
    (Unit.BYTES, Unit.BYTES_PER_SECOND): Unit.SECONDS,
}
_WRITTEN: Final = {
    Unit.BYTES: "a size such as 32MiB",
    Unit.SECONDS: "a duration such as 20ms",
    Unit.BYTES_PER_SECOND: "a rate such as 3MiB/s",
}


@dataclass(frozen=True, slots=True)
class Sort:
    """What kind of thing a node is."""

    truth: bool = False
    unit: Unit | None = None
    varies: bool = False
    """It has a value for each sample, not one for the run."""
    per_vm: bool = False
    """It has a value for each VM."""
    broken: bool = False
    """Something in it is wrong already: nothing more is said about it."""


def check(node: Node, *, vms: Collection[str] | None, instant: bool) -> tuple[Finding, ...]:
    """All that is wrong with the tree. `vms` None: any name may be a VM.

    `instant`: for `when`, where columns stand for their latest values and no time is looked back.
    """
    checker = _Checker(vms, instant)
    sort = checker.sort(node)
    place = node.start + 1
    if not sort.broken and not sort.truth:
        checker.found(place, "this is a value, not a condition", "compare it, such as … >= 32MiB")
    elif not sort.broken and sort.per_vm:
        checker.found(place, "vm.… is each VM in turn", "put it into each_vm(…) or sum_vms(…)")
    elif not sort.broken and sort.varies and not instant:
        fix = "say when: any(…), all(…), last(…), or max(…) of the column"
        checker.found(place, "it has a value at each sample", fix)
    return tuple(checker.findings)


def check_value(node: Node, *, vms: Collection[str] | None) -> tuple[Finding, ...]:
    """All that is wrong with the tree of one figure of a run."""
    checker = _Checker(vms, instant=False)
    sort = checker.sort(node)
    place = node.start + 1
    if not sort.broken and sort.truth:
        checker.found(place, "this is a condition, not a value", "take the comparison away")
    elif not sort.broken and sort.per_vm:
        checker.found(place, "vm.… is each VM in turn", "put it into sum_vms(…) or max_vms(…)")
    elif not sort.broken and sort.varies:
        fix = "say which: mean(…), max(…), last(…) or at(…, 12s)"
        checker.found(place, "it has a value at each sample", fix)
    return tuple(checker.findings)


def sort_of(node: Node) -> Sort:
    """The sort of a node of a tree that `check` has accepted."""
    return _Checker(None, instant=False).sort(node)


def nearest(word: str, known: Collection[str]) -> str:
    """`write X` with the nearest known word, or what there is."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"write {near[0]}" if near else f"there is: {', '.join(sorted(known))}"


class _Checker:
    def __init__(self, vms: Collection[str] | None, instant: bool) -> None:
        self.vms = vms
        self.instant = instant
        self.findings: list[Finding] = []

    def found(self, place: int, message: str, fix: str) -> Sort:
        self.findings.append(Finding(place, message, fix))
        return Sort(broken=True)

    def sort(self, node: Node) -> Sort:
        match node:
            case Literal():
                return Sort(unit=node.unit)
            case Word():
                return self.found(node.start + 1, "text means nothing here", "remove it")
            case Ref():
                return self._ref(node)
            case Prefix():
                return self._prefix(node)
            case Infix():
                return self._infix(node)
        return self._call(node)

    def _ref(self, node: Ref) -> Sort:
        entity = Entity(node.owner) if node.owner in {"host", "lab", "vm"} else Entity.VM
        place = node.start + 1
        if self.vms is not None and node.owner not in {"host", "lab", "vm", *self.vms}:
            message = f"no VM is called {node.owner!r}"
            known = [*list(self.vms)[:20], "host", "lab", "vm"]
            return self.found(place, message, nearest(node.owner, known))
        known_column = column(entity, node.name)
        if known_column is None:
            names = [name for owner, name in COLUMNS if owner is entity]
            message = f"{entity} has no column {node.name!r}"
            return self.found(place + len(node.owner) + 1, message, nearest(node.name, names))
        return Sort(unit=known_column.unit, varies=True, per_vm=node.owner == "vm")

    def _prefix(self, node: Prefix) -> Sort:
        sort = self.sort(node.operand)
        if sort.broken or sort.truth == (node.sign == "not"):
            return sort
        fix = "compare it first" if node.sign == "not" else "take the minus away"
        what = "a value" if node.sign == "not" else "a condition"
        return self.found(node.start + 1, f"{node.sign!r} stands before {what}", fix)

    def _infix(self, node: Infix) -> Sort:
        left, right = self.sort(node.left), self.sort(node.right)
        both = Sort(
            varies=left.varies or right.varies,
            per_vm=left.per_vm or right.per_vm,
            broken=left.broken or right.broken,
        )
        if both.broken:
            return both
        logical = node.sign in ("and", "or")
        for part, sort in ((node.left, left), (node.right, right)):
            if sort.truth != logical:
                what, fix = ("a value", "compare it") if logical else ("a condition", "use and, or")
                message = f"{node.sign!r} stands beside {what}"
                return self.found(part.start + 1, message, fix)
        if logical:
            return replace(both, truth=True)
        if node.sign in ("*", "/"):
            return self._product(node, left, right, both)
        if not _alike(node, left, right):
            return self._unlike(node, left, right)
        if node.compares:
            return replace(both, truth=True)
        return replace(both, unit=left.unit if left.unit not in PLAIN or left.unit else right.unit)

    def _product(self, node: Infix, left: Sort, right: Sort, both: Sort) -> Sort:
        if right.unit in PLAIN:
            plain = left.unit in PLAIN and node.sign == "/"
            return replace(both, unit=Unit.RATIO if plain else left.unit or right.unit)
        if node.sign == "*" and left.unit in PLAIN:
            return replace(both, unit=right.unit)
        if node.sign == "*" and {left.unit, right.unit} == {Unit.BYTES_PER_SECOND, Unit.SECONDS}:
            return replace(both, unit=Unit.BYTES)
        if node.sign == "/" and left.unit == right.unit:
            return replace(both, unit=Unit.RATIO)
        if node.sign == "/" and (unit := _QUOTIENTS.get((left.unit, right.unit))):
            return replace(both, unit=unit)
        message = f"{_name(left)} {node.sign} {_name(right)} means nothing"
        return self.found(node.start + 1, message, "divide bytes by bytes, or multiply by a number")

    def _unlike(self, node: Infix, left: Sort, right: Sort) -> Sort:
        message = f"{_name(left)} {node.sign} {_name(right)} cannot be"
        literal, other = (
            (node.right, left) if isinstance(node.right, Literal) else (node.left, right)
        )
        place = (literal if isinstance(literal, Literal) else node).start + 1
        fix = "use two of the same unit"
        if isinstance(literal, Literal):
            fix = (
                f"write {_WRITTEN[other.unit]}" if other.unit in _WRITTEN else "write a bare number"
            )
        return self.found(place, message, fix)

    def _call(self, node: Call) -> Sort:
        function = FUNCTIONS.get(node.name)
        place = node.start + 1
        if function is None:
            message = f"no function is called {node.name!r}"
            return self.found(place, message, nearest(node.name, FUNCTIONS))
        most = 2 if node.name == "events" else function.arguments
        if not function.arguments <= len(node.arguments) <= most:
            wanted = {0: "nothing", 1: "one argument", 2: "two arguments"}[function.arguments]
            return self.found(place, f"{node.name} takes {wanted}", f"see {node.name} in the docs")
        if function.family is Family.RUN:
            return self._of_run(node)
        sorts = [self.sort(argument) for argument in node.arguments]
        if any(sort.broken for sort in sorts):
            return Sort(broken=True)
        first = sorts[0]
        if first.truth != (function.takes == "truth") and node.name not in ("first", "last", "at"):
            fix = "compare it with something" if function.takes == "truth" else "take a column"
            wanted = "a condition" if function.takes == "truth" else "a value"
            return self.found(node.arguments[0].start + 1, f"{node.name} takes {wanted}", fix)
        if function.family is Family.VMS:
            return self._over_vms(node, first)
        if function.family is Family.VALUE:
            return first
        return self._over_time(node, sorts)

    def _over_vms(self, node: Call, first: Sort) -> Sort:
        if not first.per_vm:
            message = f"{node.name} runs over the VMs, and no vm.… is in it"
            return self.found(node.start + 1, message, "write vm.free for the column of each VM")
        return replace(first, per_vm=False)

    def _over_time(self, node: Call, sorts: list[Sort]) -> Sort:
        first = sorts[0]
        if self.instant:
            message = f"{node.name} looks back, and `when` sees the latest values only"
            return self.found(node.start + 1, message, "name the column without it")
        if not first.varies:
            message = f"{node.name} runs over samples, and no column is in it"
            return self.found(node.start + 1, message, "name a column, such as lab.free")
        if node.name == "at" and not (
            isinstance(node.arguments[1], Literal) and sorts[1].unit is Unit.SECONDS
        ):
            place = node.arguments[1].start + 1
            return self.found(place, "at takes a time", "write it as at(lab.free, 12s)")
        unit = {"count": Unit.COUNT, "share": Unit.FRACTION}.get(node.name, first.unit)
        truth = node.name in GIVES_TRUTH or (first.truth and node.name in ("first", "last", "at"))
        return Sort(truth=truth, unit=None if truth else unit, per_vm=first.per_vm)

    def _of_run(self, node: Call) -> Sort:
        for argument in node.arguments:
            if not isinstance(argument, Word):
                place = argument.start + 1
                return self.found(place, "events takes text", 'write events("oom-kill")')
        words = [argument.text for argument in node.arguments if isinstance(argument, Word)]
        place = node.arguments[0].start + 1 if node.arguments else node.start + 1
        if words and words[0] not in EVENT_KINDS:
            message = f"no event is called {words[0]!r}"
            return self.found(place, message, nearest(words[0], EVENT_KINDS))
        if len(words) == 2 and self.vms is not None and words[1] not in self.vms:
            place = node.arguments[1].start + 1
            return self.found(place, f"no VM is called {words[1]!r}", nearest(words[1], self.vms))
        return Sort(unit=Unit.COUNT)


def _alike(node: Infix, left: Sort, right: Sort) -> bool:
    if left.unit == right.unit or {left.unit, right.unit} <= PLAIN:
        return True
    return any(isinstance(side, Literal) and not side.value for side in (node.left, node.right))


def _name(sort: Sort) -> str:
    return "a number" if sort.unit in PLAIN else str(sort.unit).replace("_", " ")


def refs(node: Node) -> Iterator[Ref]:
    """All columns that a tree names."""
    if isinstance(node, Ref):
        yield node
    for child in children(node):
        yield from refs(child)
