"""What the guests' applications want: which pages are to be filled, how often each is used.

Zipf's law is cut into five strata by rank; a working set that follows a staircase into those
between its levels. Within a stratum all pages are alike, and accesses are at random: that a scan or
a toucher goes through its pages in turn, which an LRU list likes least, is not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from memlab.guest.wire import Workload
from memlab.guest.workloads import WORKLOADS
from memlab.lab.spec import VmSpec
from memlab.simulate.arrays import LAYERS, Flags, Floats
from memlab.units import PAGE

CUTS: Final = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Where the strata of Zipf's law end, parts of the pages."""
UNPACED: Final = 1e12
NEVER: Final = np.inf


@dataclass(frozen=True, slots=True)
class Layered:
    """One VM's application: pages and accesses of its strata, and what sets its pace.

    `ends` is the level (pages) above which a stratum is used. `levels` follow each other every
    `step` seconds. `rate` is operations a second wanted, `by_round` rounds over the pages in use
    (0: none). `growth` is pages a second that it allocates, `think` CPU seconds of an operation.
    """

    sizes: tuple[float, ...]
    parts: tuple[float, ...]
    ends: tuple[float, ...]
    levels: tuple[float, ...]
    step: float = NEVER
    rate: float = UNPACED
    by_round: float = 0.0
    growth: float = UNPACED
    writes: float = 0.0
    think: float = 0.0
    hold: float = NEVER
    pause: float = NEVER
    rounds: float = np.inf
    works: bool = True
    in_turn: bool = False
    reads_files: bool = False


def layered(spec: VmSpec) -> Layered:
    """The application of `spec`; what a `command:` would do is not known, so it does nothing."""
    work = spec.workload
    size = float(-(-work.size // PAGE))
    args = _with_defaults(work.name, work.arguments)
    sizes, parts = _strata(work.name, size, args)
    levels = tuple(float(-(-level // PAGE)) for level in args.get("levels") or (size * PAGE,))
    period = float(args.get("period") or 0)
    leak = work.name is Workload.LEAK
    rate = float(args.get("rate") or 0)
    return Layered(
        sizes=_padded(sizes),
        parts=_padded(parts),
        ends=_padded(np.cumsum(sizes).tolist(), np.inf),
        levels=levels,
        step=float(args["step"]) if len(levels) > 1 else NEVER,
        rate=UNPACED if leak or not rate else rate,
        by_round=1 / period if period else 0.0,
        growth=(rate / PAGE or UNPACED) if leak else UNPACED,
        writes=float(args.get("writes") or 0),
        think=float(args.get("think") or 0),
        hold=float(args.get("hold", NEVER)),
        pause=float(args.get("pause", NEVER)),
        rounds=float(args.get("rounds") or np.inf),
        works=work.name not in (Workload.IDLE, Workload.LEAK) and size > 0,
        in_turn=work.name in (Workload.TOUCHER, Workload.SCAN),
        reads_files=work.name is Workload.CACHE,
    )


def _with_defaults(name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {arg.name: arg.default for arg in WORKLOADS[name].args} | args


def _strata(name: str, size: float, args: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Pages of each stratum and the part of the accesses that goes there, hottest first."""
    if "zipf" in args and size:
        ends = sorted({max(1.0, float(round(size * cut))) for cut in CUTS})
        hits = [_harmonic(end, float(args["zipf"])) for end in ends]
        return _steps(ends), [part / hits[-1] for part in _steps(hits)]
    if name == Workload.TOUCHER:
        levels = sorted({float(-(-level // PAGE)) for level in args["levels"] or ()} - {0.0})
        ends = [*_thinned(levels, LAYERS - (size not in levels)), size]
        sizes = _steps(sorted(set(ends)))
        return sizes, [one / size for one in sizes]
    return [size], [1.0]


def _harmonic(count: float, exponent: float) -> float:
    """Σ k^−e for k = 1…count."""
    return float((np.arange(1, int(count) + 1, dtype=np.float64) ** -exponent).sum())


def _steps(ends: Sequence[float]) -> list[float]:
    return [end - start for start, end in zip((0.0, *ends), ends, strict=False)]


def _thinned(levels: list[float], most: int) -> list[float]:
    """At most so many of the levels, evenly chosen: those between are taken for the next one."""
    if len(levels) <= most:
        return levels
    return [levels[round(i * (len(levels) - 1) / (most - 1))] for i in range(most)]


def _padded(values: Sequence[float], fill: float = 0.0) -> tuple[float, ...]:
    return (*values, *(fill for _ in range(LAYERS - len(values))))


@dataclass(slots=True)
class Demand:
    """The applications of a whole fleet: the fields of `Layered`, one column a VM."""

    sizes: Floats
    parts: Floats
    ends: Floats
    levels: Floats
    level_count: Floats
    step: Floats
    rate: Floats
    by_round: Floats
    growth: Floats
    writes: Floats
    think: Floats
    hold: Floats
    pause: Floats
    rounds: Floats
    works: Flags
    in_turn: Flags
    reads_files: Flags

    @classmethod
    def of(cls, specs: Sequence[VmSpec]) -> Self:
        """The applications of these VMs."""
        known = {id(spec): layered(spec) for spec in specs}
        found = [known[id(spec)] for spec in specs]
        longest = max(len(one.levels) for one in known.values())
        levels = [(*one.levels, *(0.0,) * (longest - len(one.levels))) for one in found]
        columns = {
            name: np.array([getattr(one, name) for one in found], dtype=np.float64).T.copy()
            for name in _COLUMNS
        }
        return cls(
            levels=np.array(levels).T.copy(),
            level_count=np.array([float(len(one.levels)) for one in found]),
            works=np.array([one.works for one in found]),
            in_turn=np.array([one.in_turn for one in found]),
            reads_files=np.array([one.reads_files for one in found]),
            **columns,
        )

    def put(self, which: Sequence[int], one: Layered) -> None:
        """These VMs have another application from now on."""
        missing = len(one.levels) - len(self.levels)
        if missing > 0:
            self.levels = np.pad(self.levels, ((0, missing), (0, 0)))
        for name in _COLUMNS:
            value = np.asarray(getattr(one, name), dtype=np.float64)
            getattr(self, name)[..., which] = value[..., np.newaxis] if value.ndim else value
        self.levels[:, which] = 0
        self.levels[: len(one.levels), which] = np.array(one.levels)[:, np.newaxis]
        self.level_count[which] = len(one.levels)
        self.works[which], self.in_turn[which] = one.works, one.in_turn
        self.reads_files[which] = one.reads_files

    def level(self, age: Floats) -> Floats:
        """Pages of the working set, `age` seconds after each VM's start."""
        if len(self.levels) == 1:
            only: Floats = self.levels[0]
            return only
        at = np.floor(np.maximum(age, 0) / self.step) % self.level_count
        found: Floats = self.levels[at.astype(np.intp), np.arange(len(age))]
        return found


_COLUMNS: Final = (
    *(
        "sizes",
        "parts",
        "ends",
        "step",
        "rate",
        "by_round",
        "growth",
        "writes",
        "think",
        "hold",
        "pause",
        "rounds",
    ),
)
