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
    """By columns, turned into rows at once: a policy sees every VM at every tick, so that this is
    most of what a decision costs."""
    fleet = model.fleet
    guest, host = _guest_sizes(model), _host_sizes(model)
    own = (
        [place.name for place in fleet.places], _bytes(fleet.configured),
        claims.shares, claims.reservation, claims.limit,
    )  # fmt: skip
    active = model.active.estimate(model.pages)
    known: Sequence[int | None] = [None] * fleet.count if active is None else _bytes(active)
    *held, common, overhead, swapped = map(_bytes, host)
    rows = zip(
        *own, *map(_bytes, guest), model.blocked.tolist(), *held, known, common, overhead, swapped,
        *(column.tolist() for column in _rates(model)), strict=True,
    )  # fmt: skip
    begun = (model.time > fleet.start).tolist()
    return [
        VmView(*row) if runs else VmView(*row[: len(own)])
        for row, runs in zip(rows, begun, strict=True)
    ]


def _guest_sizes(model: Model) -> Iterator[Floats]:
    """Columns of pages, by a VmView's fields: used, cache, free, ballooned, target."""
    pages, fleet = model.pages, model.fleet
    touched = pages.touched
    app = touched[APP].sum(axis=0)
    files = model.demand.reads_files
    yield np.maximum(touched[IMAGE] - fleet.reserved, 0) + np.where(files, 0, app)
    yield np.where(files, app, 0)
    yield pages.untouched + touched[FREED]
    yield pages.ballooned
    yield model.balloons.target


def _host_sizes(model: Model) -> Iterator[Floats]:
    """Columns of pages, by a VmView's fields: resident … ghost, common, overhead, guest_swapped."""
    pages, fleet = model.pages, model.fleet
    private, merged = pages.private.sum(axis=0), pages.merged.sum(axis=0)
    common = model.shared.common(fleet).sum(axis=0)
    yield private + merged + fleet.overhead
    yield private + common + fleet.overhead
    yield private
    yield merged
    yield pages.out.sum(axis=0)
    yield pages.touched[FREED]
    yield common
    yield fleet.overhead
    yield pages.guest_swapped.sum(axis=0)


def _rates(model: Model) -> Iterator[Floats]:
    """CPU time and major faults a second, and the parts of the time spent waiting."""
    flows, dt = model.flows, model.dt
    if flows is None:
        nothing = np.zeros(model.fleet.count)
        yield from (nothing,) * 5
        return
    yield flows.cpu / dt
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
        "swap_size": fleet.slots, "swap_used": model.slots,
        "swap_cache": fleet.hosts.sum(pages.swap_cache),
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
