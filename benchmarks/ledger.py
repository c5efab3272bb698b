"""The ledger against the kernel's own accounts: per-VM compressed pages, merged and zero pages out.

    sudo .venv/bin/python -m benchmarks.ledger [--json] [--keep FOLDER]

Five VMs in a budget of 112 MiB: three of one image, which are merged before the budget is short,
one of zero pages and one of pages that compress, which come when ksmd has stopped. The budget
pushes merged pages out, then the zero pages are; at the end one VM reads its pages again.
Prints, for each phase, what the ledger leaves over and how far the sums over the VMs are from what
the host says. Figures are those of the phase's last deep sample.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from memlab.box.lab import SLOW
from memlab.lab.load import loads
from memlab.lab.manifest import BOX
from memlab.lab.prepare import prepare
from memlab.lab.session import Nobody, Session
from memlab.lab.stretch import stretch
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.units import MIB, PAGE

LAB: Final = """
name: ledger
seed: 11
host: {memory: 112MiB, swap: {size: 256MiB}}
mechanisms:
  tps: {pages_to_scan: 20000, sleep: 10ms}
  balloon: off
  compression: {pool: 35%, compressor: lzo-rle}
policy: static
defaults:
  memory: 48MiB
  image: {name: os, size: 16MiB, zero: 10%, common: 60%, compressible: 3}
vms:
  twin: {count: 2, workload: {name: idle, size: 16MiB, content: {compressible: 3}}}
  reader:
    start: 3s
    workload:
      name: toucher
      size: 24MiB
      content: {compressible: 3}
      args: {levels: [2MiB, 24MiB], step: 40s, writes: 0}
  blank: {start: 14s, workload: {name: idle, size: 20MiB, content: {zero: 100%}}}
  cold:
    start: 14s
    memory: 112MiB
    workload: {name: idle, size: 92MiB, content: {compressible: 8}}
timeline:
  - {at: 13s, set: {mechanisms.tps: off}}
  - {at: 24s, set: {vms.blank.reclaim: 40MiB}}
sample: {fast: 500ms, medium: 1s, deep: 1s}
duration: 60s
window: {from: 5s, until: 60s}
"""
PHASES: Final = {"merged": (9.0, 13.0), "pushed out": (28.0, 41.0), "read back": (48.0, 60.0)}
"""Seconds of the run from and until; nothing but the reader moves then."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase, MiB. What is `None` this kernel does not tell (cgroup v1)."""

    name: str
    samples: int
    """Deep samples of the phase."""
    budget: float
    residual_guest: float
    """The worst of all VMs and samples of the phase, as the two below."""
    residual_host: float
    residual: float
    """Of the lab."""
    residuals: tuple[float, ...]
    """The lab's in each sample."""
    out: float
    """Σ of the VMs' pages that are out, as their page tables have them."""
    shared: float
    """Σ of their merged pages that are not out."""
    unique_frames: float
    unique_slots: float
    slots: float
    """Slots of the swap device in use."""
    charged: float | None
    """Σ of the slots that the VMs' groups are charged for."""
    vm_compressed: float | None
    host_compressed: float | None
    vm_pool: float | None
    host_pool: float | None
    saved_swap: float
    zero_out: float | None
    """Zero pages that were swapped as a bit and have not come back (6.12), whole host."""


def measure(keep: Path | None = None) -> tuple[Phase, ...]:
    """Run the lab and look at each phase. RuntimeError if the run has not passed.

    The recording stays in `keep`, and is removed without it.
    """
    with TemporaryDirectory(prefix="memlab-", dir="/var/tmp") as temporary:
        folder = keep or Path(temporary)
        box = json.loads(os.environ.get(BOX) or "{}")
        scale = SLOW if box.get("accelerator") == "tcg" else 1.0
        loaded = stretch(loads(LAB, name=str(folder / "ledger.memlab.yaml")), scale)
        outcome = Session(prepare(loaded), Nobody()).run()
        outcome.restored.check()
        if outcome.exit_code:
            raise RuntimeError(f"the run has {outcome.said}: {outcome.reasons}")
        with Derived.open(outcome.recording) as run:
            return tuple(
                _phase(run, name, start * scale, until * scale)
                for name, (start, until) in PHASES.items()
            )


def _phase(run: Derived, name: str, start: float, until: float) -> Phase:
    def lab(column: str) -> tuple[float, ...]:
        return run.series(Entity.LAB, column).between(start, until).known

    def host(column: str) -> float | None:
        known = run.series(Entity.HOST, column).between(start, until).known
        return known[-1] / MIB if known else None

    def over_vms(column: str) -> float | None:
        found = [run.series(Entity.VM, column, vm).between(start, until).known for vm in run.vms]
        last = [known[-1] for known in found if known]
        return sum(last) / MIB if last else None

    def worst(column: str) -> float:
        found = [run.series(Entity.VM, column, vm).between(start, until).known for vm in run.vms]
        return max((value for known in found for value in known), key=abs) / MIB

    residual = lab("residual")
    return Phase(
        name=name,
        samples=len(residual),
        budget=lab("budget")[-1] / MIB,
        residual_guest=worst("residual_guest"),
        residual_host=worst("residual_host"),
        residual=max(residual, key=abs) / MIB,
        residuals=tuple(round(value / MIB, 2) for value in residual),
        out=lab("out")[-1] / MIB,
        shared=lab("shared")[-1] / MIB,
        unique_frames=lab("unique_frames")[-1] / MIB,
        unique_slots=lab("unique_slots")[-1] / MIB,
        slots=lab("swap_slots")[-1] / MIB,
        charged=over_vms("swapped"),
        vm_compressed=over_vms("compressed"),
        host_compressed=host("compressed"),
        vm_pool=over_vms("pool"),
        host_pool=host("pool"),
        saved_swap=lab("saved_swap")[-1] / MIB,
        zero_out=_zero_out(run, until),
    )


def _zero_out(run: Derived, until: float) -> float | None:
    """Growth of vmstat's swpout_zero − swpin_zero since the run began, MiB."""
    rows = run.recording.rows(
        "SELECT h.swpout_zero - h.swpin_zero FROM host_fast h JOIN sample s ON s.id = h.sample"
        " WHERE s.began <= ? ORDER BY s.id",
        (round(until * 1e6),),
    )
    (first,), (last,) = rows[0], rows[-1]
    return None if first is None or last is None else (last - first) * PAGE / MIB


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    phases = [asdict(phase) for phase in measure(chosen.keep)]
    if chosen.json:
        print(json.dumps(phases))
        return 0
    for key in phases[0]:
        cells = (phase[key] for phase in phases)
        words = (
            "–" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in cells
        )
        print(f"{key:16} " + " ".join(f"{word:>12}" for word in words))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
