"""QEMU VMs that boot a disk of the user's own, never written to: a full guest.

With memlab's agent in it (it is started from the drive that every such guest has) it is asked as a
micro-guest is. Without one it runs all the same: the host's side is measured as ever, the guest's
side is what its balloon driver tells (outside.py), and it has no workload of the lab's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from memlab.errors import GuestError, VmError
from memlab.vm.base import Moved, VmConfig
from memlab.vm.child import Identity, Places
from memlab.vm.hardware import Hardware, Nic
from memlab.vm.launch import Launch, RootDisk
from memlab.vm.link import SocketLink
from memlab.vm.machine import QemuMachine
from memlab.vm.mirror import BoardMirror
from memlab.vm.outside import Outside
from memlab.vm.process import boot_fields, workload_fields

_UNHEARD_HINT: Final = (
    "let its system start the agent (docs/qemu.md, one line), or give it longer: image.within"
)


class FullVm(QemuMachine):
    """A VM in QEMU with a whole system of its own."""

    def __init__(
        self,
        config: VmConfig,
        places: Places,
        hardware: Hardware,
        *,
        disk: RootDisk,
        agent_seconds: float = 60.0,
        nic: Nic | None = None,
        identity: Identity | None = None,
        on_spawn: Callable[[int], None] | None = None,
        report_seconds: float = 0.25,
    ) -> None:
        """`agent_seconds` is how long its agent is waited for; 0: there is none."""
        super().__init__(config, hardware, Launch(
            config.name, places, hardware, None, root=disk, nic=nic, huge=config.huge,
            identity=identity, on_spawn=on_spawn,
        ))  # fmt: skip
        self._patience = agent_seconds
        self._report = report_seconds
        self._deadline = 0.0
        self._asked: list[int] = []
        self._outside: Outside | None = None
        self._to_tell: list[dict[str, Any]] = []

    def start(self) -> None:
        """Run QEMU in its cgroups, and send the agent what it will find when it is up."""
        self._qemu = self._launch.run()
        self._deadline = time.monotonic() + self._patience
        if self._patience:
            line = self._qemu.link
            self._asked = [
                line.send("boot", **boot_fields(self.config)),
                line.send("report", period=self._report),
                line.send("workload", **workload_fields(self.config)),
            ]

    def wait_ready(self, *, timeout: float) -> None:
        """Return when the agent works, or has not been heard for as long as it is waited for.

        VmError, with the last words, if QEMU has ended, if the agent refuses what it was sent, or
        if a workload was asked for and there is no agent. `timeout` is for QEMU itself.
        """
        try:
            self.monitor.connect(timeout=timeout)
            answers = self._hear()
        except VmError as error:
            raise self._not_ready(error) from error
        if not answers and self._has_work:
            raise self._not_ready(VmError(self.config.name, self._unheard), _UNHEARD_HINT)
        self._board = BoardMirror(self.config.owner, unknown=not answers)
        self._running().find_memory()
        if answers:
            self.heard = time.monotonic()
        else:
            self._go_without()

    def _hear(self) -> bool:
        """Whether the agent has answered all that it was sent."""
        line = self._running().link
        for number in self._asked:
            try:
                line.answer(number, timeout=max(self._deadline - time.monotonic(), 0.01))
            except GuestError:
                if line.ended or time.monotonic() < self._deadline:
                    raise  # it is there, and refuses
                return False
        return bool(self._asked)

    @property
    def _has_work(self) -> bool:
        work = self.config.workload
        return bool(work.command or work.size) or work.name != "idle"

    @property
    def _unheard(self) -> str:
        return f"its agent was not heard within {self._patience:g} s, and its workload needs it"

    def _go_without(self) -> None:
        self._outside = Outside(self.config.memory, self.monitor)
        self._to_tell.append({"event": "no-agent", "waited": self._patience})

    @property
    def link(self) -> SocketLink | None:
        """The line to the agent; None if there is none."""
        return self._running().link if self._outside is None else None

    def _of_agent(self) -> Iterator[dict[str, Any]]:
        if self._outside is None:
            yield from super()._of_agent()
            return
        told, self._to_tell = self._to_tell, []
        yield from told
        self._running().link.events()  # of an agent that came too late: not to be kept
        with suppress(VmError):  # QEMU has ended: that is told by `ended`
            if (found := self._outside.fresh(self._balloon.held)) is not None:
                self._show(found)

    def migrate(self, *, timeout: float) -> Moved:
        """Its disks are here: VmError."""
        raise VmError(self.config.name, "a guest with disks cannot be migrated yet")

    def stop(self, *, timeout: float) -> None:
        """End QEMU by pidfd: what the guest has written is thrown away, so it need not finish."""
        super().stop(timeout=0)
