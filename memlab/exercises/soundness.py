"""What is wrong with an exercise before it is run: all that its author can be told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from memlab.errors import MemlabError
from memlab.exercises.course import PICTURE, Lesson
from memlab.exercises.judge import SCALE
from memlab.exercises.spec import Exercise, Kind, Language, Question, Stage
from memlab.exercises.student import SEED, numbers_of, places, rendered
from memlab.lab.load import Loaded, loads
from memlab.record import condition
from memlab.record.quantity import parse_quantity

_STAND_INS = {
    Kind.SIZE: "64MiB",
    Kind.DURATION: "1s",
    Kind.PERCENT: "50%",
    Kind.NUMBER: "1",
    Kind.CHOICE: "1",
    Kind.TEXT: "1",
}
_LEAST_HINTS = 3


def faults_of(lesson: Lesson) -> list[str]:
    """Every fault, each a sentence; LabFileError if exercise.yaml itself cannot be read."""
    exercise = lesson.exercise
    found = [*_texts(lesson), *_names(exercise)]
    if len(exercise.hints) < _LEAST_HINTS:
        found.append("there are three hints: the idea, the way, nearly all")
    if len(exercise.reference) != len(exercise.stages):
        found.append("reference: has one solution for each stage")
    if len(exercise.wrong) != len(exercise.stages):
        found.append("wrong: has one plausible mistake for each stage")
    for number, stage in enumerate(exercise.stages, 1):
        found += [f"stage {number}: {fault}" for fault in _stage(lesson, stage)]
    return found


def _texts(lesson: Lesson) -> Iterator[str]:
    """Handout and solution in both languages, with no place that nothing fills in."""
    numbers = numbers_of(lesson.exercise, 0)
    for name in ("README.md", "README.zh-CN.md", "solution.md", "solution.zh-CN.md", PICTURE):
        if not (lesson.folder / name).is_file():
            yield f"{name} is missing"
    for name in lesson.exercise.files:
        if not (lesson.folder / name).is_file() or Path(name).name != name:
            yield f"files: {name} is no file of the exercise's folder"
    for language in Language:
        for text in (lesson.handout, lesson.solution):
            try:
                unknown = [one for one in places(text(language)) if one not in numbers]
            except MemlabError:
                continue  # it is missing, and has been said so
            if unknown:
                yield f"{{{{{unknown[0]}}}}} in a {language} text is no number of the exercise"


def _names(exercise: Exercise) -> Iterator[str]:
    asked = [one.name for stage in exercise.stages for one in (*stage.predict, *stage.questions)]
    names = [*asked, *exercise.numbers, *(f for stage in exercise.stages for f in stage.figures)]
    names += [SEED, SCALE]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"two things are called {name}"


def _stage(lesson: Lesson, stage: Stage) -> Iterator[str]:
    numbers = numbers_of(lesson.exercise, 0)
    try:
        name = str(lesson.folder / stage.lab)
        lab = loads(rendered(lesson.lab(stage.lab), numbers), name=name)
        for run in stage.runs.values():
            sets = [f"{path}={rendered(str(value), numbers)}" for path, value in run.set.items()]
            loads(lab.source, name=name, sets=sets)
    except MemlabError as error:
        yield f"{stage.lab}: {error}"
        return
    except KeyError as error:
        yield f"{stage.lab}: nothing is called {error}"
        return
    yield from _expressions(lesson.exercise, stage, lab)
    asked = {one.name: one for one in (*stage.predict, *stage.questions)}
    for check in stage.checks:
        if check.answer is not None and check.answer not in asked:
            yield f"check {check.name.en!r} is of {check.answer}, which nothing asks for"
        elif check.answer is not None and not _answerable(asked[check.answer], check.is_):
            yield f"check {check.name.en!r}: is: says what the answer should be"
    unchecked = {one.name for one in stage.questions} - {check.answer for check in stage.checks}
    if unchecked:
        yield f"nothing checks {', '.join(sorted(unchecked))}"


def _answerable(question: Question, right: str | None) -> bool:
    if question.kind is Kind.CHOICE:
        return right in question.options
    return question.kind is Kind.TEXT or right is not None


def _expressions(exercise: Exercise, stage: Stage, lab: Loaded) -> Iterator[str]:
    """Every condition and value of the stage, read as it will be read."""
    vms = [vm.name for vm in lab.lab.vms]
    known = numbers_of(exercise, 0) | {SCALE: "1"}
    for one in (*stage.predict, *stage.questions):
        known[one.name] = _STAND_INS[one.kind]
    choices = {one.name for one in stage.questions if one.kind in (Kind.CHOICE, Kind.TEXT)}
    for name, figure in stage.figures.items():
        yield from _read(figure.is_, known, vms, value=True)
        known[name] = "1"
    for guess in stage.predict:
        yield from _read(guess.is_, known, vms, value=True)
    for check in stage.checks:
        conditions = [check.that, *(one.that for one in check.wrong)]
        conditions += [check.only_if.that] if check.only_if else []
        values = [] if check.answer in choices else [check.is_, *(w.is_ for w in check.wrong)]
        for text in filter(None, conditions):
            # A figure stands in as a bare number, whatever its unit is: only names are looked at.
            yield from _read(text, known, vms, value=False, sorts=not _has(text, stage.figures))
        for text in filter(None, values):
            yield from _read(text, known, vms, value=True, sorts=not _has(text, stage.figures))


def _has(text: str, names: Collection[str]) -> bool:
    return any(one in names for one in places(text))


def _read(
    text: str, known: dict[str, str], vms: list[str], *, value: bool, sorts: bool = True
) -> Iterator[str]:
    unknown = [one for one in places(text) if one not in known]
    if unknown:
        yield f"nothing is called {unknown[0]}, in {text!r}"
    elif sorts:
        try:
            filled = rendered(text, known)
            (parse_quantity if value else condition.parse)(filled, vms=vms)
        except MemlabError as error:
            yield str(error)
