"""The lab that a recorded run was of: its file, and what of `--set` the manifest shows besides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from memlab.control.userpolicy import is_user_policy
from memlab.errors import RecordingError, UsageError
from memlab.guest.wire import Workload
from memlab.kernel.cgroup import Layout
from memlab.lab.load import Loaded, loads
from memlab.lab.spec import ContentSpec, ImageSpec, VmSpec, WorkloadSpec
from memlab.lab.stretch import stretch

_SWITCHES: Final = {
    "sharing": "tps", "balloon": "balloon", "compression": "compression", "swap": "swap"
}  # fmt: skip
"""Keys of the lab file by the recording's names of the mechanisms."""
_LEAST: Final = {"period": 0.01, "time_scale": 0.01, "size_scale": 1.0}
"""The smallest paces of a policy that a lab file, in slow motion or fast, comes to."""
_PACE: Final = re.compile(r"/ksm/(pages_to_scan|sleep_millisecs): \S+ → (\d+)")
"""A line of the recorded plan: what ksmd's pace was changed to."""


def lab_of(manifest: Mapping[str, Any], folder: Path) -> Loaded:
    """The lab of a run. RecordingError if the recording does not hold it, UsageError if it names
    code to be run: a recording may be a stranger's."""
    source = manifest.get("source")
    if not isinstance(source, str) or not source.strip():
        raise RecordingError("this recording does not hold its lab file", hint="record it again")
    _refuse_code(str((manifest.get("policy") or {}).get("name", "")))
    loaded = loads(source, name=str(folder / "lab.yaml"), sets=tuple(_sets(manifest)))
    _refuse_code(loaded.lab.policy.name)
    scale = float(manifest.get("time_scale") or 1.0)
    stretched = loaded if scale == 1.0 else stretch(loaded, scale)
    facts = {vm["name"]: vm for vm in manifest.get("vms") or ()}
    vms = tuple(_as_recorded(vm, facts.get(vm.name)) for vm in stretched.lab.vms)
    policy = stretched.lab.policy.model_copy(update=dict(_paces(manifest)))
    return replace(stretched, lab=stretched.lab.model_copy(update={"vms": vms, "policy": policy}))


def pool_charged(manifest: Mapping[str, Any]) -> bool:
    """Whether the kernel charged the run's VMs for what was compressed: on cgroup v2 alone."""
    return manifest.get("cgroup") == Layout.V2


def _paces(manifest: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The policy's period and scales, as they were in the run: stretched already where it was."""
    policy = manifest.get("policy") or {}
    for name, least in _LEAST.items():
        if name in policy:
            value = policy[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise RecordingError(f"the recording's policy has a {name} of {value!r}"[:200])
            yield name, float(value)


def _refuse_code(policy: str) -> None:
    if is_user_policy(policy):
        raise UsageError(
            f"the recording's policy is {policy}, and no code is run that a recording names",
            hint="simulate its lab file instead: memlab simulate LAB",
        )


def _sets(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Policy with its settings, budget, pool, mechanisms on or off, ksmd's pace."""
    policy = manifest.get("policy") or {}
    if "name" in policy:
        yield f"policy.name={policy['name']}"
    if policy.get("settings"):
        yield f"policy.settings={json.dumps(policy['settings'])}"
    if "budget" in manifest:
        yield f"host.memory={manifest['budget']}B"
    if manifest.get("pool_cap"):
        yield f"mechanisms.compression.pool={manifest['pool_cap']}B"
    for name, state in (manifest.get("mechanisms") or {}).items():
        if name in _SWITCHES and not state.get("enabled", True):
            yield f"mechanisms.{_SWITCHES[name]}.enabled=off"
    for name, value in _PACE.findall("\n".join(manifest.get("plan") or ())):
        is_pages = name == "pages_to_scan"
        yield f"mechanisms.tps.{f'pages_to_scan={value}' if is_pages else f'sleep={value}ms'}"


def _as_recorded(vm: VmSpec, facts: Mapping[str, Any] | None) -> VmSpec:
    """The VM with the size, image, workload and claims that it ran with."""
    if facts is None or "workload" not in facts:
        return vm
    image, work = dict(facts["image"]), dict(facts["workload"])
    content = work.get("content")
    changed: dict[str, Any] = {
        "memory": facts["configured"],
        "image": ImageSpec.model_construct(**image),
        "workload": WorkloadSpec.model_construct(
            name=Workload(work["name"]),
            size=work["size"],
            content=None if content is None else ContentSpec.model_construct(**content),
            args=work["args"],
        ),
    }
    claims = ("shares", "reservation", "limit", "start")
    return vm.model_copy(update=changed | {name: facts[name] for name in claims if name in facts})
