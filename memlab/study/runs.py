"""Many runs of one lab, one after the other on the restored host; what is there is not run again.

Each run has a folder of its own, named after what it is a run of, below a folder named after all
that determines it: a changed lab begins anew, a broken-off comparison goes on where it stood.
Repeats take turns over the policies (a b c a b c): a slow hour of the machine is everybody's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from memlab.control.userpolicy import digest
from memlab.errors import MemlabError, RecordingError
from memlab.lab.load import Loaded, load, loads
from memlab.lab.outcome import Ended
from memlab.lab.place import RECORDING, Invoker
from memlab.lab.prepare import prepare
from memlab.lab.session import Session, Watcher
from memlab.record.derive import Derived
from memlab.study import kept
from memlab.study.code import code, version
from memlab.study.measured import Measured, of_run
from memlab.study.unpressed import of_policy, steps_without, takes_memory
from memlab.units import MIB

REFERENCE: Final = "reference"
"""The run without pressure: a budget for all VMs, and no policy."""
_ROOM: Final = 64 * MIB
_CODE: Final = "code"
"""The file beside a job's runs that says which code made them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make. `policy` is empty for the reference; `number` counts repeats from 1."""

    policy: str
    number: int

    def folder(self, content: str = "") -> str:
        """The run's folder below the comparison's; `content` is that of a user's policy file."""
        words = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.policy or REFERENCE)
        return "-".join((words, *([content[:8]] if content else ()), str(self.number)))


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
        """Of the lab as it will run, and of memlab's version. The policy's name is the job's; but
        settings, also those of the timeline, are one policy's: with them it counts."""
        lab = self.lab.lab.model_dump(mode="json")
        timed = any(of_policy(path) for step in self.lab.lab.timeline for path in step.set)
        if not timed and not lab["policy"]["settings"]:
            del lab["policy"]["name"]
        text = json.dumps([version(), lab], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def loaded(self, job: Job) -> Loaded:
        """The lab of this run: the same but for its policy; the reference has memory for all."""
        if job.policy:
            return self._load(*self._policy(job.policy))
        room = self.lab.lab.configured + _ROOM
        sets = (f"host.memory={room // MIB}MiB", "expect=[]")
        return self._load(*self._policy("none", takes_memory), *sets)

    def _load(self, *sets: str) -> Loaded:
        """From the text that was read first: a file that is edited meanwhile is the next lab."""
        return loads(self.lab.source, name=self.lab.name, sets=(*self.sets, *sets))

    def _policy(self, name: str, *drop: Callable[[str], bool]) -> tuple[str, ...]:
        """The policy by itself: another one's settings would be none of its own. `drop` says what
        else of the timeline is left out."""
        if name == self.lab.lab.policy.name:
            return (f"policy.name={name}", *self._timeline(*drop))
        settings = (f"policy.name={name}", "policy.settings={}")
        return (*settings, *self._timeline(of_policy, *drop))

    def _timeline(self, *drop: Callable[[str], bool]) -> tuple[str, ...]:
        """What sets the timeline to what is left of it; nothing if all is."""
        steps = self.lab.tree.get("timeline") or []
        left = steps_without(steps, lambda path: any(one(path) for one in drop))
        return () if left == steps else (f"timeline={json.dumps(left, ensure_ascii=False)}",)

    def place(self, job: Job) -> Path:
        """The folder of the job's runs: another one for each content of a user's policy file.
        UsageError if that cannot be read."""
        return self.directory / job.folder(digest(job.policy, self.lab.folder))

    def find(self, job: Job) -> Measured | None:
        """The run's figures if it has been made and has come to its end, else None. The recording
        is asked first; the figures that were kept speak where it is gone."""
        folder = self.place(job)
        for path in sorted(folder.glob(f"runs/*/{RECORDING}")):
            try:
                run = Derived.open(path, check=False)
            except RecordingError:
                continue  # killed before it had begun
            if run.manifest.get("ended") == Ended.FINISHED:
                return replace(of_run(run), code=_code_of(folder))
            run.close()
        return kept.read(folder)

    def keep(self, job: Job, run: Measured) -> None:
        """Write the figures beside the recording, if they are not there."""
        folder = self.place(job)
        if not folder.joinpath(kept.KEPT).exists():
            Invoker.find().give(kept.write(folder, run))

    def make(self, job: Job, watcher: Watcher) -> Measured:
        """Run it. MemlabError if it fails, KeyboardInterrupt if somebody stopped it."""
        prepared = prepare(self.loaded(job))
        folder = self.place(job)
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath(_CODE).write_text(f"{code()}\n", "utf-8")
        session = Session(replace(prepared, directory=folder), watcher)
        prepared.invoker.give(self.directory.parent, self.directory, folder, folder / _CODE)
        outcome = session.run()
        outcome.restored.check()
        if outcome.ended is Ended.STOPPED:
            raise KeyboardInterrupt
        return replace(of_run(Derived.open(outcome.recording, check=False)), code=code())


def _code_of(folder: Path) -> str:
    """The code that made a job's runs; empty if nobody wrote it down."""
    try:
        return folder.joinpath(_CODE).read_text("utf-8").strip()
    except OSError:
        return ""


def perform(
    runs: Runs, todo: Sequence[Job], watcher: Watcher, tell: Callable[[str], None]
) -> Iterator[tuple[Job, Measured]]:
    """All jobs in their order; those that have been made are only read. `tell` hears of each."""
    found = {job: known for job in todo if (known := runs.find(job)) is not None}
    left = len(todo) - len(found)
    if found:
        tell(f"{len(found)} of {len(todo)} runs are there already, in {runs.directory}")
    if old := sum(known.code != code() for known in found.values()):
        tell(
            f"{old} of them: not by memlab's code as it is now; move that folder away to make anew"
        )
    for job in todo:
        if job in found:
            runs.keep(job, found[job])
            yield job, found[job]
            continue
        name = job.policy or "the run without pressure"
        seconds = left * (runs.lab.lab.duration + 6)
        tell(f"{name}, {job.number}: {left} runs left, about {seconds / 60:.0f} min")
        try:
            made = runs.make(job, watcher)
        except MemlabError as error:
            tell(f"{name}, {job.number} failed: {error.message}")
            raise
        runs.keep(job, made)
        yield job, made
        left -= 1
