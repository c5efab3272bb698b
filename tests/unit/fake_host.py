"""A host in a temporary directory: ordinary files as knobs, ordinary directories as cgroups.

Processes are real, since pidfds are; so `proc` is the running machine's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from memlab.kernel.entries import Header
from memlab.kernel.files import Roots
from memlab.kernel.journal import Journal
from memlab.kernel.rundir import RunDir

KSM = {
    "run": "0",
    "pages_to_scan": "100",
    "sleep_millisecs": "20",
    "advisor_mode": "[none] scan-time",
    "max_page_sharing": "256",
    "merge_across_nodes": "1",
    "use_zero_pages": "0",
    "pages_shared": "0",
}
ZSWAP = {"enabled": "N", "compressor": "lzo", "max_pool_percent": "20"}


@dataclass(frozen=True)
class FakeHost:
    base: Path
    roots: Roots
    run: RunDir

    @classmethod
    def make(cls, base: Path) -> FakeHost:
        roots = Roots(proc=Path("/proc"), sys=base / "sys", cgroup=base / "cgroup")
        for folder, values in ((roots.ksm, KSM), (roots.zswap, ZSWAP)):
            folder.mkdir(parents=True)
            for name, value in values.items():
                (folder / name).write_text(value + "\n")
        roots.cgroup.mkdir()
        (base / "lab").mkdir()
        return cls(base, roots, RunDir.made(base / "run"))

    def header(self, lab: str = "quickstart", results: Path | None = None) -> Header:
        return Header.of_this_process(
            lab, "4f2a", self.base / "lab", results=results, roots=self.roots
        )

    def journal(self) -> Journal:
        return Journal.create(self.run, self.header(), roots=self.roots)

    def ksm(self, name: str) -> Path:
        return self.roots.ksm / name

    def zswap(self, name: str) -> Path:
        return self.roots.zswap / name

    def tree(self) -> dict[str, str]:
        """Everything below the base but the run directory, by name."""
        found = {}
        for folder, names, files in os.walk(self.base):
            if folder == str(self.base):
                names.remove("run")
            found[folder] = "directory"
            found |= {f"{folder}/{name}": Path(folder, name).read_text().strip() for name in files}
        return found
