"""What a QEMU VM can have and a process VM cannot, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from memlab.errors import Fault
from memlab.lab.checked import Checked
from memlab.lab.model import Path
from memlab.lab.spec import VmSpec
from memlab.lab.vmspec import Agent
from memlab.units import MIB, format_size

SMALLEST: Final = 96 * MIB
"""q35 boots a micro-guest at 72 MiB, not at 68; with something to work with it takes more."""
KERNEL_KEEPS: Final = 64 * MIB
"""What a micro-guest's kernel and agent take of its memory: 60 MiB were seen."""
_ONLY_QEMU: Final = ("kernel", "accel", "boot")
_ONLY_MICRO: Final = ("kernel", "boot", "guest_swap", "cache_file")


def of_qemu(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    """Faults of a VM with `backend: qemu`."""
    if vm.command:
        message = f"{vm.entry}: a command runs on the host, not in a QEMU guest"
        yield it.fault("ML038", (*path, "command"), message, "leave out backend: qemu", key=True)
    if vm.image.size:
        message = f"{vm.entry}: a QEMU guest has a real operating system, of its own size"
        yield it.fault("ML038", _written(it, path, "image"), message, "leave out image.size")
    yield from (_of_full if vm.image.path is not None else _of_micro)(it, path, vm)
    if vm.memory % MIB or vm.memory < SMALLEST:
        message = f"{vm.entry}: memory {format_size(vm.memory)}; QEMU guests need whole MiB from 96"
        yield it.fault("ML018", _written(it, path, "memory"), message, "write 96MiB or more")
    elif vm.workload.size + KERNEL_KEEPS > vm.memory + vm.guest_swap:
        size = format_size(vm.workload.size)
        message = (
            f"{vm.entry}: workload {size} + {format_size(KERNEL_KEEPS)} of the guest's kernel is"
            f" more than its memory and guest swap, {format_size(vm.memory + vm.guest_swap)}"
        )
        least = format_size(vm.workload.size + KERNEL_KEEPS, digits=0).replace(" ", "")
        yield it.fault(
            "ML033", _written(it, path, "memory"), message, f"let memory be {least} or more"
        )


def _of_full(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    """Faults of a guest that boots a disk of its own."""
    for name in _ONLY_MICRO:
        if name in it.file.vms[vm.entry].model_fields_set:
            message = f"{vm.entry} boots a disk of its own: {name} is for micro-guests"
            yield it.fault("ML038", (*path, name), message, f"leave out {name}", key=True)
    if vm.image.agent is Agent.NONE and vm.workload.is_work:
        message = f"{vm.entry} has no agent, which its workload needs"
        fix = "leave out the workload, or image.agent"
        yield it.fault("ML038", _written(it, path, "workload"), message, fix)
    yield from _command_alone(it, path, vm)


def _of_micro(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    if vm.workload.command is not None:
        message = f"{vm.entry}: a micro-guest has no programs, so that it can run no command"
        fix = "name a disk that has: image: FILE.qcow2"
        yield it.fault("ML038", _written(it, path, "workload"), message, fix)


def _command_alone(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    others = vm.workload.model_fields_set - {"command"}
    if vm.workload.command is not None and others:
        message = f"{vm.entry}: a workload that is a command has no {', '.join(sorted(others))}"
        yield it.fault("ML022", _written(it, path, "workload"), message, "leave it out")


def of_process(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    """Faults of a VM that is a process."""
    for name in _ONLY_QEMU:
        if name in it.file.vms[vm.entry].model_fields_set:
            message = f"{vm.entry} is a process: {name} is for QEMU guests"
            fix = "add backend: qemu, or leave it out"
            yield it.fault("ML038", (*path, name), message, fix, key=True)

    if vm.image.path is not None:
        message = f"{vm.entry} is a process, which boots no disk"
        yield it.fault("ML038", _written(it, path, "image"), message, "add backend: qemu")
    if vm.workload.command is not None:
        message = f"{vm.entry} is a process: its workload is the agent's own"
        fix = "write command: beside workload, not below it"
        yield it.fault("ML038", _written(it, path, "workload"), message, fix)


def _written(it: Checked, path: Path, name: str) -> Path:
    """The VM's key `name` if it stands there, else the VM: it may come from defaults."""
    there = any(known[: len(path) + 1] == (*path, name) for known in it.document.values)
    return (*path, name) if there else path
