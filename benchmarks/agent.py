"""What the guest agent costs and does: fill, operations, overhead, start of many.

    sudo .venv/bin/python -m benchmarks.agent

CPU figures are user + system time of the agent, the median of five; they hold for pages that the
host has to back anew (the fault is in them), which is what a lab does.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from memlab.units import GIB, MIB
from memlab.vm.base import Content, Image, VmConfig, WorkloadConfig
from memlab.vm.child import Places, nobody_else
from memlab.vm.process import ProcessVm

NOWHERE = Places(memory_group=Path("/"))
REPEATS = 5


def vm_of(memory: int, workload: WorkloadConfig, owner: int = 1) -> ProcessVm:
    image = Image("bench", MIB)
    config = VmConfig(f"bench-{owner}", owner, memory, image=image, workload=workload)
    identity = nobody_else() if os.geteuid() == 0 else None
    vm = ProcessVm(config, NOWHERE, identity=identity)
    vm.start()
    return vm


def cpu_seconds(pid: int) -> float:
    """From schedstat: nanoseconds, where stat counts ticks of 10 ms."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def fill_rate(content: Content) -> float:
    """GiB per CPU second of the first fill."""
    size = 512 * MIB
    vm = vm_of(600 * MIB, WorkloadConfig("idle"))
    try:
        vm.wait_ready(timeout=30)
        began = cpu_seconds(vm.pid)
        fields = {"zero": content.zero, "compressible": content.compressible}
        vm.link.call("workload", name="idle", size=size, content=fields)
        while vm.link.call("stats")["app_touched_pages"] * 4096 < size:
            time.sleep(0.01)
        return size / GIB / (cpu_seconds(vm.pid) - began)
    finally:
        vm.stop(timeout=2)


def operations(name: str, **args: float) -> tuple[float, int, int]:
    """Operations per second, p50 and p99 in ns, all pages resident."""
    vm = vm_of(256 * MIB, WorkloadConfig(name, 128 * MIB, Content(compressible=3), args))
    try:
        vm.wait_ready(timeout=30)
        while (before := vm.link.call("stats"))["phase"] == "fill":
            time.sleep(0.01)
        began = time.monotonic()
        time.sleep(1)
        after = vm.link.call("stats")
        rate = (after["operations"] - before["operations"]) / (time.monotonic() - began)
        return rate, after["p50_ns"], after["p99_ns"]
    finally:
        vm.stop(timeout=2)


def overhead(memory: int) -> int:
    """Private bytes beside the guest's memory."""
    vm = vm_of(memory, WorkloadConfig("idle", 8 * MIB))
    try:
        vm.wait_ready(timeout=30)
        own, inside = 0, False
        for line in Path(f"/proc/{vm.pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                inside = int(line.split("-")[0], 16) == vm.target.ram_start
            elif words[0].startswith("Private_") and not inside:
                own += int(words[1]) * 1024
        return own
    finally:
        vm.stop(timeout=2)


def start_many(count: int, memory: int) -> float:
    """Seconds until `count` VMs are ready."""
    began = time.monotonic()
    vms = [vm_of(memory, WorkloadConfig("idle"), owner) for owner in range(1, count + 1)]
    try:
        for vm in vms:
            vm.wait_ready(timeout=30)
        return time.monotonic() - began
    finally:
        for vm in vms:
            vm.stop(timeout=2)


def main() -> None:
    for name, content in (
        ("unique", Content()),
        ("compressible 3:1", Content(compressible=3)),
        ("zero", Content(zero=1)),
    ):
        rates = [fill_rate(content) for _ in range(REPEATS)]
        print(
            f"fill, {name:17} {statistics.median(rates):6.2f} GiB/s of CPU "
            f"({min(rates):.2f}…{max(rates):.2f})"
        )
    for name, args in (("keyvalue", {"writes": 0.1}), ("scan", {}), ("toucher", {"period": 0.0})):
        rate, p50, p99 = operations(name, **args)
        print(f"{name:23} {rate / 1e6:6.2f} M operations/s, p50 {p50} ns, p99 {p99} ns")
    for memory in (16 * MIB, 256 * MIB, 4 * GIB):
        print(f"overhead of {memory // MIB:5} MiB      {overhead(memory) / 1024:6.0f} KiB private")
    times = [start_many(100, 16 * MIB) for _ in range(3)]
    print(f"100 VMs of 16 MiB ready {statistics.median(times):6.2f} s")


if __name__ == "__main__":
    main()
