"""The host part of a lab: its budget, its swap area, the knobs held for it.

All of it is journalled first, and undone from the journal by whoever has to (`kernel.owner`); so
there is nothing to close here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from memlab.errors import HostError, KernelError
from memlab.kernel import cgroup, swap
from memlab.kernel.cgroup import Layout, MemoryGroup
from memlab.kernel.entries import SwapKind
from memlab.kernel.files import HOST, Applied, Roots, parse_names, read_bytes
from memlab.kernel.owner import Owner
from memlab.kernel.zswap import PoolGate
from memlab.lab.admission import HOST_FLOOR
from memlab.lab.plan import Change, Plan, compresses
from memlab.lab.spec import Lab
from memlab.units import format_size


def guard_groups(run_id: str, roots: Roots = HOST) -> tuple[Path, ...]:
    """The guard's own cgroup, outside the lab's, for `kernel.owner.acquire`."""
    return (cgroup.lab_group(f"{run_id}-guard", roots).path,)


class Stage:
    """The lab's cgroup and swap area, and the way to turn a knob."""

    def __init__(
        self, lab: Lab, plan: Plan, owner: Owner, run_id: str, *, roots: Roots = HOST
    ) -> None:
        self.lab = lab
        self.plan = plan
        self.roots = roots
        self.layout = cgroup.layout(roots)
        self.group = cgroup.lab_group(run_id, roots)
        self.swap_area: Path | None = None
        self.gate: PoolGate | None = None
        self._owner = owner
        self._run_id = run_id

    @property
    def charges_pool(self) -> bool:
        """Whether the kernel charges the compressed pool to the lab's cgroup (v2 does)."""
        return self.layout is Layout.V2

    def build(self) -> None:
        """Make all of it. What is made half is undone from the journal like the rest."""
        self.make_group(self.group)
        self.set_budget(self.lab.host.memory)
        if self.plan.swap_size:
            self._make_swap()
        for change in self.plan.changes:
            hold(change, self.turn)
        if compresses(self.lab):
            self._make_gate()

    def turn(self, path: Path, value: str) -> Applied:
        """Journal a knob and turn it."""
        return self._owner.journal.turn(path, value)

    def make_group(self, group: MemoryGroup) -> None:
        """Journal a cgroup (both directories on hybrid hosts) and make it."""
        paths = [group.path]
        if group.unified_path is not None and group.unified_path != group.path:
            paths.append(group.unified_path)
        self._owner.journal.cgroup(*paths)
        group.create()

    def set_budget(self, budget: int) -> str:
        """Limit the lab to `budget`, the pool included: on v1 the pool's cap is set aside.

        HostError if the kernel keeps the old limit. The new limit as text.
        """
        pool = self.lab.pool if compresses(self.lab) else 0
        limit = budget if self.charges_pool else budget - pool
        written = self.group.set_limit(limit)
        if not written.took:
            raise HostError(
                f"the kernel refuses a limit of {format_size(limit)}: {written.refused}",
                hint="take a larger budget, or let the VMs give memory up first",
            )
        if self.charges_pool and pool:
            self.group.set_zswap_max(pool)
        return f"limit {format_size(limit)} in {written.seconds:.2f} s"

    def relax(self) -> None:
        """After the last measured sample: what this host has to spare, so that pages which are
        only looked at once more need not push others out."""
        known = parse_names(read_bytes(self.roots.proc / "meminfo") or b"")
        spare = known.get("MemAvailable", 0) - HOST_FLOOR
        if spare > 0:
            self.group.set_limit(self.lab.host.memory + spare)

    def _make_swap(self) -> None:
        journal = self._owner.journal
        if self.plan.swap_file is None:
            self.swap_area = swap.make_zram(self.plan.swap_size, roots=self.roots)
            journal.swap(self.swap_area, SwapKind.ZRAM)
        else:
            path = self.plan.swap_file.with_stem(f"{self.plan.swap_file.stem}-{self._run_id}")
            journal.swap(path, SwapKind.FILE)
            swap.make_file(path, self.plan.swap_size, self.roots)
            self.swap_area = path
        swap.swapon(self.swap_area, roots=self.roots)

    def _make_gate(self) -> None:
        # The gate turns it many times; one entry with both values says all there is to undo.
        self._owner.journal.knob(self.roots.zswap / "enabled", "Y", "N")
        self.gate = PoolGate(self.roots, None if self.charges_pool else self.lab.pool)


def hold(change: Change, turn: Callable[[Path, str], Applied]) -> None:
    """Turn a knob for the length of the lab; HostError if it does not take, unless it is a wish."""
    if change.wish:
        with suppress(KernelError):
            turn(change.path, change.new)
        return
    applied = turn(change.path, change.new)
    if not applied.took:
        raise HostError(
            f"{change.path} did not take {change.new!r}; it says {applied.got!r}",
            hint="leave that setting out of the lab file; memlab doctor says what works here",
        )
