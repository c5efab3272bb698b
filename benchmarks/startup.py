"""How long commands take that do nothing: CPU time and wall time, the median of fifteen.

    .venv/bin/python -m benchmarks.startup

CPU time is user + system of the child: on a shared machine wall time tells of the neighbours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

REPEATS = 15
COMMANDS = (("--help",), ("version",), ("up", "--help"), ("validate", "quickstart"))
TARGET = 0.150
"""Of `memlab --help`, seconds."""


def once(words: tuple[str, ...]) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "memlab", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"memlab {' '.join(words)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - begin


def main() -> None:
    """Print one line for each command, and whether help is in time."""
    help_cpu = 0.0
    for words in COMMANDS:
        runs = [once(words) for _ in range(REPEATS + 1)][1:]  # the first fills the caches
        cpu, wall = (statistics.median(column) for column in zip(*runs, strict=True))
        help_cpu = help_cpu or cpu
        print(f"memlab {' '.join(words):22} {cpu * 1e3:6.0f} ms CPU {wall * 1e3:6.0f} ms wall")
    verdict = "within" if help_cpu <= TARGET else "MORE THAN"
    print(f"memlab --help is {verdict} {TARGET * 1e3:.0f} ms of CPU time")


if __name__ == "__main__":
    main()
