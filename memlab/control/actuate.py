"""The one place where a decision becomes a write: asked, got, and how long it took.

Sharing is ksmd's switch and pace, journalled before it is turned. A balloon is a command to the
guest's driver, whose achieved size comes later as an event. Reclaim and aging are done to the VM's
guest memory (`guestmemory`), with the compressed pool's door open or shut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from memlab.control.guestmemory import PATIENCE, GuestMemory, Swept
from memlab.control.policy import Action, Age, Balloon, Block, Mechanism, Reclaim, Share
from memlab.errors import VmError
from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.cgroup_tree import freeze
from memlab.kernel.files import HOST, Applied, Roots
from memlab.units import format_size
from memlab.vm.base import Vm


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked, what came of it, and the time it took in seconds."""

    asked: str
    got: str
    seconds: float


class Pool(Protocol):
    """The door of the compressed pool."""

    @property
    def pool_open(self) -> bool:
        """Whether it takes pages now."""

    def keep(self) -> None:
        """Look at its size now, and close or open the door by it."""

    def past_the_pool(self) -> AbstractContextManager[None]:
        """While this lasts pages go to the swap device."""


class Actuator:
    """Carries out actions on running VMs. `turn` journals a knob and turns it.

    `patience` is how many seconds one deed on a guest's memory may take.
    """

    def __init__(
        self,
        turn: Callable[[Path, str], Applied],
        machines: Mapping[str, Vm],
        groups: Mapping[str, MemoryGroup],
        pool: Pool,
        *,
        compression: bool,
        patience: float = PATIENCE,
        roots: Roots = HOST,
    ) -> None:
        self._turn = turn
        self._machines = machines
        self._groups = groups
        self._pool = pool
        self._compression = compression
        self._roots = roots
        self._memory = GuestMemory(patience, roots)
        self.blocked: set[str] = set()
        """VMs that a policy lets not run now."""

    def carry_out(self, action: Action) -> Done:
        """Do it. A VM that cannot take part is said in `got`; a refused knob raises KernelError."""
        began = time.monotonic()
        match action:
            case Share(on=on, pages_to_scan=pages):
                asked, got = f"sharing {'on' if on else 'off'}", self._share(on, pages)
            case Balloon(vm=vm, target=target):
                asked, got = f"balloon {format_size(target)}", self._balloon(vm, target)
            case Reclaim(vm=vm, size=size, into=into, oldest=oldest):
                asked = f"{format_size(size)}{', the oldest,' if oldest else ''} into {into}"
                got = self._reclaim(vm, size, into, oldest=oldest)
            case Age(vm=vm):
                asked, got = "aging", self._age(vm)
            case Block(vm=vm, on=on):
                asked, got = "blocked" if on else "runs again", self._block(vm, on)
        return Done(asked, got, time.monotonic() - began)

    def _share(self, on: bool, pages: int | None) -> str:
        if pages is not None:
            self._turn(self._roots.ksm / "pages_to_scan", str(pages))
        applied = self._turn(self._roots.ksm / "run", "1" if on else "0")
        return f"ksm/run is {applied.got}"

    def _balloon(self, name: str, target: int) -> str:
        vm = self._machines.get(name)
        if vm is None:
            return "the VM runs no more"
        if name in self.blocked:
            return "the VM is blocked: its driver cannot answer"
        try:
            vm.balloon(target)
        except VmError as error:
            return error.message
        return "taken up by the driver"

    def _block(self, name: str, on: bool) -> str:
        """Freeze the VM's cgroup2 directory, or thaw it.

        A frozen group can be killed as any other, so that no clean-up needs a thaw.
        """
        vm = self._machines.get(name)
        if vm is None or vm.ended():
            return "the VM runs no more"
        if freeze(vm.target.unified_group, frozen=on) is None:
            return "it goes on: this kernel has no cgroup.freeze"
        (self.blocked.add if on else self.blocked.discard)(name)
        return "frozen" if on else "runs"

    def release(self) -> None:
        """Let every VM run again."""
        for name in sorted(self.blocked):
            self._block(name, on=False)

    def _reclaim(self, name: str, size: int, into: Mechanism, *, oldest: bool) -> str:
        vm = self._machines.get(name)
        if vm is None:
            return "the VM runs no more"
        with self._door(into) as look:
            if look is None:
                return "0 B: the pool takes no pages now"
            # What is there of a program no address tells: the kernel chooses.
            chosen = oldest or vm.target.ram_start is None
            if chosen and (done := self._groups[name].reclaim(size)) is not None:
                return format_size(done)
            swept = self._memory.squeeze(vm.target, lambda so_far: so_far.net >= size, look)
        return format_size(max(0, swept.net))

    def press(self, name: str, size: int, into: Mechanism) -> Swept | None:
        """Push `size` bytes of the VM out of their frames, whether they come back or not.

        None if it runs no more, or the pool takes none. `carry_out` goes on until the VM is that
        much smaller, which of memory in use is much more.
        """
        vm = self._machines.get(name)
        if vm is None:
            return None
        with self._door(into) as look:
            if look is None:
                return None
            return self._memory.squeeze(vm.target, lambda so_far: so_far.pushed >= size, look)

    def _age(self, name: str) -> str:
        vm = self._machines.get(name)
        if vm is None or vm.ended():
            return "the VM runs no more"
        return f"{format_size(self._memory.age(vm.target))} taken for old"

    @contextmanager
    def _door(self, into: Mechanism) -> Iterator[Callable[[], None] | None]:
        """What is to be called after each piece that is pushed; None if the pool takes none."""
        if into is not Mechanism.COMPRESSION:
            with self._pool.past_the_pool():
                yield lambda: None
        elif self._compression and self._pool.pool_open:
            yield self._pool.keep
        else:
            yield None
