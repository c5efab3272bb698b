"""How long QEMU guests take to start, and what an idle one costs: medians.

    sudo .venv/bin/python -m benchmarks.guests [--repeat 5]

Wall time from exec to the agent's answer, CPU time of QEMU until then, guest memory that is backed,
and the process's anonymous memory besides; restored from a saved state, and booted. Then how long
free page reporting takes, and eight guests at once, on idle cores and beside four busy processes.
The first guest of a kind makes image and state, outside what is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memlab.guest.image import micro_guest
from memlab.kernel.pagemap import PageWalker
from memlab.units import MIB, PAGE
from memlab.vm.accel import accelerator
from memlab.vm.base import Backend, VmConfig, WorkloadConfig
from memlab.vm.child import Places, nobody_else
from memlab.vm.hardware import Hardware
from memlab.vm.process import workload_fields
from memlab.vm.qemu import QemuVm
from memlab.vm.state import saved_state

MEMORY = 128 * MIB
FREED = 64 * MIB
_TICK = os.sysconf("SC_CLK_TCK")


def make(owner: int, *, boot: bool, memory: int = MEMORY, reporting: bool = False) -> QemuVm:
    image, identity = micro_guest(say=print), nobody_else()
    hardware = Hardware(memory, accelerator(), reporting=reporting)
    state = None
    if not boot:
        state = os.open(saved_state(hardware, image, identity=identity, say=print), os.O_RDONLY)
    config = VmConfig(f"g{owner}", owner, memory, backend=Backend.QEMU)
    return QemuVm(config, Places(Path("/")), hardware, image=image, state=state, identity=identity)


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICK


def costs(vm: QemuVm) -> tuple[float, float]:
    """MiB of guest memory that is backed, and of QEMU's own anonymous memory."""
    target = vm.target
    assert target.ram_start is not None and target.ram_bytes is not None
    with PageWalker(vm.pid, target.ram_start, target.ram_bytes) as walker:
        found = walker.walk(None)
    assert found is not None
    guest = (found.private + found.shared + found.out) * PAGE
    status = Path(f"/proc/{vm.pid}/status").read_text()
    anonymous = int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return guest / MIB, (anonymous - (found.private + found.shared) * PAGE) / MIB


def one(owner: int, *, boot: bool) -> tuple[float, float, float, float]:
    vm = make(owner, boot=boot)
    began = time.monotonic()
    try:
        vm.start()
        vm.wait_ready(timeout=60)
        wall, cpu = time.monotonic() - began, cpu_seconds(vm.pid)
        time.sleep(1)
        return wall, cpu, *costs(vm)
    finally:
        vm.stop(timeout=2)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but work."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def fleet(count: int) -> float:
    """Seconds until all of `count` guests that start at once are ready."""
    vms = [make(owner, boot=False) for owner in range(1, count + 1)]
    began = time.monotonic()
    try:
        for vm in vms:
            vm.start()
        for vm in vms:
            vm.wait_ready(timeout=120)
        return time.monotonic() - began
    finally:
        for vm in vms:
            vm.stop(timeout=2)


def reported() -> float:
    """Seconds from a guest's freeing 64 MiB until the host has 60 of them back, by reporting."""
    vm = make(1, boot=False, memory=2 * MEMORY, reporting=True)
    try:
        vm.start()
        vm.wait_ready(timeout=60)
        used = VmConfig("g1", 1, 2 * MEMORY, workload=WorkloadConfig("idle", FREED))
        vm.link.call("workload", **workload_fields(used))
        while vm.link.call("stats")["app_touched_pages"] * PAGE < FREED:
            time.sleep(0.05)
        held = costs(vm)[0]
        vm.link.call("free", size=FREED)
        began = time.monotonic()
        while costs(vm)[0] > held - 60:
            time.sleep(0.05)
        return time.monotonic() - began
    finally:
        vm.stop(timeout=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print(f"{MEMORY // MIB} MiB guests, {accelerator()}, medians of {repeat}")
    for boot in (False, True):
        runs = [one(number, boot=boot) for number in range(1, repeat + 2)][1:]
        wall, cpu, guest, own = (statistics.median(column) for column in zip(*runs, strict=True))
        print(
            f"{'booted' if boot else 'restored':9} {wall:5.2f} s wall {cpu:5.2f} s CPU"
            f"  guest memory {guest:5.1f} MiB  QEMU's own {own:5.1f} MiB"
        )
    after = statistics.median(reported() for _ in range(repeat))
    print(f"64 MiB freed are reported after {after:.2f} s")
    print(f"8 restored at once: {statistics.median(fleet(8) for _ in range(repeat)):.2f} s")
    with busy(4):
        times = [fleet(8) for _ in range(repeat)]
    middle, longest = statistics.median(times), max(times)
    print(f"8 restored beside 4 busy processes: {middle:.2f} s, at most {longest:.2f}")


if __name__ == "__main__":
    main()
