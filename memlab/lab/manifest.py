"""What a recording says of its run besides samples: which lab, on which machine, how it ended."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Final

from memlab.control.policy import Mechanism
from memlab.kernel.cgroup import Layout
from memlab.kernel.files import HOST, Roots, chosen, parse_names, read_bytes, read_text
from memlab.kernel.finding import Feature, Finding
from memlab.kernel.interfaces import census
from memlab.kernel.probe import probe
from memlab.lab.plan import compresses
from memlab.lab.spec import Lab, VmSpec
from memlab.lab.stage import Stage

BOX: Final = "MEMLAB_BOX_FACTS"
"""The variable that says, in a box, which one it is: JSON, from `memlab.box.machine`."""

LOOKED_AT: Final = (
    Feature.MACHINE, Feature.KSM, Feature.ZSWAP, Feature.COMPRESSORS, Feature.THP, Feature.PSI,
    Feature.DELAYS, Feature.PAGEMAP_SCAN, Feature.FRAME_NUMBERS, Feature.PAGEOUT,
    Feature.CGROUP_V2, Feature.VM_ZSWAP, Feature.MGLRU, Feature.DAMON, Feature.OTHERS,
)  # fmt: skip
"""Of doctor's features those that are found without making anything: in milliseconds, and with
nothing to undo. The rest of them every run tries by itself."""


def mechanisms_of(lab: Lab) -> dict[Mechanism, bool]:
    """Which of the four this run may use; compression needs swap's slots."""
    swap = lab.mechanisms.swap.enabled and lab.host.swap is not None
    return {
        Mechanism.SHARING: lab.mechanisms.tps.enabled and lab.policy.name != "none",
        Mechanism.BALLOON: lab.mechanisms.balloon.enabled,
        Mechanism.COMPRESSION: compresses(lab),
        Mechanism.SWAP: swap,
    }


def opening(
    lab: Lab,
    source: str,
    stage: Stage,
    *,
    run_id: str,
    host: Mapping[str, Any],
    found: Sequence[Finding] = (),
) -> dict[str, Any]:
    """The manifest as it stands when the run begins; `host` and `found` are from before any
    change."""
    return {
        "lab": lab.name,
        "run": run_id,
        "source": source,
        "seed": lab.seed,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "duration": lab.duration,
        "window": list(lab.measured),
        "host": dict(host),
        "cgroup": str(stage.layout),
        "versions": {"memlab": metadata.version("memlab"), "python": platform.python_version()},
        "policy": lab.policy.model_dump(mode="json"),
        "budget": lab.host.memory,
        "pool_cap": lab.pool,
        "swap_size": stage.plan.swap_size,
        "mechanisms": {str(name): {"enabled": on} for name, on in mechanisms_of(lab).items()},
        "vms": [_vm(vm) for vm in lab.vms],
        "plan": list(stage.plan.lines()),
        "absent": _absent(stage),
        "features": {str(one.feature): _said(one) for one in found},
        "interfaces": census(stage.group, {one.feature for one in found if one.works}, stage.roots),
        **_baseline(lab),
        **_box(),
    }


def host_facts(roots: Roots = HOST) -> dict[str, Any]:
    """Kernel, processors, memory, and the knobs as they stood before the run."""
    memory = parse_names(read_bytes(roots.proc / "meminfo") or b"")
    knobs = {
        "compressor": roots.zswap / "compressor",
        "thp": roots.sys / "kernel/mm/transparent_hugepage/enabled",
        "ksm_run": roots.ksm / "run",
    }
    found = {name: read_text(path) for name, path in knobs.items()}
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory": memory.get("MemTotal"),
        **{name: chosen(text) for name, text in found.items() if text is not None},
    }


def features(roots: Roots = HOST) -> tuple[Finding, ...]:
    """What doctor says of this host, as far as it needs only looking."""
    return probe(roots, only=LOOKED_AT)


def _said(one: Finding) -> dict[str, Any]:
    """As in doctor's JSON: what is not known is an absent key."""
    known = {} if one.works is None else {"works": one.works}
    return {**known, "reason": one.reason}


def _box() -> dict[str, Any]:
    """In which box this runs, as whoever started it has told it; nothing elsewhere."""
    told = os.environ.get(BOX)
    return {} if told is None else {"box": json.loads(told)}


def _vm(vm: VmSpec) -> dict[str, Any]:
    return {
        "name": vm.name,
        "configured": vm.memory,
        "backend": str(vm.backend),
        "image": vm.image.model_dump(mode="json"),
        "workload": vm.workload.model_dump(mode="json"),
        "command": list(vm.command) if vm.command else None,
        "shares": vm.shares,
        "reservation": vm.reservation,
        "limit": vm.limit,
        "start": vm.start,
    }


def _absent(stage: Stage) -> Mapping[str, str]:
    """Columns that this host cannot tell, and why."""
    if stage.layout is Layout.V2:
        return {}
    why = "cgroup v1 charges compressed pages to nobody: known for the whole host only"
    return {"vm.compressed": why, "vm.pool": why}


def _baseline(lab: Lab) -> dict[str, Any]:
    if lab.baseline is None:
        return {}
    return {
        "baseline": {
            "name": "without pressure",
            "from": lab.baseline.start,
            "until": lab.baseline.until,
        }
    }
