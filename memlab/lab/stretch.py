"""A lab in slow motion: all its times multiplied, for a machine that is slower than they suppose.

An emulated CPU takes longer for the same work, so what is to be reached after a time is reached
after a longer one, and operations come as much slower. Sizes and expectations stay; ksmd's pace
stays too, since it is the kernel's and is slowed down with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, JsonValue

from memlab.guest.workloads import WORKLOADS, Kind
from memlab.lab.load import Loaded
from memlab.lab.spec import Lab, Step
from memlab.lab.vmspec import VmSpec, WorkloadSpec, named


def stretch(loaded: Loaded, factor: float) -> Loaded:
    """`loaded` with every time multiplied by `factor`, which the recording keeps."""
    return replace(loaded, lab=_lab(loaded.lab, factor), time_scale=factor)


def _lab(lab: Lab, factor: float) -> Lab:
    times: dict[str, Any] = {
        "duration": lab.duration * factor,
        "window": _times(lab.window, factor, "start", "until"),
        "baseline": _times(lab.baseline, factor, "start", "until"),
        "sample": _times(lab.sample, factor, "fast", "medium", "deep"),
        "active": lab.active.model_copy(
            update={
                "period": lab.active.period * factor,
                "pressure": _times(lab.active.pressure, factor, "period"),
                "damon": _times(lab.active.damon, factor, "sample", "period"),
            }
        ),
        # A policy's published periods are divided by its time_scale, so they grow as that shrinks.
        "policy": lab.policy.model_copy(
            update={
                "period": lab.policy.period * factor,
                "time_scale": lab.policy.time_scale / factor,
            }
        ),
        "timeline": tuple(_step(step, factor) for step in lab.timeline),
        "expect": tuple(_times(one, factor, "within") for one in lab.expect),
        "vms": tuple(_vm(vm, factor) for vm in lab.vms),
    }
    return lab.model_copy(update=times)


def _times(part: BaseModel | None, factor: float, *names: str) -> BaseModel | None:
    """`part` with these of its fields multiplied, those that are given."""
    if part is None:
        return None
    given = {name: getattr(part, name) for name in names}
    return part.model_copy(
        update={name: value * factor for name, value in given.items() if value is not None}
    )


def _step(step: Step, factor: float) -> BaseModel | None:
    """Its times, and those of the workloads that it starts."""
    changes = {path: _changed(path, value, factor) for path, value in step.set.items()}
    return _times(step.model_copy(update={"set": changes}), factor, "at", "cooldown")


def _changed(path: str, value: JsonValue, factor: float) -> JsonValue:
    if not path.strip().endswith(".workload"):
        return value
    written = named(value)
    return {**written, "args": _workload(WorkloadSpec.model_validate(written), factor).args}


def _vm(vm: VmSpec, factor: float) -> VmSpec:
    workload = _workload(vm.workload, factor)
    return vm.model_copy(update={"start": vm.start * factor, "workload": workload})


def _workload(workload: WorkloadSpec, factor: float) -> WorkloadSpec:
    """Its durations, also those that the file leaves at their defaults, and its rates.

    Rates fall by the square: by `factor` alone each second of the lab would have as much to do.
    """
    args, written = dict(workload.args), workload.arguments
    for arg in WORKLOADS[workload.name].args:
        value = written.get(arg.name, arg.default)
        if arg.kind is Kind.DURATION and isinstance(value, int | float):
            args[arg.name] = f"{min(value * factor, arg.maximum):.3f}s"
        elif arg.kind is Kind.RATE and isinstance(value, int | float):
            args[arg.name] = value / factor**2
    return workload.model_copy(update={"args": args})
