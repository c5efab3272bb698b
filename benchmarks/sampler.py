"""What sampling costs: 100 process VMs of 16 MiB at 10 Hz, store included. Run as root.

    python -m benchmarks.sampler [--vms 100] [--hertz 10] [--seconds 20] [--busy]

CPU time by the process's own clock, medians of the samples. Target: ≤ 3.5 % of one core for the
fast and medium tiers; the deep tier has a budget of its own (5 %), --no-deep leaves it out. Other
work on the machine makes caches cold: the line of the loop tells how slow it is just now.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from memlab.record.observer import Observer, Periods
from memlab.record.reading import cpu_ns
from memlab.record.store import Recording
from memlab.units import MIB, format_size
from memlab.vm.base import Content, Image, VmConfig, WorkloadConfig
from tests.kernel.small_lab import add_all, boottime_ns, new_recording, small_lab


def configs(count: int, *, busy: bool) -> list[VmConfig]:
    image = Image("bench", 4 * MIB, Content(zero=0.1, common=0.4, compressible=2))
    work = WorkloadConfig("keyvalue", 8 * MIB, args={"rate": 100}) if busy else WorkloadConfig()
    return [
        VmConfig(f"vm-{owner}", owner, 16 * MIB, image=image, workload=work)
        for owner in range(1, count + 1)
    ]


def loop() -> float:
    """CPU milliseconds of a fixed piece of work: this machine's speed now."""
    began, total = time.thread_time_ns(), 0
    for number in range(1_000_000):
        total += number
    return (time.thread_time_ns() - began) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--hertz", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--busy", action="store_true", help="100 operations a second in each VM")
    parser.add_argument("--no-deep", action="store_true", help="leave the page tables alone")
    args = parser.parse_args()
    print(f"a loop of a million additions: {loop():.0f} ms")
    periods = Periods(1 / args.hertz, 1.0, 1e6 if args.no_deep else 1.0)
    with (
        tempfile.TemporaryDirectory() as directory,
        small_lab(configs(args.vms, busy=args.busy)) as (lab, vms),
    ):
        path = new_recording(Path(directory))
        with Observer.start(path, clock_zero=boottime_ns(), lab=lab, periods=periods) as observer:
            add_all(observer, vms)
            time.sleep(2)
            observer.notices()
            began, before = time.monotonic(), cpu_ns(observer.pid) or 0
            time.sleep(args.seconds)
            share = ((cpu_ns(observer.pid) or 0) - before) / 1e9 / (time.monotonic() - began)
        report(path, args.vms, share, args.seconds)


def report(path: Path, vms: int, share: float, seconds: float) -> None:
    print(f"sampler, store included: {share:.2%} of one core")
    with Recording.open(path) as recording:
        for tier in ("fast", "medium", "deep"):
            rows = recording.rows(
                "SELECT cpu_us, ended - began, missed FROM sample WHERE tier = ? AND began > 2e6",
                (tier,),
            )
            if not rows:
                continue
            cpu, span = median(row[0] for row in rows), median(row[1] for row in rows)
            missed = sum(row[2] for row in rows)
            print(
                f"{tier:7}{len(rows):5} samples  {cpu / vms:6.1f} µs CPU per VM and sample"
                f"  {cpu:8.0f} µs a sample  skew {span / 1000:6.2f} ms  missed {missed}"
            )
        (resident,) = recording.rows(
            "SELECT sampler_resident_pages FROM lab_fast ORDER BY sample DESC LIMIT 1"
        )[0]
    size = path.stat().st_size
    print(
        f"resident {format_size(resident * 4096)}, recording {format_size(size / seconds)} a second"
    )


if __name__ == "__main__":
    main()
