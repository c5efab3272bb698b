"""The model: one step of all VMs on all hosts, and what a policy may turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memlab.control.policy import Mechanism
from memlab.lab.spec import VmSpec
from memlab.simulate.access import flows
from memlab.simulate.active import Active
from memlab.simulate.applications import Applications, Wanted
from memlab.simulate.arrays import APP, FREED, IMAGE, Floats, over
from memlab.simulate.balloon import Balloons
from memlab.simulate.costs import COSTS
from memlab.simulate.demand import Demand, layered
from memlab.simulate.device import Device
from memlab.simulate.fleet import Fleet, content_of
from memlab.simulate.flows import Flows, Pace
from memlab.simulate.guestswap import make_room
from memlab.simulate.pages import Pages, Shared, machine_used, slots_used
from memlab.simulate.reclaim import Reclaim, pool_room, push, settle_pool, zero_on_device
from memlab.simulate.sharing import ksmd, merge


class Model:
    """All hosts of a fleet. `time` is seconds since the run began; `step` lets some go by."""

    def __init__(self, fleet: Fleet, *, seed: int = 0) -> None:
        self.fleet = fleet
        self.time = 0.0
        self.pages = Pages.fresh(fleet)
        self.shared = Shared.of(self.pages, fleet)
        self.demand = Demand.of([place.spec for place in fleet.places])
        self.ksmd = ksmd(fleet)
        self.balloons = Balloons(fleet, self.demand)
        self.blocked = np.zeros(fleet.count, dtype=bool)
        self.budget = fleet.budget.copy()
        self.used = np.zeros(fleet.hosts.count)
        self.short = np.zeros(fleet.hosts.count)
        """Frames for which no slot was left in the last step: there a real host kills a VM."""
        self.flows: Flows | None = None
        self.dt = 0.0
        self.active = Active(fleet, seed)
        self._applications = Applications(fleet, self.demand)
        self._density = fleet.density_of_strata()
        self._reclaim = Reclaim(fleet, self._density)
        self.device = Device(fleet)
        self._equal = np.zeros_like(self._density)
        self._equal[IMAGE], self._equal[1:] = fleet.equal
        self._pressed = np.zeros(fleet.hosts.count)
        self._rate = np.zeros(fleet.count)

    def step(self, dt: float) -> Flows:
        """`dt` seconds; what was done in them."""
        fleet, pages = self.fleet, self.pages
        wanted = self._applications.at(self.time, pages, self.blocked)
        self.balloons.move(pages, wanted.runs, dt)
        self._guests_swap(wanted)
        merge(pages, self.shared, self.ksmd, fleet, dt)
        found = flows(
            pages, wanted, self.demand, pace=self._pace(),
            zero=zero_on_device(pages, fleet), before=self._rate * dt, dt=dt,
        )  # fmt: skip
        self._make_room(found, dt)
        self._carry_out(found)
        self.shared = Shared.of(pages, fleet)
        settle_pool(pages, self.shared, fleet, self._density)
        self.used = machine_used(pages, self.shared, fleet)
        self.device.serve(found, self._reclaim.written, dt)
        self.active.look(found, pages, dt)
        self._rate = found.operations / dt
        self.time, self.dt, self.flows = self.time + dt, dt, found
        return found

    def push_out(self, wanted: Floats, into: Mechanism, *, oldest: bool = False) -> Floats:
        """Push pages out of VMs, merged ones never; `wanted` and what left are pages by VM.

        As MADV_PAGEOUT does, page after page, hot or not, which leaves them in the swap cache; or
        the oldest, as the kernel's own reclaim does, which does not.
        """
        fleet, pages = self.fleet, self.pages
        own = pages.private.sum(axis=0)
        count: Floats = np.minimum(wanted, own)
        if into is Mechanism.COMPRESSION:
            wanted = self._reclaim.poolable(pages, pages.private * over(count, own))
            asked = fleet.hosts.sum((wanted * self._density).sum(axis=0))
            room = pool_room(pages, fleet)
            count = count * fleet.hosts.spread(np.minimum(1, over(room, asked)))
        room = np.maximum(fleet.slots - self.slots, 0)
        count = count * fleet.hosts.spread(np.minimum(1, over(room, fleet.hosts.sum(count))))
        taken: Floats = pages.private * over(count, own)
        if oldest and self.flows is not None:
            taken = self._reclaim.victims.oldest_own(pages.private, self.flows.rates, count)
        if into is Mechanism.COMPRESSION:
            push(pages, taken, self._reclaim.poolable(pages, taken))
        else:
            push(pages, taken, np.zeros_like(taken))
            pages.cached += 0 if oldest else taken
            self.device.write(fleet.hosts.sum(count))
        settle_pool(pages, self.shared, fleet, self._density)
        self.used = machine_used(pages, self.shared, fleet)
        return count

    def make_old(self, vm: int) -> None:
        """The VM's pages go before all others that are in use, until it uses them again."""
        self._reclaim.victims.make_old(vm)

    def start_application(self, which: Sequence[int], spec: VmSpec) -> None:
        """These VMs end their application, which frees all, and start that of `spec`."""
        self._applications.restart(which, self.time, self.pages)
        self.demand.put(which, layered(spec))
        equal, common, density = content_of(spec.workload.content or spec.content)
        self.fleet.equal[1, which], self.fleet.common[1, which] = equal, common
        self.fleet.density[1, which] = density
        self._density[1:, which], self._equal[1:, which] = density, equal

    @property
    def slots(self) -> Floats:
        """Slots in use on each host."""
        return slots_used(self.pages, self.shared, self.fleet)

    def _guests_swap(self, wanted: Wanted) -> None:
        """Guests that want more than they have free push something out themselves."""
        if not self.fleet.guest_swap.any():
            return
        pages = self.pages
        missing = np.maximum(wanted.goal - pages.touched, 0)
        missing[APP] = np.maximum(missing[APP] - pages.guest_swapped, 0)
        wants = missing.sum(axis=0)
        if self.flows is not None:
            wants += self.flows.guest_wants
        free = pages.untouched + pages.touched_in(FREED)
        files = self.demand.reads_files.astype(np.float64)
        make_room(pages, self.fleet, wants - free, files)

    def _pace(self) -> Pace:
        spread = self.fleet.hosts.spread
        written = self._reclaim.written_part
        push = COSTS.to_pool * (1 - written) + COSTS.to_device * written
        return Pace(spread(self._pressed * push), spread(self.device.queue))

    def _make_room(self, found: Flows, dt: float) -> None:
        """Frames for what is wanted: free ones, the swap cache, then by reclaim. What cannot be had
        is not done."""
        fleet, pages = self.fleet, self.pages
        shared = Shared.of(pages, fleet)
        need = fleet.hosts.sum(_frames(found, pages))
        missing = machine_used(pages, shared, fleet) + need - self.budget
        if fleet.pool_charged:
            # What faults take out of the pool makes holes in it, which new pages fill.
            holes = fleet.hosts.sum((found.pooled * self._density[APP]).sum(axis=0))
            missing -= holes * (pages.pool_closed == 0)
        else:
            missing += fleet.set_aside - pages.pool
        missing = np.maximum(missing, 0)
        missing -= self._drop_cache(found, missing)
        got, self.short = self._reclaim.take(pages, shared, found.rates, missing, dt)
        lacking = np.clip(missing - got, 0, np.maximum(need, 0))
        self._pressed = np.minimum(1, over(missing, need))
        if lacking.any():
            found.scale(fleet.hosts.spread(1 - over(lacking, need)))

    def _drop_cache(self, found: Flows, missing: Floats) -> Floats:
        """Frames of the swap cache that nobody wants now, as many as are missing; those had."""
        if not self.pages.cached.any():
            return np.zeros_like(missing)
        idle = self.pages.cached.copy()
        idle[APP] -= found.cached
        there = self.fleet.hosts.sum(idle.sum(axis=0))
        got: Floats = np.minimum(there, missing)
        self.pages.cached -= idle * self.fleet.hosts.spread(over(got, there))
        return got

    def _carry_out(self, found: Flows) -> None:
        """Faults, copies and fills."""
        pages, app = self.pages, APP
        found.copies = np.minimum(found.copies, pages.merged[app])
        pages.pooled[app] -= found.pooled
        pages.device[app] -= found.device
        pages.cached[app] -= found.cached
        pages.merged_out[app] -= found.merged_out
        pages.merged[app] -= found.copies
        pages.private[app] += found.pooled + found.device + found.merged_out + found.copies
        if pages.equal[app].any() or found.merged_out.any():
            pages.equal[app] *= 1 - found.written
            pages.equal[app] += found.merged_out * (1 - self.demand.writes)
        self._forget(found)
        if found.fill.any():
            self._fill(found)

    def _forget(self, found: Flows) -> None:
        """A page that was out is new to ksmd: it forgets those that it passes and does not find."""
        back = (found.pooled + found.device + found.merged_out).sum(axis=0)
        there = self.pages.private.sum(axis=0) + self.pages.merged.sum(axis=0)
        self.pages.seen *= over(there - back, there)

    def _fill(self, found: Flows) -> None:
        pages, count = self.pages, found.fill.sum(axis=0)
        held = self.fleet.configured - pages.untouched - pages.ballooned
        of_freed = found.reuse * pages.touched_in(FREED)
        keep = 1 - found.reuse
        for rows in pages.by_stratum:
            rows[FREED] *= keep
        pages.untouched -= count - of_freed
        pages.guest_swapped -= found.guest_in
        pages.private += found.fill
        pages.equal += found.fill * self._equal
        pages.seen *= over(held - of_freed, held - of_freed + count)


def _frames(found: Flows, pages: Pages) -> Floats:
    """Frames that are wanted, by VM: a freed page that is in a frame is filled again in place."""
    faults = found.pooled + found.device - found.cached + found.merged_out + found.copies
    wanted: Floats = (
        faults.sum(axis=0) + found.fill.sum(axis=0) - found.reuse * pages.private[FREED]
    )
    return wanted
