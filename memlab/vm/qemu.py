"""QEMU VMs with a micro-guest: a real Linux whose only program is the agent (see machine.py)."""

from __future__ import annotations

import time
from collections.abc import Callable

from memlab.errors import VmError
from memlab.guest.image import GuestImage
from memlab.vm.base import VmConfig
from memlab.vm.child import Identity, Places
from memlab.vm.hardware import Hardware, Nic
from memlab.vm.launch import Disks, Launch
from memlab.vm.link import SocketLink
from memlab.vm.machine import QemuMachine
from memlab.vm.mirror import BoardMirror
from memlab.vm.process import boot_fields, workload_fields


class QemuVm(QemuMachine):
    """A VM in QEMU with a micro-guest, booted or started from a saved state."""

    def __init__(
        self,
        config: VmConfig,
        places: Places,
        hardware: Hardware,
        *,
        image: GuestImage,
        state: int | None = None,
        disks: Disks = Disks(),  # noqa: B008 — frozen
        nic: Nic | None = None,
        identity: Identity | None = None,
        on_spawn: Callable[[int], None] | None = None,
        report_seconds: float = 0.25,
        with_parent: bool = False,
    ) -> None:
        """`state` is a descriptor of a saved state of the same hardware, to start from.

        `with_parent`: the kernel ends QEMU when this process dies, for want of a journal.
        """
        super().__init__(config, hardware, Launch(
            config.name, places, hardware, image, nic=nic, huge=config.huge, identity=identity,
            on_spawn=on_spawn, with_parent=with_parent,
        ))  # fmt: skip
        self._state = state
        self._disks = disks
        self._report = report_seconds
        self._asked: list[int] = []
        self.release = ""
        """The guest's kernel, when it is ready."""

    # Launch.

    def start(self) -> None:
        """Run QEMU in its cgroups, and send the agent what it will find when it is up."""
        self._board = BoardMirror(self.config.owner)
        self.launch()
        link, workload = self.link, workload_fields(self.config)
        self._asked = [
            link.send("boot", **boot_fields(self.config)),
            link.send("report", period=self._report),
            link.send("workload", **workload),
        ]

    def launch(self) -> None:
        """Run QEMU in its cgroups; nothing is said to the guest."""
        self._qemu = self._launch.run(state=self._state, disks=self._disks)

    # Ready.

    def wait_ready(self, *, timeout: float) -> None:
        """Return when the guest works and its memory is found; VmError with the last words."""
        if not self._asked:
            return
        try:
            self.monitor.connect(timeout=timeout)
            answers = [self.link.answer(number, timeout=timeout) for number in self._asked]
        except VmError as error:
            raise self._not_ready(error) from error
        self._asked = []
        self.release = str(answers[0].get("release", ""))
        self._running().find_memory()
        self.heard = time.monotonic()

    def wait_for_agent(self, *, timeout: float) -> None:
        """Return when the agent answers, of a guest that has only been launched."""
        try:
            self.monitor.connect(timeout=timeout)
            self.link.call("hello", timeout=timeout)
        except VmError as error:
            raise self._not_ready(error) from error

    def save(self, fd: int, *, timeout: float) -> None:
        """Write the guest's state to the file `fd`; the guest is stopped then."""
        self.monitor.save(fd, timeout=timeout)

    @property
    def link(self) -> SocketLink:
        """The line to the agent."""
        return self._running().link
