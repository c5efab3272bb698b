"""A stage judged: its checks held against the runs' recordings and the student's answers.

Every finding says what was expected, what was measured, with which tolerance, and where to look.
A value that this machine cannot tell, or a run in which the effect did not show (`only_if`), makes
a check inconclusive, with the reason: never wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from memlab.exercises.answers import Answers, Given
from memlab.exercises.facts import facts_of
from memlab.exercises.spec import Check, Kind, Language, Prediction, Question, Stage, Words, Wrong
from memlab.exercises.student import places, rendered
from memlab.lab.values import Amount as Tolerance
from memlab.record import condition
from memlab.record.condition import Outcome
from memlab.record.quantity import Amount, literal, parse_quantity
from memlab.record.series import Source
from memlab.units import format_size

SCALE: Final = "scale"
"""`{{scale}}`: what the times of the run were multiplied by. `at(x, 9s)` counts in the lab file's
seconds by itself; a rate times a duration has to be told."""


class Result(StrEnum):
    """How a check, a stage or an exercise stands."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    OPEN = "to do"


_RESULT = {
    Outcome.PASS: Result.PASSED,
    Outcome.FAIL: Result.FAILED,
    Outcome.INCONCLUSIVE: Result.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result, in words. `where` is the moment in the run, and what to look at there."""

    name: str
    result: Result
    say: str = ""
    measured: str = ""
    expected: str = ""
    tolerance: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Guess:
    """A prediction beside what the run says; `error` is the deviation as a part of the truth."""

    ask: str
    given: str
    measured: str
    error: float | None


@dataclass(frozen=True, slots=True)
class Case:
    """All that a stage is judged by: the student's numbers and answers, and the recorded runs."""

    stage: Stage
    numbers: Mapping[str, str]
    answers: Answers
    runs: Mapping[str, Source]
    figures: dict[str, Amount] = field(default_factory=dict)

    @property
    def language(self) -> Language:
        """The student's."""
        return self.answers.language

    def words(self, words: Words | None) -> str:
        """A text in the student's language, with the student's numbers."""
        return "" if words is None else rendered(words.in_(self.language), self.numbers)

    def given(self, name: str) -> Given | None:
        """An answer or prediction."""
        return self.answers.answers.get(name) or self.answers.predictions.get(name)


class UndoneError(Exception):
    """A check that nothing can be said about yet."""

    def __init__(self, say: str) -> None:
        super().__init__(say)
        self.say = say


class UnknownError(Exception):
    """A check that this run cannot decide."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def judge(case: Case) -> list[Finding]:
    """Every check of the stage, the predictions' being there first."""
    return [*_predicted(case), *(_check(case, check) for check in case.stage.checks)]


def total(findings: Sequence[Finding]) -> Result:
    """Of many results one: anything failed or to do outweighs what is inconclusive."""
    found = {finding.result for finding in findings}
    for result in (Result.FAILED, Result.OPEN, Result.INCONCLUSIVE):
        if result in found:
            return result
    return Result.PASSED


def guesses(case: Case) -> list[Guess]:
    """Each prediction beside reality."""
    return [_guess(case, one) for one in case.stage.predict]


def _guess(case: Case, one: Prediction) -> Guess:
    given = case.answers.predictions.get(one.name)
    asked = case.words(one.ask)
    if given is None:
        return Guess(asked, "", "", None)
    try:
        found = value(case, one.is_, one.run)
    except (UndoneError, UnknownError) as error:
        return Guess(asked, given.text, str(error), None)
    if given.value is None or not found.value:
        return Guess(asked, given.text, str(found), None)
    return Guess(asked, given.text, str(found), given.value / found.value - 1)


def _predicted(case: Case) -> Iterator[Finding]:
    if not case.stage.predict:
        return
    missing = [one.name for one in case.stage.predict if one.name not in case.answers.predictions]
    name = "predicted before the run"
    if missing:
        say = f"write them first: {', '.join(missing)} in answers.yaml"
        yield Finding(name, Result.OPEN, say)
        return
    late = [one.name for one in case.stage.predict if _is_late(case, one)]
    if late:
        say = f"not as they were before the run: {', '.join(late)}; run it again"
        yield Finding(name, Result.FAILED, say)
    elif case.runs:
        yield Finding(name, Result.PASSED)


def _is_late(case: Case, one: Prediction) -> bool:
    """Whether the run was made without this prediction, or with another one."""
    run = case.runs.get(case.stage.chosen(one.run))
    if run is None:
        return False
    kept = facts_of(run.manifest).get("predictions", [])
    known = {str(found.get("name")): str(found.get("given")) for found in kept}
    return known.get(one.name) != case.answers.predictions[one.name].text


def _check(case: Case, check: Check) -> Finding:
    name = case.words(check.name)
    look = case.words(check.look)
    try:
        if check.only_if is not None:
            _must_show(case, check)
        if check.answer is not None:
            return _answer(case, check, name, check.answer)
        return _condition(case, check, name)
    except UndoneError as error:
        return Finding(name, Result.OPEN, error.say, where=look)
    except UnknownError as error:
        return Finding(name, Result.INCONCLUSIVE, error.why, where=look)


def _must_show(case: Case, check: Check) -> None:
    assert check.only_if is not None
    found = condition.parse(filled(case, check.only_if.that)).judge(_run(case, check.run))
    if found.outcome is not Outcome.PASS:
        raise UnknownError(f"{case.words(check.only_if.say)} ({found.why})")


def _condition(case: Case, check: Check, name: str) -> Finding:
    assert check.that is not None
    text = filled(case, check.that)
    found = condition.parse(text).judge(_run(case, check.run))
    if found.outcome is Outcome.INCONCLUSIVE:
        raise UnknownError(found.why)
    passed = found.outcome is Outcome.PASS
    say = case.words(check.passed) if passed else _mistake(case, check) or case.words(check.failed)
    return Finding(
        name,
        _RESULT[found.outcome],
        say or ("" if passed else found.why),
        found.measured,
        found.expected if found.expected != text else "",
        where=_where(found.where, case.words(check.look)),
    )


def _answer(case: Case, check: Check, name: str, answer: str) -> Finding:
    given = case.given(answer)
    if given is None:
        raise UndoneError(f"no answer yet: {answer} in answers.yaml")
    kind = _question(case, answer).kind
    if kind is Kind.TEXT:
        return _prose(check, name, given)
    if kind is Kind.CHOICE:
        return _choice(case, check, name, given)
    return _measured(case, check, name, given)


def _prose(check: Check, name: str, given: Given) -> Finding:
    """A text is for a person to judge; only that something was written is checked.

    Chinese has no spaces between words: two of its characters count for one.
    """
    wide = sum("\u4e00" <= letter <= "\u9fff" for letter in given.text)
    count = len(given.text.split()) + wide // 2
    if count < check.words:
        return Finding(
            name, Result.FAILED, f"say more: {check.words} words or so", f"{count} words"
        )
    return Finding(name, Result.PASSED, "", f"{count} words")


def _choice(case: Case, check: Check, name: str, given: Given) -> Finding:
    if given.text == check.is_:
        return Finding(name, Result.PASSED, case.words(check.passed), given.text)
    say = _mistake(case, check, given) or case.words(check.failed)
    return Finding(
        name, Result.FAILED, say or "another one is right", given.text, where=case.words(check.look)
    )


def _measured(case: Case, check: Check, name: str, given: Given) -> Finding:
    assert check.is_ is not None and given.value is not None
    found = value(case, check.is_, check.run)
    assert found.value is not None
    close = _close(given.value, found.value, check.within)
    say = case.words(check.passed if close else check.failed)
    if not close:
        say = _mistake(case, check, given) or say
    return Finding(
        name,
        Result.PASSED if close else Result.FAILED,
        say,
        # What a student has answered is not shown the right figure before it is right.
        str(Amount(given.value, found.unit)),
        str(found) if close else "what the run shows",
        _tolerance(check.within),
        _where(found.where, case.words(check.look)),
    )


def _mistake(case: Case, check: Check, given: Given | None = None) -> str:
    """What is to be said to a known mistake, if this is one."""
    for wrong in check.wrong:
        try:
            if _made(case, check, wrong, given):
                return case.words(wrong.say)
        except (UndoneError, UnknownError):
            continue
    return ""


def _made(case: Case, check: Check, wrong: Wrong, given: Given | None) -> bool:
    if wrong.that is not None:
        verdict = condition.parse(filled(case, wrong.that)).judge(_run(case, check.run))
        return verdict.outcome is Outcome.PASS
    assert wrong.is_ is not None
    if given is None or given.value is None:
        return given is not None and given.text == wrong.is_
    found = value(case, wrong.is_, check.run).value
    return found is not None and _close(given.value, found, check.within)


def _close(given: float, truth: float, within: Tolerance | None) -> bool:
    part, size = (0.0, 0) if within is None else (within.fraction or 0.0, within.size or 0)
    slack = max(part * abs(truth), float(size))
    return abs(given - truth) <= slack + 1e-9 * abs(truth)


def _tolerance(within: Tolerance | None) -> str:
    if within is None:
        return ""
    if within.fraction is not None:
        return f"± {within.fraction:.0%}"
    return f"± {format_size(within.size or 0)}"


def _where(moment: float | None, look: str) -> str:
    parts = ("" if moment is None else f"{moment:.1f} s", look)
    return "; ".join(part for part in parts if part)


def _run(case: Case, name: str | None) -> Source:
    wanted = case.stage.chosen(name)
    if wanted not in case.runs:
        word = "" if len(case.stage.runs) == 1 else f" ({wanted})"
        raise UndoneError(f"not run yet{word}: memlab exercise run")
    return case.runs[wanted]


def _question(case: Case, name: str) -> Question:
    for one in (*case.stage.questions, *case.stage.predict):
        if one.name == name:
            return one
    raise KeyError(name)  # verify refuses such an exercise


def value(case: Case, text: str, run: str | None = None) -> Amount:
    """A value asked of one of the runs; UndoneError or UnknownError if there is none."""
    found = parse_quantity(filled(case, text)).of(_run(case, run))
    if found.value is None:
        raise UnknownError(found.why)
    return found


def filled(case: Case, text: str) -> str:
    """A condition with its `{{names}}` replaced by numbers, answers, predictions and figures."""
    return rendered(text, {name: _literal(case, name) for name in places(text)})


def _literal(case: Case, name: str) -> str:
    if name == SCALE:
        # All runs of a stage are made on one machine, in a box or not.
        scales = [run.manifest.get("time_scale") for run in case.runs.values()]
        return literal(float(next(iter(scales), None) or 1), None)
    if name in case.numbers:
        return case.numbers[name]
    if name in case.stage.figures:
        if name not in case.figures:
            figure = case.stage.figures[name]
            case.figures[name] = value(case, figure.is_, figure.run)
        found = case.figures[name]
        assert found.value is not None
        return literal(found.value, found.unit)
    given = case.given(name)
    if given is None:
        raise UndoneError(f"no answer yet: {name} in answers.yaml")
    return given.literal
