"""Which VMs stand on which hosts: a lab's mix of VMs, dealt out again and again.

VM j of N stands on host j·M ÷ N, so that each host has the same mix as nearly as can be. A host's
budget, pool and swap are the lab's in proportion to what its VMs are configured: over-commitment is
everywhere as it is in the lab. The first of each VM is the lab's own; the others start up to
`JITTER` seconds later (by the seed), or ten thousand VMs would fill their memory in one tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from memlab.control.policy import Mechanism
from memlab.errors import UsageError
from memlab.lab.manifest import mechanisms_of
from memlab.lab.spec import ContentSpec, Lab, VmSpec
from memlab.simulate.arrays import APP, IMAGE, STRATA, Floats, Groups, Ints
from memlab.simulate.costs import OVERHEAD, POOL_LOSS, QEMU_OVERHEAD, RESERVED
from memlab.units import PAGE
from memlab.vm.base import Backend

JITTER: Final = 2.0
MOST_VMS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """One VM of the fleet: its name, what it is, where it stands, when it starts (seconds)."""

    name: str
    spec: VmSpec
    host: int
    start: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """What does not change while the model runs, one entry a VM or a host; sizes are pages.

    `pool_charged` says whether the kernel charges the VMs for what the pool holds, as cgroup v2
    does; else the pool's cap is set aside from the budget (lab/stage.py): `set_aside`.
    `devices` is how many times the lab's swap device a host has (its VMs in proportion). `equal` is
    the part of a region's pages with a content that others have too, `common` the part
    of these that is not zero. `density` is the machine memory of a compressed page, in pages.
    """

    lab: Lab
    places: tuple[Place, ...]
    hosts: Groups
    images: Groups
    image_host: Ints
    configured: Floats
    reserved: Floats
    overhead: Floats
    limit: Floats
    guest_swap: Floats
    start: Floats
    equal: Floats
    common: Floats
    density: Floats
    budget: Floats
    set_aside: Floats
    pool_charged: bool
    pool_cap: Floats
    slots: Floats
    devices: Floats
    mechanisms: frozenset[Mechanism]

    @property
    def count(self) -> int:
        """How many VMs."""
        return len(self.places)

    def density_of_strata(self) -> Floats:
        """`density` by stratum."""
        rows = np.empty((STRATA, self.count))
        rows[IMAGE], rows[1:] = self.density[0], self.density[1]
        return rows

    def filled(self, image: Floats, app: Floats) -> Floats:
        """Rows of a state from pages of the image, and of each stratum of the application."""
        rows = np.zeros((STRATA, self.count))
        rows[IMAGE], rows[APP] = image, app
        return rows


def places(lab: Lab, *, vms: int | None, hosts: int, seed: int) -> tuple[Place, ...]:
    """Every VM's place; UsageError if there are more hosts than VMs, or too many VMs."""
    count = len(lab.vms) if vms is None else vms
    if not hosts <= count <= MOST_VMS:
        raise UsageError(
            f"{count:,} VMs cannot stand on {hosts:,} hosts",
            hint=f"give every host a VM at least, and {MOST_VMS:,} VMs at most",
        )
    late = np.random.default_rng(seed).uniform(0, JITTER, count)
    late[: len(lab.vms)] = 0
    return tuple(
        Place(*_named(lab, j), j * hosts // count, lab.vms[j % len(lab.vms)].start + float(late[j]))
        for j in range(count)
    )


def _named(lab: Lab, number: int) -> tuple[str, VmSpec]:
    copy, which = divmod(number, len(lab.vms))
    spec = lab.vms[which]
    return (f"{spec.name}.{copy}" if copy else spec.name), spec


def fleet(
    lab: Lab, where: Sequence[Place], *, relaxed: bool = False, pool_charged: bool = True
) -> Fleet:
    """The arrays of VMs at these places. `relaxed`: every host has memory for all of its VMs."""
    kinds = {id(place.spec): _of_kind(place.spec) for place in where}
    table = np.array([kinds[id(place.spec)] for place in where]).T
    configured = table[0]
    hosts = Groups.by(np.array([place.host for place in where], dtype=np.intp))
    part = hosts.sum(configured) * PAGE / lab.configured
    images, image_host = _images(where)
    mechanisms = frozenset(name for name, on in mechanisms_of(lab).items() if on)
    swap = lab.host.swap.size if lab.host.swap and Mechanism.SWAP in mechanisms else 0
    pool = part * (lab.pool if Mechanism.COMPRESSION in mechanisms else 0) / PAGE
    budget = part * lab.host.memory / PAGE
    overhead = table[2]
    return Fleet(
        lab=lab,
        places=tuple(where),
        hosts=hosts,
        images=images,
        image_host=image_host,
        configured=configured,
        reserved=table[1],
        overhead=overhead,
        limit=table[3],
        guest_swap=table[4],
        start=np.array([place.start for place in where]),
        equal=table[5:7],
        common=table[7:9],
        density=table[9:11],
        budget=hosts.sum(configured + overhead) * 1.05 if relaxed else budget,
        set_aside=np.zeros_like(pool) if relaxed or pool_charged else pool,
        pool_charged=pool_charged,
        pool_cap=pool,
        slots=part * swap / PAGE,
        devices=part,
        mechanisms=mechanisms,
    )


def _of_kind(spec: VmSpec) -> tuple[float, ...]:
    """The columns of one VM of the lab: sizes, then content by region."""
    contents = (spec.image, spec.workload.content or spec.content)
    pages = spec.memory // PAGE
    own = OVERHEAD if spec.backend is Backend.PROCESS else QEMU_OVERHEAD
    limit = np.inf if spec.limit is None else spec.limit / PAGE
    by_region = zip(*map(content_of, contents), strict=True)
    return (
        *(pages, np.ceil(pages * RESERVED), own / PAGE, limit, spec.guest_swap // PAGE),
        *(value for values in by_region for value in values),
    )


def content_of(content: ContentSpec) -> tuple[float, float, float]:
    """Of a region: the parts `equal` and `common`, and the `density` in the pool."""
    equal = content.zero + content.common
    density = min(1.0, 1 / content.compressible / POOL_LOSS)
    return equal, content.common / (equal or 1), density


def _images(where: Sequence[Place]) -> tuple[Groups, Ints]:
    """VMs of one image on one host, and the host of each such group."""
    numbers: Mapping[tuple[int, str], int] = {
        key: number
        for number, key in enumerate(dict.fromkeys((p.host, p.spec.image.name) for p in where))
    }
    of = np.array([numbers[place.host, place.spec.image.name] for place in where], dtype=np.intp)
    return Groups.by(of), np.array([host for host, _ in numbers], dtype=np.intp)
