"""Many runs of one lab, one after the other on the restored host; what is there is not run again.

Each run has a folder of its own, named after what it is a run of, below a folder named after the
lab's content: a changed lab file begins anew, a broken-off comparison goes on where it stood.
Repeats take turns over the policies (a b c a b c): a slow hour of the machine is everybody's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from memlab.errors import MemlabError, RecordingError
from memlab.lab.load import Loaded, load, loads
from memlab.lab.outcome import Ended
from memlab.lab.place import RECORDING
from memlab.lab.prepare import prepare
from memlab.lab.session import Session, Watcher
from memlab.record.derive import Derived
from memlab.study.measured import Measured, of_run
from memlab.units import MIB

REFERENCE: Final = "reference"
"""The run without pressure: a budget for all VMs, and no policy."""
_ROOM: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make. `policy` is empty for the reference; `number` counts repeats from 1."""

    policy: str
    number: int

    @property
    def folder(self) -> str:
        """The run's folder below the comparison's."""
        words = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.policy or REFERENCE)
        return f"{words}-{self.number}"


def jobs(policies: Sequence[str], repeats: int) -> list[Job]:
    """The reference first, then the repeats in turn."""
    turns = [Job(policy, number) for number in range(1, repeats + 1) for policy in policies]
    return [Job("", 1), *turns]


class Runs:
    """The runs of one lab's comparison, below `directory`."""

    def __init__(self, source: Path, sets: Sequence[str], directory: Path) -> None:
        """LabFileError if the lab file is at fault; nothing is made yet."""
        self.sets = tuple(sets)
        self.lab = load(source, sets=sets)
        self.directory = directory / self._digest()

    def _digest(self) -> str:
        """Of the lab as it will run, its policy's name apart."""
        tree = {key: value for key, value in self.lab.tree.items() if key != "policy"}
        policy = self.lab.lab.policy
        scales = (policy.time_scale, policy.size_scale, policy.period)
        text = json.dumps([tree, scales], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def loaded(self, job: Job) -> Loaded:
        """The lab of this run: the same but for its policy; the reference has memory for all."""
        if job.policy:
            return self._load(*self._policy(job.policy))
        room = self.lab.lab.configured + _ROOM
        sets = (*self._policy("none"), f"host.memory={room // MIB}MiB", "expect=[]")
        return self._load(*sets)

    def _load(self, *sets: str) -> Loaded:
        """From the text that was read first: a file that is edited meanwhile is the next lab."""
        return loads(self.lab.source, name=self.lab.name, sets=(*self.sets, *sets))

    def _policy(self, name: str) -> tuple[str, ...]:
        """The policy by itself: another one's settings would be none of its own."""
        same = name == self.lab.lab.policy.name
        return (f"policy.name={name}",) if same else (f"policy.name={name}", "policy.settings={}")

    def find(self, job: Job) -> Measured | None:
        """The run's figures if it has been made and has come to its end, else None."""
        for path in sorted(self.directory.joinpath(job.folder).glob(f"runs/*/{RECORDING}")):
            try:
                run = Derived.open(path, check=False)
            except RecordingError:
                continue  # killed before it had begun
            if run.manifest.get("ended") == Ended.FINISHED:
                return of_run(run)
            run.close()
        return None

    def make(self, job: Job, watcher: Watcher) -> Measured:
        """Run it. MemlabError if it fails, KeyboardInterrupt if somebody stopped it."""
        prepared = prepare(self.loaded(job))
        folder = self.directory / job.folder
        folder.mkdir(parents=True, exist_ok=True)
        session = Session(replace(prepared, directory=folder), watcher)
        prepared.invoker.give(self.directory.parent, self.directory, folder)
        outcome = session.run()
        outcome.restored.check()
        if outcome.ended is Ended.STOPPED:
            raise KeyboardInterrupt
        return of_run(Derived.open(outcome.recording, check=False))


def perform(
    runs: Runs, todo: Sequence[Job], watcher: Watcher, tell: Callable[[str], None]
) -> Iterator[tuple[Job, Measured]]:
    """All jobs in their order; those that have been made are only read. `tell` hears of each."""
    found = {job: known for job in todo if (known := runs.find(job)) is not None}
    left = len(todo) - len(found)
    if found:
        tell(f"{len(found)} of {len(todo)} runs are there already, in {runs.directory}")
    for job in todo:
        if job in found:
            yield job, found[job]
            continue
        name = job.policy or "the run without pressure"
        seconds = left * (runs.lab.lab.duration + 6)
        tell(f"{name}, {job.number}: {left} runs left, about {seconds / 60:.0f} min")
        try:
            yield job, runs.make(job, watcher)
        except MemlabError as error:
            tell(f"{name}, {job.number} failed: {error.message}")
            raise
        left -= 1
