"""`exercise.yaml`: what an exercise asks, runs and checks, as its author writes it.

Conditions and values are those of `record.condition`. In all texts, conditions and lab files
`{{name}}` stands for one of the student's own numbers; in conditions also for an answer, a
prediction, or one of the stage's `figures`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from memlab.errors import LabFileError, UsageError
from memlab.kernel.finding import Feature
from memlab.lab.faults import fault_of
from memlab.lab.values import Name, Size, SizeOrPercent, Text, refuse
from memlab.lab.vmspec import Spec
from memlab.lab.yamlfile import read

FILE: Final = "exercise.yaml"


class Language(StrEnum):
    """A language that the course is written in."""

    ENGLISH = "en"
    CHINESE = "zh"


class Words(Spec):
    """One text in each language; English where there is no other."""

    en: Annotated[str, Field(min_length=1, max_length=4000)]
    zh: str | None = None

    def in_(self, language: Language) -> str:
        """The text in `language`."""
        return self.zh if language is Language.CHINESE and self.zh else self.en


def _words(value: Any) -> Any:
    """`name: text` is short for `name: {en: text}`."""
    return {"en": value} if isinstance(value, str) else value


Said = Annotated[Words, BeforeValidator(_words)]


class Kind(StrEnum):
    """How an answer is written."""

    SIZE = "size"
    DURATION = "duration"
    PERCENT = "percent"
    NUMBER = "number"
    CHOICE = "choice"
    TEXT = "text"


class Question(Spec):
    """Something that the student writes down in answers.yaml."""

    name: Name
    ask: Said
    kind: Kind
    options: dict[Name, Said] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_options(self) -> Self:
        if (self.kind is Kind.CHOICE) != bool(self.options):
            message = "a choice has options, and nothing else has"
            raise refuse("either", message, "write kind: choice and options: {a: …, b: …}")
        return self


class Prediction(Question):
    """A question asked before the run; `is` is what the run says, `run` which of the stage's."""

    is_: Text = Field(alias="is")
    run: Name | None = None


class Figure(Spec):
    """A value of one run of the stage, by name, for conditions that compare runs."""

    is_: Text = Field(alias="is")
    run: Name | None = None


class OnlyIf(Spec):
    """What the run must show before a check can say anything; else it is inconclusive."""

    that: Text
    say: Said


class Wrong(Spec):
    """An answer, or a state, that a known mistake leads to, and what to say to it."""

    say: Said
    is_: Text | None = Field(default=None, alias="is")
    that: Text | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.is_ is None) == (self.that is None):
            raise refuse("either", "it has either is or that", "write one of them")
        return self


class Check(Spec):
    """A condition on the run (`that`), or an answer held against a value of the run (`is`).

    `within` is the tolerance: a part of the expected value, or a size. `look` says where in the
    report it is to be seen; of text answers nothing but `words`, their least number, is checked.
    """

    name: Said
    that: Text | None = None
    answer: Name | None = None
    is_: Text | None = Field(default=None, alias="is")
    within: SizeOrPercent | None = None
    words: int = Field(default=1, ge=1, le=200)
    run: Name | None = None
    only_if: OnlyIf | None = None
    passed: Said | None = Field(default=None, alias="pass")
    failed: Said | None = Field(default=None, alias="fail")
    wrong: tuple[Wrong, ...] = ()
    look: Said | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.that is None) == (self.answer is None):
            raise refuse("either", "a check has either that or answer", "write one of them")
        return self


class Run(Spec):
    """One run of a stage: what is set over the lab file."""

    set: dict[str, str | int] = Field(default_factory=dict)


class Stage(Spec):
    """A part of an exercise with a lab, runs and checks of its own."""

    title: Said
    lab: Text = "lab.memlab.yaml"
    runs: dict[Name, Run] = Field(default_factory=lambda: {"run": Run()}, min_length=1)
    predict: tuple[Prediction, ...] = ()
    questions: tuple[Question, ...] = ()
    figures: dict[Name, Figure] = Field(default_factory=dict)
    checks: tuple[Check, ...] = Field(min_length=1)
    fill: tuple[Text, ...] = Field(
        default=(),
        description="What the student may change: paths of the lab file, names of files.",
    )

    def chosen(self, run: str | None) -> str:
        """The named run, or the stage's first."""
        return run or next(iter(self.runs))


class Solution(Spec):
    """A way to do a stage, for `exercise verify`: edits of the lab file, predictions, answers.

    An answer that begins with `=` is an expression: read off the run, as a student would read it
    off the report. `fails` and `says` are the check that a wrong one must fail, and its words.
    """

    edit: tuple[tuple[str, str], ...] = ()
    predictions: dict[Name, str | int | float] = Field(default_factory=dict)
    answers: dict[Name, str | int | float] = Field(default_factory=dict)
    fails: Text | None = None
    says: Text | None = None


class Number(Spec):
    """A number that each student has another of, chosen by the seed."""

    of: tuple[str | int, ...] = Field(min_length=1)


class Picture(Spec):
    """Which run of the reference solution is drawn in the handout, of which VM (all, if none)."""

    stage: int = Field(default=1, ge=1)
    run: Name | None = None
    vm: Name | None = None


class Exercise(Spec):
    """One exercise."""

    title: Said
    about: Said
    minutes: int = Field(ge=1, le=120)
    memory: Size = Field(description="Machine memory that it takes at most, for the table.")
    needs: tuple[Feature, ...] = ()
    box: bool = Field(default=True, description="Whether `--box` can run it.")
    numbers: dict[Name, Number] = Field(default_factory=dict)
    files: tuple[Text, ...] = Field(
        default=(), description="Handed out beside the lab files: a policy in Python, say."
    )
    stages: tuple[Stage, ...] = Field(min_length=1)
    hints: tuple[Said, ...] = Field(min_length=1)
    picture: Picture = Field(default_factory=Picture)
    reference: tuple[Solution, ...] = ()
    wrong: tuple[Solution, ...] = ()


def load_exercise(folder: Path) -> Exercise:
    """The exercise in `folder`. LabFileError with all faults, UsageError if it has none."""
    path = folder / FILE
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="see memlab exercise list"
        ) from None
    document = read(text)
    if document.faults:
        raise LabFileError(str(path), document.faults, source=text)
    try:
        return Exercise.model_validate(document.tree)
    except ValidationError as error:
        found = [dict(one) for one in error.errors(include_url=False, include_input=True)]
        faults = [fault_of(one, document) for one in found]
        raise LabFileError(str(path), faults, source=text) from None
