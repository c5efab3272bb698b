"""A class graded: every submission of a folder becomes one row, and nothing stops the rest.

A tampered recording, somebody else's, an unreadable file: each is said in its row. Recordings that
two students have handed in are marked in both rows.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from memlab.errors import MemlabError
from memlab.exercises.answers import Answers, parse
from memlab.exercises.course import Lesson, find
from memlab.exercises.facts import broken_seal
from memlab.exercises.marks import Mark, is_of, mark
from memlab.exercises.student import known_as, seed_of
from memlab.exercises.submission import SUFFIX, Submission, SubmissionError, opened
from memlab.record.derive import Derived

HEADS: Final = (
    *("file", "student", "exercise", "result", "passed", "checks", "hints", "solution_read"),
    *("stages_given", "kernel", "prediction_errors", "failed_checks", "remarks"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One submission graded. `mark` is None where there was nothing to grade; `runs` are the ids
    of its recordings' runs."""

    file: str
    student: str = ""
    exercise: str = ""
    mark: Mark | None = None
    facts: Mapping[str, Any] | None = None
    answers: Answers | None = None
    runs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        """As the row says it: `void` with what makes it so in the remarks."""
        return "void" if self.mark is None else str(self.mark.result)

    def cells(self) -> tuple[str, ...]:
        """For the CSV, by `HEADS`."""
        facts = self.facts or {}
        machine = facts.get("machine")
        kernel = machine.get("kernel") if isinstance(machine, dict) else ""
        passed, checks = self.mark.points if self.mark else (0, 0)
        return (
            *(self.file, self.student, self.exercise, self.result, str(passed), str(checks)),
            *(str(facts.get("hints", "")), str(facts.get("solution_read", "")).lower()),
            *(str(facts.get("given", "")), str(kernel or "")),
            *("; ".join(self.errors()), "; ".join(self.failed()), "; ".join(self.remarks)),
        )

    def errors(self) -> list[str]:
        """How far each prediction was off."""
        found = [guess for stage in self._stages() for guess in stage.guesses]
        return [f"{one.error:+.0%}" for one in found if one.error is not None]

    def failed(self) -> list[str]:
        """Names of the checks that are not passed."""
        return [
            one.name for stage in self._stages() for one in stage.findings if one.result != "passed"
        ]

    def _stages(self) -> Sequence[Any]:
        return self.mark.stages if self.mark else ()


def grade(folder: Path) -> list[Row]:
    """Every submission in `folder` and right below it, by file name."""
    files = sorted({*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")})
    rows = [grade_one(file, str(file.relative_to(folder))) for file in files]
    return _copies_marked(rows)


def grade_one(path: Path, name: str) -> Row:
    """One file, whatever is in it."""
    try:
        with opened(path) as found:
            return _graded(found, name)
    except SubmissionError as error:
        return Row(name, remarks=(error.message,))
    except MemlabError as error:
        return Row(name, remarks=(" ".join(error.message.split()),))


def _graded(found: Submission, name: str) -> Row:
    facts = found.facts
    student, exercise = known_as(str(facts.get("student", ""))), str(facts.get("exercise", ""))
    row = Row(name, student, exercise, facts=facts)
    try:
        return _marked(row, found, find(exercise))
    except MemlabError as error:
        return replace(row, remarks=(" ".join(error.message.split()),))


def _marked(row: Row, found: Submission, lesson: Lesson) -> Row:
    facts, student = found.facts, row.student
    answers, faults = parse(found.answers, lesson.exercise)
    if answers is None:
        return replace(row, remarks=(f"answers.yaml: {faults[0].message}",))
    remarks = [f"answers.yaml, line {fault.line}: {fault.message}" for fault in faults]
    if answers.student != student:
        return replace(row, remarks=(f"answers.yaml is of {answers.student}",))
    if facts.get("seed") != seed_of(student, lesson.name):
        return replace(row, remarks=("the seed is not this student's",))
    good, runs = {}, []
    for key, path in found.recordings.items():
        wrong, run = _look(path, found.seals[key], lesson, student)
        if wrong:
            remarks.append(f"recording {key[0]}-{key[1]}: {wrong}")
        else:
            good[key] = path
            runs.append(run)
    given = facts.get("given")
    marked = mark(lesson, answers, good, given=given if isinstance(given, int) else 0)
    if found.recordings and not good:
        return replace(row, remarks=tuple(remarks))
    return replace(row, mark=marked, answers=answers, runs=tuple(runs), remarks=tuple(remarks))


def _look(path: Path, note: Mapping[str, Any], lesson: Lesson, student: str) -> tuple[str, str]:
    """What is wrong with a recording, and the id of its run."""
    wrong = broken_seal(path.read_bytes(), note, student, seed_of(student, lesson.name))
    try:
        with Derived.open(path) as source:
            # Whose it is says more than that the seal does not fit.
            return is_of(source, lesson, student) or wrong, str(source.manifest.get("run", ""))
    except MemlabError as error:
        return " ".join(error.message.replace(str(path), "it").split()), ""


def _copies_marked(rows: Sequence[Row]) -> list[Row]:
    owners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for run in row.runs:
            owners[run].add(row.file)
    return [_copy_marked(row, owners) for row in rows]


def _copy_marked(row: Row, owners: Mapping[str, set[str]]) -> Row:
    others = sorted({file for run in row.runs for file in owners[run]} - {row.file})
    if not others:
        return row
    return replace(row, remarks=(*row.remarks, f"the same run is in {', '.join(others)}"))


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV with a head. Cells that a spreadsheet would take for a formula are quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADS)
    for row in rows:
        writer.writerow([_harmless(cell) for cell in row.cells()])
    return out.getvalue()


def _harmless(cell: str) -> str:
    """A student called =1+1 stays text; +12 % and -3 % are figures of ours."""
    risky = cell[:1] in ("=", "@", "\t") or (cell[:1] in ("+", "-") and not cell[1:2].isdigit())
    return f"'{cell}" if risky else cell


def by_exercise(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each exercise."""
    names = sorted({row.exercise for row in rows if row.exercise})
    for name in names:
        yield name, [row for row in rows if row.exercise == name]
