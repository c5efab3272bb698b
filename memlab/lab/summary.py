"""What a lab comes to, before it is run: its VMs, its sums, and what is worth a second look."""

from __future__ import annotations

from typing import Any

from memlab.lab.spec import Lab
from memlab.units import format_duration, format_size


def summary(lab: Lab) -> dict[str, Any]:
    """Name, number of VMs, sums in bytes, one sentence, and notes: plain values for JSON."""
    swap = lab.host.swap.size if lab.host.swap else 0
    count = len(lab.vms)
    sentence = (
        f"valid: {count} {'VM' if count == 1 else 'VMs'},"
        f" {format_size(lab.configured)} configured in {format_size(lab.host.memory)},"
        f" over-commitment {lab.overcommitment:.2f}, {format_duration(lab.duration)},"
        f" {len(lab.expect)} expects"
    )
    return {
        "name": lab.name,
        "vms": [vm.name for vm in lab.vms],
        "configured": lab.configured,
        "budget": lab.host.memory,
        "swap": swap,
        "pool": lab.pool,
        "overcommitment": round(lab.overcommitment, 4),
        "reserved": sum(vm.reservation for vm in lab.vms),
        "duration": lab.duration,
        "window": list(lab.measured),
        "summary": sentence,
        "notes": list(_notes(lab, swap)),
    }


def _notes(lab: Lab, swap: int) -> list[str]:
    notes = []
    room = lab.host.memory + swap
    sums = (
        f"configured {format_size(lab.configured)}, budget {format_size(lab.host.memory)}"
        f" + swap {format_size(swap)} = {format_size(room)}"
    )
    if lab.configured > room:
        notes.append(f"will not be admitted without --i-know: {sums}")
    else:
        notes.append(f"admission: {sums}; the host needs the budget and 512 MiB available")
    mechanisms = lab.mechanisms
    if mechanisms.compression.enabled and not mechanisms.swap.enabled:
        notes.append("swap is off, and compression with it: zswap needs the slots of a swap area")
    if mechanisms.tps.enabled and lab.policy.name == "none":
        notes.append("the policy none shares no pages; static does")
    by_hand = lab.policy.name in ("none", "static")
    if by_hand and mechanisms.balloon.enabled and not _uses_balloon(lab):
        notes.append("the balloon is on, and neither a policy nor the timeline moves it")
    if any(vm.user == "root" and vm.command for vm in lab.vms):
        notes.append("runs commands of the lab file as root")
    return notes


def _uses_balloon(lab: Lab) -> bool:
    return any(path.endswith(".balloon") for step in lab.timeline for path in step.set)
