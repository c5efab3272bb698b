"""The table of docs/policies.md: policies on the five contention labs. As root.

    python -m benchmarks.policies [--repeat N] [--policy A,B,…] [-o DIR] [--only-print] [--unscaled]

A run takes about 21 s. All labs and policies have their first run, then all their second one: the
table can be broken off at any time, printed (`--only-print`), and gone on with. With `--unscaled`
it is one lab of full size (benchmarks/unscaled.yaml), 21 minutes a run, and 3 GiB. The figures of
its runs are in benchmarks/measured: `-o benchmarks/measured` goes on from them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from memlab.control.policies import POLICIES
from memlab.lab.load import resolve
from memlab.study.compare import Comparison, compare
from memlab.study.measured import Measured
from memlab.study.overview import overview
from memlab.study.runs import Runs, jobs

LABS: Final = {
    name: f"contention-{name}" for name in ("desktops", "hot", "phases", "bootstorm", "cache")
}
UNSCALED: Final = {"phases, unscaled": str(Path(__file__).with_name("unscaled.yaml"))}
_DONE: Final = (0, 1)
"""Statuses of `memlab compare`: 1 says that a run did not count, which the table tells."""


def make(lab: str, policies: str, repeats: int, folder: Path) -> None:
    """The runs of one lab that are not there yet."""
    command = [
        *(sys.executable, "-m", "memlab", "compare", lab),
        *("--policy", policies, "--repeat", str(repeats), "-o", str(folder), "-f", "json"),
    ]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode not in _DONE:
        raise SystemExit(done.returncode)


def there(lab: str, policies: Sequence[str], repeats: int, folder: Path) -> Comparison | None:
    """What has been run of one lab; None without the run that work is relative to."""
    runs = Runs(resolve(lab), (), folder)
    reference, *todo = jobs(policies, repeats)
    against = runs.find(reference)
    found: list[tuple[str, Measured]] = [
        (job.policy, run) for job in todo if (run := runs.find(job)) is not None
    ]
    if against is None or not found:
        return None
    return compare([run for _, run in found], against, labels=[policy for policy, _ in found])


def main() -> int:
    """Make what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--policy", default=",".join(POLICIES))
    parser.add_argument("-o", "--output", type=Path, default=Path("policy-table"))
    parser.add_argument("--only-print", action="store_true")
    parser.add_argument("--unscaled", action="store_true")
    asked = parser.parse_args()
    labs = UNSCALED if asked.unscaled else LABS
    for repeats in () if asked.only_print else range(1, asked.repeat + 1):
        for lab in labs.values():
            make(lab, asked.policy, repeats, asked.output)
    policies = asked.policy.split(",")
    found = {
        name: one for name, lab in labs.items()
        if (one := there(lab, policies, asked.repeat, asked.output)) is not None
    }  # fmt: skip
    print(*overview(found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
