"""Policies side by side: work relative to the run without pressure, and what it took.

Work is a VM's operations per second in the measured window. Relative work is that over the same
VM's in the reference run (the same lab with a budget for all, and no policy), or over the first
run's where there is no reference; none is told where that run is void. Fairness is Jain's index of
the VMs' relative work: 1 if all are slowed alike, 1/n if one has everything (Jain, Chiu, Hawe,
DEC-TR-301, 1984).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import median

from memlab.control.policy import Mechanism
from memlab.study.measured import Measured


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest over the repeats; all None where nothing was measured."""

    middle: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Of the values that are known."""
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else cls()


@dataclass(frozen=True, slots=True)
class Row:
    """One policy over its repeats. `runs` are all, `void` the reasons of those that do not count.

    `work` and `fairness` are relative to the reference; `each` is the relative work of each VM.
    `cpu` is of ksmd and memlab itself, `vm_cpu` of the VMs. `makers` are the versions of memlab
    that made the runs.
    """

    policy: str
    runs: int
    void: tuple[str, ...]
    work: Spread
    each: dict[str, Spread]
    fairness: Spread
    p99: Spread
    saved: dict[Mechanism, Spread]
    saved_in_all: Spread
    major_faults: Spread
    swapped_in: Spread
    stalled: Spread
    ksmd_cpu: Spread
    observer_cpu: Spread
    cpu: Spread
    vm_cpu: Spread
    actions: Spread
    out_of_memory: int
    """Guests that ran out of memory, in the worst of the runs."""
    scales: tuple[float, float]
    makers: tuple[str, ...]

    @property
    def acted(self) -> bool:
        """Whether it did anything in any run."""
        return bool(self.actions.high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows in the order asked for. `against` says what work is relative to: the reference,
    whose work is left out if it is void."""

    lab: str
    against: str
    reference: Measured
    scales: tuple[float, float]
    rows: tuple[Row, ...]

    @property
    def counts(self) -> bool:
        """Whether every run counts, the reference too."""
        return not self.reference.void and not any(row.void for row in self.rows)

    @property
    def best(self) -> Row | None:
        """The row with the most work, None if none counts."""
        good = [row for row in self.rows if row.work.middle is not None]
        return max(good, key=lambda row: row.work.middle or 0.0, default=None)


def jain(values: Sequence[float]) -> float | None:
    """(Σx)² / (n·Σx²), None of nothing or of zeros alone."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None


def geometric_mean(values: Sequence[float]) -> float | None:
    """The n-th root of the product; None if there is none, or one is not positive."""
    if not values or any(value <= 0 for value in values):
        return None
    return exp(sum(map(log, values)) / len(values))


def relative(run: Measured, reference: Measured) -> dict[str, float]:
    """Each VM's work over that of the reference; VMs that did nothing there are left out."""
    return {
        vm: run.work.get(vm, 0.0) / before for vm, before in reference.work.items() if before > 0
    }


def compare(
    runs: Sequence[Measured], reference: Measured | None = None, *, labels: Sequence[str] = ()
) -> Comparison:
    """The runs by policy, in the order of their first run; `labels` name each run otherwise."""
    names = list(labels) or [run.policy for run in runs]
    held, against = (reference, "the run without pressure") if reference else (runs[0], names[0])
    if held.void:
        held = replace(held, work={})
    groups: dict[str, list[Measured]] = {}
    for name, run in zip(names, runs, strict=True):
        groups.setdefault(name, []).append(run)
    rows = tuple(_row(name, group, held) for name, group in groups.items())
    return Comparison(runs[0].lab, against, held, runs[0].scales, rows)


def _row(name: str, runs: Sequence[Measured], reference: Measured) -> Row:
    good = [run for run in runs if not run.void]
    parts = [relative(run, reference) for run in good]

    def spread(pick: Callable[[Measured], float | None]) -> Spread:
        return Spread.of([pick(run) for run in good])

    return Row(
        policy=name,
        runs=len(runs),
        void=tuple(run.void for run in runs if run.void),
        work=spread(lambda run: run.total / reference.total if reference.total else None),
        each={vm: Spread.of([part[vm] for part in parts]) for vm in relative(reference, reference)},
        fairness=Spread.of([jain(list(part.values())) for part in parts]),
        p99=spread(lambda run: run.p99),
        saved={
            mechanism: Spread.of([run.saved.get(mechanism) for run in good])
            for mechanism in Mechanism
        },
        major_faults=spread(lambda run: run.major_faults),
        swapped_in=spread(lambda run: run.swapped_in),
        stalled=spread(lambda run: run.stalled),
        saved_in_all=spread(lambda run: run.saved_in_all),
        ksmd_cpu=spread(lambda run: run.ksmd_cpu),
        observer_cpu=spread(lambda run: run.observer_cpu),
        cpu=spread(lambda run: run.cpu),
        vm_cpu=spread(lambda run: run.vm_cpu),
        actions=spread(lambda run: float(run.actions)),
        out_of_memory=max((run.out_of_memory for run in good), default=0),
        scales=runs[0].scales,
        makers=tuple(dict.fromkeys(run.maker for run in runs if run.maker)),
    )
