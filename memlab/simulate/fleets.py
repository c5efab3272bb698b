"""Several policies on the same fleet, each against the same VMs with memory for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memlab.control.policies import find
from memlab.control.policy import Mechanism
from memlab.lab.spec import Lab
from memlab.simulate.arrays import Floats
from memlab.simulate.fleet import places
from memlab.simulate.run import TICK, Outcome, run
from memlab.study.compare import jain


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked: the lab, the policies (none: the lab's own), how many VMs on how many hosts,
    for how many seconds of model time. `tick` is the longest step, `seed` None the lab's,
    `pool_charged` as on cgroup v2 (`fleet`)."""

    lab: Lab
    policies: tuple[str, ...] = ()
    vms: int | None = None
    hosts: int = 1
    seconds: float | None = None
    seed: int | None = None
    tick: float = TICK
    pool_charged: bool = True
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class Row:
    """One policy. `work` is operations over those of the fleet with memory for all, None if there
    are none; `worst` that of the VM that got least, `fairness` Jain's index over the VMs."""

    outcome: Outcome
    work: float | None
    worst: float | None
    fairness: float | None

    @property
    def saved(self) -> dict[Mechanism, float]:
        """Bytes by mechanism, all hosts together."""
        return self.outcome.saved


@dataclass(frozen=True, slots=True)
class Simulated:
    """The rows in the order asked for, and the fleet with memory for all that they are held
    against. `scales` are the policies' time_scale and size_scale, `pool_charged` as in the task."""

    lab: str
    scales: tuple[float, float]
    seed: int
    overcommitment: float
    pool_charged: bool
    reference: Outcome
    rows: tuple[Row, ...]


def simulate(task: Task) -> Simulated:
    """Run the model under each policy. UsageError: a policy or a number that cannot be."""
    names = task.policies or (task.lab.policy.name,)
    seed = task.lab.seed if task.seed is None else task.seed
    where = places(task.lab, vms=task.vms, hosts=task.hosts, seed=seed)

    def outcome(policy: str, *, relaxed: bool = False) -> Outcome:
        return run(
            under(task.lab, policy), where,
            seconds=task.seconds, seed=seed, relaxed=relaxed, pool_charged=task.pool_charged,
            folder=task.folder, tick=task.tick,
        )  # fmt: skip

    for name in names:
        find(name, task.folder)
    reference = outcome("none", relaxed=True)
    rows = tuple(_row(outcome(name), reference) for name in names)
    scales = (task.lab.policy.time_scale, task.lab.policy.size_scale)
    return Simulated(
        task.lab.name, scales, seed, task.lab.overcommitment, task.pool_charged, reference, rows
    )


def under(lab: Lab, policy: str) -> Lab:
    """The lab under another policy, by itself: another one's settings would be none of its own."""
    if policy == lab.policy.name:
        return lab
    changed = lab.policy.model_copy(update={"name": policy, "settings": {}})
    return lab.model_copy(update={"policy": changed})


def _row(outcome: Outcome, reference: Outcome) -> Row:
    before = reference.work
    working = before > 0
    parts: Floats = outcome.work[working] / before[working]
    total = float(before.sum())
    return Row(
        outcome,
        float(outcome.work.sum()) / total if total else None,
        float(parts.min()) if len(parts) else None,
        jain(parts.tolist()),
    )
