"""What storing costs: samples of 100 VMs into SQLite, one transaction each. No root needed.

    python -m benchmarks.store [--vms 100] [--samples 500]

CPU time by this thread's clock, medians; bytes per VM and sample of the finished file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from memlab.record.columns import COLUMNS, Entity, Tier
from memlab.record.derive import Derived
from memlab.record.sample import VM_FAST, Row, Sample, VmInfo
from memlab.record.store import RECORDING_NAME, Recording


def sample(tick: int, vms: list[str], changing: int) -> Sample:
    """A sample in which `changing` columns of each VM differ from the sample before."""
    width = len(VM_FAST.names)
    rows: list[tuple[str, Row]] = [
        (vm, tuple(column * 1000 + (tick if column < changing else 0) for column in range(width)))
        for vm in vms
    ]
    return Sample(Tier.FAST, tick * 100_000, tick * 100_000 + 2_000, vms=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--samples", type=int, default=500)
    args = parser.parse_args()
    names = [f"vm-{number}" for number in range(1, args.vms + 1)]
    for changing in (1, 8, len(VM_FAST.names)):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / RECORDING_NAME
            measure(path, names, args.samples, changing)


def measure(path: Path, names: list[str], count: int, changing: int) -> None:
    costs = []
    recording = Recording.create(path, {})
    for owner, name in enumerate(names, 1):
        recording.add_vm(VmInfo(name, owner, "process", 2**24))
    for tick in range(count):
        ready = sample(tick, names, changing)
        began = time.thread_time_ns()
        recording.write_sample(ready)
        costs.append((time.thread_time_ns() - began) / 1000 / len(names))
    recording.finish({})
    size = path.stat().st_size / len(names) / count
    print(
        f"{changing:3} of {len(VM_FAST.names)} columns changing: {median(costs):5.2f} µs CPU"
        f" and {size:4.0f} bytes per VM and sample"
    )
    fast = [n for (e, n), c in COLUMNS.items() if (e, c.tier) == (Entity.VM, Tier.FAST)]
    began = time.thread_time_ns()
    with Derived.open(path) as run:
        for name in fast:
            run.series(Entity.VM, name, names[0])
    spent = (time.thread_time_ns() - began) / 1e6
    print(f"    open, check and derive {len(fast)} columns of one VM: {spent:.0f} ms")


if __name__ == "__main__":
    main()
