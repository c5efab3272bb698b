"""`memlab compare`: one lab under several policies, or run against run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memlab.cli.words import say

if TYPE_CHECKING:
    from memlab.study.compare import Comparison

DEFAULT = "none,static,ladder"
WIDTH = 100
"""Of the table in a pipe, columns."""


@click.command("compare")
@click.argument("what", nargs=-1, required=True, metavar="LAB | RUN RUN...")
@click.option("--policy", "policies", default=DEFAULT, show_default=True, metavar="A,B,C",
              help="Policies to run the lab under.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True,
              help="Runs of each policy; they take turns.")  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Change a value of the file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
              help="Where runs and page go.")  # fmt: skip
@click.option("-f", "--format", "form", type=click.Choice(["table", "json", "markdown"]),
              default="table", show_default=True, help="What is printed.")  # fmt: skip
def command(
    what: tuple[str, ...],
    policies: str,
    repeat: int,
    sets: tuple[str, ...],
    output: Path | None,
    form: str,
) -> int:
    """Compare policies on one LAB, or recorded runs: memlab compare RUN RUN …

    With a lab, it is run once without pressure and then under each policy, with the same seed, one
    after the other on the restored host. What has been run is not run again: the same command
    goes on after an interruption, and a larger --repeat adds to what is there. Needs root.

    With two or more recordings (or run folders) nothing is run, and no root is needed; work is
    relative to the first. Exit status: 0, 1 if a run did not count (the one that work is
    relative to, too), 130 if interrupted.
    """
    from memlab.study.table import table

    found, page = _runs(what, output) if len(what) > 1 else _lab(
        what[0], [word for word in policies.split(",") if word], repeat, sets, output
    )  # fmt: skip
    if form == "table":
        from rich.console import Console

        console = Console(soft_wrap=True)
        if not console.is_terminal:
            console.width = WIDTH
        console.print(table(found))
    else:
        click.echo(_text(found, form))
    if page is not None:
        from memlab.lab.place import Invoker
        from memlab.study.page import page as drawn

        page.write_text(drawn(found), "utf-8")
        Invoker.find().give(page)
        say(f"page: {page}")
    return 0 if found.counts else 1


def _text(found: Comparison, form: str) -> str:
    from memlab.study.table import below, figures, heading, markdown

    if form == "json":
        return json.dumps(figures(found), indent=2)
    listed = [f"- {line}" for line in below(found)]
    return "\n".join((heading(found), "", *markdown(found), "", *listed))


def _runs(what: tuple[str, ...], output: Path | None) -> tuple[Comparison, Path | None]:
    """Recorded runs against the first of them."""
    from memlab.record.derive import Derived
    from memlab.study.compare import compare
    from memlab.study.measured import of_run

    runs = [of_run(Derived.open(Path(name))) for name in what]
    names = [run.policy for run in runs]
    labels = [
        name if names.count(name) == 1 else f"{name} ({Path(path).name})"
        for name, path in zip(names, what, strict=True)
    ]
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    return compare(runs, labels=labels), None if output is None else output / "compare.html"


def _lab(
    name: str, policies: list[str], repeat: int, sets: tuple[str, ...], output: Path | None
) -> tuple[Comparison, Path]:
    """One lab under each policy; the runs are made that are not there yet."""
    from memlab.cli import running
    from memlab.cli.asroot import become_root, must_have_power
    from memlab.lab.load import resolve
    from memlab.lab.place import lab_directory
    from memlab.lab.prepare import prepare
    from memlab.lab.session import Nobody
    from memlab.study.compare import compare
    from memlab.study.runs import Runs, jobs, perform

    source = resolve(name)
    runs = Runs(source, sets, output or Path())
    if output is None:
        place = lab_directory(runs.lab.lab.name, source) / "compare"
        runs.directory = place / runs.directory.name
    todo = jobs(policies, repeat)
    plans = [prepare(runs.loaded(job)).plan for job in todo[: len(policies) + 1]]
    become_root(dict.fromkeys(line for plan in plans for line in plan.lines()))
    must_have_power()
    running.give_back_the_dead()
    if running.running() is not None:
        running.refuse_second()
    made = list(perform(runs, todo, Nobody(), say))
    (_, reference), *rest = made
    if reference.void:
        say(f"the run without pressure is void: {reference.void}; to make it anew, remove")
        say(f"  {runs.place(todo[0])}")
    runs.directory.mkdir(parents=True, exist_ok=True)
    page = runs.directory / "compare.html"
    labels = [job.policy for job, _ in rest]
    return compare([run for _, run in rest], reference, labels=labels), page
