"""What the exercise commands show: which can run here, what a check has found, how far one is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from memlab.kernel.finding import Feature

if TYPE_CHECKING:
    from memlab.exercises.course import Lesson
    from memlab.exercises.folder import Folder
    from memlab.exercises.judge import Finding
    from memlab.exercises.marks import Mark, StageMark
    from memlab.exercises.spec import Language

_MARKS: Final = {
    "passed": ("+", "green"),
    "failed": ("x", "red"),
    "inconclusive": ("?", "yellow"),
    "to do": ("-", "yellow"),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether an exercise can run here; `missing` in plain words."""

    lesson: Lesson
    word: str
    missing: tuple[str, ...]
    box: bool

    def plain(self, lang: str) -> dict[str, Any]:
        """As JSON."""
        exercise, language = self.lesson.exercise, _language(lang)
        return {
            "name": self.lesson.name,
            "title": exercise.title.in_(language),
            "about": exercise.about.in_(language),
            "minutes": exercise.minutes,
            "runs": self.word,
            "missing": list(self.missing),
            "box": self.box,
        }


def fits() -> list[Fit]:
    """Each exercise of the course, held against what this machine has."""
    import psutil

    from memlab.cli.diagnosis import swap_folder
    from memlab.exercises.course import course
    from memlab.kernel.probe import probe
    from memlab.kernel.qemu import probe_qemu

    lessons = course()
    findings = probe(folder=swap_folder())
    available, has_qemu = psutil.virtual_memory().available, probe_qemu().works is True
    return [_fit(lesson, findings, available, has_qemu) for lesson in lessons]


def _fit(lesson: Lesson, findings: Any, available: int, has_qemu: bool) -> Fit:
    from memlab.cli.diagnosis import TITLES, lab_fit
    from memlab.exercises.student import numbers_of, rendered
    from memlab.lab.load import loads

    exercise = lesson.exercise
    numbers = numbers_of(exercise, 0)
    labs = [
        loads(rendered(lesson.lab(one.lab), numbers), name=str(lesson.folder / one.lab)).lab
        for one in exercise.stages
    ]
    found = [lab_fit(lab, findings, available) for lab in labs]
    gone = {one for fit in found for one in fit.missing}
    gone |= {one.feature for one in findings if one.feature in exercise.needs and not one.works}
    doubts = {one for fit in found for one in fit.unknown}
    word = "no" if gone else "perhaps" if doubts else "yes"
    if gone == {Feature.ROOT} and os.geteuid() != 0:
        word = "as root"
    names = tuple(TITLES[one][0] for one in sorted(gone or doubts))
    # A box has a kernel and root's rights of its own; QEMU guests inside one were never tried.
    inside = exercise.box and has_qemu and Feature.QEMU not in exercise.needs
    return Fit(lesson, word, names, inside)


def fits_text(found: Sequence[Fit], lang: str) -> Iterator[str]:
    """One line an exercise, and below it what is missing."""
    for one in found:
        exercise = one.lesson.exercise
        title = exercise.title.in_(_language(lang))
        yield f"{one.lesson.name:24} {exercise.minutes:3} min  {one.word:8} {title}"
        if one.word in ("no", "as root") and one.missing:
            would = "; `memlab exercise run --box` would do" if one.box else ""
            yield f"{'':34} missing: {', '.join(one.missing)}{would}"
        elif one.word == "perhaps":
            yield f"{'':34} only root can tell: {', '.join(one.missing)}"


def mark_text(found: Mark) -> Iterator[str]:
    """Every check with what was expected and measured; predictions beside reality."""
    for stage in found.stages:
        if len(found.stages) > 1:
            given = " (given)" if stage.given else ""
            yield click.style(f"Stage {stage.number}: {stage.title}{given}", bold=True)
        yield from _guesses(stage)
        for finding in stage.findings:
            yield from _finding(finding)
    passed, all_ = found.points
    word, colour = str(found.result), _MARKS[str(found.result)][1]
    yield f"{click.style(word, fg=colour, bold=True)}: {passed} of {all_} checks"


def _guesses(stage: StageMark) -> Iterator[str]:
    for one in stage.guesses:
        if one.given and one.measured:
            error = "" if one.error is None else f"  ({one.error:+.0%})"
            yield f"  predicted {one.given}, measured {one.measured}{error}: {one.ask}"


def _finding(finding: Finding) -> Iterator[str]:
    sign, colour = _MARKS[str(finding.result)]
    yield f"{click.style(sign, fg=colour, bold=True)} {finding.name}"
    if finding.say:
        yield f"    {finding.say}"
    facts = [
        f"measured {finding.measured}" if finding.measured else "",
        f"expected {finding.expected}" if finding.expected else "",
        f"tolerance {finding.tolerance}" if finding.tolerance else "",
        f"look at: {finding.where}" if finding.where else "",
    ]
    if any(facts):
        yield f"    {'; '.join(fact for fact in facts if fact)}"


def plain_mark(folder: Folder, found: Mark) -> dict[str, Any]:
    """As JSON."""
    from dataclasses import asdict

    return {
        "schema_version": 1,
        "exercise": folder.lesson.name,
        "student": folder.answers.student,
        "result": str(found.result),
        "stages": [asdict(stage) | {"result": str(stage.result)} for stage in found.stages],
    }


def progress_text(found: Sequence[tuple[Folder, Mark]]) -> Iterator[str]:
    """One line an exercise that has been begun."""
    for folder, mark in found:
        passed, all_ = mark.points
        hints = int(folder.state.get("hints", 0))
        helped = f"  hints: {hints}" if hints else ""
        yield f"{folder.lesson.name:24} {mark.result!s:12} {passed:2} of {all_}{helped}"


def _language(lang: str) -> Language:
    from memlab.exercises.spec import Language

    return Language(lang)
