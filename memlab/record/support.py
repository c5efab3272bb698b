"""The tables of docs/kernel-support.md, made from the manifests of real runs.

`python -m memlab.record.support RUN >FILE.json` keeps of a run what tells of its kernel, and what
each mechanism has saved in it. The files in tests/captured/manifests are such; their README says
how they were made, and `python -m memlab.record.documents` makes the tables from them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from memlab.kernel.finding import Feature
from memlab.kernel.interfaces import INTERFACES
from memlab.record.columns import Entity
from memlab.record.derive import Derived
from memlab.units import MIB

MANIFESTS: Final = Path(__file__).parents[2] / "tests/captured/manifests"
SAVED: Final = {
    "sharing": "saved_sharing",
    "ballooning": "saved_balloon",
    "compression": "saved_compression",
    "swap": "saved_swap",
}
"""The column of the lab that tells what a mechanism has saved."""
_KEPT: Final = ("lab", "time_scale", "ended", "cgroup", "versions", "interfaces")
_OF_THE_MACHINE: Final = frozenset({Feature.MACHINE, Feature.OTHERS})
"""What tells of one machine, not of its kernel."""

Kept = Mapping[str, Any]


def kept(run: Derived) -> dict[str, Any]:
    """Of a run's manifest what tells of its kernel; with it what the run's samples say, MiB."""
    manifest = run.manifest
    start, until = run.window
    box = manifest.get("box")

    def known(column: str) -> Sequence[float]:
        return run.series(Entity.LAB, column).between(start, until).known

    budget = manifest["budget"]
    residual = [abs(value) / budget for value in known("residual")]
    return {
        "kernel": _version(manifest["host"]["kernel"]),
        "machine": manifest["host"]["machine"],
        "box": None if box is None else {k: box[k] for k in ("release", "accelerator")},
        "verdict": (manifest.get("verdict") or {}).get("outcome"),
        **{name: manifest[name] for name in _KEPT},
        "features": {
            name: said for name, said in manifest["features"].items() if name not in _OF_THE_MACHINE
        },
        "saved": {
            name: round(max(known(column), default=0.0) / MIB, 1) for name, column in SAVED.items()
        },
        "residual": round(median(residual), 5) if residual else None,
    }


def _version(release: str) -> str:
    """The numbers of a release, without what a distribution or a host has added to them."""
    found = re.match(r"\d+(\.\d+)*", release)
    return found[0] if found else release


def load(folder: Path = MANIFESTS) -> list[Kept]:
    """What was kept of the runs: the newest kernel first, those on bare machines before boxes."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: (one["box"] is not None, *(-n for n in _numbers(one))))


def _numbers(one: Kept) -> list[int]:
    return [int(part) for part in one["kernel"].split(".")]


def support_tables(runs: Sequence[Kept] | None = None) -> str:
    """The runs, what doctor has found in each, and each interface of the kernel."""
    runs = load() if runs is None else runs
    return "\n".join((_runs(runs), _features(runs), _interfaces(runs)))


def _head(one: Kept) -> str:
    return f"{'.'.join(one['kernel'].split('.')[:2])}, {one['cgroup']}"


def _runs(runs: Sequence[Kept]) -> str:
    rows = [("kernel", *(one["kernel"] for one in runs))]
    rows.append(("where", *(_where(one) for one in runs)))
    rows.append(("cgroup", *(one["cgroup"] for one in runs)))
    rows.append(("lab, verdict", *(f"{one['lab']}, {one['verdict']}" for one in runs)))
    rows.append(("times multiplied by", *(f"{one['time_scale']:g}" for one in runs)))
    for name in SAVED:
        rows.append((f"{name} saved, MiB", *(f"{one['saved'][name]:.1f}" for one in runs)))
    rows.append(("ledger's residual, of the budget", *(_percent(one["residual"]) for one in runs)))
    return _table("The runs", ("", *map(_head, runs)), rows)


def _where(one: Kept) -> str:
    box = one["box"]
    return "the machine itself" if box is None else f"box, {box['release']}, {box['accelerator']}"


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{part:.2%}"


def _features(runs: Sequence[Kept]) -> str:
    names = list(dict.fromkeys(name for one in runs for name in one["features"]))
    rows = [(f"`{name}`", *(_said(one["features"].get(name)) for one in runs)) for name in names]
    return _table("What `memlab doctor` finds", ("feature", *map(_head, runs)), rows)


def _said(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    word = {True: "yes", False: "**no**", None: "?"}[found.get("works")]
    return f"{word}: {found['reason']}".replace("|", "\\|")


def _interfaces(runs: Sequence[Kept]) -> str:
    rows = [
        (
            *(one.name, one.serves, one.shown, one.since, one.tells),
            *(_has(run["interfaces"].get(one.name)) for run in runs),
            f"`{one.module}`",
        )
        for one in INTERFACES
    ]
    head = (
        "interface",
        "for",
        "file or call",
        "since",
        "what it tells",
        *map(_head, runs),
        "module",
    )
    return _table("Interfaces", head, rows)


def _has(found: Mapping[str, Sequence[str]] | None) -> str:
    if found is None:
        return "–"
    if not found["lack"]:
        return "yes"
    if not found["have"]:
        return "**no**"
    few = min(("without", found["lack"]), ("only", found["have"]), key=lambda pair: len(pair[1]))
    return f"{few[0]} {', '.join(f'`{name}`' for name in few[1])}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return f"### {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Print what is kept of the run whose path is given."""
    (path,) = arguments
    with Derived.open(Path(path)) as run:
        sys.stdout.write(json.dumps(kept(run), indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
