"""What the QEMU VMs of a lab start from: made ready before the first of them starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from memlab.guest.drive import open_drive
from memlab.guest.image import GuestImage, micro_guest
from memlab.kernel.kvm import DEVICE
from memlab.kernel.qemu import version
from memlab.lab.spec import Lab, VmSpec
from memlab.lab.vmspec import Agent
from memlab.vm.accel import accelerator, why_not_kvm
from memlab.vm.base import Backend, VmConfig
from memlab.vm.child import Identity, Places
from memlab.vm.full import FullVm
from memlab.vm.hardware import Accelerator, Hardware, Nic
from memlab.vm.launch import Disks, RootDisk
from memlab.vm.qcow import check_disk, make_overlay, open_disk
from memlab.vm.qemu import QemuVm
from memlab.vm.state import saved_state

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Start:
    """One VM's: its hardware, and its image with a saved state (None: its kernel is booted), or
    the disk of its own and the size of that."""

    hardware: Hardware
    image: GuestImage | None = None
    state: Path | None = None
    disk: Path | None = None
    disk_size: int = 0

    @property
    def release(self) -> str:
        """Its kernel."""
        return f"of {self.disk}" if self.image is None else self.image.release

    @property
    def origin(self) -> str:
        """What it starts from."""
        return "disk" if self.disk else "saved state" if self.state else "boot"


@dataclass(frozen=True, slots=True)
class Guests:
    """The QEMU VMs of a lab by name; none of them runs yet."""

    starts: Mapping[str, Start]
    identity: Identity | None
    report_seconds: float

    @classmethod
    def prepare(cls, lab: Lab, identity: Identity | None, say: Say, *, folder: Path) -> Self:
        """Images and saved states, made where they are missing. HostError, VmError.

        `folder` is the lab file's: a kernel is named from there. Equal VMs are looked after once:
        what is kept is held against its hash each time.
        """

        @cache
        def image(path: str | None) -> GuestImage:
            return micro_guest(folder / path if path else None, say=say)

        @cache
        def state(hardware: Hardware, its: GuestImage) -> Path:
            return saved_state(hardware, its, identity=_of(identity, hardware), say=say)

        starts: dict[str, Start] = {}
        for spec in lab.vms:
            if spec.backend is not Backend.QEMU:
                continue
            hardware = _hardware(spec, lab)
            if spec.image.path is not None:
                disk = folder / spec.image.path
                starts[spec.name] = Start(hardware, disk=disk, disk_size=check_disk(disk))
                continue
            its = image(spec.kernel)
            starts[spec.name] = Start(hardware, its, None if spec.boot else state(hardware, its))
        return cls(starts, identity, lab.sample.fast)

    def make(
        self,
        spec: VmSpec,
        config: VmConfig,
        places: Places,
        *,
        disks: Disks,
        tap: int | None,
        opened: ExitStack,
        on_spawn: Callable[[int], None],
        folder: Path,
    ) -> QemuVm | FullVm:
        """The VM `spec`. What it starts from is open until `opened` is closed. What a full guest
        writes goes to a file without a name in `folder`."""
        start, seat = self.starts[spec.name], config.network
        identity = _of(self.identity, start.hardware)
        nic = None if tap is None or seat is None else Nic(tap, seat.mac)
        if start.image is None:
            return FullVm(
                config, places, start.hardware, disk=_root(start, folder, opened), nic=nic,
                agent_seconds=spec.image.within if spec.image.agent is Agent.WAIT else 0,
                identity=identity, on_spawn=on_spawn, report_seconds=self.report_seconds,
            )  # fmt: skip
        state = None
        if start.state is not None:
            state = os.open(start.state, os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, state)
        return QemuVm(
            config, places, start.hardware, image=start.image, state=state, disks=disks,
            nic=nic, identity=identity, on_spawn=on_spawn,
            report_seconds=self.report_seconds,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """For the manifest: which QEMU, what runs the instructions, which kernel is inside."""
        if not self.starts:
            return {}
        found = {name: one.hardware.accelerator for name, one in self.starts.items()}
        emulated = Accelerator.TCG in found.values()
        return {
            "qemu": {
                "version": version(),
                "accelerator": {name: str(one) for name, one in found.items()},
                **({"why no KVM": why_not_kvm()} if emulated else {}),
                "kernel": {name: one.release for name, one in self.starts.items()},
                "from": {name: one.origin for name, one in self.starts.items()},
            }
        }


def disks_must_be_usable(lab: Lab, folder: Path) -> None:
    """HostError if the disk of a full guest is not there or none; `folder` is the lab file's."""
    for path in {vm.image.path for vm in lab.vms if vm.image.path is not None}:
        check_disk(folder / path)


def _root(start: Start, folder: Path, opened: ExitStack) -> RootDisk:
    assert start.disk is not None

    def kept(fd: int) -> int:
        opened.callback(os.close, fd)
        return fd

    base = kept(open_disk(start.disk))
    return RootDisk(base, kept(make_overlay(folder, start.disk_size)), kept(open_drive()))


def _hardware(spec: VmSpec, lab: Lab) -> Hardware:
    return Hardware(
        memory=spec.memory,
        accelerator=accelerator(spec.accel),
        mergeable=lab.mechanisms.tps.enabled,
        reporting=lab.mechanisms.reporting.enabled,
        guest_swap=spec.guest_swap,
        cache_file=spec.cache_file,
        network=lab.network,
    )


def _of(identity: Identity | None, hardware: Hardware) -> Identity | None:
    """The guests' user; under KVM in the group that may open /dev/kvm."""
    if identity is None or hardware.accelerator is not Accelerator.KVM:
        return identity
    return Identity(identity.uid, DEVICE.stat().st_gid)
