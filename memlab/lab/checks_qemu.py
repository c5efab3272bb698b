"""What a QEMU VM can have and a process VM cannot, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from memlab.errors import Fault
from memlab.lab.checked import Checked
from memlab.lab.model import Path
from memlab.lab.spec import VmSpec
from memlab.units import MIB, format_size

SMALLEST: Final = 96 * MIB
"""q35 boots a micro-guest at 72 MiB, not at 68; with something to work with it takes more."""
KERNEL_KEEPS: Final = 64 * MIB
"""What a micro-guest's kernel and agent take of its memory: 60 MiB were seen."""
_ONLY_QEMU: Final = ("kernel", "accel", "boot")


def of_qemu(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    """Faults of a VM with `backend: qemu`."""
    if vm.command:
        message = f"{vm.entry}: a command runs on the host, not in a QEMU guest"
        yield it.fault("ML038", (*path, "command"), message, "leave out backend: qemu", key=True)
    if vm.image.size:
        message = f"{vm.entry}: a QEMU guest has a real operating system, of its own size"
        yield it.fault("ML038", _written(it, path, "image"), message, "leave out image.size")
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


def of_process(it: Checked, path: Path, vm: VmSpec) -> Iterator[Fault]:
    """Faults of a VM that is a process."""
    for name in _ONLY_QEMU:
        if name in it.file.vms[vm.entry].model_fields_set:
            message = f"{vm.entry} is a process: {name} is for QEMU guests"
            fix = "add backend: qemu, or leave it out"
            yield it.fault("ML038", (*path, name), message, fix, key=True)


def _written(it: Checked, path: Path, name: str) -> Path:
    """The VM's key `name` if it stands there, else the VM: it may come from defaults."""
    there = any(known[: len(path) + 1] == (*path, name) for known in it.document.values)
    return (*path, name) if there else path
