"""An exercise marked: every stage judged from the recordings that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlab.exercises.answers import Answers
from memlab.exercises.course import Lesson
from memlab.exercises.facts import digest, facts_of
from memlab.exercises.judge import Case, Finding, Guess, Result, guesses, judge, total
from memlab.exercises.spec import Stage
from memlab.exercises.student import numbers_of, rendered, seed_of
from memlab.lab.yamlfile import read
from memlab.record.derive import Derived
from memlab.record.series import Source


@dataclass(frozen=True, slots=True)
class StageMark:
    """One stage's findings, and its predictions beside reality."""

    number: int
    title: str
    findings: tuple[Finding, ...]
    guesses: tuple[Guess, ...]
    given: bool = False

    @property
    def result(self) -> Result:
        """Of all its checks."""
        return Result.PASSED if self.given else total(self.findings)


@dataclass(frozen=True, slots=True)
class Mark:
    """An exercise's stages."""

    stages: tuple[StageMark, ...]

    @property
    def result(self) -> Result:
        """Of all stages."""
        results = [stage.result for stage in self.stages]
        return total([Finding("", result) for result in results])

    @property
    def points(self) -> tuple[int, int]:
        """Checks passed, and checks that there are, in the stages that were not given."""
        found = [one for stage in self.stages if not stage.given for one in stage.findings]
        return sum(one.result is Result.PASSED for one in found), len(found)


def mark(
    lesson: Lesson,
    answers: Answers,
    recordings: Mapping[tuple[int, str], Path],
    *,
    given: int = 0,
    only: int | None = None,
) -> Mark:
    """Judge the stages (or the one asked for) by these recordings.

    `given` is the number of stages that the student was given. RecordingError for a damaged file.
    """
    stages = []
    for number in range(1, len(lesson.exercise.stages) + 1):
        if only in (None, number):
            paths = {run: path for (owner, run), path in recordings.items() if owner == number}
            stages.append(mark_stage(lesson, number, answers, paths, given=number <= given))
    return Mark(tuple(stages))


def mark_stage(
    lesson: Lesson,
    number: int,
    answers: Answers,
    recordings: Mapping[str, Path],
    *,
    given: bool = False,
) -> StageMark:
    """One stage by its runs' recordings."""
    stage = lesson.exercise.stages[number - 1]
    numbers = numbers_of(lesson.exercise, seed_of(answers.student, lesson.name))
    with ExitStack() as stack:
        runs = {
            run: stack.enter_context(Derived.open(path)) for run, path in recordings.items()
        }  # fmt: skip
        case = Case(stage, numbers, answers, runs)
        different = [one for run in runs.values() for one in changed(lesson, stage, run, numbers)]
        findings = [*different, *judge(case)]
        return StageMark(
            number, case.words(stage.title), tuple(findings), tuple(guesses(case)), given
        )


def changed(
    lesson: Lesson, stage: Stage, source: Source, numbers: Mapping[str, str]
) -> Iterator[Finding]:
    """What of the lab file was changed that is not the student's to change.

    The recorded file is only read as YAML: it may come from anybody, and need not be a good lab.
    """
    handed = _written(rendered(lesson.lab(stage.lab), numbers))
    recorded = _written(str(source.manifest.get("source")))
    free = tuple(rendered(path, numbers) for path in stage.fill)
    digests = facts_of(source.manifest).get("files", {})
    files = [one for one in lesson.exercise.files if digests.get(one) != digest(lesson.lab(one))]
    differing = (*_differing(handed, recorded), *files)
    paths = [path for path in differing if not path.startswith(free or "\0")]
    if paths:
        say = f"changed, and not yours to change: {', '.join(paths[:5])}; memlab exercise reset"
        yield Finding("the lab is the exercise's", Result.FAILED, say)


def _written(text: str) -> Any:
    """What a lab file says, but for what it says to nobody (`x-…`)."""
    tree = read(text).tree
    if not isinstance(tree, dict):
        return tree
    return {key: value for key, value in tree.items() if not str(key).startswith("x-")}


def _differing(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Dotted paths at which two plain trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            inner = f"{path}.{key}" if path else str(key)
            yield from _differing(old.get(key), new.get(key), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _differing(*pair, f"{path}.{index}")
    elif old != new:
        yield path


def is_of(source: Source, lesson: Lesson, student: str) -> str:
    """Why this recording is not this student's of this exercise, or nothing."""
    found = facts_of(source.manifest)
    if found.get("exercise") != lesson.name:
        return f"it is no run of {lesson.name}"
    if found.get("student") != student:
        return f"it was made for {found.get('student')}"
    if found.get("seed") != seed_of(student, lesson.name):
        return "its seed is not this student's"
    return ""
