"""Views for the tests of policies: a small lab, in whatever straits a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from memlab.control.policy import (
    Action,
    Balloon,
    Block,
    Decision,
    Mechanism,
    Policy,
    Reclaim,
    View,
    VmView,
)
from memlab.units import MIB

BUDGET = 400 * MIB
ALL = frozenset(Mechanism)


def vm(name: str, configured: int = 200, **more: Any) -> VmView:
    """A VM of `configured` MiB with a driver that answers; sizes of `more` are MiB."""
    plain = {"shares", "blocked", "stall_some"}
    sizes = {key: value if key in plain else value * MIB for key, value in more.items()}
    return VmView(
        name,
        configured * MIB,
        **({"ballooned": 0, "free": 50 * MIB, "resident": 150 * MIB} | sizes),
    )


def view(free: float, *vms: VmView, **more: Any) -> View:
    """A lab of which the part `free` of the budget is free."""
    start = View(
        time=1.0, budget=BUDGET, used=round(BUDGET * (1 - free)), pool_cap=40 * MIB,
        swap_size=1024 * MIB, mechanisms=ALL, pages_to_scan=1000, vms=vms or (vm("a"), vm("b")),
    )  # fmt: skip
    return replace(start, **more)


def balloons(decision: Decision) -> dict[str, int]:
    return {a.vm: a.target for a in decision.actions if isinstance(a, Balloon)}


def reclaims(decision: Decision) -> dict[Mechanism, list[str]]:
    found: dict[Mechanism, list[str]] = {}
    for action in decision.actions:
        if isinstance(action, Reclaim):
            found.setdefault(action.into, []).append(action.vm)
    return found


def blocks(decision: Decision) -> dict[str, bool]:
    return {a.vm: a.on for a in decision.actions if isinstance(a, Block)}


def follow(policy: Policy, start: View, ticks: int) -> Sequence[tuple[str, tuple[Action, ...]]]:
    """The same view again and again, with the balloons where the policy put them."""
    found, now = [], start
    for tick in range(ticks):
        decision = policy.decide(replace(now, time=float(tick)))
        found.append((decision.state, decision.actions))
        asked = balloons(decision)
        moved = [replace(each, ballooned=asked.get(each.name, each.ballooned)) for each in now.vms]
        now = replace(now, vms=tuple(moved))
    return found
