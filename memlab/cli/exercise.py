"""`memlab exercise`: learn, by exercises that run on the real kernel and check themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli import exercise_authors, exercise_run, exercise_teachers
from memlab.cli.words import say

if TYPE_CHECKING:
    from memlab.exercises.folder import Folder
    from memlab.exercises.judge import Result
    from memlab.exercises.marks import Mark

LANGUAGES = click.Choice(["en", "zh"])
STAGE = click.option("--stage", type=click.IntRange(1), help="Only this stage.")


@click.group("exercise")
def command() -> None:
    """Learn by doing: start an exercise, predict, run it, answer, check.

    `memlab exercise start 01`, then read README.md in the new folder. The commands after `start`
    are typed in that folder.
    """


@command.command("list")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.option("--lang", type=LANGUAGES, default="en", help="Language of the titles.")
def list_exercises(form: str, lang: str) -> int:
    """Say which exercises there are, and which can run on this machine."""
    from memlab.cli.exercise_view import fits, fits_text

    found = fits()
    if form == "json":
        rows = [one.plain(lang) for one in found]
        click.echo(json.dumps({"schema_version": 1, "exercises": rows}, ensure_ascii=False))
        return 0
    for line in fits_text(found, lang):
        click.echo(line)
    say("begin with `memlab exercise start 01`")
    return 0


@command.command("start")
@click.argument("name")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--name", "student", help="Your name; the exercise's numbers come from it.")
@click.option("--lang", type=LANGUAGES, default="en", help="Language of handout and questions.")
@click.option("--stage", type=click.IntRange(1), default=1, help="Begin there; the rest is given.")
def start(name: str, folder: Path | None, student: str | None, lang: str, stage: int) -> int:
    """Begin exercise NAME (03, or sharing) in FOLDER, or in a folder of its name."""
    from memlab.exercises.course import find
    from memlab.exercises.folder import GIVEN, Folder
    from memlab.exercises.spec import Language

    lesson = find(name)
    path = folder or Path(lesson.name)
    made = Folder.start(lesson, path, student or _user(), Language(lang))
    if stage > 1:
        made.remember(**{GIVEN: min(stage, len(lesson.exercise.stages)) - 1})
    say(f"{lesson.exercise.title.in_(Language(lang))}: made {path} for {made.answers.student}")
    if student is None:
        say("for numbers of your own, give your name: --name 'Ada Lovelace'")
    say(f"next: cd {path}, and read README.md")
    return 0


def _user() -> str:
    """Whoever is at the keyboard, as the system calls them."""
    import getpass

    return os.environ.get("SUDO_USER") or getpass.getuser()


@command.command("check")
@STAGE
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text")
def check(stage: int | None, form: str) -> int:
    """Hold the newest runs and your answers against the exercise.

    Needs no root. Exit status: 0 all checks passed, 1 one failed or is to do, 4 one is
    inconclusive: this machine could not show it, and the reason is said.
    """
    from memlab.cli.exercise_view import mark_text, plain_mark
    from memlab.exercises.judge import Result

    folder = here()
    found = marked(folder, stage)
    if form == "json":
        click.echo(json.dumps(plain_mark(folder, found), ensure_ascii=False))
    else:
        for line in mark_text(found):
            click.echo(line)
        _next_step(folder, found.result)
    return {Result.PASSED: 0, Result.INCONCLUSIVE: 4}.get(found.result, 1)


def _next_step(folder: Folder, result: Result) -> None:
    from memlab.exercises.course import after
    from memlab.exercises.judge import Result

    if result is not Result.PASSED:
        say("stuck? memlab exercise hint")
        return
    following = after(folder.lesson)
    say("passed. Read memlab exercise solution; hand in with memlab exercise submit")
    if following is not None:
        say(f"next: memlab exercise next  ({following.name})")


@command.command("hint")
@click.argument("number", required=False, type=click.IntRange(1))
def hint(number: int | None) -> int:
    """Print the next hint, or hint NUMBER again: the idea, then the way, then nearly all."""
    folder = here()
    hints = folder.lesson.exercise.hints
    read = int(folder.state.get("hints", 0))
    wanted = min(number or read + 1, len(hints))
    folder.remember(hints=max(read, wanted))
    words = hints[wanted - 1].in_(folder.answers.language)
    from memlab.exercises.student import rendered

    click.echo(f"{wanted} of {len(hints)}: {rendered(words, folder.numbers)}")
    if wanted == len(hints):
        say("that was the last one; memlab exercise solution --show tells all")
    return 0


@command.command("solution")
@click.option("--show", is_flag=True, help="Though the exercise has not been passed.")
def solution(show: bool) -> int:
    """Print the solution and what is behind it: after passing, or on request."""
    from memlab.errors import UsageError
    from memlab.exercises.judge import Result
    from memlab.exercises.student import rendered

    folder = here()
    if not show and marked(folder, None).result is not Result.PASSED:
        raise UsageError(
            "the exercise has not been passed yet",
            hint="memlab exercise hint helps; with --show you get it all the same",
        )
    folder.remember(solution=True)
    click.echo(rendered(folder.lesson.solution(folder.answers.language), folder.numbers))
    return 0


@command.command("reset")
def reset() -> int:
    """Give the files back as they were handed out; yours are kept beside them."""
    folder = here()
    kept = folder.reset()
    say("as handed out" + (f"; yours: {', '.join(path.name for path in kept)}" if kept else ""))
    return 0


@command.command("next")
@click.pass_context
def following(ctx: click.Context) -> int:
    """Begin the exercise that follows this one, beside it, with the same name."""
    from memlab.errors import UsageError
    from memlab.exercises.course import after

    folder = here()
    lesson = after(folder.lesson)
    if lesson is None:
        raise UsageError("this is the last one", hint="see memlab exercise progress")
    answers = folder.answers
    ctx.invoke(
        start,
        name=lesson.name,
        folder=Path(os.path.relpath(folder.path.parent / lesson.name)),
        student=answers.student,
        lang=str(answers.language),
        stage=1,
    )
    return 0


@command.command("progress")
@click.argument("where", default=".", type=click.Path(exists=True, path_type=Path))
def progress(where: Path) -> int:
    """Say how far the exercises in WHERE have come."""
    from memlab.cli.exercise_view import progress_text
    from memlab.exercises.folder import below

    where = where.absolute()
    folders = list(below(where)) or list(below(where.parent))
    for line in progress_text([(one, marked(one, None)) for one in folders]):
        click.echo(line)
    if not folders:
        say("none has been begun here: memlab exercise start 01")
    return 0


def here() -> Folder:
    """The exercise in the current folder."""
    from memlab.exercises.folder import Folder

    return Folder.open(Path.cwd())


def marked(folder: Folder, stage: int | None) -> Mark:
    """Its stages (or one), judged by its newest runs."""
    from memlab.exercises.folder import GIVEN
    from memlab.exercises.marks import mark
    from memlab.exercises.play import stage_of

    if stage is not None:
        stage_of(folder, stage)
    given = int(folder.state.get(GIVEN, 0))
    return mark(folder.lesson, folder.answers, folder.recordings(), given=given, only=stage)


for _one in (*exercise_run.COMMANDS, *exercise_teachers.COMMANDS, *exercise_authors.COMMANDS):
    command.add_command(_one)
