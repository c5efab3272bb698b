"""What a policy is shown of the model: the same `View` that a running lab shows it.

A running lab shows what its samplers have last seen, up to a period of each tier ago; here a view
is of the moment. A VM that has not started yet is shown as there: by its claims alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from memlab.control.policy import View, VmView
from memlab.simulate.arrays import APP, FREED, IMAGE, Floats, over
from memlab.simulate.model import Model
from memlab.simulate.savings import saved
from memlab.units import PAGE


@dataclass(slots=True)
class Claims:
    """What each VM may have, as it stands now: the timeline changes it. Bytes; one entry a VM."""

    shares: list[int]
    reservation: list[int]
    limit: list[int | None]


def views(model: Model, claims: Claims) -> Iterator[View]:
    """One view for each host, in their order."""
    vms = _vm_views(model, claims)
    starts = [*model.fleet.hosts.starts.tolist(), model.fleet.count]
    hosts = _host_columns(model)
    for host, (begin, end) in enumerate(pairwise(starts)):
        facts = {name: column[host] for name, column in hosts.items()}
        yield View(
            time=model.time,
            mechanisms=model.fleet.mechanisms,
            vms=tuple(vms[begin:end]),
            **facts,
        )


def _vm_views(model: Model, claims: Claims) -> list[VmView]:
    fleet = model.fleet
    sizes = [_bytes(column) for column in _sizes(model)]
    rates = [column.tolist() for column in _rates(model)]
    active = model.active.pages
    known: Sequence[int | None] = [None] * fleet.count if active is None else _bytes(active)
    configured, blocked = _bytes(fleet.configured), model.blocked.tolist()
    begun = (model.time > fleet.start).tolist()
    found = []
    for i, place in enumerate(fleet.places):
        own = (place.name, configured[i], claims.shares[i], claims.reservation[i], claims.limit[i])
        if not begun[i]:
            found.append(VmView(*own))
            continue
        used, cache, free, held, target, *host_side = (column[i] for column in sizes)
        operations, faults, read, some, full = (column[i] for column in rates)
        resident, consumed, private, shared, out, ghost, common, overhead, swapped = host_side
        found.append(
            VmView(
                *own, used, cache, free, held, target, blocked[i], resident, consumed, private,
                shared, out, ghost, known[i], common, overhead, swapped, operations, faults, read,
                some, full,
            )
        )  # fmt: skip
    return found


def _sizes(model: Model) -> Iterator[Floats]:
    """Columns of bytes of a VmView, by its fields: used … target, resident … guest_swapped."""
    pages, fleet = model.pages, model.fleet
    touched = pages.touched
    app = touched[APP].sum(axis=0)
    files = model.demand.reads_files
    yield np.maximum(touched[IMAGE] - fleet.reserved, 0) + np.where(files, 0, app)
    yield np.where(files, app, 0)
    yield pages.untouched + touched[FREED]
    yield pages.ballooned
    yield model.balloons.target
    private, merged = pages.private.sum(axis=0), pages.merged.sum(axis=0)
    common = model.shared.common(fleet).sum(axis=0)
    yield private + merged + fleet.overhead
    yield private + common + fleet.overhead
    yield private
    yield merged
    yield pages.out.sum(axis=0)
    yield touched[FREED]
    yield common
    yield fleet.overhead
    yield pages.guest_swapped.sum(axis=0)


def _rates(model: Model) -> Iterator[Floats]:
    """Operations and major faults a second, and the parts of the time spent waiting."""
    flows, dt = model.flows, model.dt
    if flows is None:
        nothing = np.zeros(model.fleet.count)
        yield from (nothing,) * 5
        return
    yield flows.operations / dt
    yield flows.major / dt
    yield flows.guest_in.sum(axis=0) * (PAGE / dt)
    yield flows.stalled
    yield flows.stalled


def _host_columns(model: Model) -> dict[str, list[Any]]:
    """The columns of a View that are of a host, plain numbers by name."""
    fleet, pages = model.fleet, model.pages
    savings = saved(pages, model.shared, fleet)
    sizes = {
        "budget": model.budget, "used": model.used, "pool": pages.pool, "pool_cap": fleet.pool_cap,
        "swap_size": fleet.slots, "swap_used": model.slots, "swap_cache": pages.swap_cache,
        "saved_sharing": savings.sharing, "saved_compression": savings.compression,
        "compressed": savings.compressed,
    }  # fmt: skip
    found: dict[str, list[Any]] = {name: _bytes(column) for name, column in sizes.items()}
    found |= {name: column.tolist() for name, column in _host_rates(model).items()}
    found["sharing_on"] = (model.ksmd.on > 0).tolist()
    found["pages_to_scan"] = model.ksmd.pages_to_scan.astype(np.int64).tolist()
    return found


def _host_rates(model: Model) -> dict[str, Floats]:
    flows, hosts = model.flows, model.fleet.hosts
    if flows is None:
        return {}
    waits = over(hosts.sum(flows.stalled), hosts.sum((flows.operations > 0).astype(np.float64)))
    return {
        "stall_some": np.minimum(1, waits),
        "swap_in": hosts.sum(flows.read) * (PAGE / model.dt),
        "decompressed": hosts.sum(flows.pooled.sum(axis=0)) * (PAGE / model.dt),
    }


def _bytes(pages: Floats) -> list[int]:
    found: list[int] = np.rint(pages * PAGE).astype(np.int64).tolist()
    return found
