"""`memlab exercise submit` and `grade`: handing in, and marking a class."""

from __future__ import annotations

import re
from pathlib import Path

import click

from memlab.cli.words import say


@click.command("submit")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the file here.")
def submit(output: Path | None) -> int:
    """Pack answers, lab files and recordings into one file to hand in."""
    from memlab.cli.exercise import here, marked
    from memlab.exercises.submission import SUFFIX, pack

    folder = here()
    student = re.sub(r"\W+", "-", folder.answers.student).strip("-")
    target = output or folder.path / f"{folder.lesson.name}-{student}{SUFFIX}"
    pack(folder, target)
    passed, all_ = marked(folder, None).points
    say(
        f"{passed} of {all_} checks passed" + ("" if passed == all_ else "; handed in all the same")
    )
    click.echo(target)
    return 0


@click.command("grade")
@click.argument("where", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the CSV here.")
@click.option("--page", type=click.Path(path_type=Path), help="Write the class's page here.")
def grade(where: Path, output: Path | None, page: Path | None) -> int:
    """Mark every submission in WHERE: one line of CSV each, and a page for the class.

    Nothing is run, no root is needed. What cannot be graded (a changed recording, somebody
    else's, an unreadable file) is said in its line, and the rest goes on.
    """
    from memlab.errors import UsageError
    from memlab.exercises.classpage import class_page
    from memlab.exercises.grade import csv_text
    from memlab.exercises.grade import grade as graded

    rows = graded(where)
    if not rows:
        raise UsageError(
            f"{where} has no *.memlab-submission.zip", hint="students make them: exercise submit"
        )
    if output is None:
        click.echo(csv_text(rows), nl=False)
    else:
        output.write_text(csv_text(rows), "utf-8")
    if page is not None:
        page.write_text(class_page(rows), "utf-8")
        say(f"page: {page}")
    void = sum(row.mark is None for row in rows)
    say(f"{len(rows)} submissions, {void} void")
    return 0


COMMANDS = (submit, grade)
