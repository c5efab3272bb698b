"""Real guests in QEMU, each in a cgroup of its own; all is gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from memlab.guest.image import GuestImage, micro_guest
from memlab.kernel.cgroup import lab_group
from memlab.units import MIB
from memlab.vm.base import Backend, VmConfig, WorkloadConfig
from memlab.vm.child import Places, nobody_else
from memlab.vm.disk import open_guest_disk
from memlab.vm.hardware import Accelerator, Hardware
from memlab.vm.launch import Disks
from memlab.vm.qemu import QemuVm
from memlab.vm.state import saved_state

Start = Callable[..., QemuVm]
READY_SECONDS = 60.0
_NUMBERS = count(1)


@pytest.fixture(scope="session")
def image() -> GuestImage:
    return micro_guest()


@pytest.fixture
def start(image: GuestImage, tmp_path: Path) -> Iterator[Start]:
    """start(memory=…, workload=…, boot=…, …): a guest that works."""
    with ExitStack() as stack:
        group = lab_group(f"vmtest-{os.getpid()}-{next(_NUMBERS)}")
        group.create()
        stack.callback(group.remove)

        def one(
            memory: int = 128 * MIB,
            *,
            workload: WorkloadConfig = WorkloadConfig(),  # noqa: B008 — frozen
            boot: bool = False,
            reporting: bool = False,
            guest_swap: int = 0,
            cache_file: int = 0,
            image: GuestImage = image,
            ready: bool = True,
        ) -> QemuVm:
            owner = next(_NUMBERS)
            own = group.child(f"g{owner}")
            own.create()
            config = VmConfig(
                f"g{owner}", owner, memory, seed=5, backend=Backend.QEMU, workload=workload,
                guest_swap=guest_swap, cache_file=cache_file,
            )  # fmt: skip
            hardware = Hardware(
                memory, Accelerator.TCG, reporting=reporting, guest_swap=guest_swap,
                cache_file=cache_file,
            )  # fmt: skip
            identity = nobody_else()

            def disk(size: int, *, fill: bool) -> int | None:
                if not size:
                    return None
                fd = open_guest_disk(Path("/var/tmp"), size, fill=fill)
                stack.callback(os.close, fd)
                return fd

            disks = Disks(disk(guest_swap, fill=False), disk(cache_file, fill=True))
            state = None
            if not boot:
                state = os.open(saved_state(hardware, image, identity=identity), os.O_RDONLY)
                stack.callback(os.close, state)
            vm = QemuVm(
                config, Places.of(own), hardware, image=image, state=state, disks=disks,
                identity=identity, report_seconds=0.05,
            )  # fmt: skip
            stack.callback(vm.stop, timeout=2)
            vm.start()
            if ready:
                vm.wait_ready(timeout=READY_SECONDS)
            return vm

        yield one


def broken(image: GuestImage, folder: Path) -> GuestImage:
    """The image with a kernel that QEMU cannot start."""
    kernel = folder / "kernel"
    kernel.write_bytes(b"\x7fELF this is none")
    kernel.chmod(0o644)
    return replace(image, kernel=kernel)
