"""Where the kernel trees for the unit tests are; README.md says how they were made."""

from __future__ import annotations

from pathlib import Path

from memlab.kernel.files import Roots

_HERE = Path(__file__).parent
PID = 4242


def _roots(tree: Path) -> Roots:
    return Roots(proc=tree / "proc", sys=tree / "sys", cgroup=tree / "cgroup")


HYBRID = _roots(_HERE / "linux-6.18-hybrid")
DOCUMENTED_V2 = _roots(_HERE / "v2-documented")
TASKSTATS_16 = _HERE / "linux-6.18-hybrid/taskstats-16.bin"
