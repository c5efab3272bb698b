"""Compression against the swap device alone, on the same budget and the same work.

    sudo .venv/bin/python benchmarks/compression.py [--repeats 5] [--compressible 3]

One VM reads and writes records by Zipf's law (exponent 0.99, 10 % writes) over 1.5 times the host
budget. The two arms take turns; a run counts only if usage + pool stayed within 102 % of the budget
in every sample of its window. Prints each run, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from memlab.lab.load import loads
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.record.columns import Entity
from memlab.record.derive import Derived

LAB = """
name: arms
seed: {seed}
host: {{memory: 160MiB, swap: {{size: 512MiB}}}}
mechanisms:
  tps: off
  balloon: off
  compression: {{enabled: {on}, compressor: lzo-rle, pool: {pool}}}
policy: static
vms:
  store:
    memory: 264MiB
    workload:
      name: keyvalue
      size: 240MiB
      content: {{compressible: {ratio}}}
      args: {{zipf: 0.99, writes: 10%}}
sample: {{fast: 500ms, medium: 2s, deep: 5s}}
duration: 12s
window: {{from: 3s, until: 12s}}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: operations per second over the window, and the worst use of the budget."""

    compressed: bool
    operations: float
    worst_use: float

    @property
    def valid(self) -> bool:
        """Whether the budget was kept in every sample."""
        return self.worst_use <= 1.02


@dataclass(frozen=True, slots=True)
class Arms:
    """All runs of both arms."""

    runs: tuple[Run, ...]

    def operations(self, *, compressed: bool) -> float:
        """Median of the valid runs of one arm."""
        return median(
            run.operations for run in self.runs if run.valid and run.compressed is compressed
        )

    @property
    def ratio(self) -> float:
        """How many times the operations of the swap device alone."""
        return self.operations(compressed=True) / self.operations(compressed=False)


def measure(*, repeats: int, ratio: float, pool: str = "33%") -> Arms:
    """Both arms, interleaved, with pages compressible `ratio`:1."""
    return Arms(
        tuple(
            one(compressed=compressed, ratio=ratio, pool=pool, seed=seed)
            for seed in range(1, repeats + 1)
            for compressed in (True, False)
        )
    )


def one(*, compressed: bool, ratio: float, pool: str, seed: int) -> Run:
    """One run of one arm."""
    text = LAB.format(on="on" if compressed else "off", ratio=ratio, pool=pool, seed=seed)
    with TemporaryDirectory(prefix="memlab-", dir="/var/tmp") as folder:
        loaded = loads(text, name=str(Path(folder) / "arms.memlab.yaml"))
        outcome = Session(prepare(loaded), Nobody()).run()
        outcome.restored.check()
        with Derived.open(outcome.recording) as source:
            start, end = source.window
            used = source.series(Entity.LAB, "used").between(start, end).known
            budget = loaded.lab.host.memory
            operations = source.series(Entity.LAB, "operations").between(start, end).known
            if not operations:
                raise RuntimeError(f"no operations were recorded: {outcome.reasons}")
            return Run(compressed, sum(operations) / len(operations), max(used) / budget)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compressible", type=float, default=3.0)
    parser.add_argument("--pool", default="33%")
    chosen = parser.parse_args(arguments)
    arms = measure(repeats=chosen.repeats, ratio=chosen.compressible, pool=chosen.pool)
    for run in arms.runs:
        arm = "compression" if run.compressed else "swap alone"
        void = "" if run.valid else "  void: above the budget"
        print(f"{arm:12} {run.operations:12,.0f} ops/s, {run.worst_use:6.1%} of budget{void}")
    print(f"ratio of the medians {arms.ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
