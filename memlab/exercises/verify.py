"""An exercise tried by its author: the reference solution passes, doing nothing does not, and a
plausible mistake fails at the check, and with the words, that are meant for it."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from memlab.errors import MemlabError, UsageError
from memlab.exercises import answers as answering
from memlab.exercises.course import PICTURE, Lesson
from memlab.exercises.folder import Folder
from memlab.exercises.judge import Case, Result, value
from memlab.exercises.marks import Mark, StageMark, mark_stage
from memlab.exercises.play import Play, plays, seal_new
from memlab.exercises.spec import Kind, Language, Question, Solution, Stage
from memlab.exercises.student import numbers_of, rendered, seed_of
from memlab.lab.load import loads
from memlab.record.derive import Derived
from memlab.record.quantity import parse_quantity
from memlab.report.picture import picture
from memlab.units import MIB

AUTHOR: Final = "Ada Lovelace"
"""In whose name exercises are tried; the recordings in the tests are hers."""


class Trial(StrEnum):
    """A way to do the exercise."""

    REFERENCE = "reference"
    EMPTY = "empty"
    WRONG = "wrong"


Perform = Callable[[Play], Path]
"""Makes one run and returns its recording."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one trial; `fault` is why it did not come out as it should, or nothing."""

    trial: Trial
    mark: Mark
    fault: str


def attempt(lesson: Lesson, trial: Trial, place: Path, perform: Perform) -> Tried:
    """Do the exercise in the new folder `place`; `perform` makes each run, or brings its file."""
    folder = Folder.start(lesson, place, AUTHOR, Language.ENGLISH)
    stages = []
    for number, stage in enumerate(lesson.exercise.stages, 1):
        solution = solution_of(lesson, trial, number)
        _edit(folder, stage, solution)
        _write(folder, _predictions(folder, stage, solution))
        unpredicted = trial is Trial.EMPTY
        made = {
            one.run: perform(one) for one in plays(_again(folder), number, unpredicted=unpredicted)
        }
        seal_new(_again(folder), [])
        _write(folder, _answers(folder, stage, solution, made))
        stages.append(mark_stage(lesson, number, _again(folder).answers, made))
    marked = Mark(tuple(stages))
    return Tried(trial, marked, _fault(lesson, trial, marked.stages))


def solution_of(lesson: Lesson, trial: Trial, number: int) -> Solution:
    """What this trial does in a stage; a wrong one predicts as the reference does."""
    exercise = lesson.exercise
    if trial is Trial.EMPTY:
        return Solution()
    reference = exercise.reference[number - 1]
    if trial is Trial.REFERENCE:
        return reference
    wrong = exercise.wrong[number - 1]
    return wrong.model_copy(
        update={
            "predictions": reference.predictions | wrong.predictions,
            "answers": reference.answers | wrong.answers,
        }
    )


def _again(folder: Folder) -> Folder:
    """The folder, with its answers read anew."""
    return Folder(folder.path, folder.lesson)


def _edit(folder: Folder, stage: Stage, solution: Solution) -> None:
    path = folder.path / stage.lab
    text = path.read_text("utf-8")
    for old, new in solution.edit:
        wanted = rendered(old, folder.numbers)
        if wanted not in text:
            raise UsageError(f"{stage.lab} has no {wanted!r} to edit", hint="see exercise.yaml")
        text = text.replace(wanted, rendered(new, folder.numbers))
    path.write_text(text, "utf-8")


def _write(folder: Folder, given: dict[str, str]) -> None:
    """Put answers into answers.yaml as a student does: behind the colon."""
    path = folder.path / answering.FILE
    text = path.read_text("utf-8")
    numbers = folder.numbers
    for name, answer in given.items():
        line = f"  {name}: {json.dumps(rendered(answer, numbers), ensure_ascii=False)}"
        escaped = line.replace("\\", "\\\\")
        text, found = re.subn(rf"(?m)^  {re.escape(name)}:.*$", escaped, text)
        if not found:
            raise UsageError(f"nothing asks for {name}", hint="see answers: in exercise.yaml")
    path.write_text(text, "utf-8")


def _predictions(folder: Folder, stage: Stage, solution: Solution) -> dict[str, str]:
    """The solution's predictions; those that begin with `=` are computed."""
    asked = {one.name: one for one in stage.predict}
    found = {}
    for name, answer in solution.predictions.items():
        text = str(answer)
        if text.startswith("=") and name in asked:
            amount = parse_quantity(rendered(text[1:], folder.numbers)).constant()
            text = written(asked[name], amount.value)
        found[name] = text
    return found


