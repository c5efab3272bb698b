"""A plausible recording, made by `store.py` as a run makes it: for tests that need one to read.

Four VMs of 256 MiB in a budget of 512 MiB on cgroup v1. They grow for 10 s; then merging, the
balloon, compression and swap set in one after the other. All identities close.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memlab.guest.wire import bucket_of
from memlab.record.columns import Tier
from memlab.record.sample import (
    BALANCE,
    HOST_FAST,
    HOST_MEDIUM,
    LAB_DEEP,
    LAB_FAST,
    LAB_MEDIUM,
    VM_DEEP,
    VM_FAST,
    VM_MEDIUM,
    Sample,
    VmInfo,
)
from memlab.record.series import Choice
from memlab.record.store import RECORDING_NAME, Recording
from memlab.units import MIB, PAGE

CONFIGURED = 256 * MIB
BUDGET = 512 * MIB
PAGES = CONFIGURED // PAGE
KERNEL = 2 * MIB
OWN = 1 * MIB
FILES = MIB // 2
OPERATIONS = 20_000
"""Operations per second of one VM."""

MANIFEST: dict[str, Any] = {
    "name": "synthetic",
    "memlab": "0.1.0",
    "seed": 7,
    "lab_file": "name: synthetic\n",
    "host": {"kernel": "6.18.0", "cores": 2, "memory": 24 * 1024 * MIB, "cgroup": 1},
    "window": [10.0, 30.0],
}


def ramp(time: float, start: float, top: int) -> int:
    """0 before `start`, then up to `top` within ten seconds."""
    return round(top * min(max(time - start, 0) / 10, 1))


class Synthetic:
    """The state of one VM as a function of time, pages."""

    def __init__(self, time: float) -> None:
        self.touched = ramp(time, 0, PAGES * 7 // 8)
        self.shared = ramp(time, 10, PAGES // 4)
        self.zero = ramp(time, 10, PAGES // 16)
        self.ballooned = ramp(time, 14, PAGES // 8)
        self.compressed = ramp(time, 18, PAGES // 8)
        self.device = ramp(time, 22, PAGES // 8)
        self.out = self.compressed + self.device
        self.touched -= self.ballooned
        self.private = max(0, self.touched - self.shared - self.zero - self.out)

    @property
    def guest(self) -> dict[str, int]:
        """The board's levels."""
        reserved = 64
        cache = self.touched // 8
        used = self.touched - cache - reserved if self.touched > cache + reserved else 0
        free = PAGES - used - cache - reserved - self.ballooned
        return {
            "configured_pages": PAGES,
            "used_pages": used,
            "cache_pages": cache,
            "free_pages": free,
            "ballooned_pages": self.ballooned,
            "reserved_pages": reserved,
            "balloon_backed_pages": self.ballooned,
        }


