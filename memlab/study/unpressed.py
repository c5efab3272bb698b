"""A lab without pressure: what of its timeline takes memory away is left out.

The run that work is held against has a budget for all VMs. A balloon, a limit or a smaller budget
that the timeline sets would press it all the same. What stands in a VM itself (`limit:`, its size,
its workload) is part of the VM and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from memlab.lab.spec import Lab

_OF_A_VM: Final = frozenset({"balloon", "limit", "reclaim", "cgroup.high"})
_WHEN: Final = frozenset({"at", "when", "once", "cooldown"})
"""Keys of a step that say when; the others say what."""


def takes_memory(path: str) -> bool:
    """Whether a setting of the timeline can take memory from a VM: `host.memory`, and of a VM
    `balloon`, `limit`, `reclaim`, `cgroup.high`."""
    parts = path.strip().split(".")
    return parts == ["host", "memory"] or (parts[0] == "vms" and ".".join(parts[2:]) in _OF_A_VM)


def of_policy(path: str) -> bool:
    """Whether a setting of the timeline is one of the lab's policy: another has none such."""
    return path.strip().split(".")[0] == "policy"


def steps_without(
    steps: Sequence[Mapping[str, Any]], drop: Callable[[str], bool]
) -> list[dict[str, Any]]:
    """The steps as written, without the settings that `drop` says; one that does nothing then is
    left out."""
    found = [dict(step) | _settings(step.get("set"), drop) for step in steps]
    kept = [{key: value for key, value in step.items() if value != {}} for step in found]
    return [step for step in kept if step.keys() - _WHEN]


def unpressed(lab: Lab) -> Lab:
    """The lab without the settings of its timeline that take memory away."""
    steps = tuple(
        step.model_copy(update=_settings(step.set, takes_memory)) for step in lab.timeline
    )
    return lab.model_copy(update={"timeline": steps})


def _settings(
    settings: Mapping[str, Any] | None, drop: Callable[[str], bool]
) -> dict[str, dict[str, Any]]:
    return {"set": {path: value for path, value in (settings or {}).items() if not drop(path)}}
