"""One simulated run: the loop of model, timeline and policy, and the figures of its window.

A step is the policy's period, or a whole part of it that is `TICK` at most; a policy decides at the
end of each of its periods, as in a running lab.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np

from memlab.control.policies import HERE
from memlab.control.policy import Mechanism
from memlab.lab.spec import Lab
from memlab.simulate.arrays import Floats
from memlab.simulate.fleet import Fleet, Place, fleet
from memlab.simulate.governors import Deeds, Governors
from memlab.simulate.model import Model
from memlab.simulate.savings import saved
from memlab.simulate.steps import Steps
from memlab.study.unpressed import unpressed
from memlab.units import PAGE

TICK: Final = 0.05
"""Seconds of model time in one step at most."""


@dataclass(frozen=True, slots=True)
class Moment:
    """All hosts together after a step: bytes, and operations a second."""

    time: float
    used: float
    resident: float
    ballooned: float
    saved: dict[Mechanism, float]
    operations: float


@dataclass(slots=True)
class Outcome:
    """Figures of a simulated run, means over its window: bytes and rates of all hosts together.

    `work` is operations a second by VM. `short` counts hosts and ticks in which frames were wanted
    that could not be had: there a real host kills a VM. `ksmd` is of one core, by host.
    `model_seconds` is CPU time without the policies', which is in `deeds`.
    """

    policy: str
    vms: int
    hosts: int
    seconds: float
    window: tuple[float, float]
    work: Floats
    used: float = 0.0
    saved: dict[Mechanism, float] = field(default_factory=dict)
    major_faults: float = 0.0
    swapped_in: float = 0.0
    stalled: float = 0.0
    ksmd: float = 0.0
    short: int = 0
    ticks: int = 0
    deeds: Deeds = field(default_factory=Deeds)
    notes: tuple[str, ...] = ()
    model_seconds: float = 0.0
    moments: tuple[Moment, ...] = ()


def run(
    lab: Lab,
    where: tuple[Place, ...],
    *,
    seconds: float | None = None,
    seed: int = 0,
    relaxed: bool = False,
    pool_charged: bool = True,
    folder: Path = HERE,
    keep: bool = False,
    tick: float = TICK,
) -> Outcome:
    """Let `seconds` (the lab's duration) go by in steps of `tick` at most. `relaxed`: with memory
    for all, also in the timeline; `pool_charged`: as on cgroup v2 (`fleet`); `keep`: with the
    moments after each step. The same arguments give the same outcome, but for CPU times."""
    of = fleet(lab, where, relaxed=relaxed, pool_charged=pool_charged)
    model = Model(of, seed=seed)
    governors = Governors(model, lab, folder=folder)
    steps = Steps(unpressed(lab) if relaxed else lab, governors)
    length = lab.duration if seconds is None else seconds
    measure = _Measure(model, _window(lab, length), keep)
    began = process_time()
    step, each = _steps(lab.policy.period, tick)
    for number in range(1, ceil(length / step - 1e-9) + 1):
        steps.take(model.time)
        model.step(step)
        if number % each == 0:
            governors.decide()
        measure.take()
    found = measure.outcome(lab.policy.name, length)
    found.deeds = governors.deeds
    found.notes = (*steps.notes, *_notes(model.fleet))
    found.model_seconds = process_time() - began - governors.deeds.seconds
    return found


def _steps(period: float, longest: float) -> tuple[float, int]:
    """Seconds of a step, and how many of them are a period of the policy."""
    each = ceil(period / longest - 1e-9)
    return period / each, each


def _window(lab: Lab, length: float) -> tuple[float, float]:
    """The lab's own, or the second half of a run of another length."""
    return lab.measured if lab.duration == length else (length / 2, length)


def _notes(of: Fleet) -> Iterator[str]:
    specs = of.lab.vms
    if any(spec.command for spec in specs):
        yield "not modelled: what a command: does; such a VM stays empty"
    if any(spec.huge for spec in specs):
        yield "not modelled: huge pages; all are of 4 KiB"


class _Measure:
    """Sums over the window."""

    def __init__(self, model: Model, window: tuple[float, float], keep: bool) -> None:
        self._model = model
        self._window = window
        self._keep = keep
        self._moments: list[Moment] = []
        self._work = np.zeros(model.fleet.count)
        self._sums = dict.fromkeys(("used", "major", "device", "stalled", "ksmd"), 0.0)
        self._saved = dict.fromkeys(Mechanism, 0.0)
        self._time = 0.0
        self._count = self._short = self._ticks = 0

    def take(self) -> None:
        """After a step."""
        model, flows = self._model, self._model.flows
        assert flows is not None
        self._ticks += 1
        self._short += int((model.short > 0.5).sum())
        inside = self._window[0] < model.time - model.dt / 2 < self._window[1]
        if not inside and not self._keep:
            return
        savings = {name: value * PAGE for name, value in _saved(model).items()}
        if self._keep:
            self._moments.append(_moment(model, savings))
        if not inside:
            return
        self._count += 1
        self._time += model.dt
        self._work += flows.operations
        for mechanism, size in savings.items():
            self._saved[mechanism] += size
        for name, value in _levels(model).items():
            self._sums[name] += value

    def outcome(self, policy: str, length: float) -> Outcome:
        """Means of what was taken."""
        count, fleet = max(1, self._count), self._model.fleet
        mean = {name: value / count for name, value in self._sums.items()}
        return Outcome(
            policy=policy,
            vms=fleet.count,
            hosts=fleet.hosts.count,
            seconds=length,
            window=self._window,
            work=self._work / max(self._time, 1e-9),
            used=mean["used"],
            saved={name: value / count for name, value in self._saved.items()},
            major_faults=mean["major"],
            swapped_in=mean["device"],
            stalled=mean["stalled"],
            ksmd=mean["ksmd"],
            short=self._short,
            ticks=self._ticks,
            moments=tuple(self._moments),
        )


def _saved(model: Model) -> dict[Mechanism, float]:
    found = saved(model.pages, model.shared, model.fleet)
    return {
        Mechanism.SHARING: float(found.sharing.sum()),
        Mechanism.BALLOON: float(found.balloon.sum()),
        Mechanism.COMPRESSION: float(found.compression.sum()),
        Mechanism.SWAP: float(found.swap.sum()),
    }


def _levels(model: Model) -> dict[str, float]:
    flows = model.flows
    assert flows is not None
    return {
        "used": float(model.used.sum()) * PAGE,
        "major": float(flows.major.sum()) / model.dt,
        "device": float(flows.read.sum()) / model.dt,
        "stalled": float(flows.stalled.mean()),
        "ksmd": float(model.ksmd.cpu().mean()),
    }


def _moment(model: Model, savings: dict[Mechanism, float]) -> Moment:
    pages, flows = model.pages, model.flows
    assert flows is not None
    return Moment(
        time=model.time,
        used=float(model.used.sum()) * PAGE,
        resident=float(pages.private.sum() + pages.merged.sum()) * PAGE,
        ballooned=float(pages.ballooned.sum()) * PAGE,
        saved=savings,
        operations=float(flows.operations.sum()) / model.dt,
    )
