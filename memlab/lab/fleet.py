"""The VMs of a running lab: started in their turn, asked, verified, ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from memlab.errors import GuestError, VmError
from memlab.kernel.cgroup import MemoryGroup
from memlab.kernel.journal import Journal
from memlab.kernel.network import LabNetwork
from memlab.kernel.task import start_time
from memlab.lab import controls
from memlab.lab.guests import Guests
from memlab.lab.place import Invoker
from memlab.lab.spec import Lab, User, VmSpec
from memlab.lab.stage import Stage
from memlab.vm.base import Backend, Vm, VmConfig
from memlab.vm.child import Identity, Places
from memlab.vm.command import CommandVm
from memlab.vm.disk import open_guest_disk
from memlab.vm.launch import Disks
from memlab.vm.process import ProcessVm

READY_SECONDS: Final = 60.0
PER_GUEST_SECONDS: Final = 5.0
"""More for each that starts at the same time: emulated guests share the host's processors."""
STOP_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 5.0
"""A guest that has not reported for so long hangs, or gets no processor."""
VERIFY_SECONDS: Final = 120.0


class Fleet:
    """The machines by name, in the order of the lab file; empty until `start_due`."""

    def __init__(
        self,
        lab: Lab,
        stage: Stage,
        journal: Journal,
        *,
        run: Path,
        invoker: Invoker,
        guests: Guests,
        network: LabNetwork | None = None,
        watch: Callable[[Path], None],
    ) -> None:
        """`watch` is told of each VM's memory.stat before the VM boots."""
        self.lab = lab
        self.machines: dict[str, Vm] = {}
        self.groups: dict[str, MemoryGroup] = {}
        self._stage = stage
        self._journal = journal
        self._watch = watch
        self._run = run
        self._invoker = invoker
        self._waiting = sorted(enumerate(lab.vms, start=1), key=lambda one: one[1].start)
        self._guests = guests
        self._network = network
        self._rooms: dict[str, int] = {}
        self._reported: set[str] = set()
        self._silent: set[str] = set()
        self._programs = 0

    def start_due(self, now: float, started: Callable[[Vm, int], None]) -> None:
        """Start what is due at `now` and wait until it is ready; then tell `started` of each.

        All of them boot at once. VmError, with the guest's last words, if one does not.
        """
        due = [one for one in self._waiting if one[1].start <= now]
        self._waiting = self._waiting[len(due) :]
        fresh = [(self._start(spec, owner), owner) for owner, spec in due]
        for machine, owner in fresh:
            machine.wait_ready(timeout=READY_SECONDS + PER_GUEST_SECONDS * len(fresh))
            started(machine, owner)

    def _start(self, spec: VmSpec, owner: int) -> Vm:
        group = self._stage.group.child(spec.name)
        self._stage.make_group(group)
        self._watch(group.files.stat)  # before the guest boots: it grows fastest then
        self.groups[spec.name] = group
        if spec.limit is not None:
            group.set_limit(spec.limit)
        if spec.reservation:
            group.set_min(spec.reservation)
        for name, value in controls.asked(spec).items():
            controls.turn(group, name, value, vm=spec.name, memory=spec.memory)
        with ExitStack() as opened:
            machine = self._make(spec, owner, group, opened)
            self.machines[spec.name] = machine
            machine.start()
        return machine

    def _make(self, spec: VmSpec, owner: int, group: MemoryGroup, opened: ExitStack) -> Vm:
        config = spec.config(
            owner=owner,
            seed=self.lab.seed,
            mergeable=self.lab.mechanisms.tps.enabled,
            network=self.lab.network,
            watched=self.lab.active.watched,
        )
        places = Places.of(group)

        def on_spawn(pid: int) -> None:
            self._journal.process(pid, start_time(pid) or 0, group.path)

        if config.command:
            return CommandVm(
                config, places, log=self._run / f"{spec.name}.log", on_spawn=on_spawn,
                identity=self._program_user(spec), cwd=self._run, network=self._room(config),
            )  # fmt: skip
        disks = self._disks(config, opened)
        if config.backend is Backend.QEMU:
            return self._guests.make(
                spec, config, places, disks=disks, tap=self._tap(config), opened=opened,
                on_spawn=on_spawn, folder=self._run,
            )  # fmt: skip
        return ProcessVm(
            config, places, identity=self._guests.identity, on_spawn=on_spawn,
            guest_swap_fd=disks.guest_swap, cache_fd=disks.cache_file,
        )  # fmt: skip

    def _tap(self, config: VmConfig) -> int | None:
        if self._network is None or config.network is None:
            return None
        return self._network.tap(config.network, config.name)

    def _room(self, config: VmConfig) -> int | None:
        if self._network is None or config.network is None:
            return None
        self._rooms[config.name] = self._network.room(config.network, config.name)
        return self._rooms[config.name]

    def _disks(self, config: VmConfig, opened: ExitStack) -> Disks:
        """Disks without a name, ours only until the guest has their descriptors."""

        def disk(size: int, *, fill: bool) -> int | None:
            if not size:
                return None
            fd = open_guest_disk(self._run, size, fill=fill)
            opened.callback(os.close, fd)
            return fd

        return Disks(disk(config.guest_swap, fill=False), disk(config.cache_file, fill=True))

    def run_beside(self, name: str, words: Sequence[str], *, timeout: float) -> tuple[str, int]:
        """Run a program in the VM's cgroup, as the VM's user: what it printed, and its status.

        VmError if it has not ended after `timeout` seconds; it is ended then.
        """
        spec = next(vm for vm in self.lab.vms if vm.name == name)
        group = self.groups[name]
        self._programs += 1
        log = self._run / f"{name}.exec-{self._programs}.log"
        program = CommandVm(
            replace(self.machines[name].config, command=tuple(words)),
            Places.of(group),
            log=log,
            identity=self._program_user(spec),
            cwd=self._run,
            network=self._rooms.get(name),
            on_spawn=lambda pid: self._journal.process(pid, start_time(pid) or 0, group.path),
        )
        program.start()
        try:
            status = _status(program.ended(patience=timeout))
        finally:
            program.stop(timeout=0)
        if status is None:
            raise VmError(name, f"{words[0]} has not ended within {timeout:g} s; it was ended")
        return log.read_text(errors="replace"), status

    def _program_user(self, spec: VmSpec) -> Identity | None:
        if spec.user is User.ROOT or os.geteuid() != 0:
            return None
        return Identity(self._invoker.uid, self._invoker.gid)

    def ended(self) -> Iterator[tuple[str, str, str]]:
        """Name, reason and last words of VMs that have ended by themselves, each told once."""
        for name, machine in self.machines.items():
            if name not in self._reported and (why := machine.ended()) is not None:
                self._reported.add(name)
                yield name, why, machine.last_words()

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the agents have said unasked."""
        for name, machine in self.machines.items():
            if name not in self._reported:
                for said in machine.events():
                    yield name, said

    def silent(self) -> Iterator[tuple[str, str]]:
        """Guests that have fallen silent (`guest-silent`) or are heard again, each told once."""
        now = time.monotonic()
        for name, machine in self.machines.items():
            if machine.heard is None or name in self._reported:
                continue
            if now - machine.heard <= SILENT_SECONDS and name in self._silent:
                self._silent.discard(name)
                yield name, "guest-answers"
            elif now - machine.heard > SILENT_SECONDS and name not in self._silent:
                self._silent.add(name)
                yield name, "guest-silent"

    def ask_all(
        self, cmd: str, *, timeout: float, only: Iterable[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Any] | GuestError]]:
        """The answer of every living agent to one command, sent to all before any is awaited."""
        asked = []
        for name, machine in self.machines.items():
            if machine.link is None or machine.ended() or (only and name not in only):
                continue
            with suppress(GuestError):
                asked.append((name, machine.link, machine.link.send(cmd)))
        for name, link, number in asked:
            try:
                yield name, link.answer(number, timeout=timeout)
            except GuestError as error:
                yield name, error

    def stop(self) -> None:
        """End all of them; those already ended are passed over."""
        for machine in self.machines.values():
            # One that never came to run has nothing to hear, and must not hide why it did not.
            with suppress(GuestError, VmError):
                if machine.link is not None and machine.ended() is None:
                    machine.link.send("stop")
        deadline = time.monotonic() + STOP_SECONDS
        for machine in self.machines.values():
            machine.stop(timeout=max(0.0, deadline - time.monotonic()))


def _status(why: str | None) -> int | None:
    """Exit status as a shell gives it: of `exited 3` 3, of `killed by SIGKILL` 137."""
    if why is None:
        return None
    word = why.rpartition(" ")[2]
    return int(word) if word.isdigit() else 128 + signal.Signals[word]
