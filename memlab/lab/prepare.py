"""Before a run: what it will change, whether it fits, where its files go. Changes nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from memlab.control.policies import build
from memlab.errors import HostError
from memlab.kernel.files import HOST, Roots, parse_names, read_bytes
from memlab.lab.admission import Sums, admit, sums
from memlab.lab.fitness import refuse_unfit
from memlab.lab.guests import disks_must_be_usable
from memlab.lab.load import Loaded
from memlab.lab.place import Invoker, lab_directory
from memlab.lab.plan import Plan, check_disk, plan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A lab that may run here: the plan of changes, the sums, whose it is, its directory."""

    loaded: Loaded
    plan: Plan
    sums: Sums
    invoker: Invoker
    directory: Path

    @property
    def digest(self) -> str:
        """Of the lab file after `${…}` and `--set`: two runs of one digest are the same lab."""
        text = json.dumps(self.loaded.tree, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def prepare(loaded: Loaded, *, i_know: bool = False, roots: Roots = HOST) -> Prepared:
    """`loaded`, checked against this host. HostError or AdmissionError with the repair; UsageError
    if a policy of the user's own cannot be made, which is tried here, before anything is changed.
    """
    build(loaded.lab.policy.name, loaded.lab.policy.settings, folder=loaded.folder)
    changes = plan(loaded.lab, roots=roots)
    found = sums(loaded.lab, _available(roots))
    admit(found, i_know=i_know)
    refuse_unfit(loaded.lab, changes, roots=roots)
    disks_must_be_usable(loaded.lab, loaded.folder)
    check_disk(changes)
    source = None if loaded.name == "stdin" else Path(loaded.name)
    directory = lab_directory(loaded.lab.name, source)
    return Prepared(loaded, changes, found, Invoker.find(), directory)


def _available(roots: Roots) -> int:
    meminfo = parse_names(read_bytes(roots.proc / "meminfo") or b"")
    if "MemAvailable" not in meminfo:
        raise HostError(
            f"{roots.proc / 'meminfo'} does not say what is available",
            hint="mount /proc, or use a kernel newer than 3.14",
        )
    return meminfo["MemAvailable"]
