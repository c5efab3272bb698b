"""`answers.yaml`: what the student has predicted and answered, read and written.

The file is made with the exercise: each question as a comment above its empty place. It is read
with the lab files' reader, so a fault has its line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from memlab.errors import Fault, LabFileError, UsageError
from memlab.exercises.spec import Exercise, Kind, Language, Question, Stage
from memlab.exercises.student import known_as, rendered
from memlab.lab.yamlfile import Document, read
from memlab.record.columns import Unit
from memlab.record.quantity import literal
from memlab.units import UnitError, parse_duration, parse_percent, parse_size

FILE: Final = "answers.yaml"
_LIKE: Final = {
    Kind.SIZE: "64MiB",
    Kind.DURATION: "1.5s",
    Kind.PERCENT: "25%",
    Kind.NUMBER: "12",
    Kind.TEXT: "a sentence or two",
}
_HEAD: Final = {
    Language.ENGLISH: (
        "Your predictions and answers. Write after the colons; lines with # are the questions.",
        "Predictions belong in before the run: they go into the recording.",
        "prediction",
        "one of",
        "such as",
    ),
    Language.CHINESE: (
        "你的预测和回答。写在冒号后面；以 # 开头的行是题目。",
        "预测必须在运行之前填写：它会写进记录里。",
        "预测",
        "选一个",
        "例如",
    ),
}


@dataclass(frozen=True, slots=True)
class Given:
    """One answer: as written, and (of what can be measured) its value with the unit."""

    text: str
    value: float | None = None
    unit: Unit | None = None

    @property
    def literal(self) -> str:
        """As it stands in a condition."""
        return self.text if self.value is None else literal(self.value, self.unit)


@dataclass(frozen=True, slots=True)
class Answers:
    """A student's file: whose, of which exercise, in which language, and what has been written."""

    student: str
    exercise: str
    language: Language
    predictions: Mapping[str, Given] = field(default_factory=dict)
    answers: Mapping[str, Given] = field(default_factory=dict)


def fresh(
    exercise: Exercise, name: str, student: str, language: Language, numbers: Mapping[str, str]
) -> str:
    """The text of an answers.yaml with nothing answered yet."""
    head, first, *_ = _HEAD[language]
    lines = [f"# {head}", f"exercise: {name}", f"student: {_quoted(student)}"]
    lines.append(f"language: {language}")
    if any(stage.predict for stage in exercise.stages):
        lines += ["", f"# {first}", "predictions:"]
    for stage in exercise.stages:
        for guess in stage.predict:
            lines += _place(exercise, stage, guess, language, numbers)
    if any(stage.questions for stage in exercise.stages):
        lines += ["", "answers:"]
    for stage in exercise.stages:
        for one in stage.questions:
            lines += _place(exercise, stage, one, language, numbers)
    return "\n".join(lines) + "\n"


def _place(
    exercise: Exercise, stage: Stage, one: Question, language: Language, numbers: Mapping[str, str]
) -> Iterator[str]:
    _, _, _, choose, like = _HEAD[language]
    asked = rendered(one.ask.in_(language), numbers)
    if len(exercise.stages) > 1:
        asked = f"({exercise.stages.index(stage) + 1}) {asked}"
    for line in textwrap.wrap(asked, 90, break_long_words=False):
        yield f"  # {line}"
    if one.options:
        yield f"  # {choose}:"
        for name, words in one.options.items():
            yield f"  #   {name}: {rendered(words.in_(language), numbers)}"
    else:
        yield f"  # {like}: {_LIKE[one.kind]}"
    yield f"  {one.name}:"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def load_answers(folder: Path, exercise: Exercise) -> Answers:
    """The answers in `folder`. LabFileError with every fault of the file."""
    path = folder / FILE
    text = text_of(folder)
    found, faults = parse(text, exercise)
    if found is None or faults:
        raise LabFileError(str(path), faults, source=text)
    return found


def text_of(folder: Path) -> str:
    """The text of the folder's answers.yaml; UsageError if this is no exercise's folder."""
    try:
        return (folder / FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"{folder} is not the folder of an exercise: {FILE}: {why}",
            hint="go there (cd 03-sharing), or begin one: memlab exercise start 03",
        ) from None


def exercise_named(text: str, where: Path) -> str:
    """Which exercise these answers belong to."""
    tree = read(text).tree
    name = tree.get("exercise") if isinstance(tree, dict) else None
    if not isinstance(name, str):
        fault = Fault("ML011", "exercise: is missing", "write exercise: 03-sharing", 1, 1)
        raise LabFileError(str(where / FILE), [fault], source=text)
    return name


def parse(text: str, exercise: Exercise) -> tuple[Answers | None, list[Fault]]:
    """The answers in `text`, and all that is wrong with it."""
    document = read(text)
    tree = document.tree
    if not isinstance(tree, dict):
        fault = Fault("ML004", "the file is not a map", "begin anew: memlab exercise reset", 1, 1)
        return None, [*document.faults, fault]
    faults = list(document.faults)
    stages = exercise.stages
    predictions = _given(document, "predictions", [q for s in stages for q in s.predict], faults)
    answers = _given(document, "answers", [q for s in stages for q in s.questions], faults)
    try:
        student = known_as(str(tree.get("student") or ""))
        language = Language(tree.get("language", "en"))
    except (UsageError, ValueError) as error:
        fix = "write your name, and language: en or zh"
        faults.append(Fault("ML012", f"student or language: {error}", fix, 1, 1))
        return None, faults
    return Answers(student, str(tree.get("exercise")), language, predictions, answers), faults


def _given(
    document: Document, part: str, questions: Sequence[Question], faults: list[Fault]
) -> dict[str, Given]:
    """What has been written under `part`; an empty place is no answer."""
    written = document.tree.get(part) or {}
    if not isinstance(written, dict):
        faults.append(_fault(document, (part,), "it is not a map", "write name: answer"))
        return {}
    known = {question.name: question for question in questions}
    found = {}
    for name, value in written.items():
        if value is None or value == "":
            continue
        if name not in known:
            fix = f"there is: {', '.join(known)}"
            faults.append(_fault(document, (part, name), f"nothing asks for {name!r}", fix))
            continue
        try:
            found[name] = given(known[name], value)
        except UnitError as error:
            faults.append(_fault(document, (part, name), str(error), error.fix))
    return found


def _fault(document: Document, path: tuple[str | int, ...], message: str, fix: str) -> Fault:
    place = document.place(path)
    return Fault("ML012", message, fix, place.line, place.column, ".".join(map(str, path)))


def given(question: Question, value: Any) -> Given:
    """One answer as it was written. UnitError, with the spelling that would do."""
    text = str(value).strip()
    match question.kind:
        case Kind.SIZE:
            return Given(text, float(parse_size(text)), Unit.BYTES)
        case Kind.DURATION:
            return Given(text, parse_duration(text), Unit.SECONDS)
        case Kind.PERCENT:
            return Given(text, parse_percent(text), Unit.FRACTION)
        case Kind.NUMBER:
            return Given(text, _number(text))
        case Kind.CHOICE if text not in question.options:
            raise UnitError(
                f"{text!r} is none of the choices", f"write {' or '.join(question.options)}"
            )
    return Given(text)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        raise UnitError(f"{text!r} is not a number", "write a number, such as 12") from None