def _answers(
    folder: Folder, stage: Stage, solution: Solution, made: dict[str, Path]
) -> dict[str, str]:
    """The solution's answers; those that begin with `=` are read off the runs."""
    found = {}
    with ExitStack() as stack:
        runs = {run: stack.enter_context(Derived.open(path)) for run, path in made.items()}
        case = Case(stage, folder.numbers, _again(folder).answers, runs)
        asked = {one.name: one for one in stage.questions}
        for name, answer in solution.answers.items():
            text = str(answer)
            if text.startswith("=") and name in asked:
                text = written(asked[name], value(case, text[1:]).value)
            found[name] = text
    return found


def written(question: Question, amount: float | None) -> str:
    """A value as somebody writes it who reads it off the report."""
    if amount is None:
        raise UsageError(f"{question.name}: no value", hint="take another expression")
    match question.kind:
        case Kind.SIZE:
            return f"{amount / MIB:.1f}MiB"
        case Kind.DURATION:
            return f"{amount:.6f}s"
        case Kind.PERCENT:
            return f"{amount * 100:.1f}%"
    return f"{amount:.4g}" if abs(amount) < 1000 else f"{amount:.0f}"


def _fault(lesson: Lesson, trial: Trial, stages: Sequence[StageMark]) -> str:
    """Why the trial did not come out as it should."""
    seed = seed_of(AUTHOR, lesson.name)
    for stage in stages:
        if trial is Trial.REFERENCE and stage.result is not Result.PASSED:
            open_ = [one for one in stage.findings if one.result is not Result.PASSED]
            told = "; ".join(f"{one.name}: {one.result} {one.say} {one.measured}" for one in open_)
            return f"stage {stage.number}: the reference solution does not pass: {told}"
        if trial is Trial.EMPTY and stage.result in (Result.PASSED, Result.INCONCLUSIVE):
            return f"stage {stage.number}: doing nothing is {stage.result}"
        if trial is Trial.WRONG:
            wrong = lesson.exercise.wrong[stage.number - 1]
            fault = _not_meant(wrong, stage, numbers_of(lesson.exercise, seed))
            if fault:
                return f"stage {stage.number}: {fault}"
    return ""


def _not_meant(wrong: Solution, stage: StageMark, numbers: Mapping[str, str]) -> str:
    failed = {one.name: one for one in stage.findings if one.result is Result.FAILED}
    name, words = (rendered(text or "", numbers) for text in (wrong.fails, wrong.says))
    if name not in failed:
        return f"the wrong solution should fail at {name!r}; it fails at {list(failed)}"
    if words not in failed[name].say:
        return f"{name!r} should say {words!r}; it says {failed[name].say!r}"
    return ""


def keep(recording: Path, target: Path) -> None:
    """A recording, small: for tests that need no root."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.compress(recording.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def draw(lesson: Lesson, stage: int, run: str, recording: Path) -> None:
    """The handout's picture, if this is the run that it shows."""
    wanted = lesson.exercise.picture
    name = lesson.exercise.stages[wanted.stage - 1].chosen(wanted.run)
    if (stage, run) == (wanted.stage, name):
        with Derived.open(recording) as source:
            (lesson.folder / PICTURE).write_text(picture(source, wanted.vm or ""), "utf-8")


def kept(folder: Path, lesson: Lesson, trial: Trial, play: Play, place: Path) -> Path:
    """The kept recording of a run, unpacked into `place`.

    A run of the very lab that the reference's run is of has no recording of its own.
    """
    target = place / f"{play.stage}-{play.run}.sqlite"
    for name in (trial, Trial.REFERENCE):
        source = folder / lesson.name / name / f"{play.stage}-{play.run}.sqlite.xz"
        if source.is_file():
            target.write_bytes(lzma.decompress(source.read_bytes()))
            if name is trial or _is_of(target, play):
                return target
    raise MemlabError(f"there is no recording of {lesson.name}, {trial}, in {folder}")


def _is_of(recording: Path, play: Play) -> bool:
    """Whether the recording is of this lab, whoever has run it."""
    with Derived.open(recording) as source:
        text = str(source.manifest.get("source"))
    recorded = loads(text, name=str(play.path), sets=play.sets)
    return bool(recorded.tree == play.loaded().tree)
