"""A run made of numbers alone: a Source without a kernel and without a file.

`squeeze()` is four VMs of 192 MiB in 384 MiB, in which sharing, balloon, compression and swap each
take their part and every identity of the ledger holds by construction, so that a verdict computed
from it can be held against plain arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memlab.record.columns import COLUMNS, Entity, Tier
from memlab.record.series import Choice, Event, Series, Tick
from memlab.units import MIB

Wave = Callable[[float], float | None]
Key = tuple[Entity, str, str]


@dataclass(slots=True)
class FakeRun:
    """A Source whose series are functions of time, sampled at the rate of their tier."""

    names: tuple[str, ...] = ()
    length: float = 45.0
    window: tuple[float, float] = (30.0, 45.0)
    waves: dict[Key, Wave] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    happened: tuple[Event, ...] = ()
    chosen: tuple[Choice, ...] = ()
    fast: float = 0.25
    deep: float = 1.0

    @property
    def vms(self) -> tuple[str, ...]:
        return self.names

    def series(self, entity: Entity, name: str, vm: str = "") -> Series:
        column = COLUMNS[entity, name]
        every = self.deep if column.tier is Tier.DEEP else self.fast
        times = tuple(i * every for i in range(int(self.length / every) + 1))
        wave = self.waves.get((entity, name, vm))
        return Series(column, vm, times, tuple(wave(t) if wave else None for t in times))

    def latest(self, entity: Entity, name: str, vm: str = "") -> float | None:
        return self.series(entity, name, vm).values[-1]

    def percentile(self, vm: str, part: float, start: float, end: float) -> float | None:
        assert part == 0.99
        return max(self.series(Entity.VM, "p99", vm).between(start, end).known, default=None)

    def events(self) -> tuple[Event, ...]:
        return self.happened

    def ticks(self) -> tuple[Tick, ...]:
        return ()

    def choices(self) -> tuple[Choice, ...]:
        return self.chosen

    def put(self, entity: Entity, vm: str = "", **waves: Wave) -> None:
        self.waves.update({(entity, name, vm): wave for name, wave in waves.items()})


def ramp(begin: float, end: float, size: float) -> Wave:
    """0 until `begin`, then straight up to `size` MiB at `end`; whole pages."""

    def wave(time: float) -> float:
        part = min(1.0, max(0.0, (time - begin) / (end - begin)))
        return round(size * MIB * part / 4096) * 4096

    return wave


def steady(value: float | None) -> Wave:
    return lambda _time: value


def _vm(run: FakeRun, index: int, start: float, size: float) -> None:
    name = run.names[index]
    total = size * MIB

    def alive(wave: Wave) -> Wave:
        return lambda time: wave(time) if time >= start else None

    image, zero = ramp(start, start + 1, 24), ramp(start + 6, start + 10, 16)
    touched = ramp(start + 1, start + 5, 88)
    cache = ramp(start + 2, start + 6, 20)
    balloon = ramp(18, 24 + index, 40 - 4 * index)
    backed = ramp(18, 24 + index, 30 - 4 * index)
    shared = ramp(start + 5, start + 10, 26)
    out = ramp(22, 30 + index, 22)

    def kept(time: float) -> float:
        return (cache(time) or 0) - min((cache(time) or 0) / 2, (balloon(time) or 0) / 4)

    def used(time: float) -> float:
        return (image(time) or 0) + (touched(time) or 0)

    def free(time: float) -> float:
        return total - used(time) - kept(time) - (balloon(time) or 0)

    def lying(time: float) -> float:
        held = used(time) + (cache(time) or 0) - (backed(time) or 0)
        return max(0.0, held) - (shared(time) or 0) - (zero(time) or 0) - (out(time) or 0)

    def private(time: float) -> float:
        return max(0.0, lying(time))

    def not_backed(time: float) -> float:
        rest = private(time) + (shared(time) or 0) + (zero(time) or 0) + (out(time) or 0)
        return total - rest

    speed = 42_000 - 6_000 * index

    def operations(time: float) -> float:
        return speed * (1 - 0.3 * min(1.0, max(0.0, (time - 20) / 8))) + 900 * math.sin(time * 3)

    waves: dict[str, Wave] = {
        "configured": steady(total),
        "used": used,
        "cache": kept,
        "free": free,
        "ballooned": balloon,
        "reserved": steady(0),
        "balloon_target": balloon,
        "balloon_backed": backed,
        "mapped": lambda time: (touched(time) or 0) * 1.2,
        "touched": touched,
        "operations": operations,
        "p50": steady(2.2e-6),
        "p99": lambda time: 9e-6 + 4e-4 * min(1.0, max(0.0, (time - 22) / 8)),
        "p999": steady(3e-3),
        "major_faults": lambda time: 0.0 if time < 24 else 180.0 + 40 * math.sin(time),
        "guest_swap_in": lambda time: 0.0 if time < 26 else 4096.0 * 12,
        "guest_swapped": steady(0),
        "resident": private,
        "private": private,
        "shared": shared,
        "zero": zero,
        "out": out,
        "not_backed": not_backed,
        "residual_guest": steady(0),
        "residual_host": steady(0),
        "frames_differ": lambda time: 4096.0 * 40 * abs(math.sin(time)),
        "ghost": ramp(start + 6, start + 9, 8),
        "delay_swapin": lambda time: 0.0 if time < 24 else 0.034,
        "delay_copy": lambda time: 0.0 if time < 8 else 0.002,
    }
    run.put(Entity.VM, name, **{column: alive(wave) for column, wave in waves.items()})


def _lab(run: FakeRun, size: float, budget: float) -> None:
    def total(column: str) -> Wave:
        waves = [run.waves[Entity.VM, column, name] for name in run.names]
        return lambda time: sum(wave(time) or 0 for wave in waves)

    private, shared, zero = total("private"), total("shared"), total("zero")
    out, backed, empty = total("out"), total("balloon_backed"), total("not_backed")

    def unique(time: float) -> float:
        return (shared(time) or 0) / len(run.names)

    def compressed(time: float) -> float:
        return (out(time) or 0) * 0.55

    def pool(time: float) -> float:
        return compressed(time) * 0.36

    def accounted(time: float) -> float:
        return (private(time) or 0) + unique(time) + 3 * MIB + pool(time)

    def used(time: float) -> float:
        return accounted(time) + 0.6 * MIB * abs(math.sin(time * 1.7))

    run.put(
        Entity.LAB,
        configured=total("configured"),
        budget=steady(budget * MIB),
        used=used,
        consumed=lambda time: used(time) - pool(time),
        free=lambda time: budget * MIB - used(time),
        pool=pool,
        compressed=compressed,
        ballooned=total("ballooned"),
        private=private,
        shared=shared,
        zero=zero,
        out=out,
        not_backed=empty,
        unique_frames=unique,
        overhead=steady(3 * MIB),
        swap_cache=steady(0),
        saved_sharing=lambda time: (shared(time) or 0) + (zero(time) or 0) - unique(time),
        saved_balloon=backed,
        saved_compression=lambda time: compressed(time) - pool(time),
        saved_swap=lambda time: (out(time) or 0) - compressed(time),
        never_touched=lambda time: (empty(time) or 0) - (backed(time) or 0),
        accounted=accounted,
        residual=lambda time: used(time) - accounted(time),
        operations=total("operations"),
        ksmd_cpu=lambda time: 0.0 if time < 4 else 0.31 + 0.05 * math.sin(time),
        observer_cpu=steady(0.021),
        swap_in=lambda time: 0.0 if time < 24 else 4096.0 * 310,
        swap_out=lambda time: 0.0 if time < 22 else 4096.0 * 420,
        decompressed=lambda time: 0.0 if time < 24 else 4096.0 * 850,
        copied=lambda time: 0.0 if time < 10 else 4096.0 * 44,
        stall_some=lambda time: 0.0 if time < 22 else 0.061,
        stall_full=lambda time: 0.0 if time < 22 else 0.018,
        oom_kills=steady(0),
        overcommitment=steady(size * len(run.names) / budget),
    )


SOURCE = (
    "name: quickstart\nseed: 7\nhost:\n  memory: 384MiB\nvms:\n  web: {count: 4, memory: 192MiB}\n"
)


def _manifest(names: tuple[str, ...], size: float) -> dict[str, Any]:
    return {
        "lab": "quickstart",
        "source": SOURCE,
        "seed": 7,
        "began": "2026-11-23T10:00:00+00:00",
        "duration": 45.0,
        "window": [30.0, 45.0],
        "host": {"kernel": "6.18.0", "cpus": 2, "memory": 24 * 1024**3, "cgroup": "v1 (hybrid)"},
        "versions": {"memlab": "0.1.0", "python": "3.11.2"},
        "vms": [
            {"name": name, "configured": int(size * MIB), "workload": "keyvalue"} for name in names
        ],
        "policy": {"name": "ladder"},
        "mechanisms": {
            "sharing": {"enabled": True, "pages_to_scan": 5000},
            "balloon": {"enabled": True},
            "compression": {"enabled": True, "pool": 0.1},
            "swap": {"enabled": True, "size": 512 * MIB},
        },
        "ended": "finished",
        "verdict": {
            "outcome": "failed",
            "reasons": ["expectation 'swap holds' failed: 39.6 MiB, not >= 64.0 MiB"],
        },
        "expects": [
            {
                "name": "sharing saves",
                "that": "lab.saved_sharing >= 32MiB",
                "outcome": "passed",
                "measured": "142.0 MiB",
                "expected": ">= 32.0 MiB",
                "text": "page sharing saves at least 32 MiB",
                "where": "31.0 s",
            },
            {
                "name": "swap holds",
                "that": "lab.saved_swap >= 64MiB",
                "outcome": "failed",
                "measured": "39.6 MiB",
                "expected": ">= 64.0 MiB",
                "text": "the swap device holds at least 64 MiB",
                "where": "31.0 s",
            },
        ],
        "restored": {
            "ok": True,
            "given_back": ["/sys/kernel/mm/ksm/run: 1 → 0", "swap device /dev/zram0 removed"],
            "left": [],
            "failed": [],
        },
        "results": {
            name: {
                "operations": 1_200_000 - 100_000 * i,
                "p50": 2.2e-6,
                "p99": 4.1e-4,
                "verify": {"checked": 28_672, "bad": 0},
            }
            for i, name in enumerate(names)
        },
    }


def _journal(names: tuple[str, ...]) -> tuple[Choice, ...]:
    rows = [
        Choice(4.0, "ladder", "high", "share", "sharing", "", "the lab has begun", "on", "on", 0.0)
    ]
    for second in range(5, 45):
        if 18 <= second < 24:
            name = names[second % len(names)]
            asked = f"{(second - 17) * 7}.0 MiB"
            reason = f"free part of the budget is {30 - second} %, below 15 %; {name} is most idle"
            rows.append(
                Choice(second, "ladder", "soft", "balloon", "balloon", name, reason, asked, asked)
            )
        if 24 <= second < 30:
            name, size = names[second % len(names)], "8.0 MiB"
            reason = f"free part of the budget is {30 - second} %, below 8 %"
            rows.append(
                Choice(
                    second,
                    "ladder",
                    "hard",
                    "reclaim",
                    "compression",
                    name,
                    reason,
                    size,
                    size,
                    0.1,
                )
            )
        reason = f"free part is {max(2, 60 - second)} %, above the threshold of 2 %"
        rows.append(Choice(second, "ladder", "soft", "left-alone", "swap", "", reason))
    return tuple(rows)


def squeeze(vms: int = 4, *, size: float = 192.0, budget: float = 384.0) -> FakeRun:
    """`vms` machines of `size` MiB started four seconds apart, in `budget` MiB."""
    names = tuple(f"web-{i + 1}" for i in range(vms))
    run = FakeRun(names=names)
    for index in range(vms):
        _vm(run, index, min(4.0 * index, 12.0), size)
    _lab(run, size, budget)
    run.put(Entity.HOST, total=steady(24 * 1024**3), stall_some=steady(0.02))
    run.manifest = _manifest(names, size)
    run.happened = (
        *(Event(min(4.0 * i, 12.0), "vm-started", n, {}) for i, n in enumerate(names)),
        Event(18.0, "set", "", {"what": "policy.ladder.target", "from": "off", "to": "15%"}),
        Event(30.0, "phase", "", {"name": "measured"}),
        Event(45.0, "verify", "", {"checked": 114_688, "bad": 0}),
    )
    run.chosen = _journal(names)
    return run
