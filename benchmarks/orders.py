"""Every order of the four mechanisms under the same pressure: the lab of exercise 9, measured.

    sudo .venv/bin/python -m benchmarks.orders [--repeats 3] [--minutes 8] [--results FILE]

The 24 orders take turns, so that a slow minute of the machine is nobody's alone. Each run is added
to FILE as it ends, and what is there is not run again: break it off, or give it --minutes, and go
on later. Prints medians over the repeats, best first: operations per second of the web servers,
the p99 latency of one of them, and what was read from and written to the swap device.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from memlab.control.policy import Mechanism
from memlab.exercises.course import find
from memlab.exercises.student import numbers_of, rendered
from memlab.lab.load import load
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.condition import parse
from memlab.record.derive import Derived
from memlab.record.quantity import parse_quantity

FIGURES = {
    "operations": "median(lab.operations)",
    "p99": "median(web-1.p99)",
    "swap_in": "mean(lab.swap_in)",
    "swap_out": "mean(lab.swap_out)",
    "decompressed": "mean(lab.decompressed)",
    "sharing": "median(lab.saved_sharing)",
    "balloon": "median(lab.saved_balloon)",
    "compression": "median(lab.saved_compression)",
    "swapped": "median(lab.swapped)",
    "major_faults": "median(sum_vms(vm.major_faults))",
}
Result = dict[str, float]


def orders() -> list[str]:
    """All 24, as the policy's setting."""
    return [",".join(order) for order in permutations(Mechanism)]


def one(order: str, seed: int, place: Path) -> Result:
    """One run of the exercise's lab in this order; the seed is of its numbers and contents."""
    lesson = find("09-order")
    lab = place / "order.memlab.yaml"
    numbers = numbers_of(lesson.exercise, seed)
    lab.write_text(rendered(lesson.lab("lab.memlab.yaml"), numbers), "utf-8")
    shutil.copy(lesson.folder / "order.py", place)
    loaded = load(lab, sets=[f"policy.settings.order={order}"])
    outcome = Session(prepare(loaded), Nobody()).run()
    outcome.restored.check()
    with Derived.open(outcome.recording) as source:
        found = {name: parse_quantity(text).of(source).value for name, text in FIGURES.items()}
        assert parse('events("oom-kill") == 0').judge(source).outcome == "pass", order
    return {name: value for name, value in found.items() if value is not None}


def known(path: Path) -> dict[tuple[str, int], Result]:
    """What was measured before, by order and repeat."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {(line["order"], line["repeat"]): line["found"] for line in lines}


def measure(path: Path, wanted: list[str], repeats: int, enough: Callable[[], bool]) -> None:
    """Run what is missing, until `enough`."""
    there = known(path)
    for repeat in range(1, repeats + 1):
        for order in wanted:
            if (order, repeat) in there:
                continue
            if enough():
                return
            with TemporaryDirectory(prefix="memlab-", dir="/var/tmp") as place:
                line = {"order": order, "repeat": repeat, "found": one(order, repeat, Path(place))}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def table(results: dict[tuple[str, int], Result]) -> Iterator[str]:
    """Medians in Markdown, most operations first."""
    by_order: dict[str, list[Result]] = {}
    for (order, _), found in results.items():
        by_order.setdefault(order, []).append(found)
    mean = {
        order: {name: median(one.get(name, 0.0) for one in runs) for name in FIGURES}
        for order, runs in by_order.items()
    }
    yield "| order | runs | operations/s | p99 | swap in | swap out | unpacked |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for order in sorted(mean, key=lambda one: (-round(mean[one]["operations"], -4), one)):
        it = mean[order]
        rates = " | ".join(
            f"{it[name] / 2**20:.1f} MiB/s" for name in ("swap_in", "swap_out", "decompressed")
        )
        yield (
            f"| {order.replace(',', ', ')} | {len(by_order[order])} | "
            f"{it['operations'] / 1000:,.0f} k | {it['p99'] * 1e6:,.1f} µs | {rates} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="begin no run after that long")
    parser.add_argument("--results", type=Path, default=Path("orders.jsonl"))
    parser.add_argument("--only", nargs="*", help="these orders, such as swap,balloon,…")
    chosen = parser.parse_args()
    end = time.monotonic() + chosen.minutes * 60
    wanted = chosen.only or orders()
    measure(chosen.results, wanted, chosen.repeats, lambda: time.monotonic() > end)
    print("\n".join(table(known(chosen.results))))


if __name__ == "__main__":
    main()
