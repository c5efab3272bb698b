"""A few real process VMs in a cgroup of their own, without a session: for tests and benchmarks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from memlab.kernel.cgroup import MemoryGroup, lab_group
from memlab.record.observer import LabTarget, Observer
from memlab.record.store import RECORDING_NAME, Recording
from memlab.units import GIB
from memlab.vm.base import VmConfig
from memlab.vm.child import Places
from memlab.vm.process import ProcessVm

BUDGET = 2 * GIB
_NUMBERS = count()


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@contextmanager
def small_lab(configs: Sequence[VmConfig]) -> Iterator[tuple[LabTarget, list[ProcessVm]]]:
    """VMs that have booted; all is gone afterwards."""
    with ExitStack() as stack:
        group = lab_group(f"test{os.getpid()}-{next(_NUMBERS)}")
        group.create()
        stack.callback(group.remove)
        vms = [_start(config, group, stack) for config in configs]
        for vm in vms:
            vm.wait_ready(timeout=30)
        yield LabTarget(group.path, group.unified_path, BUDGET), vms


def _start(config: VmConfig, group: MemoryGroup, stack: ExitStack) -> ProcessVm:
    own = group.child(config.name)
    own.create()
    vm = ProcessVm(config, Places.of(own))
    stack.callback(vm.stop, timeout=5)
    vm.start()
    return vm


def add_all(observer: Observer, vms: Sequence[ProcessVm]) -> None:
    """Let the observer sample these VMs."""
    for vm in vms:
        observer.add(vm.target, owner=vm.config.owner, board_fd=vm.board_fd)


def new_recording(directory: Path) -> Path:
    """The path of a new, empty recording."""
    path = directory / RECORDING_NAME
    Recording.create(path, {"name": "test"}).close()
    return path
