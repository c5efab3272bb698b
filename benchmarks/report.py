"""How long a report takes and how large it is: python -m benchmarks.report [VMS [SECONDS]]

Makes a synthetic recording of that size, writes its page, and prints CPU seconds and bytes; then
what one redraw of the live table costs.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from memlab.live.screen import screen
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.report.html import page
from memlab.report.verdict import verdict
from tests.recordings import build

REDRAWS = 20
T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    result = call()
    return result, time.process_time() - began


def _redraw(console: Console, source: Derived) -> None:
    for _ in range(REDRAWS):
        console.print(screen(source, 1.0, "measured", "soft", width=130, rows=40))


def main(vms: int = 4, seconds: int = 60) -> None:
    with tempfile.TemporaryDirectory() as home:
        path = build(Path(home), seconds=seconds, vms=vms)
        with Derived.open(path) as source:
            _, cold = timed(lambda: verdict(source))
            text, warm = timed(lambda: page(source))
            samples = len(source.series(Entity.LAB, "used").times)
            console = Console(file=io.StringIO(), force_terminal=True, width=130)
            _, redraws = timed(lambda: _redraw(console, source))
    print(f"{vms} VMs, {samples} fast samples, {seconds} s")
    print(f"verdict, formulas included  {cold:7.3f} s CPU")
    print(f"page                        {warm:7.3f} s CPU  {len(text) / 1e6:.2f} MB")
    print(f"one live redraw             {redraws / REDRAWS * 1e3:7.1f} ms CPU")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