def write_run(recording: Recording, *, seconds: int = 30, vms: int = 4, hertz: int = 4) -> None:
    """Append `seconds` of samples, events and decisions."""
    names = [f"vm-{number}" for number in range(1, vms + 1)]
    for owner, name in enumerate(names, 1):
        recording.add_vm(VmInfo(name, owner, "process", CONFIGURED))
        recording.event(0.1 * owner, "vm-started", name, {"pid": 1000 + owner})
    for tick in range(seconds * hertz + 1):
        time = tick / hertz
        recording.write_sample(fast_sample(time, names))
        if tick % hertz == 0:
            recording.write_sample(medium_sample(time + 0.01, names))
            recording.write_sample(deep_sample(time + 0.02, names))
    recording.event(10.0, "phase", "", {"name": "measured"})
    recording.event(14.0, "set", "vm-1", {"name": "balloon", "value": CONFIGURED // 8})
    recording.choice(
        Choice(
            14.0, "ladder", "balloon", "balloon", "balloon", "vm-1", "free is below 15 % of budget",
            asked="33554432", got="33554432", seconds=0.02,
        )
    )  # fmt: skip
    recording.choice(
        Choice(15.0, "ladder", "balloon", "left-alone", "swap", "", "compression comes first")
    )


def build(directory: Path, *, seconds: int = 30, vms: int = 4, finish: bool = True) -> Path:
    """A recording in `directory`; its path. Not `finish`ed, its -wal stays as after a kill."""
    path = directory / RECORDING_NAME
    recording = Recording.create(path, MANIFEST)
    write_run(recording, seconds=seconds, vms=vms)
    if finish:
        recording.finish({"ended": "completed", "exit": 0})
    return path


def _times(time: float) -> tuple[int, int]:
    return round(time * 1e6), round(time * 1e6) + 2000


def _pool(vm: Synthetic, count: int) -> int:
    return count * vm.compressed * PAGE // 3


def _lab(vm: Synthetic, count: int) -> dict[str, int]:
    """The cgroup's levels: private frames, the merged ones once, and overhead."""
    frames = count * vm.private + vm.shared
    return {
        "usage": frames * PAGE + count * OWN + FILES + KERNEL,
        "anon": frames * PAGE + count * OWN,
        "active_anon": frames * PAGE,
        "inactive_anon": count * OWN,
        "file": FILES,
        "shmem": 0,
        "swapcached": 0,
        "swap": count * vm.out * PAGE,
        "kernel": KERNEL,
        "oom_kill": 0,
        "limit_bytes": BUDGET - 50 * MIB,
        "budget": BUDGET,
        "configured": count * CONFIGURED,
        "vms": count,
        "swap_used": count * vm.out * PAGE,
    }


def fast_sample(time: float, names: list[str]) -> Sample:
    """The fast tier at `time`."""
    vm, count = Synthetic(time), len(names)
    host = {
        "mem_total": 24 * 1024 * MIB,
        "mem_free": 20 * 1024 * MIB,
        "mem_available": 22 * 1024 * MIB,
        "swap_total": 1024 * MIB,
        "swap_free": 1024 * MIB - count * vm.out * PAGE,
        "zswap": _pool(vm, count),
        "zswapped": count * vm.compressed * PAGE,
        "pswpin": round(time * 10),
        "pswpout": count * vm.device,
        "zswpin": round(time * 100),
        "zswpout": count * vm.compressed,
        "cow_ksm": round(time * 50),
        "ksmd_cpu_ns": round(time * 0.1e9),
        "stall_some_us": round(time * 2e4),
        "stall_full_us": round(time * 1e4),
    }
    lab = _lab(vm, count) | {
        "stall_some_us": round(time * 4e4),
        "stall_full_us": round(time * 2e4),
        "main_cpu_ns": round(time * 0.004e9),
        "sampler_cpu_ns": round(time * 0.006e9),
        "sampler_resident_pages": 3600,
    }
    guest = vm.guest | {
        "published_ns": round(time * 1e9),
        "balloon_target_pages": ramp(time, 14, PAGES // 8),
        "app_mapped_pages": PAGES * 3 // 4,
        "app_touched_pages": vm.touched * 3 // 4,
        "guest_swap_pages": 0,
        "guest_swap_in": 0,
        "operations": round(time * OPERATIONS),
        "minor_faults": round(time * 300),
        "major_faults": round(time * 30),
    }
    row = {
        "usage": (vm.private + vm.shared // count) * PAGE + OWN,
        "resident_pages": vm.private + vm.shared + OWN // PAGE,
        "file_pages": 0,
    } | {f"guest_{name}": value for name, value in guest.items()}
    return Sample(
        Tier.FAST, *_times(time), cpu_us=100, host=HOST_FAST.row(host), lab=LAB_FAST.row(lab),
        vms=[(name, VM_FAST.row(row)) for name in names],
    )  # fmt: skip


def medium_sample(time: float, names: list[str]) -> Sample:
    """The medium tier: 9 operations of 10 take 2 µs, one takes 60 µs."""
    vm = Synthetic(time)
    row = {
        "anon": (vm.private + vm.shared) * PAGE,
        "swap": vm.out * PAGE,
        "stall_some_us": round(time * 3e4),
        "stall_full_us": round(time * 1e4),
        "swapin_delay_ns": round(time * 5e6),
        "thrashing_delay_ns": 0,
        "copy_delay_ns": round(time * 1e6),
        "reclaim_delay_ns": 0,
        "cpu_ns": round(time * 0.25e9),
        "guest_working_set_pages": vm.touched // 2,
        "guest_active_pages": 300,
        "guest_sample_periods": 4,
        "guest_zero_pages": vm.touched // 8,
        "guest_common_pages": vm.touched // 4,
        "ksm_merging_pages": vm.shared,
        "ksm_zero_pages": vm.zero,
        "ksm_rmap_items": PAGES,
    }
    count = len(names)
    host = {
        "pages_shared": vm.shared,
        "pages_sharing": (count - 1) * vm.shared,
        "ksm_zero_pages": count * vm.zero,
        "pages_scanned": round(time * 20_000),
    }
    operations = round(time * OPERATIONS)
    counts = {bucket_of(2_000): operations * 9 // 10, bucket_of(60_000): operations // 10}
    return Sample(
        Tier.MEDIUM, *_times(time), cpu_us=150, host=HOST_MEDIUM.row(host),
        lab=LAB_MEDIUM.row(_lab(vm, count)),
        vms=[(name, VM_MEDIUM.row(row)) for name in names],
        latency=[(name, bucket, n) for name in names for bucket, n in counts.items()],
    )  # fmt: skip


def deep_sample(time: float, names: list[str]) -> Sample:
    """The deep tier: all VMs share the same merged frames."""
    vm, count = Synthetic(time), len(names)
    backed = vm.private + vm.shared + vm.zero + vm.out
    levels = _lab(vm, count)
    lab = levels | {
        "unique_frames": vm.shared,
        "walk_cpu_us": 3000 * count,
        "usage_before": levels["usage"],
        "usage_after": levels["usage"],
        "host_zswap": _pool(vm, count),
        "host_zswapped": count * vm.compressed * PAGE,
    }
    guest = {name: value for name, value in vm.guest.items() if name in BALANCE}
    row = {
        "began": round(time * 1e6),
        "ended": round(time * 1e6) + 1000,
        "private": vm.private,
        "shared": vm.shared,
        "zero": vm.zero,
        "out": vm.out,
        "not_backed": PAGES - backed,
        "common_bytes": vm.shared * PAGE // count,
        "resident_pages": vm.private + vm.shared + OWN // PAGE,
        "file_pages": 0,
        "frames_differ": 0,
        "frames_moving": 0,
        "frames_touched": backed,
    }
    row |= {f"before_{name}": value for name, value in guest.items()}
    row |= {f"after_{name}": value for name, value in guest.items()}
    return Sample(
        Tier.DEEP, *_times(time), cpu_us=3000 * count, lab=LAB_DEEP.row(lab),
        vms=[(name, VM_DEEP.row(row)) for name in names],
    )  # fmt: skip
