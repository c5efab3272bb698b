"""From a run to the `View` of a policy: the newest value of each column it may look at.

A view is recorded at each tick, as one JSON object in which what is not known is left out, so that
a decision can be explained, and any policy asked again on what was seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Protocol

from memlab.control.policy import Mechanism, View, VmView
from memlab.record.columns import Entity

Latest = Callable[[Entity, str, str], float | None]
"""`record.derive.Derived.latest`: newest known value of a column, or None."""

Chosen = dict[str, Any]
"""Fields of a view by name, chosen from its own declaration; their types are checked there."""

_NOT_SAMPLED: Final = frozenset(
    {"name", "configured", "shares", "reservation", "limit", "blocked", "active"}
)
"""`active` is one of several columns: see `_active`."""
_OBSERVED: Final = tuple(field.name for field in fields(VmView) if field.name not in _NOT_SAMPLED)
_RATES: Final = frozenset({"cpu", "major_faults", "guest_swap_in", "stall_some", "stall_full"})
_ESTIMATES: Final = ("active", "active_referenced", "active_damon", "active_pressure")
_LAB_SIZES: Final = ("saved_sharing", "saved_compression", "compressed")
_LAB_RATES: Final = ("stall_some", "swap_in", "decompressed")


class Claims(Protocol):
    """What the lab file says of a VM."""

    name: str
    memory: int
    shares: int
    reservation: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Frame:
    """What a view holds that does not come from samples."""

    budget: int
    pool_cap: int
    swap_size: int
    sharing_on: bool
    mechanisms: frozenset[Mechanism]
    pages_to_scan: int | None = None
    blocked: frozenset[str] = frozenset()


def view_at(time: float, latest: Latest, frame: Frame, vms: Iterable[Claims]) -> View | None:
    """The view at `time`, or None as long as the lab's use has not been sampled."""
    used = latest(Entity.LAB, "used", "")
    if used is None:
        return None
    sizes: Chosen = {name: _bytes(latest(Entity.LAB, name, "")) for name in _LAB_SIZES}
    rates: Chosen = {name: latest(Entity.LAB, name, "") for name in _LAB_RATES}
    return View(
        time=time,
        budget=frame.budget,
        used=int(used),
        pool=_bytes(latest(Entity.LAB, "pool", "")) or 0,
        pool_cap=frame.pool_cap,
        swap_size=frame.swap_size,
        swap_used=_bytes(latest(Entity.LAB, "swap_slots", "")) or 0,
        swap_cache=_bytes(latest(Entity.LAB, "swap_cache", "")) or 0,
        sharing_on=frame.sharing_on,
        pages_to_scan=frame.pages_to_scan,
        mechanisms=frame.mechanisms,
        vms=tuple(_vm_view(vm, latest, vm.name in frame.blocked) for vm in vms),
        **sizes,
        **rates,
    )


def _vm_view(vm: Claims, latest: Latest, blocked: bool) -> VmView:
    seen = {name: latest(Entity.VM, name, vm.name) for name in _OBSERVED}
    rates: Chosen = {name: value for name, value in seen.items() if name in _RATES}
    seen["active"] = _active(latest, vm.name)
    sizes: Chosen = {name: _bytes(value) for name, value in seen.items() if name not in _RATES}
    return VmView(
        vm.name, vm.memory, blocked=blocked,
        shares=vm.shares, reservation=vm.reservation, limit=vm.limit, **sizes, **rates,
    )  # fmt: skip


def _active(latest: Latest, vm: str) -> float | None:
    """By random pages if the guest has an agent that watches them, else by the first estimator
    that the lab has."""
    guesses = (latest(Entity.VM, name, vm) for name in _ESTIMATES)
    return next((one for one in guesses if one is not None), None)


def _bytes(value: float | None) -> int | None:
    return None if value is None else int(value)


def to_json(view: View) -> str:
    """The view as one line of JSON; what is not known is left out."""
    data = {name: value for name, value in asdict(view).items() if value is not None}
    data["mechanisms"] = sorted(view.mechanisms)
    data["vms"] = [
        {name: value for name, value in vm.items() if value is not None} for vm in data["vms"]
    ]
    return json.dumps(data, separators=(",", ":"))


def from_json(text: str) -> View:
    """The view that `to_json` wrote; what this version does not know is passed over."""
    data: dict[str, Any] = json.loads(text)
    known, of_a_vm = ({field.name for field in fields(kind)} for kind in (View, VmView))
    vms = tuple(
        VmView(**{name: value for name, value in vm.items() if name in of_a_vm})
        for vm in data.pop("vms", [])
    )
    mechanisms = frozenset(Mechanism(word) for word in data.pop("mechanisms", []))
    rest = {name: value for name, value in data.items() if name in known}
    return View(**rest, mechanisms=mechanisms, vms=vms)
