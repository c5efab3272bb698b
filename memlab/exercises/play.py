"""Running an exercise: its lab file as the student has left it, with the facts of the exercise.

The file that is run is written to `runs/STAGE-RUN.memlab.yaml`, so that it can be looked at, run
again by hand, and run in a box as any lab.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlab.errors import UsageError
from memlab.exercises.facts import facts, seal
from memlab.exercises.folder import RUNS, Folder
from memlab.exercises.spec import Stage
from memlab.exercises.student import rendered
from memlab.lab.load import Loaded, load, loads
from memlab.lab.place import Invoker


@dataclass(frozen=True, slots=True)
class Play:
    """One run to make: the file to run, and what is set over it."""

    stage: int
    run: str
    path: Path
    sets: tuple[str, ...]

    def loaded(self) -> Loaded:
        """The lab; LabFileError with the faults that the student's changes have."""
        return load(self.path, sets=self.sets)


def plays(folder: Folder, number: int, *, unpredicted: bool = False) -> list[Play]:
    """The runs of stage `number`, their files written.

    UsageError while a prediction is missing, unless `unpredicted`; LabFileError if the student's
    lab file has a fault: then nothing has been written.
    """
    stage = stage_of(folder, number)
    missing = [one.name for one in stage.predict if one.name not in folder.answers.predictions]
    if missing and not unpredicted:
        raise UsageError(
            f"predict first: {', '.join(missing)}",
            hint=f"write it into {folder.path / 'answers.yaml'}, under predictions:",
        )
    text = folder.lab(stage.lab)
    made = [_play(folder, number, stage, run) for run in stage.runs]
    for one in made:
        loads(text, name=str(folder.path / stage.lab), sets=one.sets)
    place = folder.path / RUNS
    place.mkdir(exist_ok=True)
    for one in made:
        one.path.write_text(_with_facts(folder, stage, one, text), "utf-8")
    # Paths of a lab file begin in its own folder: what it names has to be there too.
    beside = {place / name: folder.lab(name) for name in folder.lesson.exercise.files}
    for path, content in beside.items():
        path.write_text(content, "utf-8")
    Invoker.find().give(place, *(one.path for one in made), *beside)
    return made


def stage_of(folder: Folder, number: int) -> Stage:
    """The stage, from 1; UsageError if there is none."""
    stages = folder.lesson.exercise.stages
    if not 1 <= number <= len(stages):
        raise UsageError(
            f"{folder.lesson.name} has no stage {number}", hint=f"it has 1 to {len(stages)}"
        )
    return stages[number - 1]


def _play(folder: Folder, number: int, stage: Stage, run: str) -> Play:
    path = folder.path / RUNS / f"{number}-{run}.memlab.yaml"
    return Play(number, run, path, sets_of(stage, run, folder.numbers))


def sets_of(stage: Stage, run: str, numbers: Any) -> tuple[str, ...]:
    """What one run sets over the lab file."""
    return tuple(
        f"{path}={rendered(str(value), numbers)}" for path, value in stage.runs[run].set.items()
    )


def _with_facts(folder: Folder, stage: Stage, play: Play, text: str) -> str:
    told = facts(
        folder.lesson.name, stage=stage, number=play.stage, run=play.run,
        answers=folder.answers, numbers=folder.numbers,
        files={name: folder.lab(name) for name in folder.lesson.exercise.files},
    )  # fmt: skip
    # JSON is YAML: one line, whatever the answers hold.
    return f"{text.rstrip()}\n\nx-exercise: {json.dumps(told, ensure_ascii=False)}\n"


def seal_new(folder: Folder, known: Sequence[Path]) -> list[Path]:
    """Seal the recordings that have come since `known`; they are the ones just made."""
    fresh = [path for path in folder.recordings().values() if path not in known]
    for path in fresh:
        seal(path, folder.answers.student, folder.seed)
        Invoker.find().give(*path.parent.iterdir())
    return fresh
