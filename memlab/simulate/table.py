"""A simulation for the terminal and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.table import Table

from memlab.control.policy import Mechanism
from memlab.simulate.against import Held, Line
from memlab.simulate.fleets import Row, Simulated
from memlab.simulate.run import Outcome
from memlab.study.cells import percent, scaled
from memlab.units import MIB

SCHEMA_VERSION: Final = 1
_HEADS: Final = (
    *("work", "worst", "fair", "shared", "balloon", "zipped", "swap", "faults/s", "reads/s"),
    "ksmd",
)
_UNDER: Final = (
    "shared … swap: MiB saved by each mechanism, all hosts; fair: Jain's index of the VMs' work;\n"
    "faults: of pages that were out, reads: of them from the device; means over the window"
)


def heading(found: Simulated) -> str:
    """What was simulated, and what work is relative to."""
    of, total = found.reference, found.reference.work.sum()
    many = f"{of.vms:,} VMs on {of.hosts:,} host{'s' if of.hosts > 1 else ''}"
    return (
        f"{found.lab}, simulated: {many}, {found.overcommitment:.2f}-fold over-commitment, "
        f"{of.seconds:g} s, seed {found.seed}, cgroup {_cgroup(found)};\n{scaled(found.scales)}; "
        f"work relative to the same VMs with memory for all ({total:,.0f} operations/s)"
    )


def _cgroup(found: Simulated) -> str:
    return "v2" if found.pool_charged else "v1"


def table(found: Simulated) -> Table:
    """A line for each policy."""
    shown = Table(
        title=heading(found), title_justify="left", caption=_UNDER, caption_justify="left",
        box=None, pad_edge=False,
    )  # fmt: skip
    shown.add_column("policy", no_wrap=True)
    for head in _HEADS:
        shown.add_column(head, justify="right", no_wrap=True)
    for row in found.rows:
        shown.add_row(row.outcome.policy, *_cells(row))
    return shown


def _cells(row: Row) -> Iterator[str]:
    outcome = row.outcome
    yield percent(row.work)
    yield percent(row.worst)
    yield "–" if row.fairness is None else f"{row.fairness:.3f}"
    for mechanism in Mechanism:
        yield f"{outcome.saved[mechanism] / MIB:,.0f}"
    yield f"{outcome.major_faults:,.0f}"
    yield f"{outcome.swapped_in:,.0f}"
    yield f"{outcome.ksmd:.0%}"


def did(outcome: Outcome) -> str:
    """The policy's actions by kind, and where it stood."""
    deeds = outcome.deeds
    actions = [f"{kind} {count:,}" for kind, count in deeds.actions.most_common()]
    stood = [
        f"{state} {count / deeds.states.total():.0%}" for state, count in deeds.states.most_common()
    ]
    acted = f"actions: {', '.join(actions)}" if actions else "did not act"
    return f"{outcome.policy}: {acted}; it stood at {', '.join(stood) or 'nothing'}"


def remarks(found: Simulated) -> Iterator[str]:
    """What the reader has to know besides: what failed, what is not modelled."""
    for row in found.rows:
        outcome = row.outcome
        if outcome.deeds.failed:
            yield f"{outcome.policy}: dismissed: {outcome.deeds.failed}"
        if outcome.short:
            yield (
                f"{outcome.policy}: no swap slot was left in {outcome.short:,} of "
                f"{outcome.ticks * outcome.hosts:,} steps: there a real host kills a VM"
            )
    yield from dict.fromkeys(note for row in found.rows for note in row.outcome.notes)


def figures(found: Simulated) -> dict[str, Any]:
    """For programs: base units; what is not known is a key that is absent."""
    of = found.reference
    return {
        "schema_version": SCHEMA_VERSION,
        "lab": found.lab,
        "vms": of.vms,
        "hosts": of.hosts,
        "seconds": of.seconds,
        "window": list(of.window),
        "seed": found.seed,
        "time_scale": found.scales[0],
        "size_scale": found.scales[1],
        "overcommitment": found.overcommitment,
        "cgroup": _cgroup(found),
        "reference_operations": float(of.work.sum()),
        "rows": [_figures(row) for row in found.rows],
        "notes": list(remarks(found)),
    }


def _figures(row: Row) -> dict[str, Any]:
    outcome, deeds = row.outcome, row.outcome.deeds
    known = {"work": row.work, "worst": row.worst, "fairness": row.fairness}
    return {
        "policy": outcome.policy,
        **{name: value for name, value in known.items() if value is not None},
        "used": outcome.used,
        "saved": {str(name): value for name, value in outcome.saved.items()},
        "major_faults": outcome.major_faults,
        "swapped_in": outcome.swapped_in,
        "stalled": outcome.stalled,
        "ksmd_cpu": outcome.ksmd,
        "actions": {str(name): count for name, count in deeds.actions.items()},
        "pushed_out": {str(name): size for name, size in deeds.got.items()},
        "states": dict(deeds.states),
        "steps_without_slot": outcome.short,
        "model_cpu_seconds": outcome.model_seconds,
        "policy_cpu_seconds": deeds.seconds,
        **({"failed": deeds.failed} if deeds.failed else {}),
    }


def held_table(held: Held) -> Table:
    """The model beside a recording."""
    start, end = held.window
    title = (
        f"{held.lab} under {held.policy}: the model beside the recording, means over "
        f"{start:g}–{end:g} s;\n{scaled(held.scales)}"
    )
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("")
    for head in ("model", "real", "error", "apart"):
        shown.add_column(head, justify="right")
    for line in held.lines:
        shown.add_row(line.quantity.name + _unit(line), *_line(line))
    return shown


def _unit(line: Line) -> str:
    return ", MiB" if line.quantity.unit == "bytes" else " /s"


def _line(line: Line) -> Iterator[str]:
    size = MIB if line.quantity.unit == "bytes" else 1
    for value in (line.model, line.real):
        yield "–" if value is None else f"{value / size:,.1f}"
    yield "–" if line.error is None else f"{line.error:+.1%}"
    yield "–" if line.apart is None else f"{line.apart / size:,.1f}"


def held_figures(held: Held) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema_version": SCHEMA_VERSION,
        "lab": held.lab,
        "policy": held.policy,
        "time_scale": held.scales[0],
        "size_scale": held.scales[1],
        "window": list(held.window),
        "quantities": [
            {
                "name": line.quantity.name,
                "unit": line.quantity.unit,
                **{
                    name: value
                    for name in ("model", "real", "error", "apart")
                    if (value := getattr(line, name)) is not None
                },
            }
            for line in held.lines
        ],
        "notes": list(held.notes),
    }
