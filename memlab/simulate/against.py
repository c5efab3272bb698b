"""The model held against a recording of the same lab, seed and policy: how far it can be believed.

The model is given what the run was given (lab file, seed, policy and settings) and nothing of what
was measured in it; the policy decides by what the model shows it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memlab.control.policy import Mechanism
from memlab.errors import UsageError
from memlab.lab.load import Loaded
from memlab.record.columns import Entity
from memlab.record.series import Source
from memlab.report.window import Window, held
from memlab.simulate.fleet import places
from memlab.simulate.recorded import lab_of, pool_charged
from memlab.simulate.run import TICK, Moment, Outcome, run

_LAB: Final = Entity.LAB
_ZIP: Final = Mechanism.COMPRESSION


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of the table: its name, its unit, lab columns whose sum it is, and the model's."""

    name: str
    unit: str
    columns: tuple[str, ...]
    of: Callable[[Moment], float]


def _saved(name: Mechanism) -> Callable[[Moment], float]:
    return lambda moment: moment.saved[name]


QUANTITIES: Final = (
    Quantity("machine memory used", "bytes", ("used",), lambda moment: moment.used),
    Quantity("resident", "bytes", ("private", "shared", "zero"), lambda moment: moment.resident),
    Quantity("ballooned", "bytes", ("ballooned",), lambda moment: moment.ballooned),
    Quantity("saved by sharing", "bytes", ("saved_sharing",), _saved(Mechanism.SHARING)),
    Quantity("saved by the balloon", "bytes", ("saved_balloon",), _saved(Mechanism.BALLOON)),
    Quantity("saved by compression", "bytes", ("saved_compression",), _saved(_ZIP)),
    Quantity("saved by swap", "bytes", ("saved_swap",), _saved(Mechanism.SWAP)),
    Quantity("operations", "per second", ("operations",), lambda moment: moment.operations),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """Means over the measured window. `error` is (model − real) ÷ real, None where real is 0 or
    absent; `apart` is the mean of |model − real| over the samples, as means may agree by chance."""

    quantity: Quantity
    model: float
    real: float | None
    error: float | None
    apart: float | None


@dataclass(frozen=True, slots=True)
class Held:
    """The table of one recording, the lab that it was of, and what the model leaves out."""

    lab: str
    policy: str
    window: tuple[float, float]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    loaded: Loaded
    pool_charged: bool

    @property
    def scales(self) -> tuple[float, float]:
        """time_scale and size_scale of the policy."""
        return self.loaded.lab.policy.time_scale, self.loaded.lab.policy.size_scale


def against(source: Source, *, folder: Path, tick: float = TICK) -> Held:
    """Run the model on the lab of a recording, with its seed, and compare."""
    loaded = lab_of(source.manifest, folder)
    lab = loaded.lab
    names = [vm.name for vm in lab.vms]
    if missing := [vm for vm in source.vms if vm not in names]:
        raise UsageError(
            f"the recording's lab file has no VM {missing[0]!r}",
            hint="it was run with a --set that the recording does not keep",
        )
    seed = int(source.manifest.get("seed") or 0)
    where = places(lab, vms=None, hosts=1, seed=seed)
    charged = pool_charged(source.manifest)
    outcome = run(lab, where, seed=seed, keep=True, tick=tick, pool_charged=charged)
    window = Window.of(source)
    lines = tuple(_line(one, window, outcome) for one in QUANTITIES)
    known = (window.start, window.end)
    return Held(lab.name, lab.policy.name, known, lines, outcome.notes, loaded, charged)


def _line(quantity: Quantity, window: Window, outcome: Outcome) -> Line:
    inside = [one for one in outcome.moments if window.start <= one.time <= window.end]
    model = _mean([quantity.of(one) for one in inside]) or 0.0
    real = _real(quantity, window)
    known = [value for _, value in real]
    mean = _mean(known)
    apart = _mean([abs(_at(outcome.moments, quantity, time) - value) for time, value in real])
    error = (model - mean) / mean if mean else None
    return Line(quantity, model, mean, error, apart)


def _real(quantity: Quantity, window: Window) -> list[tuple[float, float]]:
    """The recorded samples of the quantity in the window: time and value."""
    first, *others = (window.source.series(_LAB, name) for name in quantity.columns)
    found = []
    for time, value in zip(first.times, first.values, strict=True):
        parts = [value, *(held(series, time) for series in others)]
        if window.start <= time <= window.end and None not in parts:
            found.append((time, sum(part or 0.0 for part in parts)))
    return found


def _at(moments: Sequence[Moment], quantity: Quantity, time: float) -> float:
    """The model's value at a time of the run."""
    place = bisect_right(moments, time, key=lambda moment: moment.time)
    return quantity.of(moments[max(0, place - 1)])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
