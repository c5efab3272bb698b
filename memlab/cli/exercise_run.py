"""`memlab exercise run`: the exercise's lab, as the student has left it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from memlab.exercises.folder import Folder
    from memlab.exercises.play import Play
    from memlab.lab.prepare import Prepared


@click.command("run")
@click.option("--stage", type=click.IntRange(1), help="Which; else the first that is not passed.")
@click.option("--only", "name", help="Of a stage with several runs only this one.")
@click.option("--box", is_flag=True, help="In a box: no root, no risk for this host.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only the verdict.")
def run(stage: int | None, name: str | None, box: bool, quiet: bool) -> int:
    """Run the exercise's lab, and record it. Predictions come first.

    Exit status as of `memlab up`; what has been learned, `memlab exercise check` says.
    """
    from memlab.exercises.folder import Folder
    from memlab.exercises.play import plays, seal_new

    folder = Folder.open(Path.cwd())
    number = stage or _due(folder)
    known = list(folder.recordings().values())
    todo = [one for one in plays(folder, number) if name in (None, one.run)]
    _must_be_one(todo, folder, number)
    try:
        status = _in_box(todo, quiet) if box else _here(todo, quiet)
    finally:
        seal_new(folder, known)
    say("next: memlab report, answers.yaml, and memlab exercise check")
    return status


def _due(folder: Folder) -> int:
    """The first stage that has not been passed, or the last."""
    from memlab.cli.exercise import marked
    from memlab.exercises.judge import Result

    for stage in marked(folder, None).stages:
        if stage.result is not Result.PASSED:
            return int(stage.number)
    return len(folder.lesson.exercise.stages)


def _must_be_one(todo: list[Play], folder: Folder, number: int) -> None:
    from memlab.errors import UsageError
    from memlab.exercises.play import stage_of

    if not todo:
        names = ", ".join(stage_of(folder, number).runs)
        raise UsageError(f"stage {number} has no run of that name", hint=f"there is: {names}")


def _here(todo: list[Play], quiet: bool) -> int:
    """On this host, one after the other; the worst exit status."""
    from memlab.cli import running
    from memlab.cli.asroot import become_root, must_have_power
    from memlab.cli.up import attended
    from memlab.lab.prepare import prepare

    prepared: list[Prepared] = [prepare(one.loaded()) for one in todo]
    become_root(dict.fromkeys(line for one in prepared for line in one.plan.lines()))
    must_have_power()
    running.give_back_the_dead()
    if running.running() is not None:
        running.refuse_second()
    status = 0
    for play, one in zip(todo, prepared, strict=True):
        if len(todo) > 1:
            say(f"-- {play.run} --")
        status = max(status, attended(one, None, "table", quiet))
        if status == 130:
            break
    return status


def _in_box(todo: list[Play], quiet: bool) -> int:
    from memlab.cli.upbox import up_in_box

    status = 0
    for play in todo:
        given = {"--dry-run": False, "--i-know": False}
        status = max(
            status,
            up_in_box(
                play.loaded(), str(play.path), play.sets, given, release="trixie",
                accelerator="auto", time_scale=None, detach=False, baseline=None, form="table",
                quiet=quiet,
            ),
        )  # fmt: skip
    return status


COMMANDS = (run,)
